//! The stores pass their suite, the suite finds what is broken, and what is particular to files.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use super::*;
use crate::clock::Clock;
use crate::testkit::{Harness, blob_store_checks};

struct InMemory;

#[async_trait]
impl Harness<dyn BlobStore> for InMemory {
    async fn create(&mut self, _: Clock) -> Arc<dyn BlobStore> {
        Arc::new(MemoryBlobs::new())
    }

    async fn restart(&mut self, _: Arc<dyn BlobStore>) -> Option<Arc<dyn BlobStore>> {
        None
    }
}

struct InFolder(TempDir);

impl InFolder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }
}

#[async_trait]
impl Harness<dyn BlobStore> for InFolder {
    async fn create(&mut self, _: Clock) -> Arc<dyn BlobStore> {
        Arc::new(FolderBlobs::open(self.0.path().join("blobs")).unwrap())
    }

    async fn restart(&mut self, _: Arc<dyn BlobStore>) -> Option<Arc<dyn BlobStore>> {
        Some(Arc::new(FolderBlobs::open(self.0.path().join("blobs")).unwrap()))
    }
}

mod memory_blobs {
    crate::blob_store_tests!(super::InMemory);
}

mod folder_blobs {
    crate::blob_store_tests!(super::InFolder::new());
}

/// What is wrong with a [`Broken`] store
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    DropsAPart,
    ForgetsTheName,
    CountsIds,
    RemovesNothing,
    ListsFromTheStart,
    LosesOnCrash,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

#[derive(Debug)]
struct Broken {
    inner: MemoryBlobs,
    fault: Fault,
}

struct BrokenWriter {
    inner: Box<dyn BlobWriter>,
    fault: Fault,
    parts: usize,
}

impl Broken {
    fn of(fault: Fault) -> Arc<dyn BlobStore> {
        Arc::new(Self { inner: MemoryBlobs::new(), fault })
    }
}

#[async_trait]
impl BlobStore for Broken {
    async fn create(&self, mut about: BlobInfo) -> Result<Box<dyn BlobWriter>, BlobError> {
        if self.fault == Fault::ForgetsTheName {
            about.name.clear();
        }
        let inner = self.inner.create(about).await?;
        Ok(Box::new(BrokenWriter { inner, fault: self.fault, parts: 0 }))
    }

    async fn open(&self, id: BlobId) -> Result<Option<Blob>, BlobError> {
        self.inner.open(id).await
    }

    async fn remove(&self, id: BlobId) -> Result<bool, BlobError> {
        if self.fault == Fault::RemovesNothing {
            return Ok(true);
        }
        self.inner.remove(id).await
    }

    async fn list(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<BlobEntry>, BlobError> {
        match self.fault {
            Fault::ListsFromTheStart => self.inner.list(None, limit).await,
            _ => self.inner.list(after, limit).await,
        }
    }
}

#[async_trait]
impl BlobWriter for BrokenWriter {
    async fn write(&mut self, part: Bytes) -> Result<(), BlobError> {
        self.parts += 1;
        if self.fault == Fault::DropsAPart && self.parts == 2 {
            return Ok(());
        }
        self.inner.write(part).await
    }

    async fn finish(self: Box<Self>) -> Result<BlobId, BlobError> {
        let id = self.inner.finish().await?;
        if self.fault == Fault::CountsIds {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            return Ok(format!("{number:032x}").parse().unwrap());
        }
        Ok(id)
    }
}

struct Breaking(Fault);

#[async_trait]
impl Harness<dyn BlobStore> for Breaking {
    async fn create(&mut self, _: Clock) -> Arc<dyn BlobStore> {
        Broken::of(self.0)
    }

    async fn restart(&mut self, store: Arc<dyn BlobStore>) -> Option<Arc<dyn BlobStore>> {
        Some(if self.0 == Fault::LosesOnCrash { Broken::of(self.0) } else { store })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_catches_broken_blob_stores_by_name() {
    for (fault, name) in [
        (Fault::DropsAPart, "what_was_written_is_read"),
        (Fault::ForgetsTheName, "what_is_known_of_a_blob_is_kept"),
        (Fault::CountsIds, "ids_cannot_be_guessed"),
        (Fault::RemovesNothing, "a_removed_blob_is_gone"),
        (Fault::ListsFromTheStart, "the_list_has_what_was_finished_page_by_page"),
        (Fault::LosesOnCrash, "what_was_finished_survives_a_restart"),
    ] {
        let check = blob_store_checks().into_iter().find(|check| check.name() == name).unwrap();
        assert!(check.run(&mut Breaking(fault)).await.is_err(), "{fault:?} passes {name}");
    }
}

fn about() -> BlobInfo {
    let conversation = ConversationId::new("group:ops").unwrap();
    BlobInfo::new(conversation, UserName::new("alice").unwrap(), "x", "image/png")
}

fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let count = |entry: std::fs::DirEntry| match entry.path().is_dir() {
        true => files(&entry.path()),
        false => 1,
    };
    entries.map(count).sum()
}

#[tokio::test]
async fn what_is_not_finished_leaves_no_file() {
    let folder = TempDir::new().unwrap();
    let blobs = FolderBlobs::open(folder.path()).unwrap();
    let mut writer = blobs.create(about()).await.unwrap();
    writer.write(Bytes::from_static(b"half")).await.unwrap();
    assert_eq!(files(folder.path()), 1);
    drop(writer);
    assert_eq!(files(folder.path()), 0);
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_reads_the_files_of_attachments() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = TempDir::new().unwrap();
    let blobs = FolderBlobs::open(folder.path().join("blobs")).unwrap();
    let id = blobs.create(about()).await.unwrap().finish().await.unwrap().to_string();
    let path = folder.path().join("blobs").join(&id[..2]).join(&id);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
}

#[test]
fn an_id_has_one_spelling() {
    let id = BlobId::generate().unwrap();
    assert_eq!(id.to_string().parse(), Ok(id));
    let long = format!("0{id}");
    for bad in ["", "..", &long, "g0000000000000000000000000000000", &"A".repeat(32)] {
        assert_eq!(bad.parse::<BlobId>(), Err(InvalidBlobId), "{bad}");
    }
}
