use mq_bridge::BrokerError;

use crate::attachments::AttachmentError;
use crate::blob::BlobError;
use crate::destination::DestinationError;
use crate::directory::DirectoryError;
use crate::store::StoreError;

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedError {
    /// The user may not. The text says why and is shown to the user.
    #[error("refused: {0}")]
    Denied(&'static str),
    /// An interceptor refused. The text says why and is shown to the user.
    #[error("refused: {0}")]
    Rejected(String),
    /// The decision could not be made now. Try again later.
    #[error("permission could not be checked now")]
    Unavailable(#[from] DirectoryError),
}

impl From<StoreError> for RefusedError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(DirectoryError::Store(error))
    }
}

/// Why the gateway did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The destination is none.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// The authorizer refused.
    #[error(transparent)]
    Refused(#[from] RefusedError),
    /// A header or a parameter is missing or malformed.
    #[error("{name}: {problem}")]
    Invalid {
        /// Its name.
        name: &'static str,
        /// What is wrong, and the limit where there is one.
        problem: &'static str,
    },
    /// The directory refused or failed.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The store has not taken or given it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker has not taken or confirmed it. A message that was sent may have been stored: send it
    /// again with the same `idempotency-key`.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The attachment was not taken or given.
    #[error(transparent)]
    Attachment(#[from] AttachmentError),
    /// Too much is under way, or the gateway shuts down. Try again later, with the same
    /// `idempotency-key`.
    #[error("the server is busy")]
    Overloaded,
}

impl GatewayError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Overloaded => true,
            Self::Broker(error) => error.is_retryable(),
            Self::Store(error) => error.is_retryable(),
            Self::Attachment(AttachmentError::Store(error)) => {
                matches!(error, BlobError::Unavailable(_))
            }
            Self::Directory(error) | Self::Refused(RefusedError::Unavailable(error)) => {
                error.is_retryable()
            }
            _ => false,
        }
    }
}
