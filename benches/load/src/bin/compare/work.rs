use std::time::Duration;

use stomp_load::scenario::{ConnectRate, Idle, Load, Shape, Traffic};
use stomp_load::{LoadError, Progress, Report, Target};

use super::contender::Contender;

/// Who write to each other in direct messages.
pub(crate) const PEOPLE: usize = 50;

/// How long everything takes
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    warm_up: Duration,
    measured: Duration,
    idle: usize,
    pub(crate) rounds: usize,
}

impl Pace {
    pub(crate) const QUICK: Self = Self {
        warm_up: Duration::from_millis(300),
        measured: Duration::from_secs(1),
        idle: 1000,
        rounds: 2,
    };
    pub(crate) const FULL: Self = Self {
        warm_up: Duration::from_millis(700),
        measured: Duration::from_millis(2500),
        idle: 5000,
        rounds: 4,
    };
}

/// What is compared of the reports
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Deliveries, or connections, in a second: more is better
    Rate,
    /// The 99th percentile of the latency: less is better
    P99,
    /// Memory of a connection: less is better
    Memory,
}

/// What is to be reached
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bars {
    /// So many times RabbitMQ's; for latencies, at most so many times
    pub(crate) rabbitmq: Option<f64>,
    pub(crate) activemq: Option<f64>,
    /// Such a part of the forwarder's
    pub(crate) forwarder: Option<f64>,
    /// At most so many microseconds, or octets
    pub(crate) most: Option<f64>,
}

/// One kind of work, as every contender gets it
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// The bar that it belongs to
    pub(crate) id: &'static str,
    pub(crate) key: &'static str,
    pub(crate) name: &'static str,
    pub(crate) measure: Measure,
    pub(crate) bars: Bars,
    /// The server keeps messages in files
    pub(crate) durable: bool,
    /// Each connection is somebody else
    pub(crate) people: bool,
    /// A server that has done nothing before
    pub(crate) fresh: bool,
    /// Whose result of which other work stands for one that cannot do this
    pub(crate) compare_with: Option<&'static str>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Traffic { shape: Shape, load: Load, size: usize },
    Connect,
    Idle,
}

impl Work {
    pub(crate) fn all() -> Vec<Self> {
        let bars = |rabbitmq, activemq, forwarder| Bars {
            rabbitmq: Some(rabbitmq),
            activemq: Some(activemq),
            forwarder: Some(forwarder),
            most: None,
        };
        let third = bars(25.0, 10.0, 1.0 / 3.0);
        let base = |id, key, name, kind| Self {
            id,
            key,
            name,
            measure: Measure::Rate,
            bars: Bars::default(),
            durable: false,
            people: false,
            fresh: false,
            compare_with: None,
            kind,
        };
        let traffic = |id, key, name, shape, window, size| Self {
            bars: third,
            ..base(id, key, name, Kind::Traffic { shape, load: Load::Window(window), size })
        };
        let fan_out = |subscribers| Shape::FanOut { topics: 1, subscribers, slow: 0 };
        let stored = Bars { forwarder: None, ..bars(10.0, 5.0, 0.0) };
        let pairs = Shape::Pairs(50);
        let offered = |key, name, rate, durable| Self {
            measure: Measure::P99,
            durable,
            bars: Bars {
                rabbitmq: Some(1.0),
                most: Some(if durable { 10_000.0 } else { 1000.0 }),
                ..Bars::default()
            },
            ..base(
                "S4",
                key,
                name,
                Kind::Traffic { shape: pairs, load: Load::Rate(rate), size: 128 },
            )
        };
        vec![
            // First, as the others that are not started anew have done nothing yet.
            Self {
                measure: Measure::Memory,
                fresh: true,
                bars: Bars { most: Some(10.0 * 1024.0), ..Bars::default() },
                ..base("S6", "idle", "idle connection with a subscription, RSS", Kind::Idle)
            },
            traffic(
                "S1",
                "pair-128",
                "queue, 1 pair, 128 B, 100 in flight",
                Shape::Pairs(1),
                100,
                128,
            ),
            traffic(
                "S1",
                "pair-1k",
                "queue, 1 pair, 1 KiB, 100 in flight",
                Shape::Pairs(1),
                100,
                1024,
            ),
            traffic("S1", "pairs-128", "queue, 50 pairs, 128 B, 20 in flight each", pairs, 20, 128),
            traffic("S1", "pairs-1k", "queue, 50 pairs, 1 KiB, 20 in flight each", pairs, 20, 1024),
            traffic(
                "S2",
                "fanout-100",
                "topic, 1 to 100, 128 B, 20 in flight",
                fan_out(100),
                20,
                128,
            ),
            traffic(
                "S2",
                "fanout-1000",
                "topic, 1 to 1000, 128 B, 8 in flight",
                fan_out(1000),
                8,
                128,
            ),
            Self {
                durable: true,
                ..Self {
                    bars: stored,
                    ..traffic(
                        "S3",
                        "durable",
                        "durable queue: persistent, receipts, client ack, 50 pairs",
                        pairs,
                        20,
                        128,
                    )
                }
            },
            Self {
                durable: true,
                people: true,
                compare_with: Some("durable"),
                bars: stored,
                ..traffic(
                    "S3",
                    "direct",
                    "direct messages, stored: receipts, client ack, 50 people",
                    Shape::Ring(PEOPLE),
                    20,
                    128,
                )
            },
            offered("offered-2000", "2 000 msg/s offered, 50 pairs", 2000.0, false),
            offered("offered-5000", "5 000 msg/s offered, 50 pairs", 5000.0, false),
            offered("durable-2000", "2 000 msg/s offered, durable, 50 pairs", 2000.0, true),
            offered("durable-5000", "5 000 msg/s offered, durable, 50 pairs", 5000.0, true),
            Self {
                bars: Bars { activemq: None, ..third },
                ..base("S5", "connect", "connect, CONNECT and SUBSCRIBE", Kind::Connect)
            },
        ]
    }

