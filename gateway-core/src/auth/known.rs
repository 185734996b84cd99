use std::sync::Arc;

use async_trait::async_trait;

use super::{AuthError, Authenticator, Credentials, Principal};
use crate::directory::{Directory, DirectoryError};
use crate::names::UserName;

/// Lets in only those whom the directory knows
///
/// A token may outlive its user, or the directory that the user was in. [`enrolling`](Self::enrolling) makes them known
/// instead.
#[derive(Clone, Debug)]
pub struct KnownUsers<A> {
    inner: A,
    directory: Arc<dyn Directory>,
    enrolling: bool,
}

impl<A: Authenticator> KnownUsers<A> {
    /// Asks `inner`, then `directory`
    pub fn new(inner: A, directory: Arc<dyn Directory>) -> Self {
        Self { inner, directory, enrolling: false }
    }

    /// Makes those whom the directory does not know yet, for an authority elsewhere that decides who there is
    ///
    /// Somebody who can sign in otherwise as well, and has the same name, is the same user: let nobody choose a name
    /// where the authority gives them.
    #[must_use]
    pub fn enrolling(mut self) -> Self {
        self.enrolling = true;
        self
    }

    async fn enroll(&self, user: &UserName) -> Result<(), DirectoryError> {
        match self.directory.create_user(user, None).await {
            // Two sessions at once.
            Err(DirectoryError::UserExists(_)) => Ok(()),
            done => done,
        }
    }
}

#[async_trait]
impl<A: Authenticator> Authenticator for KnownUsers<A> {
    async fn authenticate(
        &self,
        credentials: &Credentials,
    ) -> Result<Option<Principal>, AuthError> {
        let Some(principal) = self.inner.authenticate(credentials).await? else {
            return Ok(None);
        };
        let known = match self.directory.user_exists(&principal.user).await {
            Ok(false) if self.enrolling => self.enroll(&principal.user).await.map(|()| true),
            known => known,
        };
        match known {
            Ok(true) => Ok(Some(principal)),
            Ok(false) => Err(AuthError::Failed),
            Err(error) => Err(AuthError::Unavailable { cause: error.to_string() }),
        }
    }
}
