use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream;

use super::{Blob, BlobEntry, BlobError, BlobId, BlobInfo, BlobStore, BlobWriter};
use crate::clock::Clock;
use crate::lock::lock;

type Kept = Arc<Mutex<BTreeMap<BlobId, Content>>>;

#[derive(Clone, Debug)]
struct Content {
    about: BlobInfo,
    octets: Bytes,
    time: u64,
}

/// Attachments in memory, for tests: without a bound, and gone with the process
#[derive(Clone, Debug, Default)]
pub struct MemoryBlobs(Kept);

impl MemoryBlobs {
    /// None yet
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

struct Writer {
    kept: Kept,
    about: BlobInfo,
    content: BytesMut,
}

#[async_trait]
impl BlobStore for MemoryBlobs {
    async fn create(&self, about: BlobInfo) -> Result<Box<dyn BlobWriter>, BlobError> {
        Ok(Box::new(Writer { kept: Arc::clone(&self.0), about, content: BytesMut::new() }))
    }

    async fn open(&self, id: BlobId) -> Result<Option<Blob>, BlobError> {
        let found = lock(&self.0).get(&id).cloned();
        Ok(found.map(|Content { about, octets, .. }| {
            let size = octets.len() as u64;
            Blob::new(about, size, stream::iter([Ok(octets)]).boxed())
        }))
    }

    async fn remove(&self, id: BlobId) -> Result<bool, BlobError> {
        Ok(lock(&self.0).remove(&id).is_some())
    }

    async fn list(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<BlobEntry>, BlobError> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let kept = lock(&self.0);
        let found = kept.range((start, Bound::Unbounded)).take(limit);
        Ok(found
            .map(|(id, one)| BlobEntry::new(*id, one.about.conversation.clone(), one.time))
            .collect())
    }
}

#[async_trait]
impl BlobWriter for Writer {
    async fn write(&mut self, part: Bytes) -> Result<(), BlobError> {
        self.content.extend_from_slice(&part);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<BlobId, BlobError> {
        let id = BlobId::generate()?;
        let content = Content {
            about: self.about,
            octets: self.content.freeze(),
            time: Clock::system().now_millis(),
        };
        lock(&self.kept).insert(id, content);
        Ok(id)
    }
}
