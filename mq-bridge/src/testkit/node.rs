//! Another broker object over the same broker, as another node of the program has it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::runtime::{Builder, Runtime};

use crate::Broker;

use super::{Failure, Harness};

/// A node with a runtime of its own, so that it can die with all that runs there.
pub(super) struct Node {
    broker: Option<Arc<dyn Broker>>,
    runtime: Option<Runtime>,
}

impl Node {
    /// `None` where there can be one node only.
    pub(super) async fn start(harness: &mut dyn Harness) -> Result<Option<Self>, Failure> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new(format!("no runtime: {error}")))?;
        let broker = within(&runtime, harness.another()).await;
        let node = Self { broker, runtime: Some(runtime) };
        Ok(if node.broker.is_some() { Some(node) } else { None })
    }

    /// Makes a call as code of this node does.
    pub(super) async fn call<T, F: Future<Output = T>>(
        &self,
        call: impl FnOnce(Arc<dyn Broker>) -> F,
    ) -> Result<T, Failure> {
        match (&self.runtime, &self.broker) {
            (Some(runtime), Some(broker)) => Ok(within(runtime, call(Arc::clone(broker))).await),
            _ => Err(Failure::new("the node is dead")),
        }
    }

    /// Dies: nothing that it does goes on, and its connections break without a word.
    pub(super) fn die(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // While its runtime still lives, if it did not die.
        self.broker = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Lets a future find `runtime` as its own.
async fn within<T>(runtime: &Runtime, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        let _entered = runtime.enter();
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(output),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
