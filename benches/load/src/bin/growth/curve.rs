use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stomp_load::scenario::{Load, Shape, Traffic};
use stomp_load::{Ballast, Keeping, LoadError, Local, Report, Silent};

/// Who write to each other in direct messages.
const PEOPLE: usize = 50;
/// Copies on their way in a fan-out, or as many as one message has.
const COPIES: usize = 2000;

/// How long everything takes
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    warm_up: Duration,
    measured: Duration,
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
        measured: Duration::from_millis(2000),
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
}

impl Curve {
    pub(crate) const ALL: [Self; 6] = [
        Self::IdleConnections,
        Self::ActiveConnections,
        Self::Destinations,
        Self::Subscribers,
        Self::Body,
        Self::Stored,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::IdleConnections => "idle connections",
            Self::ActiveConnections => "active connections",
            Self::Destinations => "destinations",
            Self::Subscribers => "subscribers of a topic",
            Self::Body => "octets of a body",
            Self::Stored => "stored messages",
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
        }
    }

    pub(crate) fn sizes(self, quick: bool, stored: usize) -> Vec<usize> {
        let all: &[usize] = match self {
            Self::IdleConnections => &[0, 10, 100, 1000, 10_000, 20_000],
            Self::ActiveConnections => &[10, 100, 1000, 10_000, 20_000],
            Self::Destinations => &[1, 10, 100, 1000, 10_000, 100_000],
            Self::Subscribers => &[1, 10, 100, 1000, 10_000],
            Self::Body => &[16, 128, 1 << 10, 16 << 10, 128 << 10, 1 << 20],
            Self::Stored => &[0, 10_000, 100_000, 1_000_000, 10_000_000],
        };
        let most = match self {
            Self::Stored => stored,
            Self::IdleConnections | Self::ActiveConnections if quick => 10_000,
            _ => usize::MAX,
        };
        all.iter().copied().filter(|size| *size <= most).collect()
    }

    /// A server for it, that has done nothing yet.
    pub(crate) fn start(self, program: &Path) -> Result<Server, LoadError> {
        let (keeping, people) = match self {
            Self::Stored => (Keeping::Files, PEOPLE),
            _ => (Keeping::Memory, 0),
        };
        let local = Local::im_server(program, keeping, people)?;
        let target = local.target();
        let stomp = local.stomp();
        let stomp = stomp.ok_or_else(|| LoadError::Server("no STOMP over TCP".to_owned()))?;
        let ballast = Ballast::new(stomp, &target.login, &target.passcode);
        Ok(Server { curve: self, local, ballast, stored: 0 })
    }
}

/// A server that is measured while something grows
pub(crate) struct Server {
    curve: Curve,
    local: Local,
    ballast: Ballast,
    /// Messages that it has stored
    stored: usize,
}

impl Server {
    /// Grows what is there besides the work.
    pub(crate) fn grow(&mut self, size: usize, pace: Pace) -> Result<(), LoadError> {
        match self.curve {
            Curve::IdleConnections => self.ballast.connect(size),
            Curve::Destinations => self.ballast.subscribe(size),
            Curve::Stored => {
                while self.stored < size {
                    let missing = size - self.stored;
                    // Near the end in short steps.
                    let time = Duration::from_secs(if missing > 100_000 { 5 } else { 1 });
                    self.run(Duration::ZERO, time, Shape::Ring(PEOPLE), 20, 128)?;
                }
                // The database writes its log back.
                self.run(Duration::ZERO, pace.warm_up, Shape::Ring(PEOPLE), 1, 128).map(drop)
            }
            Curve::ActiveConnections | Curve::Subscribers | Curve::Body => Ok(()),
        }
    }

    pub(crate) fn measure(&mut self, size: usize, pace: Pace) -> Result<Report, LoadError> {
        let pairs = Shape::Pairs;
        let fan_out = |topics, subscribers| Shape::FanOut { topics, subscribers, slow: 0 };
        let (shape, window, octets) = match self.curve {
            Curve::IdleConnections => (pairs(50), 20, 128),
            Curve::ActiveConnections => (pairs(size / 2), 4, 128),
            Curve::Destinations => (fan_out(50, 1), 20, 128),
            Curve::Subscribers => (fan_out(1, size), (COPIES / size).max(1), 128),
            Curve::Body => (pairs(10), 4, size),
            Curve::Stored => (Shape::Ring(PEOPLE), 20, 128),
        };
        self.run(pace.warm_up, pace.measured, shape, window, octets)
    }

    fn run(
        &mut self,
        warm_up: Duration,
        measured: Duration,
        shape: Shape,
        window: usize,
        octets: usize,
    ) -> Result<Report, LoadError> {
        let ring = matches!(shape, Shape::Ring(_));
        let target = if ring { self.local.people()? } else { self.local.target().clone() };
        let traffic = Traffic::new(shape, Load::Window(window));
        let report = traffic
            .with_size(octets)
            .with_times(warm_up, measured)
            .run(&target, &mut Silent::default())?;
        self.stored += usize::try_from(report.sent).unwrap_or(usize::MAX);
        Ok(report)
    }
}
