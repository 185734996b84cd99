//! What a consumer makes of a message, once for all consumers of the process.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A place for what consumers derive from a message, for example its encoded form
///
/// A backend that hands the same stored message to many consumers of one process gives them the
/// same place, by cloning it, so that the work is done once. A new place of its own is always
/// right, only slower.
#[derive(Clone, Default)]
pub struct Derived {
    slot: Arc<OnceLock<Arc<dyn Any + Send + Sync>>>,
}

impl Derived {
    /// An empty place.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was put here before, or else what `make` gives, put here. The first type to come keeps
    /// the place; a value of another type is made each time.
    pub fn get_or_make<T: Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(kept) = self.slot.get() {
            return Arc::clone(kept).downcast().unwrap_or_else(|_| Arc::new(make()));
        }
        let made = Arc::new(make());
        // Two at once: both values are right.
        let _ = self.slot.set(Arc::<T>::clone(&made));
        made
    }
}

impl fmt::Debug for Derived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Derived").field("made", &self.slot.get().is_some()).finish()
    }
}

/// Says nothing about the message, so it makes no difference between two.
impl PartialEq for Derived {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Derived {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_a_second_type_does_not_disturb_it() {
        let derived = Derived::new();
        let other = derived.clone();
        assert_eq!(*derived.get_or_make(|| 1), 1);
        assert_eq!(*other.get_or_make(|| 2), 1);
        assert_eq!(*other.get_or_make(|| "text"), "text");
        assert_eq!(*derived.get_or_make(|| 3), 1);
    }
}
