//! What is published and delivered.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::Headers;

/// A message: headers, a body of any octets, and what the broker should know about it
///
/// A clone shares headers and body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// Carried unchanged from publisher to consumer.
    pub headers: Headers,
    /// Carried unchanged from publisher to consumer; may be empty.
    pub body: Bytes,
    /// Whether the message must survive a restart of the broker while it waits in a queue or a
    /// durable subscription. Default `true`. `false` allows a backend to keep it in memory only.
    pub persistent: bool,
    /// From this time on the message is no longer handed out. Default `None`: never expires.
    pub expires: Option<SystemTime>,
    /// 0 to 9, higher first, where the backend declares
    /// [`Capability::Priority`](crate::Capability::Priority); elsewhere carried, without effect on
    /// the order. Default 4.
    pub priority: u8,
}

impl Message {
    /// A persistent message without headers.
    #[must_use]
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            headers: Headers::new(),
            body: body.into(),
            persistent: true,
            expires: None,
            priority: 4,
        }
    }

    /// Sets the headers.
    #[must_use]
    pub fn with_headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// Sets whether the message must survive a restart of the broker.
    #[must_use]
    pub const fn with_persistent(mut self, persistent: bool) -> Self {
        self.persistent = persistent;
        self
    }

    /// Sets the time from which the message is no longer handed out.
    #[must_use]
    pub const fn with_expires(mut self, expires: SystemTime) -> Self {
        self.expires = Some(expires);
        self
    }

    /// Sets the priority; more than 9 counts as 9.
    #[must_use]
    pub fn with_priority(mut self, priority: u8) -> Self {
        self.priority = priority.min(9);
        self
    }

    /// The octets that this message counts for against prefetch, buffers and budgets: headers and
    /// body, plus 64 for its place in a queue, so that empty messages are bounded too.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.headers.as_bytes().len() + self.body.len() + 64
    }

    /// Whether the message has expired at `now`.
    #[must_use]
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// Where a message is published to
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::exhaustive_enums, reason = "the two notions of every broker; see the crate page")]
pub enum Target {
    /// A queue that was declared: each message goes to one of its consumers.
    Queue(Arc<str>),
    /// A topic: each message goes to every subscription whose pattern matches.
    Topic(Arc<str>),
}

impl Target {
    /// The queue `name`.
    #[must_use]
    pub fn queue(name: impl Into<Arc<str>>) -> Self {
        Self::Queue(name.into())
    }

    /// The topic `name`: words split by `.`, without wildcards.
    #[must_use]
    pub fn topic(name: impl Into<Arc<str>>) -> Self {
        Self::Topic(name.into())
    }

    /// The name of the queue or topic.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        match self {
            Self::Queue(name) | Self::Topic(name) => name,
        }
    }
}

/// One call of [`Broker::publish`](crate::Broker::publish): a message and all the places it goes to
///
/// A subscription that several of the targets lead to gets the message once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publish {
    /// Queues and topics, any number of each. None at all is confirmed at once.
    pub targets: Vec<Target>,
    /// The message.
    pub message: Message,
    /// Whether an earlier attempt to publish this message may have succeeded. Its deliveries say
    /// `redelivered` from the first on.
    pub redelivered: bool,
}

impl Publish {
    /// `message` to all of `targets`.
    #[must_use]
    pub const fn new(targets: Vec<Target>, message: Message) -> Self {
        Self { targets, message, redelivered: false }
    }

    /// `message` to the queue `name`.
    #[must_use]
    pub fn to_queue(name: impl Into<Arc<str>>, message: Message) -> Self {
        Self::new(vec![Target::queue(name)], message)
    }

    /// `message` to the topic `name`.
    #[must_use]
    pub fn to_topic(name: impl Into<Arc<str>>, message: Message) -> Self {
        Self::new(vec![Target::topic(name)], message)
    }

    /// Says whether an earlier attempt may have succeeded.
    #[must_use]
    pub const fn with_redelivered(mut self, redelivered: bool) -> Self {
        self.redelivered = redelivered;
        self
    }
}
