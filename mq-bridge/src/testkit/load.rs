//! Publishing and consuming that goes on while something else happens to the broker.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::{Broker, BrokerError, Confirm, Message, Publish, Subscription};

use super::steps::{POLL, confirmed, ensure, few, number, numbered, patience, spawn, tags};
use super::{Failure, Outcome};

/// The most publishes that wait for their confirmation.
const WINDOW: usize = 100;

/// Publishes one number after the other, each once, however that ends.
pub(super) struct Publisher {
    task: JoinHandle<Result<Published, Failure>>,
    progress: mpsc::Receiver<()>,
    stop: watch::Sender<bool>,
}

/// What became of the publishes.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) confirmed: BTreeSet<u64>,
    /// The first number that was not used.
    pub(super) next: u64,
}

impl Publisher {
    /// Begins with the number `first`.
    pub(super) fn start(
        broker: Arc<dyn Broker>,
        first: u64,
        make: impl Fn(Message) -> Publish + Send + 'static,
    ) -> Self {
        let (sender, progress) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let task = spawn(async move {
            let mut published = Published { next: first, ..Published::default() };
            let mut waiting: VecDeque<(u64, Confirm)> = VecDeque::new();
            let mut shut_down = false;
            loop {
                let full = waiting.len() >= WINDOW;
                if !full && !shut_down && !*stopped.borrow() {
                    let publish = broker.publish(make(numbered(published.next)));
                    waiting.push_back((published.next, publish));
                    published.next += 1;
                    // Now and then, so that confirmations are seen while the window fills.
                    if !published.next.is_multiple_of(8) {
                        continue;
                    }
                }
                let Some((number, confirm)) = waiting.pop_front() else { return Ok(published) };
                match confirmed(confirm).await? {
                    Ok(()) => {
                        published.confirmed.insert(number);
                        if published.confirmed.len().is_multiple_of(32) {
                            let _ = sender.try_send(());
                        }
                    }
                    Err(BrokerError::ShutDown) => shut_down = true,
                    Err(error) => {
                        ensure!(error.is_retryable(), "a publish failed for good: {error}");
                        sleep(POLL).await;
                    }
                }
            }
        });
        Self { task, progress, stop }
    }

    /// Waits until some more have been confirmed.
    pub(super) async fn progress(&mut self) -> Outcome {
        // What was told before does not count.
        let _ = self.progress.try_recv();
        let more = tokio::time::timeout(patience(), self.progress.recv()).await;
        ensure!(matches!(more, Ok(Some(()))), "publishing does not get on");
        Ok(())
    }

    /// Publishes nothing more and waits for what is on its way.
    pub(super) async fn stop(self) -> Result<Published, Failure> {
        self.stop.send_replace(true);
        self.task.await.map_err(|error| Failure::new(error.to_string()))?
    }
}

/// Takes and acknowledges, and remembers in which order what came.
pub(super) struct Consumer {
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

/// A delivery that came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) number: u64,
    pub(super) redelivered: bool,
}

impl Consumer {
    pub(super) fn start(mut subscription: Subscription) -> Self {
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let record = Arc::clone(&seen);
        let task = spawn(async move {
            let acker = subscription.acker();
            while let Some(batch) = subscription.recv().await {
                let news = batch
                    .iter()
                    .map(|one| Seen { number: number(one), redelivered: one.redelivered });
                record.lock().unwrap_or_else(PoisonError::into_inner).extend(news);
                // Lost with the connection it comes again.
                drop(acker.ack(&tags(&batch)));
            }
        });
        Self { seen, task }
    }

    /// What came, in order.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until consumers that share a source have seen all that was confirmed, and checks that
/// repeats are marked.
pub(super) async fn none_is_lost(consumers: &[Consumer], expected: &BTreeSet<u64>) -> Outcome {
    let mut last = (Instant::now(), 0);
    loop {
        let seen: Vec<Seen> = consumers.iter().flat_map(Consumer::seen).collect();
        if seen.len() > last.1 {
            last = (Instant::now(), seen.len());
        }
        let numbers: HashSet<u64> = seen.iter().map(|one| one.number).collect();
        if expected.iter().all(|number| numbers.contains(number)) {
            let mut unmarked = HashSet::new();
            let twice = seen.iter().find(|one| !one.redelivered && !unmarked.insert(one.number));
            return match twice {
                None => Ok(()),
                Some(one) => Err(Failure::new(format!("{} came twice, not marked", one.number))),
            };
        }
        let lost = expected.iter().filter(|number| !numbers.contains(number));
        let lost: Vec<u64> = lost.copied().collect();
        ensure!(last.0.elapsed() < patience(), "confirmed and not delivered: {}", few(&lost));
        sleep(POLL).await;
    }
}

/// Checks that what came for the first time came in the order of the calls.
pub(super) fn is_in_order(consumer: &Consumer) -> Outcome {
    let mut known = HashSet::new();
    let first: Vec<u64> = consumer
        .seen()
        .iter()
        .map(|one| one.number)
        .filter(|number| known.insert(*number))
        .collect();
    let wrong = first.windows(2).find(|pair| pair[0] > pair[1]);
    ensure!(wrong.is_none(), "not in the order of the calls: {wrong:?} in {}", few(&first));
    Ok(())
}
