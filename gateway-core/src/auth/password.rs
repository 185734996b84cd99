use std::fmt;
use std::sync::Arc;

use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::{AttemptLimiter, AuthError, Authenticator, Credentials, Principal, Secret};
use crate::directory::{Directory, DirectoryError};
use crate::names::UserName;

/// The longest password, in octets: hashing must not cost the server more than it costs the client
pub const MAX_PASSWORD_OCTETS: usize = 1024;

/// A password as it is stored: salted and hashed, in the PHC string format
///
/// `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// A hash that was stored
    #[must_use]
    pub const fn from_stored(phc: String) -> Self {
        Self(phc)
    }

    /// The PHC string, for storing
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// Why a password was not hashed
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// A password needs at least one octet
    #[error("a password must not be empty")]
    Empty,
    /// A password has at most [`MAX_PASSWORD_OCTETS`] octets
    #[error("a password has at most {MAX_PASSWORD_OCTETS} octets")]
    TooLong,
    /// Hashing failed, as it does where memory or randomness is missing
    #[error("the password could not be hashed: {0}")]
    Failed(String),
}

/// Hashes and checks passwords with argon2id, away from the threads that serve connections
///
/// A hash costs 19 MiB of memory and some tens of milliseconds, so only as many are computed at the same time as there
/// are processors. Cheap to clone; clones share this bound.
#[derive(Clone)]
pub struct PasswordHasher {
    argon2: Argon2<'static>,
    /// A hash that no password has, for users who do not exist
    nobody: PasswordHash,
    running: Arc<Semaphore>,
}

impl PasswordHasher {
    /// Hashes with the cost that OWASP recommends: 19 MiB, two passes
    #[must_use]
    pub fn new() -> Self {
        Self::with_params(Params::default())
    }

    /// Hashes with so little work that a thief of the hashes finds the passwords soon: for tests only
    #[must_use]
    pub fn insecure_for_tests() -> Self {
        Self::with_params(Params::new(Params::MIN_M_COST, 1, 1, None).unwrap_or_default())
    }

    fn with_params(params: Params) -> Self {
        // The salt and output are zeros. Nobody knows a password with this output; checking one against it costs what
        // checking a real one costs.
        let nobody = format!(
            "$argon2id$v=19$m={},t={},p={}${}${}",
            params.m_cost(),
            params.t_cost(),
            params.p_cost(),
            "A".repeat(22),
            "A".repeat(43),
        );
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            nobody: PasswordHash(nobody),
            running: Arc::new(Semaphore::new(processors)),
        }
    }

    /// Hashes a new password with a new salt
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// [`PasswordError`] says what is wrong with the password.
    pub async fn hash(&self, password: &Secret) -> Result<PasswordHash, PasswordError> {
        match password.expose().len() {
            0 => return Err(PasswordError::Empty),
            1..=MAX_PASSWORD_OCTETS => {}
            _ => return Err(PasswordError::TooLong),
        }
        let (argon2, password) = (self.argon2.clone(), password.clone());
        self.run(move || argon2.hash_password(password.expose().as_bytes()))
            .await
            .and_then(|hash| hash.map_err(|error| error.to_string()))
            .map(|hash| PasswordHash(hash.to_string()))
            .map_err(PasswordError::Failed)
    }

    /// Whether `password` is the one that `hash` was made of; without a hash the same work for the answer no
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// [`PasswordError::Failed`] where it could not be checked.
    pub async fn verify(
        &self,
        password: &Secret,
        hash: Option<&PasswordHash>,
    ) -> Result<bool, PasswordError> {
        if password.expose().len() > MAX_PASSWORD_OCTETS {
            return Ok(false);
        }
        let known = hash.is_some();
        let hash = hash.unwrap_or(&self.nobody).clone();
        let (argon2, password) = (self.argon2.clone(), password.clone());
        self.run(move || argon2.verify_password(password.expose().as_bytes(), hash.as_str()))
            .await
            .map(|checked| known && checked.is_ok())
            .map_err(PasswordError::Failed)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        let permit = Arc::clone(&self.running).acquire_owned().await;
        let permit = permit.map_err(|error| error.to_string())?;
        let running = tokio::task::spawn_blocking(move || {
            let done = work();
            // Held here, not by the caller: a caller that goes away does not end the work.
            drop(permit);
            done
        });
        running.await.map_err(|error| error.to_string())
    }
}

