use std::fmt;

/// Status code of a WebSocket Close frame (RFC 6455 section 7.4)
///
/// Over TCP no octet carries it; there it only names the end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    /// The session ended as agreed: after DISCONNECT.
    pub const NORMAL: Self = Self(1000);
    /// The server shuts down, or the browser leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the rules of STOMP or of WebSocket.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// The Close frame had no code. Never sent.
    pub const NO_STATUS: Self = Self(1005);
    /// The connection was lost without a Close frame. Never sent.
    pub const ABNORMAL: Self = Self(1006);
    /// A text message was not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// Sign-in failed, permission was missing, or a time limit passed.
    pub const POLICY: Self = Self(1008);
    /// A message or frame exceeds a size limit.
    pub const TOO_BIG: Self = Self(1009);
    /// The server failed.
    pub const INTERNAL: Self = Self(1011);
    /// The server has no capacity at present: try again later.
    pub const OVERLOAD: Self = Self(1013);

    /// The code with this number.
    ///
    /// Any number is accepted here, because a peer may have sent it; [`can_be_sent`](Self::can_be_sent)
    /// tells whether the rules let us send it.
    #[must_use]
    pub const fn new(code: u16) -> Self {
        Self(code)
    }

    /// The number on the wire.
    #[must_use]
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// Whether RFC 6455 and the IANA registry allow this code in a Close frame.
    #[must_use]
    pub const fn can_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How the peer closed a connection
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerClose {
    /// The peer's code, [`CloseCode::NO_STATUS`] if its Close frame had none.
    pub code: CloseCode,
    /// The peer's reason, often empty, at most 123 octets.
    pub reason: String,
}

impl PeerClose {
    /// A Close frame with this code and reason.
    #[must_use]
    pub fn new(code: CloseCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// Cuts `reason` to the 123 octets that fit into a Close frame, at a character border.
pub(crate) fn fit_reason(reason: &str) -> &str {
    let end = (0..=reason.len().min(123)).rev().find(|&i| reason.is_char_boundary(i)).unwrap_or(0);
    reason.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_codes_cannot_be_sent() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
            assert!(!CloseCode::new(code).can_be_sent(), "{code}");
        }
        for code in [1000, 1001, 1002, 1007, 1008, 1009, 1011, 1013, 3000, 4999] {
            assert!(CloseCode::new(code).can_be_sent(), "{code}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character_border() {
        let long = "é".repeat(100);
        let cut = fit_reason(&long);
        assert_eq!(cut.len(), 122);
        assert!(long.starts_with(cut));
        assert_eq!(fit_reason("short"), "short");
    }
}