    /// Whether it is meant by this word.
    pub(crate) fn is(&self, word: &str) -> bool {
        self.id.eq_ignore_ascii_case(word) || self.key.contains(word)
    }

    /// Who can do it.
    pub(crate) fn contenders(&self, all: &[Contender]) -> Vec<Contender> {
        let can = |contender: &Contender| match contender {
            Contender::ImServer => true,
            // It stores nothing.
            Contender::Forwarder => !self.durable,
            Contender::Rabbitmq | Contender::Activemq => !self.people,
        };
        all.iter().copied().filter(can).collect()
    }

    /// Whether it means something only on a server that was just started, which this one is once.
    pub(crate) const fn needs_fresh(&self, contender: Contender) -> bool {
        self.fresh && matches!(contender, Contender::Rabbitmq | Contender::Activemq)
    }

    pub(crate) fn run(
        &self,
        target: &Target,
        contender: Contender,
        pace: Pace,
        progress: &mut dyn Progress,
    ) -> Result<Report, LoadError> {
        match self.kind {
            Kind::Traffic { shape, load, size } => {
                let mut traffic = Traffic::new(shape, load)
                    .with_size(size)
                    .with_times(pace.warm_up, pace.measured);
                if self.durable {
                    traffic = traffic.durable();
                }
                traffic.run(target, progress)
            }
            Kind::Connect => {
                let mut connect = ConnectRate::new(32);
                connect.duration = pace.measured;
                connect.run(target, progress)
            }
            Kind::Idle => {
                // Those that take long to connect to show it with fewer.
                let few = matches!(contender, Contender::Rabbitmq | Contender::Activemq);
                Idle::new(if few { 1000 } else { pace.idle }).run(target, progress)
            }
        }
    }

    /// What is compared.
    pub(crate) fn value(&self, report: &Report) -> Option<f64> {
        match self.measure {
            Measure::Rate => Some(report.per_second),
            Measure::P99 => Some(report.latency.p99 as f64),
            Measure::Memory => report.rss_per_connection,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_work_has_a_key_of_its_own_and_a_bar() {
        let all = Work::all();
        let mut keys: Vec<_> = all.iter().map(|work| work.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all.len());
        for work in &all {
            let Bars { rabbitmq, most, .. } = work.bars;
            assert!(rabbitmq.is_some() || most.is_some(), "{}", work.key);
            let known = |key| all.iter().any(|other| other.key == key);
            assert!(work.compare_with.is_none_or(known), "{}", work.key);
        }
    }
}
