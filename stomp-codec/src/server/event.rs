use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use crate::{ByteStr, DecodeError, Version, view};

/// What the client did, for the application to act on
///
/// Required headers, identifiers, transactions and limits are checked before an event is given: what comes
/// here is well-formed, but nothing is authorized. `receipt` is present where the client asked for one;
/// answer it with [`Session::receipt`](super::Session::receipt) once the frame's effect is what a RECEIPT
/// promises. RECEIPTs leave in the order of the frames, whatever the order of the answers.
#[derive(Debug)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "events are matched at once, not kept")]
pub enum Event<T> {
    /// The client wants to open a session; answer with [`Session::accept`](super::Session::accept) or
    /// [`Session::reject`](super::Session::reject). No further event comes before that
    Connect {
        /// The frame
        connect: view::Connect,
        /// The version of the session, already negotiated
        version: Version,
    },
    /// A message to publish, outside of any transaction
    Send {
        /// The frame, `destination` present and not empty
        send: view::Send,
        /// The receipt asked for
        receipt: Option<ReceiptToken>,
    },
    /// A message that is part of an open transaction: check whether it is allowed, do not publish it
    ///
    /// It comes again in [`Event::Commit`]. Its receipt means: accepted into the transaction.
    Staged {
        /// The frame, `destination` present and not empty
        send: view::Send,
        /// The receipt asked for
        receipt: Option<ReceiptToken>,
    },
    /// A new subscription; it exists from here on and ends with [`Event::Unsubscribe`] or
    /// [`Event::Closed`]
    Subscribe {
        /// Names the subscription in all later calls
        id: SubscriptionId,
        /// What to listen to, not empty
        destination: ByteStr,
        /// How messages are acknowledged
        ack: AckMode,
        /// The frame, for further headers
        frame: view::Subscribe,
        /// The receipt asked for; until it is answered messages of the subscription are held back
        receipt: Option<ReceiptToken>,
    },
    /// A subscription ends; [`Session::deliver`](super::Session::deliver) refuses it from here on
    Unsubscribe {
        /// Which subscription
        id: SubscriptionId,
        /// The frame, for further headers
        frame: view::Unsubscribe,
        /// Tokens of messages that were delivered and not settled: they go back
        returned: Vec<T>,
        /// The receipt asked for
        receipt: Option<ReceiptToken>,
    },
    /// Messages were consumed
    Ack {
        /// The subscription they were delivered in
        subscription: SubscriptionId,
        /// Their tokens in the order of delivery: one, or with [`AckMode::Client`] all up to the named one
        tokens: Vec<T>,
        /// The receipt asked for
        receipt: Option<ReceiptToken>,
    },
    /// Messages were not consumed
    Nack {
        /// The subscription they were delivered in
        subscription: SubscriptionId,
        /// Their tokens in the order of delivery: one, or with [`AckMode::Client`] all up to the named one
        tokens: Vec<T>,
        /// The receipt asked for
        receipt: Option<ReceiptToken>,
    },
    /// A transaction is to be applied, as a whole
    Commit {
        /// What it consists of, in the order of the frames
        actions: Vec<Action<T>>,
        /// The receipt asked for: it means that all of it is applied
        receipt: Option<ReceiptToken>,
    },
    /// Messages go back whose subscription ended while an open transaction held their acknowledgement,
    /// and that transaction was aborted
    Returned {
        /// Their tokens
        tokens: Vec<T>,
    },
    /// The client is leaving; it sends nothing more
    ///
    /// With a receipt the session ends once that is answered, without one it has ended.
    Disconnect {
        /// The receipt asked for
        receipt: Option<ReceiptToken>,
    },
    /// The session has ended: the last event. Write what
    /// [`Session::poll_transmit`](super::Session::poll_transmit) still gives, then close the connection
    Closed {
        /// Why
        reason: CloseReason,
        /// Tokens of all messages that were delivered and not settled: they go back
        returned: Vec<T>,
    },
}

/// One step of a transaction
#[derive(Debug)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "sends are the common case")]
pub enum Action<T> {
    /// Publish a message
    Send(view::Send),
    /// Messages were consumed
    Ack {
        /// Their tokens in the order of delivery
        tokens: Vec<T>,
    },
    /// Messages were not consumed
    Nack {
        /// Their tokens in the order of delivery
        tokens: Vec<T>,
    },
}

/// How the messages of a subscription are acknowledged
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "the three modes of the specification")]
pub enum AckMode {
    /// A message counts as consumed once it was written
    #[default]
    Auto,
    /// ACK and NACK cover the named message and all earlier ones of the subscription
    Client,
    /// ACK and NACK cover the named message only
    ClientIndividual,
}

impl AckMode {
    /// The value of the `ack` header
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Client => "client",
            Self::ClientIndividual => "client-individual",
        }
    }
}

/// Names one subscription of one session
///
/// Never used again within the session, even where the client uses its `id` again.
#[derive(Clone)]
pub struct SubscriptionId {
    pub(super) number: u64,
    pub(super) slot: usize,
    pub(super) name: Option<ByteStr>,
}

impl SubscriptionId {
    /// The client's `id`; 1.0 allows a subscription without one
    pub const fn name(&self) -> Option<&ByteStr> {
        self.name.as_ref()
    }
}

impl PartialEq for SubscriptionId {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for SubscriptionId {}

impl std::hash::Hash for SubscriptionId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl fmt::Debug for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubscriptionId({}, {:?})", self.number, self.name)
    }
}

