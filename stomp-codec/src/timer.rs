use std::time::{Duration, Instant};

/// Deadlines of a session, one for each purpose `T as usize`
#[derive(Clone, Debug)]
pub(crate) struct Timers<const N: usize> {
    deadlines: [Option<Instant>; N],
}

impl<const N: usize> Timers<N> {
    pub(crate) const fn new() -> Self {
        Self { deadlines: [None; N] }
    }

    /// Sets a deadline; one beyond the end of time is none
    pub(crate) fn set(&mut self, timer: usize, start: Instant, after: Duration) {
        if let Some(deadline) = self.deadlines.get_mut(timer) {
            *deadline = start.checked_add(after);
        }
    }

    pub(crate) fn stop(&mut self, timer: usize) {
        if let Some(deadline) = self.deadlines.get_mut(timer) {
            *deadline = None;
        }
    }

    pub(crate) fn stop_all(&mut self) {
        self.deadlines = [None; N];
    }

    pub(crate) fn is_due(&self, timer: usize, now: Instant) -> bool {
        self.deadlines.get(timer).copied().flatten().is_some_and(|deadline| deadline <= now)
    }

    /// The earliest deadline
    pub(crate) fn next(&self) -> Option<Instant> {
        self.deadlines.iter().flatten().min().copied()
    }
}

/// When an idle sender that promised an EOL every `interval` sends it: a tenth, at most a second, early,
/// as some peers allow no delay at all
pub(crate) fn send_after(interval: Duration) -> Duration {
    interval - (interval / 10).min(Duration::from_secs(1))
}
