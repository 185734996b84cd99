//! From a publish to frames.

use std::collections::HashSet;

use stomp_codec::Frame;

use crate::remote::Outbound;
use crate::{BrokerError, Source, Target};

use super::registry::Registry;
use super::{names, wire};

/// How a broker is told where a message goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// What comes before `/queue/`.
    queues: &'static str,
    /// How long a list of destinations may be, in octets: the broker repeats it in a header of every
    /// copy. None for a broker without lists.
    list: usize,
    /// The longest name, in octets.
    longest: usize,
}

pub(super) const ACTIVEMQ: Way = Way { queues: "", list: 1000, longest: usize::MAX };
/// `/queue/` alone would make a queue that is not there.
pub(super) const RABBITMQ: Way = Way { queues: "/amq", list: 0, longest: 255 };

impl Way {
    /// Refuses a name that the broker does not take.
    pub(super) fn check(self, name: &str, destination: &str) -> Result<(), BrokerError> {
        // What follows `/queue/` or `/topic/`.
        let written = destination.splitn(3, '/').last().unwrap_or_default();
        if written.len() <= self.longest {
            return Ok(());
        }
        let reason = "as the broker has it, it is longer than 255 octets";
        Err(BrokerError::InvalidName { name: name.into(), reason })
    }
}

/// The frames of publishes that belong together; none if any of them cannot be.
pub(super) fn route_all(
    registry: &Registry,
    publishes: &[Outbound],
    way: Way,
) -> Result<Vec<Frame>, BrokerError> {
    let mut frames = Vec::new();
    for outbound in publishes {
        frames.extend(route(registry, outbound, way)?);
    }
    Ok(frames)
}

/// The frames that bring a message to every queue once, and to those who listen.
fn route(registry: &Registry, outbound: &Outbound, way: Way) -> Result<Vec<Frame>, BrokerError> {
    let mut frames = Vec::new();
    let mut seen = HashSet::new();
    for target in &outbound.targets {
        let mut list = String::new();
        let mut add = |destination: String| {
            if list.len() + destination.len() >= way.list && !list.is_empty() {
                frames.push(wire::to_queues(&list, outbound, target));
                list.clear();
            }
            if !list.is_empty() {
                list.push(',');
            }
            list.push_str(way.queues);
            list.push_str(&destination);
        };
        match target {
            Target::Queue(name) => {
                let source = Source::Queue(name.clone());
                if !registry.has(&source) {
                    return Err(BrokerError::not_declared(&source));
                }
                add(names::queue(name));
            }
            Target::Topic(topic) => {
                way.check(topic, &names::topic(topic))?;
                registry.visit(topic, &mut |name| {
                    if seen.insert(name) {
                        add(names::durable(name));
                    }
                });
            }
        }
        if !list.is_empty() {
            frames.push(wire::to_queues(&list, outbound, target));
        }
    }
    let mut topics = outbound.targets.iter().filter(|target| matches!(target, Target::Topic(_)));
    match (topics.next(), topics.next()) {
        (None, _) => {}
        (Some(only), None) => frames.push(wire::to_topic(&names::topic(only.name()), outbound)),
        (Some(first), Some(second)) => {
            let all = [first, second].into_iter().chain(topics);
            frames.push(wire::to_many(outbound, all));
        }
    }
    Ok(frames)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::registry::{Declared, Entry};
    use super::*;
    use crate::{Declaration, Message};

    fn registry(declarations: &[Declaration]) -> Registry {
        let mut registry = Registry::default();
        for (number, one) in declarations.iter().enumerate() {
            let declared = Declared::of(one);
            let source = match declared.patterns.as_slice() {
                [] => Source::queue(&*one.name),
                _ => Source::durable(&*one.name),
            };
            let id = number.to_string().into();
            registry.apply(&Entry { id, covers: Vec::new(), source, declared: Some(declared) });
        }
        registry
    }

    fn destinations(
        registry: &Registry,
        targets: Vec<Target>,
        way: Way,
    ) -> Result<Vec<(String, Option<String>)>, BrokerError> {
        let message = Message::new("x");
        let outbound = Outbound { targets, message, redelivered: false, dead_letter: None };
        let header = |frame: &Frame, name: &str| frame.header(name).map(|value| value.into_owned());
        Ok(route(registry, &outbound, way)?
            .iter()
            .map(|one| (header(one, "destination").unwrap_or_default(), header(one, "mq-target")))
            .collect())
    }

    #[test]
    fn each_queue_gets_it_once_under_the_first_target_that_leads_there() {
        let declared = [
            Declaration::queue("q"),
            Declaration::durable("d", ["a.*", "a.b", "c"]),
            Declaration::durable("e", ["c"]),
        ];
        let topics = ["a.b", "a.c", "c", "nobody"].map(Target::topic);
        let targets = topics.into_iter().chain([Target::queue("q")]).collect();
        let frames = destinations(&registry(&declared), targets, ACTIVEMQ).unwrap();
        let expected = [
            ("/queue/mq-bridge.durable.d", Some("topic a.b")),
            ("/queue/mq-bridge.durable.e", Some("topic c")),
            ("/queue/q", None),
            (names::MANY, None),
        ];
        let expected = expected.map(|(one, target)| (one.to_owned(), target.map(str::to_owned)));
        assert_eq!(frames, expected);
        let alone =
            destinations(&registry(&declared), vec![Target::topic("nobody")], ACTIVEMQ).unwrap();
        assert_eq!(alone, [("/topic/nobody".to_owned(), None)]);
    }

    #[test]
    fn a_queue_that_is_not_declared_is_refused() {
        let targets = vec![Target::topic("t"), Target::queue("missing")];
        let refused = destinations(&Registry::default(), targets, ACTIVEMQ);
        assert_eq!(refused, Err(BrokerError::not_declared(&Source::queue("missing"))));
    }

    #[test]
    fn many_subscriptions_of_one_topic_share_few_frames() {
        let declared: Vec<_> =
            (0..200).map(|one| Declaration::durable(format!("d{one}"), ["t"])).collect();
        let frames =
            destinations(&registry(&declared), vec![Target::topic("t")], ACTIVEMQ).unwrap();
        let lists: Vec<&str> = frames.iter().map(|(list, _)| list.as_str()).collect();
        assert!(lists.len() < 20 && lists.iter().all(|list| list.len() <= 1000), "{lists:?}");
        let all: HashSet<&str> = lists.iter().flat_map(|list| list.split(',')).collect();
        // And those who listen.
        assert_eq!(all.len(), 201);
    }

    #[test]
    fn without_lists_each_queue_has_a_frame_of_its_own() {
        let declared = [Declaration::durable("d", ["t"]), Declaration::durable("e", ["t"])];
        let frames = destinations(&registry(&declared), vec![Target::topic("t")], RABBITMQ);
        let frames: Vec<_> = frames.unwrap().into_iter().map(|(one, _)| one).collect();
        let expected =
            ["/amq/queue/mq-bridge.durable.d", "/amq/queue/mq-bridge.durable.e", "/topic/t"];
        assert_eq!(frames, expected);
        let long = vec![Target::topic("x".repeat(256))];
        let refused = destinations(&Registry::default(), long, RABBITMQ);
        assert!(matches!(refused, Err(BrokerError::InvalidName { .. })), "{refused:?}");
    }
}
