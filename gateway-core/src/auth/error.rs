use std::time::Duration;

/// Why somebody was not let in
///
/// The texts may be shown to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The credentials are wrong, or nobody knows this kind of credentials
    ///
    /// One text for every cause: an attacker learns nothing from it.
    #[error("authentication failed")]
    Failed,
    /// Too many wrong attempts for this account or from this address
    #[error("too many attempts: try again later")]
    Throttled {
        /// How long to wait
        retry_after: Duration,
    },
    /// The credentials could not be checked now
    ///
    /// The cause is for the log, not for the client.
    #[error("authentication is unavailable")]
    Unavailable {
        /// What went wrong
        cause: String,
    },
}

impl AuthError {
    /// Whether the same credentials may succeed later
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        !matches!(self, Self::Failed)
    }
}
