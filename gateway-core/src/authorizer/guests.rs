use async_trait::async_trait;

use super::{Action, Authorizer};
use crate::destination::Destination;
use crate::error::RefusedError;
use crate::names::UserName;

/// Allows what concerns nobody else: to subscribe to the own user destinations, and to answer a reply queue that was
/// named
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Closed;

impl Closed {
    /// Allows next to nothing
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Authorizer for Closed {
    async fn authorize(
        &self,
        _: &UserName,
        action: Action,
        destination: &Destination,
    ) -> Result<(), RefusedError> {
        match destination {
            Destination::OwnUserDestination(_) if action == Action::Subscribe => Ok(()),
            // The random name is the permission: only who was sent it knows it.
            Destination::ReplyQueue(_) if action == Action::Send => Ok(()),
            _ => Err(RefusedError::Denied("this destination is not open to guests")),
        }
    }
}
