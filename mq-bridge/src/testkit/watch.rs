//! What a case sees of its harness.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep_until};

use crate::{Broker, Declaration};

use super::Harness;
use super::steps::{POLL, patience};

/// How long a case may take, beside what its broker takes to stop and start, before it counts as
/// failed; far longer than any takes.
const CASE_DEADLINE: Duration = Duration::from_secs(300);

/// The time that a harness took.
#[derive(Clone, Default)]
pub(super) struct Spent(Arc<Mutex<Duration>>);

impl Spent {
    fn add(&self, more: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += more;
    }

    /// Resolves when a case that begins now has taken too long.
    pub(super) async fn deadline(&self) {
        let begin = Instant::now();
        loop {
            let spent = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let until = begin + CASE_DEADLINE + spent;
            if Instant::now() >= until {
                return;
            }
            sleep_until(until).await;
        }
    }
}

/// A harness whose broker is usable when it has been started, and whose own time does not count.
pub(super) struct Watched<'a> {
    pub(super) inner: &'a mut dyn Harness,
    pub(super) spent: Spent,
}

/// Waits until a broker object that reconnects has done so. One that does not fails the case in its
/// next step.
async fn usable(broker: &dyn Broker) {
    let deadline = Instant::now() + patience();
    let probe = Declaration::queue("testkit probe");
    while !(broker.declare(&probe).await.is_ok() && broker.health().is_up())
        && Instant::now() < deadline
    {
        tokio::time::sleep(POLL).await;
    }
}

#[async_trait]
impl Harness for Watched<'_> {
    fn broker(&self) -> Arc<dyn Broker> {
        self.inner.broker()
    }

    async fn stop(&mut self) {
        let begin = Instant::now();
        self.inner.stop().await;
        self.spent.add(begin.elapsed());
    }

    async fn kill(&mut self) {
        let begin = Instant::now();
        self.inner.kill().await;
        self.spent.add(begin.elapsed());
    }

    async fn start(&mut self) {
        let begin = Instant::now();
        self.inner.start().await;
        if self.inner.reconnects() {
            usable(&*self.inner.broker()).await;
        }
        self.spent.add(begin.elapsed());
    }

    fn reconnects(&self) -> bool {
        self.inner.reconnects()
    }

    fn patience(&self) -> Duration {
        self.inner.patience()
    }

    async fn another(&mut self) -> Option<Arc<dyn Broker>> {
        self.inner.another().await
    }

    async fn suspend(&mut self) -> bool {
        self.inner.suspend().await
    }

    async fn resume(&mut self) {
        self.inner.resume().await;
    }
}
