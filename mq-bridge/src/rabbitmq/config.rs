//! What can be set.

use std::fmt;
use std::time::Duration;

use lapin::uri::AMQPUri;

use crate::{BrokerError, RemoteOptions};

/// What kind of queue the broker makes for queues and durable subscriptions
///
/// A queue keeps the kind that it was first declared with; declaring it with another one is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueType {
    /// Replicated over the nodes of a cluster. Counts deliveries. Dearer: a hundred thousand of them
    /// are too many for a small cluster.
    #[default]
    Quorum,
    /// On one node of the cluster, and cheap. Does not count deliveries; after a crash of its node
    /// everything that it keeps comes marked as redelivered.
    Classic,
    /// Classic, and urgent messages overtake: [`Capability::Priority`](crate::Capability::Priority),
    /// with all ten priorities (`x-max-priority`). The broker keeps a queue for each of them, which
    /// costs processor time and memory.
    Priority,
}

/// How to reach and use a RabbitMQ server
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RabbitMqConfig {
    /// `amqp://user:password@host:port/vhost`; without a path it is the virtual host `/`.
    pub url: String,
    /// The kind of the queues that are declared. Default [`QueueType::Quorum`].
    pub queue_type: QueueType,
    /// How long the declaration of a quorum queue waits that did not exist. RabbitMQ 3 writes down
    /// only up to a second later under which name a node keeps a new quorum queue (4.0 at once); if
    /// the node is killed before that, the queue and all that it keeps are lost there. Default
    /// 1.1 s; [`Duration::ZERO`] is right for a newer server, and for a cluster of which never more
    /// than a minority dies at once.
    pub new_quorum_delay: Duration,
    /// Comes before the name of everything that is made on the broker, so that several programs can
    /// share a virtual host without meeting. Default: nothing, so that other programs find the queue
    /// `jobs` under this name.
    pub prefix: String,
    /// The exchange of all topics, of type `topic`; made if it does not exist. Default `amq.topic`,
    /// which RabbitMQ's STOMP and MQTT plugins use too.
    pub topic_exchange: String,
    /// After twice this time without a sign of life the connection counts as lost, on both sides;
    /// what a node held that died without a word comes back then. Whole seconds, at least one.
    /// Default 5 s.
    pub heartbeat: Duration,
    /// The largest message, headers and body together, in octets. The broker has a limit of its own
    /// (`max_message_size`, 128 MiB), which must not be lower. Default 16 MiB.
    pub max_message: usize,
    /// The most octets of messages to topics that wait on the broker for this node, should it fall
    /// behind; beyond it the oldest are dropped. Default 64 MiB.
    pub topic_buffer_bytes: usize,
    /// What holds for every broker over a network.
    pub remote: RemoteOptions,
}

impl RabbitMqConfig {
    /// The defaults with this server.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            queue_type: QueueType::default(),
            new_quorum_delay: Duration::from_millis(1100),
            prefix: String::new(),
            topic_exchange: "amq.topic".into(),
            heartbeat: Duration::from_secs(5),
            max_message: 16 << 20,
            topic_buffer_bytes: 64 << 20,
            remote: RemoteOptions::new(),
        }
    }

    /// Sets the kind of the queues that are declared.
    #[must_use]
    pub const fn with_queue_type(mut self, queue_type: QueueType) -> Self {
        self.queue_type = queue_type;
        self
    }

    /// Sets how long the declaration of a new quorum queue takes.
    #[must_use]
    pub const fn with_new_quorum_delay(mut self, delay: Duration) -> Self {
        self.new_quorum_delay = delay;
        self
    }

    /// Sets what comes before the name of everything that is made on the broker.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the exchange of all topics.
    #[must_use]
    pub fn with_topic_exchange(mut self, name: impl Into<String>) -> Self {
        self.topic_exchange = name.into();
        self
    }

    /// Sets after half of which time of silence the connection counts as lost.
    #[must_use]
    pub const fn with_heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = heartbeat;
        self
    }

    /// Sets the largest message, in octets.
    #[must_use]
    pub const fn with_max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// Sets the most octets to topics that wait on the broker for this node.
    #[must_use]
    pub const fn with_topic_buffer_bytes(mut self, bytes: usize) -> Self {
        self.topic_buffer_bytes = bytes;
        self
    }

    /// Sets what holds for every broker over a network.
    #[must_use]
    pub const fn with_remote(mut self, options: RemoteOptions) -> Self {
        self.remote = options;
        self
    }

    /// The address as the client takes it.
    pub(super) fn uri(&self) -> Result<AMQPUri, BrokerError> {
        let mut uri: AMQPUri = self
            .url
            .parse()
            .map_err(|_| BrokerError::NotApplicable { reason: "the URL is not one of AMQP" })?;
        let seconds = u16::try_from(self.heartbeat.as_secs()).unwrap_or(u16::MAX);
        uri.query.heartbeat.get_or_insert_with(|| seconds.max(1));
        let timeout = u64::try_from(self.remote.connect_timeout.as_millis()).unwrap_or(u64::MAX);
        uri.query.connection_timeout.get_or_insert(timeout);
        Ok(uri)
    }
}

impl fmt::Debug for RabbitMqConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without user and password.
        let address = self.url.rsplit_once('@').map_or(&*self.url, |(_, address)| address);
        f.debug_struct("RabbitMqConfig")
            .field("address", &address)
            .field("queue_type", &self.queue_type)
            .field("prefix", &self.prefix)
            .field("topic_exchange", &self.topic_exchange)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_password() {
        let shown = format!("{:?}", RabbitMqConfig::new("amqp://me:hunter2@host:5672/%2f"));
        assert!(shown.contains("host:5672") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn the_heartbeat_is_in_the_address_unless_it_says_another() {
        let config = RabbitMqConfig::new("amqp://host").with_heartbeat(Duration::from_secs(7));
        assert_eq!(config.uri().unwrap().query.heartbeat, Some(7));
        let config = RabbitMqConfig::new("amqp://host?heartbeat=3");
        assert_eq!(config.uri().unwrap().query.heartbeat, Some(3));
        assert!(RabbitMqConfig::new("nats://host").uri().is_err());
    }
}
