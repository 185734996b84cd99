//! What is consumed, and how.

use std::fmt;
use std::sync::Arc;

/// What a subscription consumes
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::exhaustive_enums, reason = "the three notions of every broker; see the crate page")]
pub enum Source {
    /// A declared queue. Several consumers compete for its messages.
    Queue(Arc<str>),
    /// A declared durable subscription. Several consumers compete for its messages.
    Durable(Arc<str>),
    /// What is published from now on to topics that match this pattern; nothing is kept for later
    /// and nothing is acknowledged.
    Topic(Arc<str>),
}

impl Source {
    /// The queue `name`.
    #[must_use]
    pub fn queue(name: impl Into<Arc<str>>) -> Self {
        Self::Queue(name.into())
    }

    /// The durable subscription `name`.
    #[must_use]
    pub fn durable(name: impl Into<Arc<str>>) -> Self {
        Self::Durable(name.into())
    }

    /// The topics that `pattern` matches: words split by `.`, `*` is one word, `#` is zero or more.
    #[must_use]
    pub fn topic(pattern: impl Into<Arc<str>>) -> Self {
        Self::Topic(pattern.into())
    }

    /// The name of the queue or durable subscription, or the pattern.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        match self {
            Self::Queue(name) | Self::Durable(name) | Self::Topic(name) => name,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Queue(_) => "queue",
            Self::Durable(_) => "durable subscription",
            Self::Topic(_) => "topic",
        };
        write!(f, "{kind} {:?}", self.name())
    }
}

/// How a subscription consumes
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscribeOptions {
    /// Queues and durable subscriptions: the most messages that are delivered and not yet
    /// acknowledged. Default 256; 0 counts as 1.
    pub prefetch_messages: u32,
    /// Queues and durable subscriptions: no further message is delivered while those that are not
    /// yet acknowledged [cost](crate::Message::cost) this many octets or more; one message is
    /// always delivered, however large. Default 1 MiB.
    pub prefetch_bytes: usize,
    /// Queues and durable subscriptions: ends every other consumer first, with
    /// [`EndReason::TakenOver`](crate::EndReason::TakenOver) and its unacknowledged messages put
    /// back, before this one gets anything. Default `false`: consumers compete. Refused as
    /// [`Unsupported`](crate::BrokerError::Unsupported) where the backend does not declare
    /// [`Capability::Takeover`](crate::Capability::Takeover).
    pub takeover: bool,
    /// Topics: the most octets that wait for this subscriber to read them. Default 1 MiB.
    pub buffer_bytes: usize,
    /// Topics: what happens when they are reached. Default [`Overflow::DropOldest`].
    pub overflow: Overflow,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self {
            prefetch_messages: 256,
            prefetch_bytes: 1 << 20,
            takeover: false,
            buffer_bytes: 1 << 20,
            overflow: Overflow::DropOldest,
        }
    }
}

impl SubscribeOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the most messages, and the most octets, delivered and not yet acknowledged.
    #[must_use]
    pub const fn with_prefetch(mut self, messages: u32, bytes: usize) -> Self {
        self.prefetch_messages = messages;
        self.prefetch_bytes = bytes;
        self
    }

    /// Sets whether every other consumer is ended first.
    #[must_use]
    pub const fn with_takeover(mut self, takeover: bool) -> Self {
        self.takeover = takeover;
        self
    }

    /// Sets the bound of what waits for a topic's subscriber, and what happens beyond it.
    #[must_use]
    pub const fn with_buffer(mut self, bytes: usize, overflow: Overflow) -> Self {
        self.buffer_bytes = bytes;
        self.overflow = overflow;
        self
    }
}

/// What happens to a topic's subscriber that does not read fast enough
///
/// Every message dropped is counted: [`Subscription::dropped`](crate::Subscription::dropped).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a backend must handle every policy")]
pub enum Overflow {
    /// The messages that wait longest make room.
    DropOldest,
    /// The new message is not taken.
    DropNewest,
    /// The subscription ends with [`EndReason::Overflow`](crate::EndReason::Overflow) after what
    /// already waits.
    Disconnect,
}
