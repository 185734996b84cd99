//! The numbers behind `Metrics`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Metrics;

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) published: AtomicU64,
    pub(crate) publish_failures: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) redelivered: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) dead_lettered: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Relaxed);
    }

    pub(crate) fn snapshot(&self, pending_bytes: usize, stored_bytes: usize) -> Metrics {
        Metrics {
            published: self.published.load(Relaxed),
            publish_failures: self.publish_failures.load(Relaxed),
            delivered: self.delivered.load(Relaxed),
            redelivered: self.redelivered.load(Relaxed),
            acked: self.acked.load(Relaxed),
            expired: self.expired.load(Relaxed),
            dead_lettered: self.dead_lettered.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            pending_bytes: pending_bytes as u64,
            stored_bytes: stored_bytes as u64,
        }
    }
}
