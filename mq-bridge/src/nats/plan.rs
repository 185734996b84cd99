//! The names of everything that a bridge has on the server.

use std::time::Duration;

use crate::{DeclarationKind, Source};

use super::names;
use super::wire::Subjects;

/// Names and settings that all sessions of a bridge share.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) subjects: Subjects,
    /// The stream of all queues.
    pub(super) queues: String,
    /// The stream of all topics.
    pub(super) topics: String,
    /// The stream of all declarations and of who consumes alone.
    pub(super) registry: String,
    prefix: String,
    pub(super) replicas: usize,
    pub(super) ack_wait: Duration,
}

/// A queue or durable subscription on the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) source: Source,
    pub(super) stream: String,
    pub(super) consumer: String,
    /// `q` or `d` and the consumer's name: the end of all subjects that are about it.
    pub(super) token: String,
}

impl Plan {
    pub(super) fn new(prefix: &str, replicas: usize, ack_wait: Duration) -> Self {
        Self {
            subjects: Subjects { queues: format!("{prefix}.q"), topics: format!("{prefix}.t") },
            queues: format!("{prefix}-queues"),
            topics: format!("{prefix}-topics"),
            registry: format!("{prefix}-registry"),
            prefix: prefix.to_owned(),
            replicas,
            ack_wait,
        }
    }

    /// Where a source is; a topic, which is nowhere, has no consumer.
    pub(super) fn address(&self, source: &Source) -> Address {
        let consumer = names::consumer(source.name());
        let (stream, kind) = match source {
            Source::Queue(_) => (&self.queues, 'q'),
            _ => (&self.topics, 'd'),
        };
        let token = format!("{kind}.{consumer}");
        Address { source: source.clone(), stream: stream.clone(), consumer, token }
    }

    pub(super) fn declared(&self, name: &std::sync::Arc<str>, kind: &DeclarationKind) -> Address {
        let name = std::sync::Arc::clone(name);
        self.address(&match kind {
            DeclarationKind::Queue => Source::Queue(name),
            DeclarationKind::Durable { .. } => Source::Durable(name),
        })
    }

    /// The subject of what is declared of a source.
    pub(super) fn record(&self, address: &Address) -> String {
        format!("{}.r.{}", self.prefix, address.token)
    }

    /// All of them.
    pub(super) fn records(&self) -> String {
        format!("{}.r.>", self.prefix)
    }

    /// The subject that says who consumes alone.
    pub(super) fn owner(&self, address: &Address) -> String {
        format!("{}.o.{}", self.prefix, address.token)
    }

    /// All of them.
    pub(super) fn owners(&self) -> String {
        format!("{}.o.>", self.prefix)
    }

    /// The subject that those who consume a source listen to.
    pub(super) fn control(&self, address: &Address) -> String {
        format!("{}.x.{}", self.prefix, address.token)
    }
}
