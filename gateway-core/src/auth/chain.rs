use std::sync::Arc;

use async_trait::async_trait;

use super::{AuthError, Authenticator, Credentials, Principal};

/// Authenticators asked in order: the first one that knows the kind of credentials decides
///
/// An empty chain lets nobody in.
#[derive(Clone, Debug, Default)]
pub struct AuthenticatorChain(Vec<Arc<dyn Authenticator>>);

impl AuthenticatorChain {
    /// A chain of nobody
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds the next one to ask
    #[must_use]
    pub fn then(mut self, next: impl Authenticator) -> Self {
        self.0.push(Arc::new(next));
        self
    }
}

#[async_trait]
impl Authenticator for AuthenticatorChain {
    async fn authenticate(
        &self,
        credentials: &Credentials,
    ) -> Result<Option<Principal>, AuthError> {
        for authenticator in &self.0 {
            if let Some(principal) = authenticator.authenticate(credentials).await? {
                return Ok(Some(principal));
            }
        }
        Ok(None)
    }
}
