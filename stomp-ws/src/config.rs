use std::time::Duration;

/// Bounds and choices of one [`Transport`](crate::Transport)
///
/// Sizes are octets. The defaults suit a server on the open internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportConfig {
    /// Longest WebSocket message that is accepted; a longer one closes with 1009
    ///
    /// 4.25 MiB by default: a STOMP frame with the largest head and body of `stomp_codec::Limits`, and room for
    /// its neighbours in the same message.
    pub max_message: usize,
    /// Longest WebSocket message that is accepted before the STOMP session is established
    ///
    /// 64 KiB by default: one CONNECT frame, and what a client sends at once behind it.
    pub max_message_before_connect: usize,
    /// Most octets that may wait for a peer which does not read; more end the connection
    ///
    /// 8 MiB by default: two of the largest frames. What is sent in one go on top of an empty queue always
    /// fits, whatever its size.
    pub write_budget: usize,
    /// Longest time in which a peer may take nothing of what waits for it; 30 s by default
    pub write_timeout: Duration,
    /// Most pongs that may wait for a peer which pings and does not read; 64 by default
    pub max_pongs: usize,
    /// Longest wait for the peer's side of the close, after everything was written; 5 s by default
    pub linger: Duration,
    /// Sends every frame as a binary WebSocket message, also where it is text. Off by default
    pub force_binary: bool,
}

impl TransportConfig {
    /// The defaults
    pub const DEFAULT: Self = Self {
        max_message: 4352 * 1024,
        max_message_before_connect: 64 * 1024,
        write_budget: 8 * 1024 * 1024,
        write_timeout: Duration::from_secs(30),
        max_pongs: 64,
        linger: Duration::from_secs(5),
        force_binary: false,
    };

    /// Sets [`max_message`](Self::max_message)
    #[must_use]
    pub const fn with_max_message(mut self, octets: usize) -> Self {
        self.max_message = octets;
        self
    }

    /// Sets [`max_message_before_connect`](Self::max_message_before_connect)
    #[must_use]
    pub const fn with_max_message_before_connect(mut self, octets: usize) -> Self {
        self.max_message_before_connect = octets;
        self
    }

    /// Sets [`write_budget`](Self::write_budget)
    #[must_use]
    pub const fn with_write_budget(mut self, octets: usize) -> Self {
        self.write_budget = octets;
        self
    }

    /// Sets [`write_timeout`](Self::write_timeout)
    #[must_use]
    pub const fn with_write_timeout(mut self, timeout: Duration) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// Sets [`max_pongs`](Self::max_pongs)
    #[must_use]
    pub const fn with_max_pongs(mut self, pongs: usize) -> Self {
        self.max_pongs = pongs;
        self
    }

    /// Sets [`linger`](Self::linger)
    #[must_use]
    pub const fn with_linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Sets [`force_binary`](Self::force_binary)
    #[must_use]
    pub const fn with_force_binary(mut self, force: bool) -> Self {
        self.force_binary = force;
        self
    }
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self::DEFAULT
    }
}
