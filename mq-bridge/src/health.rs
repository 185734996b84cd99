//! How a broker is doing.

use std::sync::Arc;

/// Whether a broker can be used now
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// It takes and delivers messages.
    Up,
    /// It delivers, but the last write failed; it is tried again.
    Degraded {
        /// What failed.
        reason: Arc<str>,
    },
    /// It cannot be used; a networked backend is reconnecting.
    Down {
        /// What happened.
        reason: Arc<str>,
    },
}

impl Health {
    /// Whether it takes and delivers messages.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self, Self::Up)
    }
}

/// One queue or durable subscription, or one topic pattern, at this moment
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceStats {
    /// Messages kept, those delivered and not yet acknowledged included; 0 for a topic.
    pub depth: u64,
    /// Messages delivered and not yet acknowledged; 0 for a topic.
    pub unacked: u64,
    /// Live consumers.
    pub consumers: u64,
}

/// What a broker object has done since it was started; every number only grows, but for
/// `pending_bytes` and `stored_bytes`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Messages taken.
    pub published: u64,
    /// Publishes that failed after they were taken.
    pub publish_failures: u64,
    /// Deliveries handed to consumers, repeats included.
    pub delivered: u64,
    /// Deliveries handed to consumers that were repeats.
    pub redelivered: u64,
    /// Deliveries acknowledged.
    pub acked: u64,
    /// Messages that expired before they were delivered, counted per queue or subscription.
    pub expired: u64,
    /// Messages sent to a dead-letter queue, or discarded because none was declared.
    pub dead_lettered: u64,
    /// Messages dropped because a topic's subscriber was slow, counted per subscriber.
    pub dropped: u64,
    /// Octets taken and not yet confirmed.
    pub pending_bytes: u64,
    /// Octets of messages kept in this process for queues and durable subscriptions.
    pub stored_bytes: u64,
}
