//! A harness of a broker over a storage.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;

use crate::storage::StorageBroker;
use crate::{Broker, BrokerError};

use super::Harness;

/// A [`Harness`] over a [`StorageBroker`], which is opened again over the same storage
///
/// `tests/third_party_backend.rs` is an example.
pub struct StorageHarness<F> {
    open: F,
    broker: Arc<StorageBroker>,
}

#[allow(clippy::panic, reason = "this is how a test fails")]
fn must(opened: Result<StorageBroker, BrokerError>) -> Arc<StorageBroker> {
    Arc::new(opened.unwrap_or_else(|error| panic!("the broker cannot be opened: {error}")))
}

impl<F, O> StorageHarness<F>
where
    F: Fn() -> O + Send,
    O: Future<Output = Result<StorageBroker, BrokerError>> + Send,
{
    /// `open` opens the storage each time; what it holds, such as a folder, lives as long as the
    /// harness.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub async fn start(open: F) -> Self {
        let broker = must(open().await);
        Self { open, broker }
    }
}

#[async_trait]
impl<F, O> Harness for StorageHarness<F>
where
    F: Fn() -> O + Send,
    O: Future<Output = Result<StorageBroker, BrokerError>> + Send,
{
    fn broker(&self) -> Arc<dyn Broker> {
        Arc::<StorageBroker>::clone(&self.broker)
    }

    async fn stop(&mut self) {
        self.broker.shutdown().await;
    }

    async fn kill(&mut self) {
        self.broker.kill().await;
    }

    async fn start(&mut self) {
        let opening = (self.open)();
        self.broker = must(opening.await);
    }
}

impl<F> fmt::Debug for StorageHarness<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageHarness").field("broker", &self.broker).finish_non_exhaustive()
    }
}
