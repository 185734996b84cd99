//! How often somebody may: a bucket per caller, in memory of a fixed size.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many callers are told apart; those that share a slot share its bucket
const SLOTS: usize = 16 * 1024;

/// How often somebody may do something: so many at once, and then so many a second
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimit {
    /// How many at once
    pub burst: u32,
    /// How many a second in the long run
    pub per_second: u32,
}

impl RateLimit {
    /// So many at once, and then so many a second; 0 counts as 1
    #[must_use]
    pub const fn new(burst: u32, per_second: u32) -> Self {
        Self {
            burst: if burst == 0 { 1 } else { burst },
            per_second: if per_second == 0 { 1 } else { per_second },
        }
    }

    const fn step_micros(self) -> u64 {
        1_000_000 / self.per_second as u64
    }
}

/// How much of a limit is left
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) limit: u32,
    pub(crate) remaining: u32,
    /// Until all of it is there again
    pub(crate) reset: Duration,
    /// Until one more is allowed, where this one was not
    pub(crate) retry_after: Option<Duration>,
}

/// Counts what callers do (the generic cell rate algorithm); takes 128 KiB, however many they are
#[derive(Debug)]
pub(crate) struct Meter {
    limit: RateLimit,
    /// When the debt of a slot is paid, in microseconds since 1970
    slots: Box<[AtomicU64]>,
    hashing: RandomState,
}

impl Meter {
    pub(crate) fn new(limit: RateLimit) -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { limit, slots, hashing: RandomState::new() }
    }

    /// Counts one more of a caller, unless there were too many
    #[allow(
        clippy::cast_possible_truncation,
        reason = "any part of the hash will do; the rest is bounded"
    )]
    pub(crate) fn count(&self, caller: &[u8], now_millis: u64) -> Standing {
        let now = now_millis.saturating_mul(1000);
        let step = self.limit.step_micros();
        let most = step * u64::from(self.limit.burst);
        let index = self.hashing.hash_one(caller) as usize % SLOTS;
        let mut standing = Standing {
            limit: self.limit.burst,
            remaining: 0,
            reset: Duration::ZERO,
            retry_after: None,
        };
        let Some(slot) = self.slots.get(index) else { return standing };
        // Were the clock set back, the debt would grow.
        let debt = |paid: u64| paid.saturating_sub(now).min(most);
        let counted = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid| {
            (debt(paid) + step <= most).then(|| now.saturating_add(debt(paid) + step))
        });
        let after = match counted {
            Ok(paid) => debt(paid) + step,
            Err(paid) => {
                let over = debt(paid) + step - most;
                standing.retry_after = Some(Duration::from_micros(over));
                debt(paid)
            }
        };
        standing.remaining = ((most - after) / step) as u32;
        standing.reset = Duration::from_micros(after);
        standing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_then_as_many_as_time_brings() {
        let meter = Meter::new(RateLimit::new(3, 10));
        let mut now = 1_700_000_000_000;
        for left in [2, 1, 0] {
            let standing = meter.count(b"alice", now);
            assert_eq!((standing.remaining, standing.retry_after), (left, None));
        }
        let refused = meter.count(b"alice", now);
        assert_eq!(refused.retry_after, Some(Duration::from_millis(100)));
        assert_eq!((refused.remaining, refused.reset), (0, Duration::from_millis(300)));
        assert_eq!(meter.count(b"bob", now).remaining, 2, "another caller");

        now += 100;
        assert_eq!(meter.count(b"alice", now).retry_after, None);
        assert!(meter.count(b"alice", now).retry_after.is_some());
        // A clock that is set back does not lock anybody out for long.
        now -= 1_000_000;
        assert!(meter.count(b"alice", now).retry_after <= Some(Duration::from_millis(100)));
    }
}
