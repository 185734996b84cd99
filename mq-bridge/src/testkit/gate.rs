//! How many cases run at once.

use std::sync::{Condvar, Mutex, PoisonError};

/// Lets so many cases in at once; the others wait for their turn
#[derive(Debug)]
pub struct Gate {
    free: Mutex<usize>,
    left: Condvar,
}

/// A case's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a>(&'a Gate);

impl Gate {
    /// Room for `most` cases; 0 counts as 1.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        let free = if most == 0 { 1 } else { most };
        Self { free: Mutex::new(free), left: Condvar::new() }
    }

    /// Waits for a place; blocks the thread.
    pub(super) fn enter(&self) -> Place<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let full = self.left.wait_while(free, |free| *free == 0);
        *full.unwrap_or_else(PoisonError::into_inner) -= 1;
        Place(self)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.left.notify_one();
    }
}
