use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks. What a panic of another holder may have left is used as it is: no holder of these locks
/// leaves a half-made state where it could panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
