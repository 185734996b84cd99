//! A harness of a real server.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{Broker, BrokerError};

use super::Harness;
use super::servers::{ServerError, TestServer};

/// A [`Harness`] over a [`TestServer`]: the server stops, is killed and starts; the broker objects
/// stay and reconnect
///
/// ```no_run
/// # use mq_bridge::{BrokerError, Memory};
/// use mq_bridge::testkit::{ServerHarness, servers::Redis};
///
/// # async fn open(url: String) -> Result<Memory, BrokerError> { Ok(Memory::default()) }
/// mod conformance {
/// #   use super::*;
///     mq_bridge::testkit::suite!(
///         ignore = "needs redis-server",
///         ServerHarness::start(Redis::start(), |redis| open(redis.url()))
///     );
/// }
/// ```
pub struct ServerHarness<S, F> {
    server: S,
    open: F,
    broker: Arc<dyn Broker>,
}

#[allow(clippy::panic, reason = "this is how a test fails")]
fn must<T, E: fmt::Display>(what: &str, outcome: Result<T, E>) -> T {
    outcome.unwrap_or_else(|error| panic!("{what}: {error}"))
}

impl<S, F, O, B> ServerHarness<S, F>
where
    S: TestServer,
    F: Fn(&S) -> O + Send,
    O: Future<Output = Result<B, BrokerError>> + Send,
    B: Broker,
{
    /// Waits for the server and opens a broker object over it.
    ///
    /// # Panics
    ///
    /// If either fails.
    pub async fn start(server: impl Future<Output = Result<S, ServerError>>, open: F) -> Self {
        let server = must("the server does not start", server.await);
        let broker = Arc::new(must("the broker cannot be opened", open(&server).await));
        Self { server, open, broker }
    }
}

#[async_trait]
impl<S, F, O, B> Harness for ServerHarness<S, F>
where
    S: TestServer,
    F: Fn(&S) -> O + Send,
    O: Future<Output = Result<B, BrokerError>> + Send,
    B: Broker,
{
    fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.broker)
    }

    async fn stop(&mut self) {
        must("the server does not stop", self.server.stop().await);
    }

    async fn kill(&mut self) {
        must("the server cannot be killed", self.server.kill().await);
    }

    async fn start(&mut self) {
        must("the server does not start again", self.server.start().await);
    }

    fn reconnects(&self) -> bool {
        true
    }

    async fn another(&mut self) -> Option<Arc<dyn Broker>> {
        Some(Arc::new(must("another broker cannot be opened", (self.open)(&self.server).await)))
    }

    async fn suspend(&mut self) -> bool {
        must("the server cannot be suspended", self.server.suspend());
        true
    }

    async fn resume(&mut self) {
        must("the server cannot be resumed", self.server.resume());
    }
}

impl<S: fmt::Debug, F> fmt::Debug for ServerHarness<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHarness").field("server", &self.server).finish_non_exhaustive()
    }
}
