use thiserror::Error;

use crate::{DecodeError, EncodeError, HeartBeat, Version, view};

/// What the server did, or what became of a command
#[derive(Debug)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "events are matched at once, not kept")]
pub enum Event {
    /// The session is open
    Connected {
        /// The frame
        connected: view::Connected,
        /// The version of the session
        version: Version,
        /// The server's side of the heart-beat negotiation
        heart_beat: HeartBeat,
    },
    /// A message of a subscription
    Message {
        /// Which one
        subscription: SubscriptionHandle,
        /// The frame
        message: view::Message,
    },
    /// A receipt arrived
    Receipt {
        /// Which one
        receipt: ReceiptHandle,
        /// The frame, for further headers
        frame: view::Receipt,
    },
    /// A receipt did not arrive in time; if it comes later it is ignored
    ReceiptTimeout {
        /// Which one
        receipt: ReceiptHandle,
    },
    /// The server reports an error; [`Event::Closed`] follows
    Error {
        /// The frame
        error: view::Error,
        /// The receipt that the frame at fault had asked for
        receipt: Option<ReceiptHandle>,
    },
    /// The session has ended: the last event. Write what
    /// [`Session::poll_transmit`](super::Session::poll_transmit) still gives, then close the connection
    Closed {
        /// Why
        reason: CloseReason,
        /// Receipts that will not come
        lost: Vec<ReceiptHandle>,
    },
}

/// Names one receipt of one session
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiptHandle {
    pub(super) number: u64,
}

/// Names one subscription of one session
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionHandle {
    pub(super) number: u64,
}

/// Names one transaction of one session; gone once committed or aborted
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct TransactionHandle {
    pub(super) number: u64,
}

/// Why a session ended
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// [`Session::disconnect`](super::Session::disconnect), answered or not in time
    #[error("disconnected")]
    Disconnect {
        /// Whether the server confirmed that it has received everything
        confirmed: bool,
    },
    /// The connection ended without DISCONNECT
    #[error("the connection was lost")]
    ConnectionLost,
    /// Nothing was received for too long
    #[error("the server's heart-beat failed")]
    HeartBeatTimeout,
    /// No CONNECTED in time
    #[error("no CONNECTED in time")]
    ConnectTimeout,
    /// The server sent octets that are not STOMP, or exceed a limit
    #[error("malformed frame: {0}")]
    Malformed(#[from] DecodeError),
    /// The server sent a frame that the session's state does not allow, or that lacks a header
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// The server sent ERROR
    #[error("the server reported an error")]
    Error,
}

/// A command that was not taken; nothing was written
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Before CONNECTED, after DISCONNECT, or after the end
    #[error("not connected")]
    NotConnected,
    /// The version of the session does not have the command
    #[error("not supported by the version of the session")]
    Unsupported,
    /// The frame given to [`Session::send`](super::Session::send) is no SEND
    #[error("not a SEND frame")]
    NotSend,
    /// An empty destination
    #[error("empty destination")]
    NoDestination,
    /// A `content-type` that is no MIME type, which 1.2 forbids
    #[error("content-type is not a MIME type")]
    ContentType,
    /// The subscription's identifier is in use
    #[error("the subscription identifier is in use")]
    DuplicateId,
    /// The subscription has ended
    #[error("no such subscription")]
    NoSubscription,
    /// The transaction has ended
    #[error("no such transaction")]
    NoTransaction,
    /// The MESSAGE has nothing to acknowledge it with
    #[error("the message has no ack header")]
    NoAckId,
    /// Too many octets wait to be written
    #[error("too many octets wait to be written")]
    QueueFull,
    /// The frame cannot be expressed in the version of the session
    #[error(transparent)]
    Encode(#[from] EncodeError),
}
