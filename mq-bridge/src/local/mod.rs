//! What the brokers share that do their work inside this process: routing, consumer groups, topic
//! subscribers. Those over a network need the last only.

#[cfg(any(feature = "memory", feature = "storage"))]
mod consumer;
mod counters;
#[cfg(any(feature = "memory", feature = "storage"))]
#[cfg_attr(
    not(all(feature = "memory", feature = "storage")),
    allow(dead_code, reason = "each backend uses its part")
)]
mod group;
mod live;
#[cfg(feature = "storage")]
mod refill;
mod settings;
#[cfg(any(feature = "memory", feature = "storage"))]
mod tables;
#[cfg(any(feature = "memory", feature = "storage"))]
mod unacked;

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

#[cfg(any(feature = "memory", feature = "storage"))]
pub(crate) use consumer::consume;
pub(crate) use counters::Counters;
#[cfg(feature = "memory")]
pub(crate) use group::Charge;
#[cfg(feature = "storage")]
pub(crate) use group::Wakers;
#[cfg(any(feature = "memory", feature = "storage"))]
pub(crate) use group::{Entry, Group, Keeper, Retention, Stored};
pub(crate) use live::{Live, LiveSubscription};
#[cfg(feature = "storage")]
pub(crate) use refill::{FetchWindow, Promise};
pub(crate) use settings::Settings;
#[cfg(any(feature = "memory", feature = "storage"))]
pub(crate) use tables::{Matched, Tables};

// A panic while a lock was held is a bug elsewhere; every section leaves the data whole at each
// step, so going on is better than taking every other session down with it.

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
