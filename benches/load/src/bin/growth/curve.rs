use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Connections that a server has beside those that are counted.
const OTHERS: usize = 100;

/// How long everything takes
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    pub(crate) rounds: usize,
}

impl Pace {
    pub(crate) const QUICK: Self = Self {
        warm_up: Duration::from_millis(300),
        measured: Duration::from_millis(700),
        rounds: 2,
    };
    pub(crate) const FULL: Self = Self {
        warm_up: Duration::from_millis(500),
        measured: Duration::from_millis(1500),
        rounds: 3,
    };
}

/// What grows
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Curve {
    IdleConnections,
    ActiveConnections,
    Destinations,
    Subscribers,
    Body,
    Stored,
    Members,
}

impl Curve {
    pub(crate) const ALL: [Self; 7] = [
        Self::IdleConnections,
        Self::ActiveConnections,
        Self::Destinations,
        Self::Subscribers,
        Self::Body,
        Self::Stored,
        Self::Members,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::IdleConnections => "idle connections",
            Self::ActiveConnections => "active connections",
            Self::Destinations => "destinations",
            Self::Subscribers => "subscribers of a topic",
            Self::Body => "octets of a body",
            Self::Stored => "stored messages",
            Self::Members => "members of a group",
        }
    }

    /// What is done while it grows.
    pub(crate) const fn work(self) -> &'static str {
        match self {
            Self::IdleConnections => {
                "50 pairs over queues, 128 B, 20 in flight each, beside so many connections with a subscription each"
            }
            Self::ActiveConnections => {
                "so many connections, in pairs over queues, 128 B, 4 in flight for each pair"
            }
            Self::Destinations => {
                "50 topics with a subscriber each, 128 B, 20 in flight each, beside so many other topics with a subscriber"
            }
            Self::Subscribers => {
                "one topic with so many subscribers, 128 B, 2000 deliveries in flight, or those of one message"
            }
            Self::Body => "10 pairs over queues, 4 in flight each, bodies of so many octets",
            Self::Stored => {
                "50 people who write to each other, 128 B, 20 in flight each, receipts and acknowledgements, \
                 where so many messages are stored already (SQLite)"
            }
            Self::Members => {
                "one member writes to a group of so many, all of whom are there, 128 B, 2000 deliveries in flight, or \
                 those of one message, receipts and acknowledgements, stored (SQLite)"
            }
        }
    }

    /// Whether the bare forwarder does the same beside it: where a curve bends as the kernel does.
    pub(crate) const fn beside_forwarder(self) -> bool {
        matches!(self, Self::ActiveConnections | Self::Subscribers)
    }

    /// What is measured, where there may be `room` connections.
    pub(crate) fn sizes(self, quick: bool, stored: usize, room: usize) -> Vec<usize> {
        let all: &[usize] = match self {
            Self::IdleConnections => &[0, 10, 100, 1000, 10_000, 20_000],
            Self::ActiveConnections => &[10, 100, 1000, 10_000, 20_000],
            Self::Destinations => &[1, 10, 100, 1000, 10_000, 100_000],
            Self::Subscribers => &[1, 10, 100, 1000, 10_000],
            Self::Body => &[16, 128, 1 << 10, 16 << 10, 128 << 10, 1 << 20],
            Self::Stored => &[0, 10_000, 100_000, 1_000_000, 10_000_000],
            Self::Members => &[2, 10, 100, 1000, 10_000],
        };
        let last = match self {
            Self::Stored => stored,
            Self::IdleConnections | Self::ActiveConnections if quick => 10_000,
            Self::Members if quick => 1000,
            _ => usize::MAX,
        };
        let most = match self {
            Self::IdleConnections | Self::Subscribers => room.saturating_sub(OTHERS),
            Self::ActiveConnections | Self::Members => room,
            Self::Destinations | Self::Body | Self::Stored => usize::MAX,
        };
        let chosen = all.iter().copied().filter(|size| *size <= last);
        let mut sizes: Vec<usize> = chosen.map(|size| size.min(most)).collect();
        sizes.dedup();
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_goes_as_far_as_there_is_room() {
        let far = |curve: Curve, room| curve.sizes(false, 10_000_000, room).last().copied();
        assert_eq!(far(Curve::ActiveConnections, usize::MAX), Some(20_000));
        assert_eq!(far(Curve::ActiveConnections, 19_900), Some(19_900));
        assert_eq!(far(Curve::IdleConnections, 19_900), Some(19_800));
        assert_eq!(far(Curve::Stored, 900), Some(10_000_000));
        assert_eq!(Curve::Members.sizes(false, 0, 900), [2, 10, 100, 900], "no size twice");
    }
}