impl Default for PasswordHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for PasswordHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHasher").finish_non_exhaustive()
    }
}

/// Checks login and password against the directory
///
/// An unknown user, a user without a password and a wrong password cost the same work and get the same answer. Wrong
/// attempts are slowed down per account and per address.
#[derive(Clone, Debug)]
pub struct PasswordAuthenticator {
    directory: Arc<dyn Directory>,
    hasher: PasswordHasher,
    limiter: Arc<AttemptLimiter>,
}

impl PasswordAuthenticator {
    /// Checks against `directory`
    pub fn new(
        directory: Arc<dyn Directory>,
        hasher: PasswordHasher,
        limiter: Arc<AttemptLimiter>,
    ) -> Self {
        Self { directory, hasher, limiter }
    }

    async fn check(&self, login: &str, password: &Secret) -> Result<Option<UserName>, AuthError> {
        let user = UserName::new(login).ok();
        let hash = match &user {
            Some(user) => {
                self.directory.password_hash(user).await.map_err(|error| unavailable(&error))?
            }
            None => None,
        };
        let right = self.hasher.verify(password, hash.as_ref()).await;
        let right = right.map_err(|error| AuthError::Unavailable { cause: error.to_string() })?;
        Ok(user.filter(|_| right))
    }
}

fn unavailable(error: &DirectoryError) -> AuthError {
    AuthError::Unavailable { cause: error.to_string() }
}

#[async_trait]
impl Authenticator for PasswordAuthenticator {
    async fn authenticate(
        &self,
        credentials: &Credentials,
    ) -> Result<Option<Principal>, AuthError> {
        let Some(login) = credentials.login.as_deref().filter(|_| !credentials.bearer) else {
            return Ok(None);
        };
        let attempt = self.limiter.begin(Some(login), credentials.address)?;
        match self.check(login, &credentials.secret).await {
            Ok(Some(user)) => {
                attempt.forgive();
                Ok(Some(Principal::new(user)))
            }
            Ok(None) => Err(AuthError::Failed),
            Err(error) => {
                attempt.forgive();
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use argon2::password_hash;

    use super::*;

    /// V-30: an unknown user costs the work that a known one costs.
    #[test]
    fn nobodys_hash_is_computed_to_the_end_and_with_the_cost_of_a_real_one() {
        let hasher = PasswordHasher::new();
        // A hash that cannot be read would give another error, at once.
        let checked = hasher.argon2.verify_password(b"guess", hasher.nobody.as_str());
        assert_eq!(checked, Err(password_hash::Error::PasswordInvalid));
        let real = hasher.argon2.hash_password(b"secret").unwrap().to_string();
        let cost = |hash: &str| hash.split('$').nth(3).map(str::to_owned);
        assert_eq!(cost(hasher.nobody.as_str()), cost(&real));
        assert_eq!(hasher.nobody.as_str().len(), real.len());
    }

    /// V-30: an unknown user waits for a processor and computes, as a known one does.
    #[tokio::test]
    async fn an_unknown_user_is_not_answered_without_work() {
        let hasher = PasswordHasher::insecure_for_tests();
        let hash = hasher.hash(&Secret::new("secret")).await.unwrap();
        let guess = Secret::new("guess");
        let processors = u32::try_from(hasher.running.available_permits()).unwrap();
        let busy = hasher.running.acquire_many(processors).await.unwrap();
        let mut known = pin!(hasher.verify(&guess, Some(&hash)));
        let mut unknown = pin!(hasher.verify(&guess, None));
        let mut context = Context::from_waker(Waker::noop());
        assert!(known.as_mut().poll(&mut context).is_pending());
        assert!(unknown.as_mut().poll(&mut context).is_pending());
        drop(busy);
        assert_eq!((known.await, unknown.await), (Ok(false), Ok(false)));
    }
}
