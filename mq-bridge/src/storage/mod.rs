//! A broker over any storage: what keeps messages is yours, everything else is here
//!
//! Who writes a backend that keeps messages somewhere, in files, a key-value store or a database,
//! implements [`Storage`]: three calls, made by one thread, one at a time, which may block.
//! [`StorageBroker`] makes a [`Broker`](crate::Broker) of it: routing, prefetch, acknowledgements
//! and what comes back, takeover, dead letters, expiry, topics and their slow subscribers,
//! confirmations, group commit, a storage that fails for a while, health and metrics.
//!
//! `Embedded` is such a storage. Another one, complete and small, is walked through in
//! `docs/write-a-backend.md`.

mod batch;
mod broker;
mod change;
mod codec;
mod op;
mod page;
mod writer;

use std::fmt;
use std::time::Instant;

use crate::{Declaration, Source};

pub use broker::{StorageBroker, StorageOptions};
pub use change::{Change, Place, StoredEntry};
pub use codec::MalformedChange;
pub use page::Page;

/// Where a [`StorageBroker`] keeps what waits
///
/// All calls come from one thread of the broker's, one at a time, and may block. A broker is the
/// only one over its storage.
pub trait Storage: 'static {
    /// What can go wrong; its text is shown to publishers and in [`Health`](crate::Health).
    type Error: fmt::Display;

    /// All that is kept: the first call.
    ///
    /// # Errors
    ///
    /// The broker is not opened.
    fn load(&mut self) -> Result<Kept, Self::Error>;

    /// Makes all of `changes`, in order, and returns when they are as safe as they will be.
    ///
    /// What gathered during one call comes with the next: the longer a call takes, the more it
    /// carries.
    ///
    /// # Errors
    ///
    /// None of the changes was made. Publishes among them fail with
    /// [`Storage`](crate::BrokerError::Storage); everything else is tried again.
    fn write(&mut self, changes: &[Change]) -> Result<Written, Self::Error>;

    /// Puts the entries of `source` with an id greater than `after` into `page`, in the order of
    /// their ids, until it [takes](Page::push) no more.
    ///
    /// # Errors
    ///
    /// It is tried again.
    fn read(&mut self, source: &Source, after: u64, page: &mut Page) -> Result<(), Self::Error>;

    /// When [`write`](Self::write) is to be called at the latest, without changes if there are
    /// none: for storages with work of their own, such as removing what has expired. Default: never.
    fn due(&self) -> Option<Instant> {
        None
    }
}

/// What a storage keeps, when a broker begins
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// Every queue and durable subscription, and how many entries it has.
    pub sources: Vec<(Declaration, u64)>,
    /// No entry has a greater id.
    pub last_id: u64,
}

impl Kept {
    /// What is declared, with the number of entries of each, and the greatest id of all entries.
    #[must_use]
    pub const fn new(sources: Vec<(Declaration, u64)>, last_id: u64) -> Self {
        Self { sources, last_id }
    }
}

/// What a storage has to say about a write; for most that is nothing: `Written::default()`
///
/// A storage that removes expired entries by itself says here what it did, so that the broker's
/// numbers stay true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// How many entries it has removed by itself because they had expired.
    pub expired: Vec<(Source, u64)>,
    /// How many entries it should have removed that were not there any more.
    pub missing: Vec<(Source, u64)>,
}
