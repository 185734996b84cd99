//! Small records: keys, webhooks, what calls with an idempotency key have made. Few, seldom changed, read by their names.

mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(test)]
mod tests;

use std::fmt;

use async_trait::async_trait;

use crate::store::StoreError;

pub use memory::MemoryRegistry;

/// What a record is about
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RecordKind {
    /// A key of a service
    Key,
    /// A webhook
    Webhook,
    /// What was made by a call with an idempotency key
    Made,
}

impl RecordKind {
    /// The word under which a store keeps it
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Webhook => "webhook",
            Self::Made => "made",
        }
    }
}

/// A record: a name that is unique among those of its kind, and what is kept under it
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Its name
    pub id: String,
    /// What is kept, as JSON
    pub content: String,
}

impl Record {
    /// A record
    pub fn new(id: impl Into<String>, content: impl Into<String>) -> Self {
        Self { id: id.into(), content: content.into() }
    }
}

/// Where the records are
///
/// What was answered with `Ok` is as durable as messages are. Cancel safe: a dropped call may or may not have happened.
#[async_trait]
pub trait Registry: fmt::Debug + Send + Sync + 'static {
    /// Keeps a new record; `false`, and nothing changes, where there is one of this name
    ///
    /// # Errors
    ///
    /// What the store meets.
    async fn insert(&self, kind: RecordKind, record: &Record) -> Result<bool, StoreError>;

    /// Changes a record; `false`, and nothing is made, where there is none of this name
    ///
    /// # Errors
    ///
    /// What the store meets.
    async fn replace(&self, kind: RecordKind, record: &Record) -> Result<bool, StoreError>;

    /// Removes a record; `false` where there is none of this name
    ///
    /// # Errors
    ///
    /// What the store meets.
    async fn remove(&self, kind: RecordKind, id: &str) -> Result<bool, StoreError>;

    /// The record of this name
    ///
    /// # Errors
    ///
    /// What the store meets.
    async fn get(&self, kind: RecordKind, id: &str) -> Result<Option<Record>, StoreError>;

    /// Records in the order of their names' octets: at most `limit` of those behind `after`
    ///
    /// # Errors
    ///
    /// What the store meets.
    async fn list(
        &self,
        kind: RecordKind,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError>;
}
