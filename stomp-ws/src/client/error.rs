use std::fmt;
use std::io;
use std::time::Duration;

use stomp_codec::client::{self, CloseReason};
use stomp_codec::view;

use crate::PeerClose;

/// An ERROR frame of the server
#[derive(Clone, PartialEq, Eq)]
pub struct ServerError {
    frame: Box<view::Error>,
}

impl ServerError {
    pub(super) fn new(frame: view::Error) -> Self {
        Self { frame: Box::new(frame) }
    }

    /// The `message` header: a short description, empty if there was none.
    #[must_use]
    pub fn message(&self) -> String {
        self.frame.message().unwrap_or_default().into_owned()
    }

    /// The body as text: a longer explanation, often empty.
    #[must_use]
    pub fn body(&self) -> String {
        String::from_utf8_lossy(self.frame.body()).into_owned()
    }

    /// The value of the first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        self.frame.header(name).map(std::borrow::Cow::into_owned)
    }

    /// The frame.
    #[must_use]
    pub fn frame(&self) -> &view::Error {
        &self.frame
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())?;
        let body = self.body();
        if body.is_empty() { Ok(()) } else { write!(f, " ({})", body.trim_end()) }
    }
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerError")
            .field("frame", &self.frame)
            .field("body", &self.body())
            .finish()
    }
}

impl std::error::Error for ServerError {}

/// How a connection ended
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// Why, as the session saw it.
    pub reason: CloseReason,
    /// The server's ERROR frame, where it sent one.
    pub error: Option<ServerError>,
    /// The server's Close frame, where it sent one: code and reason.
    pub peer_close: Option<PeerClose>,
    /// What was wrong with the connection, where it was more than its end.
    pub transport: Option<String>,
}

impl Closed {
    /// Whether the server confirmed, with the RECEIPT of DISCONNECT, that it has received everything.
    #[must_use]
    pub const fn is_confirmed(&self) -> bool {
        matches!(self.reason, CloseReason::Disconnect { confirmed: true })
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => write!(f, "the server reported an error: {error}")?,
            None => write!(f, "{}", self.reason)?,
        }
        if let Some(error) = &self.transport {
            write!(f, "; {error}")?;
        }
        match &self.peer_close {
            Some(PeerClose { code, reason }) if reason.is_empty() => {
                write!(f, "; the server closed with code {code}")
            }
            Some(PeerClose { code, reason }) => {
                write!(f, "; the server closed with code {code}: {reason}")
            }
            None => Ok(()),
        }
    }
}

/// Why a connection was not made
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is not one of `ws://host[:port][/path]`, `tcp://host[:port]` and `stomp://host[:port]`.
    #[error("{url:?} cannot be connected to: {fault}")]
    Url {
        /// The address
        url: String,
        /// What is wrong with it
        fault: &'static str,
    },
    /// No connection could be made, or it was lost.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The server answered the upgrade with an HTTP status other than 101: 403 and 404 mean that `Origin` or path
    /// are wrong.
    #[error("the server answered HTTP {status} instead of opening a WebSocket: {body}")]
    Upgrade {
        /// The status
        status: u16,
        /// The beginning of the response's body, as far as it came with the head
        body: String,
    },
    /// The server's answer to the upgrade breaks RFC 6455.
    #[error("the server's answer to the WebSocket upgrade is wrong: {0}")]
    Handshake(&'static str),
    /// The server chose a subprotocol that was not offered.
    #[error("the server chose the subprotocol {0:?}, which was not offered")]
    Subprotocol(String),
    /// An option of the client cannot be sent: a header of CONNECT or of the upgrade holds a line break.
    #[error("the connect options cannot be sent: {0}")]
    Options(#[from] client::ClientError),
    /// The server refused the session with an ERROR frame: sign-in failed, or no common version.
    #[error("the server refused the session: {0}")]
    Refused(ServerError),
    /// The connection ended before CONNECTED.
    #[error("no session: {0}")]
    Closed(Closed),
    /// Not connected in time ([`ConnectOptions::connect_timeout`](super::ConnectOptions::connect_timeout)).
    #[error("not connected within {0:?}")]
    Timeout(Duration),
}

/// Why something asked of a [`Client`](super::Client) was not done
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// It could not be sent: nothing was written.
    #[error(transparent)]
    Command(#[from] client::ClientError),
    /// The server reported an error for this very frame. The connection ends.
    #[error("the server reported an error: {0}")]
    Server(ServerError),
    /// No RECEIPT in time; whether the frame took effect is unknown.
    #[error("no receipt in time")]
    ReceiptTimeout,
    /// The connection has ended; whether a frame without RECEIPT took effect is unknown.
    #[error("{0}")]
    Closed(Closed),
}
