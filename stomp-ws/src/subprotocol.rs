use std::fmt;

/// WebSocket subprotocol of STOMP, as registered with IANA
///
/// It does not fix the STOMP version: `accept-version` of CONNECT decides that (some clients offer only
/// `v10.stomp` and then speak 1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Subprotocol {
    /// `v10.stomp`
    V10,
    /// `v11.stomp`
    V11,
    /// `v12.stomp`
    V12,
}

impl Subprotocol {
    /// All of them, highest first: the order in which a client offers them.
    pub const ALL: [Self; 3] = [Self::V12, Self::V11, Self::V10];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V10 => "v10.stomp",
            Self::V11 => "v11.stomp",
            Self::V12 => "v12.stomp",
        }
    }

    /// The subprotocol of that name; names are compared octet by octet (RFC 6455 section 4.1).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }

    /// The highest of those that the client offers, in whatever order, over any number of
    /// `Sec-WebSocket-Protocol` header lines; `None` if it offers none that we know.
    #[must_use]
    pub fn choose<'a>(header_lines: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        header_lines
            .into_iter()
            .flat_map(|line| line.split(','))
            .filter_map(|name| Self::from_name(name.trim_matches([' ', '\t'])))
            .max()
    }
}

impl fmt::Display for Subprotocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// W-01, W-02
    #[test]
    fn the_highest_offered_wins_in_any_order() {
        assert_eq!(
            Subprotocol::choose(["v12.stomp, v11.stomp, v10.stomp"]),
            Some(Subprotocol::V12)
        );
        assert_eq!(Subprotocol::choose(["v10.stomp, v12.stomp"]), Some(Subprotocol::V12));
    }

    /// W-03
    #[test]
    fn only_what_was_offered_is_chosen() {
        assert_eq!(Subprotocol::choose(["v11.stomp"]), Some(Subprotocol::V11));
        assert_eq!(Subprotocol::choose(["stomp"]), None);
    }

    /// W-04, W-05
    #[test]
    fn nothing_known_gives_none() {
        assert_eq!(Subprotocol::choose([]), None);
        assert_eq!(Subprotocol::choose(["mqtt"]), None);
        assert_eq!(Subprotocol::choose([""]), None);
    }

    /// W-06
    #[test]
    fn several_lines_spaces_and_case() {
        assert_eq!(Subprotocol::choose(["v10.stomp", "v12.stomp"]), Some(Subprotocol::V12));
        assert_eq!(Subprotocol::choose([" v10.stomp ,\tv11.stomp,,"]), Some(Subprotocol::V11));
        assert_eq!(Subprotocol::choose(["V12.STOMP"]), None);
    }
}
