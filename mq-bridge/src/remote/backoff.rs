//! How long to wait before the next attempt.

use std::time::Duration;

use super::RemoteOptions;

/// Waits that double, each with jitter so that many nodes do not come back in step.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
    random: u64,
}

impl Backoff {
    pub(super) fn new(options: &RemoteOptions) -> Self {
        let min = options.min_backoff.max(Duration::from_millis(1));
        // Another number in every bridge and process is all that is asked of it.
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), ()) | 1;
        Self { min, max: options.max_backoff.max(min), next: min, random }
    }

    /// The next wait: between half of it and all of it.
    pub(super) fn next(&mut self) -> Duration {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let wait = self.next;
        self.next = (wait * 2).min(self.max);
        wait.mul_f64(0.5 + (self.random >> 11) as f64 / (1_u64 << 54) as f64)
    }

    pub(super) const fn reset(&mut self) {
        self.next = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_jittered() {
        let (min, max) = (Duration::from_millis(10), Duration::from_millis(80));
        let mut backoff = Backoff::new(&RemoteOptions::new().with_backoff(min, max));
        for expected in [10, 20, 40, 80, 80] {
            let (wait, full) = (backoff.next(), Duration::from_millis(expected));
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= min);
        let waits: std::collections::HashSet<_> = (0..20).map(|_| backoff.next()).collect();
        assert!(waits.len() > 10, "no jitter: {waits:?}");
    }
}
