use crate::names::{DeviceName, GroupName, UserName};
use crate::store::StoreError;

use super::{MAX_BLOCKED, MAX_DEVICES};

/// Why the directory did not do what it was asked to
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The name is taken
    #[error("the user {0} exists already")]
    UserExists(UserName),
    /// There is no such user
    #[error("there is no user {0}")]
    NoSuchUser(UserName),
    /// The name is taken
    #[error("the group {0} exists already")]
    GroupExists(GroupName),
    /// There is no such group
    #[error("there is no group {0}")]
    NoSuchGroup(GroupName),
    /// The group would be left without an owner
    #[error("the group {0} has no other owner")]
    LastOwner(GroupName),
    /// The user has no such device
    #[error("there is no device {0}")]
    NoSuchDevice(DeviceName),
    /// The user has as many devices as a user may have
    #[error("a user has at most {MAX_DEVICES} devices")]
    TooManyDevices,
    /// The user has blocked as many as a user may block
    #[error("a user blocks at most {MAX_BLOCKED} people")]
    TooManyBlocked,
    /// The directory's store failed
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DirectoryError {
    /// Whether the same call may succeed later
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            _ => false,
        }
    }
}
