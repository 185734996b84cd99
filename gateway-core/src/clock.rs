use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the time of day comes from: the system, or a test that turns the hands itself
///
/// Cheap to clone; clones of a [`Clock::manual`] clock share their hands.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The system's clock
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still at `millis` since 1970 until [`Clock::advance`] moves it
    #[must_use]
    pub fn manual(millis: u64) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(millis))))
    }

    /// Moves a manual clock forward; does nothing to the system's
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(millis) = &self.0 {
            millis.fetch_add(as_millis(by), Ordering::SeqCst);
        }
    }

    /// Turns a manual clock to `millis` since 1970, back if need be; does nothing to the system's
    pub fn set(&self, millis: u64) {
        if let Source::Manual(hands) = &self.0 {
            hands.store(millis, Ordering::SeqCst);
        }
    }

    /// Milliseconds since 1970, UTC
    #[must_use]
    pub fn now_millis(&self) -> u64 {
        match &self.0 {
            Source::System => {
                as_millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
            }
            Source::Manual(millis) => millis.load(Ordering::SeqCst),
        }
    }
}

fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::System => f.write_str("Clock::system"),
            Source::Manual(_) => f.debug_tuple("Clock::manual").field(&self.now_millis()).finish(),
        }
    }
}
