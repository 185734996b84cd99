//! What can be set for every backend over a network.

use std::time::Duration;

/// How a backend over a network behaves while its broker is slow or gone
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteOptions {
    /// How long opening may take, attempts that failed included. Default 10 s.
    pub connect_timeout: Duration,
    /// How long a call waits for the broker to come back, and how long publishes are kept while it
    /// is away; after that they fail with a retryable
    /// [`Disconnected`](crate::BrokerError::Disconnected). Default 10 s.
    pub patience: Duration,
    /// The first wait before a connection is tried again; it doubles each time, with jitter.
    /// Default 50 ms.
    pub min_backoff: Duration,
    /// The longest wait before a connection is tried again. Default 5 s.
    pub max_backoff: Duration,
    /// The most octets of messages that are published and not yet confirmed; beyond it a publish
    /// fails with [`Overloaded`](crate::BrokerError::Overloaded). Default 64 MiB.
    pub max_pending_bytes: usize,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            patience: Duration::from_secs(10),
            min_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(5),
            max_pending_bytes: 64 << 20,
        }
    }
}

impl RemoteOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long opening may take.
    #[must_use]
    pub const fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how long calls and publishes wait for the broker to come back.
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets the first and the longest wait before a connection is tried again.
    #[must_use]
    pub const fn with_backoff(mut self, min: Duration, max: Duration) -> Self {
        self.min_backoff = min;
        self.max_backoff = max;
        self
    }

    /// Sets the most octets that are published and not yet confirmed.
    #[must_use]
    pub const fn with_max_pending_bytes(mut self, bytes: usize) -> Self {
        self.max_pending_bytes = bytes;
        self
    }
}
