use super::ChangeError;

/// Why the store did not do what it was asked to
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store cannot work now: disk full, input/output error, locked, away. Try again later
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// More writes are waiting than the store's bound allows. Try again later
    #[error("the store is overloaded")]
    Overloaded,
    /// The caller asks for something that the store never takes; the text names the limit
    #[error("the store refuses this: {0}")]
    Refused(String),
    /// The message that was to be changed is not there or may not be changed so
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The store's data cannot be understood: another program's file, a newer version, damage
    #[error("the store is unusable: {0}")]
    Unusable(String),
    /// The store was closed
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the same call may succeed later
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Overloaded)
    }
}
