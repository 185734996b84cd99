//! Who is there: credentials in, a principal out.

mod anonymous;
mod chain;
mod credentials;
mod error;
#[cfg(feature = "webhooks")]
mod http;
#[cfg(feature = "jwt")]
mod issuer;
#[cfg(feature = "jwt")]
mod jwt;
#[cfg(feature = "jwt")]
mod key_set;
mod known;
mod limiter;
mod password;
#[cfg(feature = "webhooks")]
mod remote_keys;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

use async_trait::async_trait;

use crate::names::UserName;

pub use anonymous::AnonymousAuthenticator;
pub(crate) use anonymous::is_guest;
pub use chain::AuthenticatorChain;
pub use credentials::{Credentials, Secret};
pub use error::AuthError;
#[cfg(feature = "webhooks")]
pub use http::HttpAuthenticator;
#[cfg(feature = "jwt")]
pub use issuer::{IssuerAuthenticator, IssuerKeys};
#[cfg(feature = "jwt")]
pub use jwt::{IssuedToken, JwtAuthenticator, JwtOptions, ShortTokenKey, TokenKey};
#[cfg(feature = "jwt")]
pub use key_set::{InvalidKeySet, KeySet};
pub use known::KnownUsers;
pub use limiter::AttemptLimiter;
pub(crate) use limiter::network;
pub use password::{
    MAX_PASSWORD_OCTETS, PasswordAuthenticator, PasswordError, PasswordHash, PasswordHasher,
};
#[cfg(feature = "webhooks")]
pub use remote_keys::RemoteKeys;

/// Tells from credentials who somebody is
#[async_trait]
pub trait Authenticator: Debug + Send + Sync + 'static {
    /// Checks `credentials`
    ///
    /// `Ok(None)` says that these are not credentials of the kind that this authenticator knows, so that the next one
    /// may look at them; credentials of its kind that are wrong are an error.
    ///
    /// Cancel safe: nothing is left behind by a dropped future but the count of the attempt.
    ///
    /// # Errors
    ///
    /// [`AuthError`]. Its text may be shown to the client: it never tells whether the user exists.
    async fn authenticate(&self, credentials: &Credentials)
    -> Result<Option<Principal>, AuthError>;
}

/// Somebody whose credentials were right
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Principal {
    /// Who
    pub user: UserName,
    /// When the credentials end, in milliseconds since 1970, UTC; `None` for never
    pub expires: Option<u64>,
}

impl Principal {
    /// Somebody whose credentials do not end
    #[must_use]
    pub const fn new(user: UserName) -> Self {
        Self { user, expires: None }
    }

    /// Sets when the credentials end
    #[must_use]
    pub const fn with_expires(mut self, millis: u64) -> Self {
        self.expires = Some(millis);
        self
    }
}
