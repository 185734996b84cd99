//! What queues, topics and patterns are called on RabbitMQ.
//!
//! As on ActiveMQ, but for wildcards, which are those of this crate. The plugin takes `%2F` for `/`
//! in what it reads, and writes `%` as `%25` in what it tells.

use crate::stomp::names;
use crate::{BrokerError, Source};

use super::routing::RABBITMQ;

pub(super) use names::{CONTROL, MANY, random};

/// A topic to which nobody publishes: what the plugin has to bind queues to.
pub(super) const UNUSED: &str = "/topic/mq-bridge.unused";
/// The queue of the registry.
pub(super) const REGISTRY: &str = "mq-bridge.registry";
/// The queue of who reads the registry.
pub(super) const LOCK: &str = "mq-bridge.registry.lock";

/// Where to send to a queue that exists.
pub(super) fn to(queue: &str) -> String {
    format!("/amq/queue/{}", queue.replace('/', "%2F"))
}

/// The headers of a subscription that makes a queue which lasts.
pub(super) fn kept(queue: &str) -> [(&str, &str); 4] {
    [
        ("x-queue-name", queue),
        ("x-queue-type", "classic"),
        ("durable", "true"),
        ("auto-delete", "false"),
    ]
}

/// The headers of a subscription that makes a queue which only this connection has, as long as it
/// lasts.
pub(super) fn own(queue: &str) -> [(&str, &str); 4] {
    [("x-queue-name", queue), ("exclusive", "true"), ("durable", "false"), ("auto-delete", "true")]
}

/// The queue that keeps what a source has.
pub(super) fn queue(source: &Source) -> Result<String, BrokerError> {
    let destination = match source {
        Source::Durable(name) => names::durable(name),
        Source::Queue(name) | Source::Topic(name) => names::queue(name),
    };
    RABBITMQ.check(source.name(), &destination)?;
    let name = destination.strip_prefix("/queue/").unwrap_or(&destination);
    // In a header nothing stands for `/`.
    Ok(name.replace("%2F", "/"))
}

/// The destination that is subscribed to for a pattern.
pub(super) fn pattern(pattern: &str) -> Result<String, BrokerError> {
    let words = pattern.split('.').map(|word| match word {
        "#" | "*" => word.to_owned(),
        word => names::encode(word),
    });
    let mut covering = words.collect::<Vec<_>>().join(".");
    if !pattern.contains(['*', '#']) {
        covering = names::encode(pattern);
    }
    let destination = format!("/topic/{covering}");
    RABBITMQ.check(pattern, &destination)?;
    Ok(destination)
}

/// The topic that the destination of a message names; `None` for one that no publish can mean.
pub(super) fn topic_of(destination: &str) -> Option<String> {
    let told = names::decode(destination)?;
    names::topic_of(&told)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// As the plugin tells where a message was sent.
    fn told(destination: &str) -> String {
        let key = destination.strip_prefix("/topic/").unwrap().replace("%2F", "/");
        format!("/topic/{}", key.replace('%', "%25").replace('/', "%2F"))
    }

    #[test]
    fn names_come_back_as_they_were() {
        for topic in ["a.b", "a/b", "a b%2Fc", "ünï.x", "mq-bridge.x"] {
            assert_eq!(topic_of(&told(&names::topic(topic))).as_deref(), Some(topic));
        }
        assert_eq!(topic_of(CONTROL), None);
        assert_eq!(queue(&Source::queue("a/b c")).unwrap(), "a/b%20c");
        assert_eq!(queue(&Source::durable("d")).unwrap(), "mq-bridge.durable.d");
        assert!(queue(&Source::queue("x".repeat(255))).is_ok());
        let refused = queue(&Source::durable("x".repeat(255)));
        assert!(matches!(refused, Err(BrokerError::InvalidName { .. })));
    }

    #[test]
    fn patterns_are_those_of_rabbitmq() {
        for (given, expected) in [
            ("a.*.#", "/topic/a.*.#"),
            ("a b.*", "/topic/a%20b.*"),
            ("#", "/topic/#"),
            ("mq-bridge.x", "/topic/%6Dq-bridge.x"),
        ] {
            assert_eq!(pattern(given).unwrap(), expected);
        }
    }
}