/// A RECEIPT that the application owes
#[derive(Debug, PartialEq, Eq, Hash)]
#[must_use = "the client waits for its receipt, and later receipts wait behind it"]
pub struct ReceiptToken {
    pub(super) number: u64,
}

/// What CONNECTED says beside version and heart-beat
#[derive(Clone, Debug, Default)]
pub struct Accepted {
    pub(super) session: String,
    pub(super) server: Option<String>,
    pub(super) user_name: Option<String>,
    pub(super) headers: Vec<(String, String)>,
}

impl Accepted {
    /// Accepts with a session identifier, which should be unguessable
    pub fn new(session: impl Into<String>) -> Self {
        Self { session: session.into(), ..Self::default() }
    }

    /// The `server` header: name, `/`, version
    #[must_use]
    pub fn server(mut self, server: impl Into<String>) -> Self {
        self.server = Some(server.into());
        self
    }

    /// The `user-name` header: who the client is signed in as
    #[must_use]
    pub fn user_name(mut self, user_name: impl Into<String>) -> Self {
        self.user_name = Some(user_name.into());
        self
    }

    /// A further header
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// What an ERROR frame says
///
/// Text from outside is made safe for the session's version: what cannot be carried is replaced.
#[derive(Debug, Default)]
pub struct ErrorReply {
    pub(super) message: String,
    pub(super) body: Bytes,
    pub(super) headers: Vec<(String, String)>,
    pub(super) receipt: Option<ReceiptToken>,
}

impl ErrorReply {
    /// A short description: one line of at most 255 octets, longer ones are cut
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// A longer explanation, as plain text
    #[must_use]
    pub fn body(mut self, text: impl Into<String>) -> Self {
        self.body = Bytes::from(text.into());
        self
    }

    /// A further header
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Names the frame at fault by the receipt that it asked for
    #[must_use]
    pub fn receipt(mut self, receipt: impl Into<Option<ReceiptToken>>) -> Self {
        self.receipt = receipt.into();
        self
    }
}

impl ErrorReply {
    /// The message as one line of at most 255 octets, of octets that every version reads alike unless the
    /// version is known
    pub(super) fn safe_message(&self, is_negotiated: bool) -> String {
        let mut safe: String = self
            .message
            .chars()
            .map(|it| match it {
                ':' | '\\' if !is_negotiated => ' ',
                it if it.is_control() => ' ',
                it => it,
            })
            .collect();
        if safe.is_empty() {
            safe.push_str("error");
        }
        let mut end = safe.len().min(255);
        while !safe.is_char_boundary(end) {
            end -= 1;
        }
        safe.truncate(end);
        safe
    }
}

impl From<&str> for ErrorReply {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<String> for ErrorReply {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

/// Why a session ended
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client sent DISCONNECT
    #[error("the client disconnected")]
    Disconnect,
    /// The connection ended without DISCONNECT
    #[error("the connection was lost")]
    ConnectionLost,
    /// Nothing was received for too long
    #[error("the client's heart-beat failed")]
    HeartBeatTimeout,
    /// The CONNECT frame was not complete in time
    #[error("no CONNECT in time")]
    ConnectTimeout,
    /// The client sent octets that are not STOMP, or exceed a limit
    #[error("malformed frame: {0}")]
    Malformed(#[from] DecodeError),
    /// The client sent a frame that the session's state does not allow, or that lacks a header
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// The client did not read for too long
    #[error("the client does not read")]
    Stalled,
    /// The client exceeded a limit of the session
    #[error("limit exceeded: {0}")]
    Limit(&'static str),
    /// [`Session::reject`](super::Session::reject)
    #[error("the connection was refused")]
    Rejected,
    /// [`Session::fail`](super::Session::fail)
    #[error("a frame failed")]
    Failed,
    /// [`Session::close`](super::Session::close)
    #[error("the server closed the session")]
    Closed,
}

impl CloseReason {
    /// The WebSocket close code that fits (RFC 6455, section 7.4.1)
    pub const fn websocket_code(&self) -> u16 {
        match self {
            Self::Disconnect | Self::ConnectionLost => 1000,
            Self::Closed => 1001,
            Self::Malformed(error) if error.kind().is_limit() => 1009,
            Self::Malformed(_) | Self::Protocol(_) | Self::HeartBeatTimeout => 1002,
            Self::Limit(_)
            | Self::Rejected
            | Self::Failed
            | Self::ConnectTimeout
            | Self::Stalled => 1008,
        }
    }
}

/// A message that was not taken for delivery
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DeliverError {
    /// The subscription has ended, or the session has
    #[error("no such subscription")]
    NoSubscription,
    /// The subscription's window is full: wait for acknowledgements
    #[error("too many unacknowledged messages")]
    WindowFull,
    /// Too many octets wait to be written: wait for the client to read
    #[error("too many octets wait to be written")]
    QueueFull,
    /// The client's version cannot carry the message's `message-id` or `destination`
    #[error("the message cannot be carried by the client's version of the protocol")]
    Unencodable,
}

/// A subscription that was not opened
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The session is not open
    #[error("not connected")]
    NotConnected,
    /// A subscription of this name exists
    #[error("the subscription identifier is in use")]
    DuplicateId,
    /// The session has as many subscriptions as it may
    #[error("too many subscriptions")]
    TooMany,
}
