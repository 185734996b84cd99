//! What a gateway counts and times. Nothing here locks or allocates.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stomp_codec::server::Event;

/// Numbers of one gateway since it was built
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Connections, signed in or not
    pub(crate) connections: Gauge,
    pub(crate) accepted: Counter,
    pub(crate) refused: Counter,
    /// By [`COMMANDS`]
    pub(crate) received: [Counter; COMMANDS.len()],
    pub(crate) messages: Counter,
    pub(crate) receipts: Counter,
    pub(crate) errors: Counter,
    /// Messages that had expired when a session was about to send them
    pub(crate) expired: Counter,
    /// From a SEND to its RECEIPT
    pub(crate) receipt_time: Histogram,
    /// From the timestamp of a message to its MESSAGE
    pub(crate) delivery_time: Histogram,
    /// Of the store: to append a batch of messages, and to read a page of history
    pub(crate) append_time: Histogram,
    pub(crate) read_time: Histogram,
    /// From the publishing of a batch of stored messages to its confirmation by the broker
    pub(crate) confirm_time: Histogram,
}

/// Commands of clients, as they are counted
pub(crate) const COMMANDS: [&str; 8] =
    ["CONNECT", "SEND", "SUBSCRIBE", "UNSUBSCRIBE", "ACK", "NACK", "COMMIT", "DISCONNECT"];

impl Metrics {
    /// Counts what a client did.
    pub(crate) fn received<T>(&self, event: &Event<T>) {
        let command = match event {
            Event::Connect { .. } => 0,
            Event::Send { .. } | Event::Staged { .. } => 1,
            Event::Subscribe { .. } => 2,
            Event::Unsubscribe { .. } => 3,
            Event::Ack { .. } => 4,
            Event::Nack { .. } => 5,
            Event::Commit { .. } => 6,
            Event::Disconnect { .. } => 7,
            _ => return,
        };
        if let Some(counter) = self.received.get(command) {
            counter.add(1);
        }
    }
}

/// A number that grows
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that grows and shrinks
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn enter(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    #[cfg(feature = "rest")]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of a histogram's buckets, in microseconds; the last bucket has none
pub(crate) const BOUNDS: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];

/// How often something took how long
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [Counter; BOUNDS.len() + 1],
    micros: Counter,
}

impl Histogram {
    pub(crate) fn observe(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(counter) = self.buckets.get(bucket) {
            counter.add(1);
        }
        self.micros.add(micros);
    }

    /// How many were observed in each bucket.
    #[cfg(any(test, feature = "rest"))]
    pub(crate) fn buckets(&self) -> impl Iterator<Item = u64> {
        self.buckets.iter().map(Counter::get)
    }

    /// The sum of what was observed.
    #[cfg(any(test, feature = "rest"))]
    pub(crate) fn sum(&self) -> Duration {
        Duration::from_micros(self.micros.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for micros in [0, 250, 251, 10_000_000, 10_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let buckets: Vec<u64> = histogram.buckets().collect();
        assert_eq!((buckets[0], buckets[1], buckets[13], buckets[14]), (2, 1, 1, 1));
        assert_eq!(buckets.iter().sum::<u64>(), 5);
        assert_eq!(histogram.sum(), Duration::from_micros(20_000_502));
    }
}
