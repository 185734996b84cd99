//! What things are called on the broker.

use lapin::types::ShortString;

use crate::{BrokerError, Source, Target};

/// The names of what is made on the broker.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
    pub(super) topics: ShortString,
    /// The exchange over which nodes speak to each other.
    pub(super) control: ShortString,
}

impl Names {
    pub(super) fn new(prefix: &str, topics: &str) -> Result<Self, BrokerError> {
        if format!("{prefix}mq.").starts_with("amq.") {
            let reason = "RabbitMQ keeps names that begin with `amq.` for itself";
            return Err(BrokerError::InvalidName { name: prefix.into(), reason });
        }
        Ok(Self {
            prefix: prefix.to_owned(),
            topics: short(topics, topics)?,
            control: short(&format!("{prefix}mq.control"), prefix)?,
        })
    }

    /// A queue keeps its name unless the broker or this backend needs it for something else.
    pub(super) fn queue(&self, name: &str) -> Result<ShortString, BrokerError> {
        let plain = format!("{}{name}", self.prefix);
        if plain.starts_with("amq.") || name.starts_with("mq.") {
            short(&format!("{}mq.queue.{name}", self.prefix), name)
        } else {
            short(&plain, name)
        }
    }

    fn durable(&self, name: &str) -> Result<ShortString, BrokerError> {
        short(&format!("{}mq.durable.{name}", self.prefix), name)
    }

    /// The queue that keeps the messages of a source.
    pub(super) fn source(&self, source: &Source) -> Result<ShortString, BrokerError> {
        match source {
            Source::Queue(name) => self.queue(name),
            Source::Durable(name) => self.durable(name),
            Source::Topic(_) => Err(BrokerError::not_declared(source)),
        }
    }

    /// The queue that is held by whoever takes a source over. Two sources may share one: then they
    /// are taken over one after the other.
    pub(super) fn lock(&self, source: &Source) -> Result<ShortString, BrokerError> {
        let name = self.source(source)?;
        // FNV-1a
        let hash = name.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
            (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
        });
        short(&format!("{}mq.lock.{hash:016x}", self.prefix), source.name())
    }

    /// The routing key of a topic or of a pattern: their wildcards mean the same.
    pub(super) fn key(pattern: &str) -> Result<ShortString, BrokerError> {
        short(pattern, pattern)
    }
}

fn short(made: &str, name: &str) -> Result<ShortString, BrokerError> {
    ShortString::try_new(made).map_err(|_| BrokerError::InvalidName {
        name: name.into(),
        reason: "RabbitMQ allows 255 octets with all prefixes",
    })
}

/// A target in a header: its kind, a colon, its name.
pub(super) fn write_target(target: &Target) -> String {
    match target {
        Target::Queue(name) => format!("queue:{name}"),
        Target::Topic(name) => format!("topic:{name}"),
    }
}

pub(super) fn read_target(text: &str) -> Option<Target> {
    match text.split_once(':')? {
        ("queue", name) => Some(Target::queue(name)),
        ("topic", name) => Some(Target::topic(name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_meet_neither_each_other_nor_those_of_the_broker() {
        let names = Names::new("", "amq.topic").unwrap();
        let name = |source: Source| names.source(&source).unwrap().to_string();
        assert_eq!(name(Source::queue("jobs")), "jobs");
        assert_eq!(name(Source::durable("jobs")), "mq.durable.jobs");
        assert_eq!(name(Source::queue("amq.jobs")), "mq.queue.amq.jobs");
        assert_eq!(name(Source::queue("mq.durable.jobs")), "mq.queue.mq.durable.jobs");
        assert_eq!(name(Source::queue("mq.queue.amq.jobs")), "mq.queue.mq.queue.amq.jobs");
        assert!(names.source(&Source::topic("a")).is_err());

        let names = Names::new("mq", "amq.topic").unwrap();
        assert_eq!(names.queue("jobs").unwrap().as_str(), "mqjobs");
        assert!(Names::new("a", "amq.topic").is_err());
    }

    #[test]
    fn too_long_is_said() {
        let names = Names::new("", "amq.topic").unwrap();
        assert!(names.queue(&"x".repeat(255)).is_ok());
        for error in
            [names.queue(&"x".repeat(256)).unwrap_err(), Names::key(&"x".repeat(256)).unwrap_err()]
        {
            assert!(matches!(error, BrokerError::InvalidName { .. }) && !error.is_retryable());
        }
        assert!(names.lock(&Source::queue("x".repeat(255))).is_ok());
    }

    #[test]
    fn targets_survive_a_header() {
        for target in [Target::queue("a:b"), Target::topic("a.b")] {
            assert_eq!(read_target(&write_target(&target)), Some(target));
        }
        assert_eq!(read_target("elsewhere"), None);
    }
}
