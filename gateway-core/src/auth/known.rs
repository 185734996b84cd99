use std::sync::Arc;

use async_trait::async_trait;

use super::{AuthError, Authenticator, Credentials, Principal};
use crate::directory::Directory;

/// Lets in only those whom the directory knows
///
/// A token may outlive its user, or the directory that the user was in.
#[derive(Clone, Debug)]
pub struct KnownUsers<A> {
    inner: A,
    directory: Arc<dyn Directory>,
}

impl<A: Authenticator> KnownUsers<A> {
    /// Asks `inner`, then `directory`
    pub fn new(inner: A, directory: Arc<dyn Directory>) -> Self {
        Self { inner, directory }
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
        match self.directory.user_exists(&principal.user).await {
            Ok(true) => Ok(Some(principal)),
            Ok(false) => Err(AuthError::Failed),
            Err(error) => Err(AuthError::Unavailable { cause: error.to_string() }),
        }
    }
}
