//! Harnesses of the brokers that need no server.

use std::sync::Arc;

use async_trait::async_trait;
use mq_bridge::testkit::Harness;
use mq_bridge::{Broker, Embedded, EmbeddedConfig, Memory};
use tempfile::TempDir;

pub(crate) struct MemoryHarness {
    broker: Arc<Memory>,
}

impl MemoryHarness {
    pub(crate) async fn start() -> Self {
        Self { broker: Arc::default() }
    }
}

#[async_trait]
impl Harness for MemoryHarness {
    fn broker(&self) -> Arc<dyn Broker> {
        Arc::<Memory>::clone(&self.broker)
    }

    async fn stop(&mut self) {
        self.broker.shutdown().await;
    }

    async fn kill(&mut self) {
        self.broker.shutdown().await;
    }

    async fn start(&mut self) {
        self.broker = Arc::default();
    }
}

pub(crate) struct EmbeddedHarness {
    folder: TempDir,
    broker: Arc<Embedded>,
}

impl EmbeddedHarness {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Self::open(&folder).await;
        Self { folder, broker }
    }

    async fn open(folder: &TempDir) -> Arc<Embedded> {
        let config = EmbeddedConfig::new(folder.path().join("queue.db"));
        Arc::new(Embedded::open(config).await.unwrap())
    }
}

#[async_trait]
impl Harness for EmbeddedHarness {
    fn broker(&self) -> Arc<dyn Broker> {
        Arc::<Embedded>::clone(&self.broker)
    }

    async fn stop(&mut self) {
        self.broker.shutdown().await;
    }

    async fn kill(&mut self) {
        self.broker.kill().await;
    }

    async fn start(&mut self) {
        self.broker = Self::open(&self.folder).await;
    }
}
