use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::Mutex;

use async_trait::async_trait;

use super::{Record, RecordKind, Registry};
use crate::lock::lock;
use crate::store::StoreError;

/// A registry that forgets everything when the process ends
#[derive(Debug, Default)]
pub struct MemoryRegistry {
    records: Mutex<BTreeMap<(RecordKind, String), String>>,
}

impl MemoryRegistry {
    /// A registry of nothing
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn insert(&self, kind: RecordKind, record: &Record) -> Result<bool, StoreError> {
        match lock(&self.records).entry((kind, record.id.clone())) {
            Entry::Occupied(_) => Ok(false),
            Entry::Vacant(place) => {
                place.insert(record.content.clone());
                Ok(true)
            }
        }
    }

    async fn replace(&self, kind: RecordKind, record: &Record) -> Result<bool, StoreError> {
        match lock(&self.records).get_mut(&(kind, record.id.clone())) {
            Some(content) => {
                content.clone_from(&record.content);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn remove(&self, kind: RecordKind, id: &str) -> Result<bool, StoreError> {
        Ok(lock(&self.records).remove(&(kind, id.to_owned())).is_some())
    }

    async fn get(&self, kind: RecordKind, id: &str) -> Result<Option<Record>, StoreError> {
        let records = lock(&self.records);
        Ok(records.get(&(kind, id.to_owned())).map(|content| Record::new(id, content.as_str())))
    }

    async fn list(
        &self,
        kind: RecordKind,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let first = (kind, after.to_owned());
        Ok(lock(&self.records)
            .range((Bound::Excluded(first), Bound::Unbounded))
            .take_while(|((of, _), _)| *of == kind)
            .take(limit)
            .map(|((_, id), content)| Record::new(id.as_str(), content.as_str()))
            .collect())
    }
}
