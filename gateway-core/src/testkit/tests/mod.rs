//! The backends pass their suites, and the suites find what is broken.

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::directory::{Directory, MemoryDirectory};
use crate::store::{MemoryStore, MessageStore};

struct InMemory;

#[async_trait]
impl Harness<dyn MessageStore> for InMemory {
    async fn create(&mut self, clock: Clock) -> Arc<dyn MessageStore> {
        Arc::new(MemoryStore::new().with_clock(clock))
    }

    async fn restart(&mut self, _: Arc<dyn MessageStore>) -> Option<Arc<dyn MessageStore>> {
        None
    }
}

#[async_trait]
impl Harness<dyn Directory> for InMemory {
    async fn create(&mut self, clock: Clock) -> Arc<dyn Directory> {
        Arc::new(MemoryDirectory::new().with_clock(clock))
    }

    async fn restart(&mut self, _: Arc<dyn Directory>) -> Option<Arc<dyn Directory>> {
        None
    }
}

mod broken_directories;
mod broken_stores;

mod memory_store {
    crate::message_store_tests!(super::InMemory);
}

mod memory_directory {
    crate::directory_tests!(super::InMemory);
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use super::*;
    use crate::store::{SqliteOptions, SqliteStore};

    /// Opens copies of the files of a store that still runs: what a killed process leaves behind
    struct InFiles {
        folder: TempDir,
        stores: usize,
        clock: Clock,
    }

    impl InFiles {
        fn new() -> Self {
            Self { folder: TempDir::new().unwrap(), stores: 0, clock: Clock::system() }
        }

        fn path(&self, number: usize) -> PathBuf {
            self.folder.path().join(format!("store{number}.db"))
        }

        fn open(&mut self) -> Arc<SqliteStore> {
            let options = SqliteOptions::new(self.path(self.stores));
            self.stores += 1;
            Arc::new(options.with_clock(self.clock.clone()).open().unwrap())
        }

        fn copy(&self) {
            for ending in ["", "-wal"] {
                let name = |number| {
                    let mut name = self.path(number).into_os_string();
                    name.push(ending);
                    PathBuf::from(name)
                };
                if name(self.stores - 1).exists() {
                    std::fs::copy(name(self.stores - 1), name(self.stores)).unwrap();
                }
            }
        }
    }

    #[async_trait]
    impl Harness<dyn MessageStore> for InFiles {
        async fn create(&mut self, clock: Clock) -> Arc<dyn MessageStore> {
            self.clock = clock;
            self.open()
        }

        async fn restart(&mut self, _: Arc<dyn MessageStore>) -> Option<Arc<dyn MessageStore>> {
            self.copy();
            Some(self.open())
        }
    }

    #[async_trait]
    impl Harness<dyn Directory> for InFiles {
        async fn create(&mut self, clock: Clock) -> Arc<dyn Directory> {
            self.clock = clock;
            self.open()
        }

        async fn restart(&mut self, _: Arc<dyn Directory>) -> Option<Arc<dyn Directory>> {
            self.copy();
            Some(self.open())
        }
    }

    mod store {
        crate::message_store_tests!(super::InFiles::new());
    }

    mod directory {
        crate::directory_tests!(super::InFiles::new());
    }
}
