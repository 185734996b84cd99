use std::time::{Duration, Instant};

/// Deadlines of a session, one for each purpose `T as usize`
///
/// They are put off far more often than they are asked for: the sums are made when they are.
#[derive(Clone, Debug)]
pub(crate) struct Timers<const N: usize> {
    starts: [Instant; N],
    /// `None` where the timer is not running.
    spans: [Option<Duration>; N],
}

impl<const N: usize> Timers<N> {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { starts: [now; N], spans: [None; N] }
    }

    /// Starts a timer; one that ends beyond the end of time has no deadline
    pub(crate) fn set(&mut self, timer: usize, start: Instant, span: Duration) {
        self.put_off(timer, start);
        if let Some(slot) = self.spans.get_mut(timer) {
            *slot = Some(span);
        }
    }

    /// Starts a timer anew, if it is running
    #[inline]
    pub(crate) fn put_off(&mut self, timer: usize, start: Instant) {
        if let Some(slot) = self.starts.get_mut(timer) {
            *slot = start;
        }
    }

    pub(crate) fn stop(&mut self, timer: usize) {
        if let Some(slot) = self.spans.get_mut(timer) {
            *slot = None;
        }
    }

    pub(crate) const fn stop_all(&mut self) {
        self.spans = [None; N];
    }

    pub(crate) fn is_due(&self, timer: usize, now: Instant) -> bool {
        self.deadlines().nth(timer).flatten().is_some_and(|deadline| deadline <= now)
    }

    /// The deadlines of all timers, in order
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = Option<Instant>> {
        self.starts.iter().zip(self.spans).map(|(start, span)| start.checked_add(span?))
    }

    /// The earliest deadline
    pub(crate) fn next(&self) -> Option<Instant> {
        self.deadlines().flatten().min()
    }
}

/// When an idle sender that promised an EOL every `interval` sends it: a tenth, at most a second, early,
/// as some peers allow no delay at all
pub(crate) fn send_after(interval: Duration) -> Duration {
    interval - (interval / 10).min(Duration::from_secs(1))
}
