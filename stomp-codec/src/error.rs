use thiserror::Error;

use crate::Command;

/// Octets that are not STOMP, or exceed a limit
///
/// Always the peer's fault, always fatal: the decoder yields nothing more. A server answers with one
/// ERROR frame and closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{kind} (at octet {offset})")]
pub struct DecodeError {
    pub(crate) kind: DecodeErrorKind,
    pub(crate) offset: u64,
}

impl DecodeError {
    /// Which rule was broken
    pub const fn kind(&self) -> DecodeErrorKind {
        self.kind
    }

    /// Where: octets of the stream before the octet or line at fault, counted from the decoder's start
    pub const fn offset(&self) -> u64 {
        self.offset
    }
}

/// The rule that a [`DecodeError`] reports
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The command does not exist in the session's version; names are case-sensitive
    #[error("unknown command")]
    UnknownCommand,
    /// No EOL within the limit
    #[error("command longer than {limit} octets")]
    CommandTooLong {
        /// [`Limits::command`](crate::Limits::command)
        limit: usize,
    },
    /// A header line without a colon
    #[error("header line without a colon")]
    HeaderNoColon,
    /// A header line that starts with its colon
    #[error("empty header name")]
    EmptyHeaderName,
    /// A NUL before the blank line: a frame that was cut
    #[error("NUL before the end of the headers")]
    NulInHeader,
    /// A NUL where a command or an EOL is expected (strict mode)
    #[error("NUL between frames")]
    StrayNul,
    /// A carriage return that no line feed follows
    #[error("carriage return without line feed")]
    BareCr,
    /// The head of the frame is not UTF-8
    #[error("headers are not UTF-8")]
    InvalidUtf8,
    /// An escape sequence that the session's version does not define
    #[error("undefined escape sequence in a header")]
    BadEscape,
    /// `content-length` is not a number of ASCII digits
    #[error("content-length is not a number")]
    BadContentLength,
    /// Two `content-length` headers that differ
    #[error("content-length given twice with different values")]
    ConflictingContentLength,
    /// The octet after `content-length` octets is not NUL
    #[error("body does not end with NUL where content-length says")]
    MissingNul,
    /// A body on a frame that may not have one
    #[error("{command} may not have a body")]
    BodyNotAllowed {
        /// The frame's command
        command: Command,
    },
    /// The body exceeds its limit
    #[error("body longer than {limit} octets")]
    BodyTooLarge {
        /// [`Limits::body`](crate::Limits::body)
        limit: usize,
    },
    /// One header line exceeds its limit
    #[error("header line longer than {limit} octets")]
    HeaderLineTooLong {
        /// [`Limits::header_line`](crate::Limits::header_line)
        limit: usize,
    },
    /// More header lines than the limit
    #[error("more than {limit} headers")]
    TooManyHeaders {
        /// [`Limits::headers`](crate::Limits::headers)
        limit: usize,
    },
    /// The head as a whole exceeds its limit
    #[error("headers longer than {limit} octets together")]
    HeadTooLarge {
        /// [`Limits::head`](crate::Limits::head)
        limit: usize,
    },
}

impl DecodeErrorKind {
    /// Whether a limit was exceeded, rather than the grammar broken
    pub const fn is_limit(self) -> bool {
        matches!(
            self,
            Self::CommandTooLong { .. }
                | Self::BodyTooLarge { .. }
                | Self::HeaderLineTooLong { .. }
                | Self::TooManyHeaders { .. }
                | Self::HeadTooLarge { .. }
        )
    }
}

/// A frame that cannot be written in the session's version
///
/// Always the caller's fault; nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A header holds an octet that the version (or the frame) has no way to carry
    #[error("header {index} cannot be carried by this version of the protocol")]
    Unencodable {
        /// Which header of the frame, from 0
        index: usize,
    },
    /// A body on a frame that may not have one
    #[error("{command} may not have a body")]
    BodyNotAllowed {
        /// The frame's command
        command: Command,
    },
    /// A header that the frame must have is missing or empty
    #[error("header {name} is missing or empty")]
    MissingHeader {
        /// Its name
        name: &'static str,
    },
    /// The command does not exist in the version
    #[error("{command} does not exist in this version of the protocol")]
    UnknownCommand {
        /// The frame's command
        command: Command,
    },
}
