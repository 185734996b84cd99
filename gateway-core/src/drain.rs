use std::time::Duration;

/// How the ends of sessions are spread when a gateway stops, so that its clients do not all come to another at once
///
/// Each session ends at a random moment within a time that grows with their number, and works until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drain {
    /// Sessions that end in a second, on average; 0 for all at once
    pub per_second: u32,
    /// After this the last one has ended, however many there are
    pub longest: Duration,
}

impl Drain {
    /// A thousand sessions a second, and all within 15 seconds
    pub const DEFAULT: Self = Self { per_second: 1000, longest: Duration::from_secs(15) };

    /// So many sessions a second, and all within `longest`
    #[must_use]
    pub const fn new(per_second: u32, longest: Duration) -> Self {
        Self { per_second, longest }
    }

    /// The time within which so many sessions end.
    pub(crate) fn window(&self, sessions: usize) -> Duration {
        let Some(each) = Duration::from_secs(1).checked_div(self.per_second) else {
            return Duration::ZERO;
        };
        each.saturating_mul(u32::try_from(sessions).unwrap_or(u32::MAX)).min(self.longest)
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::DEFAULT
    }
}
