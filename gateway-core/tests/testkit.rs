//! The suites as a backend of another crate uses them: public names only.

#![cfg(feature = "testkit")]

use std::sync::Arc;

use async_trait::async_trait;
use gateway_core::testkit::Harness;
use gateway_core::{
    Clock, Directory, MemoryDirectory, MemoryStore, MessageStore, RememberingDirectory,
};

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

struct Remembering;

#[async_trait]
impl Harness<dyn Directory> for Remembering {
    async fn create(&mut self, clock: Clock) -> Arc<dyn Directory> {
        let inner = MemoryDirectory::new().with_clock(clock);
        Arc::new(RememberingDirectory::new(Arc::new(inner)))
    }

    async fn restart(&mut self, _: Arc<dyn Directory>) -> Option<Arc<dyn Directory>> {
        None
    }
}

mod message_store {
    gateway_core::message_store_tests!(super::InMemory);
}

mod directory {
    gateway_core::directory_tests!(super::InMemory);
}

mod remembering_directory {
    gateway_core::directory_tests!(super::Remembering);
}
