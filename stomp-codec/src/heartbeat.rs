use std::fmt;
use std::time::Duration;

use crate::grammar;

/// One side's `heart-beat` header: what it can send and what it wants to get
///
/// Zero means never. On the wire both are whole milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the header has these two numbers")]
pub struct HeartBeat {
    /// The smallest interval at which this side can send
    pub can_send: Duration,
    /// The interval at which this side wants to get
    pub wants: Duration,
}

impl HeartBeat {
    /// No heart-beats: `0,0`
    pub const NONE: Self = Self { can_send: Duration::ZERO, wants: Duration::ZERO };

    /// Both intervals
    pub const fn new(can_send: Duration, wants: Duration) -> Self {
        Self { can_send, wants }
    }

    /// Reads the header: two numbers of ASCII digits, joined by one comma
    ///
    /// Numbers that milliseconds in 63 bits cannot hold are taken as that maximum. `None` where the value
    /// is malformed.
    pub fn parse(value: &str) -> Option<Self> {
        let (can_send, wants) = grammar::heart_beat(value)?;
        let milliseconds = |number: u64| Duration::from_millis(number.min(i64::MAX.unsigned_abs()));
        Some(Self { can_send: milliseconds(can_send), wants: milliseconds(wants) })
    }

    /// The interval from this side to `peer`: the slower of the two, `None` where either is zero
    pub fn outgoing(self, peer: Self) -> Option<Duration> {
        agree(self.can_send, peer.wants)
    }

    /// The interval from `peer` to this side: the slower of the two, `None` where either is zero
    pub fn incoming(self, peer: Self) -> Option<Duration> {
        agree(peer.can_send, self.wants)
    }
}

impl fmt::Display for HeartBeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.can_send.as_millis(), self.wants.as_millis())
    }
}

fn agree(can_send: Duration, wants: Duration) -> Option<Duration> {
    (!can_send.is_zero() && !wants.is_zero()).then(|| can_send.max(wants))
}
