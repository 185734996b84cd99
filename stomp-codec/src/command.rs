use std::fmt;

use crate::Version;

/// Command of a frame, of all three versions
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "the set is closed by the STOMP specifications")]
pub enum Command {
    /// Opens a session (client)
    Connect,
    /// Opens a session like CONNECT (client, from 1.1)
    Stomp,
    /// Sends a message to a destination (client)
    Send,
    /// Registers to listen to a destination (client)
    Subscribe,
    /// Removes a subscription (client)
    Unsubscribe,
    /// Starts a transaction (client)
    Begin,
    /// Applies a transaction (client)
    Commit,
    /// Discards a transaction (client)
    Abort,
    /// Acknowledges consumption of a message (client)
    Ack,
    /// Says that a message was not consumed (client, from 1.1)
    Nack,
    /// Ends the session (client)
    Disconnect,
    /// Accepts a session (server)
    Connected,
    /// Conveys a message of a subscription (server)
    Message,
    /// Confirms a frame that asked for a receipt (server)
    Receipt,
    /// Says what went wrong, before the connection is closed (server)
    Error,
}

impl Command {
    /// Every command, client commands first
    pub const ALL: [Self; 15] = [
        Self::Connect,
        Self::Stomp,
        Self::Send,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Begin,
        Self::Commit,
        Self::Abort,
        Self::Ack,
        Self::Nack,
        Self::Disconnect,
        Self::Connected,
        Self::Message,
        Self::Receipt,
        Self::Error,
    ];

    /// The name as it stands on the wire
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Stomp => "STOMP",
            Self::Send => "SEND",
            Self::Subscribe => "SUBSCRIBE",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Begin => "BEGIN",
            Self::Commit => "COMMIT",
            Self::Abort => "ABORT",
            Self::Ack => "ACK",
            Self::Nack => "NACK",
            Self::Disconnect => "DISCONNECT",
            Self::Connected => "CONNECTED",
            Self::Message => "MESSAGE",
            Self::Receipt => "RECEIPT",
            Self::Error => "ERROR",
        }
    }

    /// The command of exactly this name; names are case-sensitive
    pub fn from_octets(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"MESSAGE" => Self::Message,
            b"SEND" => Self::Send,
            b"ACK" => Self::Ack,
            b"RECEIPT" => Self::Receipt,
            b"SUBSCRIBE" => Self::Subscribe,
            b"UNSUBSCRIBE" => Self::Unsubscribe,
            b"NACK" => Self::Nack,
            b"CONNECT" => Self::Connect,
            b"STOMP" => Self::Stomp,
            b"CONNECTED" => Self::Connected,
            b"DISCONNECT" => Self::Disconnect,
            b"BEGIN" => Self::Begin,
            b"COMMIT" => Self::Commit,
            b"ABORT" => Self::Abort,
            b"ERROR" => Self::Error,
            _ => return None,
        })
    }

    /// Whether a client sends it; the others are sent by servers
    pub const fn is_client(self) -> bool {
        !matches!(self, Self::Connected | Self::Message | Self::Receipt | Self::Error)
    }

    /// Whether the command exists in `version`: NACK and STOMP came with 1.1
    pub const fn exists_in(self, version: Version) -> bool {
        !matches!((self, version), (Self::Nack | Self::Stomp, Version::V1_0))
    }

    /// Whether 1.1 and 1.2 allow the frame a body (1.0 allows it on every frame)
    pub const fn may_have_body(self) -> bool {
        matches!(self, Self::Send | Self::Message | Self::Error)
    }

    /// Whether headers travel raw in every version, without escapes
    ///
    /// The specification names CONNECT and CONNECTED; STOMP is handled like CONNECT.
    pub const fn is_escape_free(self) -> bool {
        matches!(self, Self::Connect | Self::Stomp | Self::Connected)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
