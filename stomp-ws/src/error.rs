use std::io;
use std::time::Duration;

use crate::CloseCode;

/// Why a [`Transport`](crate::Transport) cannot go on
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The connection failed; nobody's fault that could be named.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The peer broke the rules of RFC 6455.
    #[error("broken WebSocket frame, {rule}")]
    Protocol {
        /// The rule
        rule: &'static str,
    },
    /// The peer sent a text message that is not UTF-8.
    #[error("a WebSocket text message is not UTF-8")]
    InvalidUtf8,
    /// The peer sent a WebSocket message over [`max_message`](crate::TransportConfig::max_message).
    #[error("WebSocket message longer than {limit} octets")]
    MessageTooBig {
        /// The limit that was in force
        limit: usize,
    },
    /// The peer reads more slowly than it is sent to
    /// ([`write_budget`](crate::TransportConfig::write_budget)).
    #[error("the peer does not read: {queued} octets wait for it, the limit is {limit}")]
    SlowPeer {
        /// Octets that wait, the refused ones included
        queued: usize,
        /// The limit
        limit: usize,
    },
    /// The peer has stopped reading ([`write_timeout`](crate::TransportConfig::write_timeout)).
    #[error("the peer has read nothing for {timeout:?}")]
    WriteTimeout {
        /// The limit
        timeout: Duration,
    },
    /// The peer pings and does not read ([`max_pongs`](crate::TransportConfig::max_pongs)).
    #[error("more than {limit} pings without reading the pongs")]
    PingFlood {
        /// The limit
        limit: usize,
    },
    /// The transport was closed before, by either side.
    #[error("the connection is closed")]
    Closed,
}

impl TransportError {
    /// The code to close a WebSocket with after this error.
    #[must_use]
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::Io(_) => CloseCode::ABNORMAL,
            Self::Protocol { .. } => CloseCode::PROTOCOL_ERROR,
            Self::InvalidUtf8 => CloseCode::INVALID_DATA,
            Self::MessageTooBig { .. } => CloseCode::TOO_BIG,
            Self::SlowPeer { .. } | Self::WriteTimeout { .. } | Self::PingFlood { .. } => {
                CloseCode::POLICY
            }
            Self::Closed => CloseCode::NORMAL,
        }
    }
}
