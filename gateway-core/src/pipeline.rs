//! The one way into a conversation: store, then broker, then receipt.
//!
//! One task does it for all conversations, in order: it takes what is waiting, stores it in one
//! transaction, publishes it as one batch in the order of `seq`, and answers each sender when the
//! broker has confirmed for every recipient (P1). While the broker confirms one batch, the next is
//! stored; it is published when the confirmation has come, so that nothing overtakes what fails. Senders that come while a transaction is written are in
//! the next one, so the cost of a commit is shared by all who wait (group commit), and within a
//! conversation nothing overtakes (P3).
//!
//! What is stored and not yet confirmed by the broker stands in the store's outbox, written in
//! the same transaction. After a crash, and after any failure of the broker, the outbox is
//! published again, marked as redelivered, before anything new: so a message that is in the
//! history reaches every inbox, and order holds.
//!
//! Where several nodes share the store, each publishes its own part of the outbox. A message that is behind another
//! node's in its conversation is held: it stays in the outbox until those have left it, and is read from there then.
//! Only conversations in which two nodes store at the same time pay for that.

mod lease;
mod outbox;
mod seed;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use mq_bridge::{Broker, BrokerError, Confirm, Publish, Target};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::directory::Directory;
use crate::error::GatewayError;
use crate::metrics::Metrics;
use crate::names::{ConversationId, DeviceName, UserName};
use crate::outgoing;
use crate::store::{
    Appended, MessageId, MessageStore, NewMessage, OutboxId, StoreError, StoredMessage,
};
use lease::Lease;
use outbox::Held;

/// Messages stored in one transaction, at most.
const BATCH: usize = 512;
/// How long a sender waits for the broker before it is told to try again.
const PATIENCE: Duration = Duration::from_secs(20);
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LAST_BACKOFF: Duration = Duration::from_secs(5);

/// What the RECEIPT of a message says: where it is in its conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendReceipt {
    /// Its identity.
    pub message_id: MessageId,
    /// Its conversation.
    pub conversation: ConversationId,
    /// Its number in the conversation, from 1, without gaps.
    pub seq: u64,
    /// When it was stored, in milliseconds since 1970, UTC.
    pub timestamp: u64,
    /// Whether its idempotency key was seen before, so that nothing new was sent.
    pub duplicate: bool,
}

impl From<&Appended> for SendReceipt {
    fn from(appended: &Appended) -> Self {
        Self {
            message_id: appended.message_id,
            conversation: appended.conversation.clone(),
            seq: appended.seq,
            timestamp: appended.timestamp,
            duplicate: appended.duplicate,
        }
    }
}

/// The entrance of the pipeline; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    jobs: mpsc::Sender<Job>,
    /// Octets that may wait.
    budget: Arc<Semaphore>,
    budget_size: usize,
}

type Answer = oneshot::Sender<Result<SendReceipt, GatewayError>>;

enum Job {
    Send { message: NewMessage, answer: Answer, deadline: Instant, _budget: OwnedSemaphorePermit },
    Seed { user: UserName, device: DeviceName, answer: oneshot::Sender<Result<(), GatewayError>> },
    Settle { answer: oneshot::Sender<()> },
}

impl Pipeline {
    /// Starts the pipeline's task. It first publishes what an earlier process left in the outbox.
    /// It ends when the last entrance is dropped and all that came in is done.
    pub(crate) fn start(
        metrics: Arc<Metrics>,
        clock: Clock,
        store: Arc<dyn MessageStore>,
        directory: Arc<dyn Directory>,
        broker: Arc<dyn Broker>,
        budget: usize,
    ) -> (Self, JoinHandle<()>) {
        let (jobs, waiting) = mpsc::channel(BATCH);
        let budget_size = budget.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        let worker = Worker {
            metrics,
            clock,
            store,
            directory,
            broker,
            waiting,
            publishing: None,
            in_flight: HashMap::new(),
            published: Vec::new(),
            confirmed: HashSet::new(),
            marking: None,
            broken: true,
            held: Held::default(),
            lease: Lease::default(),
            seeding: false,
        };
        let pipeline = Self { jobs, budget: Arc::new(Semaphore::new(budget_size)), budget_size };
        (pipeline, tokio::spawn(worker.run()))
    }

    /// Hands a message in; waits only for room. The outer future keeps the order of the calls,
    /// the inner one is the receipt.
    ///
    /// Cancel safe: dropped before it is ready nothing was handed in; dropping the inner future
    /// does not take the message back.
    pub(crate) async fn send(
        &self,
        message: NewMessage,
    ) -> Result<impl Future<Output = Result<SendReceipt, GatewayError>> + Send + use<>, GatewayError>
    {
        let cost = cost(&message).min(self.budget_size);
        let permits = u32::try_from(cost).unwrap_or(u32::MAX);
        let deadline = Instant::now() + PATIENCE;
        let enter = async {
            let budget = Arc::clone(&self.budget).acquire_many_owned(permits).await.ok()?;
            let place = self.jobs.reserve().await.ok()?;
            Some((budget, place))
        };
        let Ok(Some((_budget, place))) = tokio::time::timeout_at(deadline, enter).await else {
            return Err(GatewayError::Overloaded);
        };
        let (answer, receipt) = oneshot::channel();
        place.send(Job::Send { message, answer, deadline, _budget });
        Ok(async move {
            match tokio::time::timeout_at(deadline, receipt).await {
                Ok(Ok(outcome)) => outcome,
                _ => Err(GatewayError::Overloaded),
            }
        })
    }

    /// Waits until everything that was handed in before is stored, or was refused.
    pub(crate) async fn settled(&self) -> Result<(), GatewayError> {
        let (answer, done) = oneshot::channel();
        self.jobs.send(Job::Settle { answer }).await.map_err(|_| GatewayError::Overloaded)?;
        done.await.map_err(|_| GatewayError::Overloaded)
    }

    /// Makes the inbox of a new device and fills it with what its user has not read. It is done
    /// between two messages, so that the device gets each message once and in order.
    pub(crate) async fn seed(
        &self,
        user: UserName,
        device: DeviceName,
    ) -> Result<(), GatewayError> {
        let (answer, done) = oneshot::channel();
        let job = Job::Seed { user, device, answer };
        self.jobs.send(job).await.map_err(|_| GatewayError::Overloaded)?;
        done.await.unwrap_or(Err(GatewayError::Overloaded))
    }
}

fn cost(message: &NewMessage) -> usize {
    let headers: usize = message.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    message.body.len() + headers + 256
}

struct Worker {
    metrics: Arc<Metrics>,
    clock: Clock,
    store: Arc<dyn MessageStore>,
    directory: Arc<dyn Directory>,
    broker: Arc<dyn Broker>,
    waiting: mpsc::Receiver<Job>,
    /// The batch that the broker has yet to confirm. The next one is published after that: were
    /// it published before, and this one failed, it would have overtaken.
    publishing: Option<Publishing>,
    in_flight: HashMap<OutboxId, InFlight>,
    /// Confirmed by the broker, and to be taken out of the outbox.
    published: Vec<OutboxId>,
    /// Confirmed by the broker, and perhaps still in the outbox.
    confirmed: HashSet<OutboxId>,
    marking: Option<JoinHandle<Marked>>,
    /// Something in the outbox is not under way: the outbox comes first.
    broken: bool,
    held: Held,
    lease: Lease,
    /// Other nodes are held back for a new device.
    seeding: bool,
}

/// A batch, and its confirmation.
struct Publishing {
    ids: Vec<OutboxId>,
    since: Instant,
    confirm: Confirm,
}

/// What was published, when, and what came of it.
type Outcome = (Vec<OutboxId>, Instant, Result<(), BrokerError>);

/// What was taken out of the outbox, or could not be.
type Marked = Result<Vec<OutboxId>, Vec<OutboxId>>;

/// A message between the store and the broker's confirmation, and who waits for it.
struct InFlight {
    receipt: SendReceipt,
    answers: Vec<(bool, Answer)>,
    /// It may have been published before.
    tried: bool,
}

impl Worker {
    async fn run(mut self) {
        let mut jobs = Vec::with_capacity(BATCH);
        self.join().await;
        loop {
            if self.broken {
                self.recover().await;
            }
            self.mark();
            tokio::select! {
                biased;
                outcome = confirmed(&mut self.publishing) => self.settle_batch(outcome),
                marked = finished(&mut self.marking) => self.marked(marked),
                () = self.lease.orphans() => self.adopt().await,
                () = self.held.due() => self.look_after_held().await,
                count = self.waiting.recv_many(&mut jobs, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    self.work(&mut jobs).await;
                }
            }
        }
        self.drain().await;
        self.finish_held().await;
        self.mark();
        let marked = finished_if_any(&mut self.marking).await;
        self.marked(marked);
        self.resign().await;
    }

    async fn work(&mut self, jobs: &mut Vec<Job>) {
        let mut batch = Vec::new();
        for job in jobs.drain(..) {
            match job {
                // The sender was told to try again: stored now, it might be stored twice. One that
                // went away before that is another matter; what it has sent counts.
                Job::Send { deadline, .. } if deadline <= Instant::now() => {}
                Job::Send { message, answer, .. } => batch.push((message, answer)),
                Job::Settle { answer } => {
                    self.send(std::mem::take(&mut batch)).await;
                    let _ = answer.send(());
                }
                Job::Seed { user, device, answer } => {
                    self.send(std::mem::take(&mut batch)).await;
                    self.drain().await;
                    if self.broken {
                        self.recover().await;
                    }
                    let outcome = self.seed(&user, &device).await;
                    let _ = answer.send(outcome);
                }
            }
        }
        self.send(batch).await;
    }

    /// Stores a batch, publishes it in the order of storing, and leaves the rest to `settle`.
    async fn send(&mut self, batch: Vec<(NewMessage, Answer)>) {
        if batch.is_empty() {
            return;
        }
        let (messages, answers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let store = Arc::clone(&self.store);
        let lease = self.lease();
        let since = Instant::now();
        let stored = self.meanwhile(store.append(messages.clone())).await;
        self.metrics.append_time.observe(since.elapsed());
        if stored.len() != messages.len() {
            let fault = StoreError::Unusable("the store answered for another number".to_owned());
            answers.into_iter().for_each(|answer| {
                let _ = answer.send(Err(fault.clone().into()));
            });
            self.broken = true;
            return;
        }
        // While this batch was stored the last one was on its way through the broker.
        self.drain().await;
        let mut ids = Vec::new();
        let mut batch = Vec::new();
        for ((message, answer), stored) in messages.into_iter().zip(answers).zip(stored) {
            match stored {
                Ok(appended) => {
                    if let Some((id, publish)) = self.enter(message, &appended, answer) {
                        ids.push(id);
                        batch.push(publish);
                    }
                }
                Err(error) => {
                    // A store that is far away may have stored it all the same: then it stands in
                    // the outbox.
                    self.broken |= error.is_retryable();
                    let _ = answer.send(Err(error.into()));
                }
            }
        }
        // What another node may have taken over is no longer this node's to publish.
        self.broken |= lease.is_none() || lease != self.lease();
        // What is broken must not be overtaken: the outbox goes first, and this batch is in it.
        if !self.broken && !batch.is_empty() {
            self.tried(&ids);
            let confirm = self.broker.publish_batch(batch);
            self.publishing = Some(Publishing { ids, since: Instant::now(), confirm });
        }
    }

    /// Notes who waits for a message; gives what is to be published, if anything is.
    fn enter(
        &mut self,
        message: NewMessage,
        appended: &Appended,
        answer: Answer,
    ) -> Option<(OutboxId, Publish)> {
        let receipt = SendReceipt::from(appended);
        let Some(id) = appended.outbox else {
            let _ = answer.send(Ok(receipt));
            return None;
        };
        match self.in_flight.entry(id) {
            Entry::Occupied(mut first) => {
                first.get_mut().answers.push((true, answer));
                None
            }
            Entry::Vacant(_) if self.confirmed.contains(&id) => {
                let _ = answer.send(Ok(receipt));
                None
            }
            Entry::Vacant(place) => {
                let duplicate = receipt.duplicate;
                // Of a repeated one nobody knows.
                let tried = duplicate;
                place.insert(InFlight { receipt, answers: vec![(duplicate, answer)], tried });
                if duplicate && appended.held {
                    self.held.wait_for(id);
                    return None;
                }
                if duplicate {
                    // The first one failed, perhaps in this very moment.
                    self.broken = true;
                    return None;
                }
                if self.held.keeps(&appended.conversation, appended.held) {
                    return None;
                }
                let targets = message.targets.clone();
                let stored = StoredMessage::new(
                    message,
                    appended.seq,
                    appended.message_id,
                    appended.timestamp,
                );
                Some((id, publication(&stored, targets)))
            }
        }
    }

    fn settle_batch(&mut self, (ids, since, outcome): Outcome) {
        if outcome.is_ok() {
            self.metrics.confirm_time.observe(since.elapsed());
        }
        for id in ids {
            self.settle(id, &outcome);
        }
    }

    fn settle(&mut self, id: OutboxId, outcome: &Result<(), BrokerError>) {
        match outcome {
            Ok(()) => {
                self.published.push(id);
                self.confirmed.insert(id);
            }
            Err(error) => {
                tracing::warn!(%error, "a stored message was not confirmed by the broker");
                self.broken = true;
            }
        }
        self.answer(id, outcome);
    }

    fn answer(&mut self, id: OutboxId, outcome: &Result<(), BrokerError>) {
        let Some(InFlight { receipt, answers, .. }) = self.in_flight.remove(&id) else { return };
        for (duplicate, answer) in answers {
            let receipt = SendReceipt { duplicate, ..receipt.clone() };
            let _ = answer.send(outcome.clone().map(|()| receipt).map_err(Into::into));
        }
    }

    /// Waits for something, and settles what is confirmed meanwhile.
    async fn meanwhile<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            tokio::select! {
                biased;
                output = &mut future => return output,
                outcome = confirmed(&mut self.publishing) => self.settle_batch(outcome),
            }
        }
    }

    async fn drain(&mut self) {
        if self.publishing.is_some() {
            let outcome = confirmed(&mut self.publishing).await;
            self.settle_batch(outcome);
        }
    }

    /// Takes what is published out of the outbox; not more than one transaction at a time.
    fn mark(&mut self) {
        if self.published.is_empty() || self.marking.is_some() {
            return;
        }
        let ids = std::mem::take(&mut self.published);
        let store = Arc::clone(&self.store);
        self.marking = Some(tokio::spawn(async move {
            match store.mark_published(&ids).await {
                Ok(()) => Ok(ids),
                Err(error) => {
                    tracing::warn!(%error, "the outbox could not be cleared");
                    tokio::time::sleep(FIRST_BACKOFF).await;
                    Err(ids)
                }
            }
        }));
    }

    fn marked(&mut self, outcome: Marked) {
        match outcome {
            Ok(ids) => ids.iter().for_each(|id| {
                self.confirmed.remove(id);
            }),
            Err(mut ids) => {
                ids.append(&mut self.published);
                self.published = ids;
            }
        }
    }
}

fn publication(message: &StoredMessage, targets: Vec<String>) -> Publish {
    let targets = targets.into_iter().map(Target::topic).collect();
    Publish::new(targets, outgoing::from_stored(message))
}

/// The outcome of the batch, if there is one; else never. Cancel safe.
async fn confirmed(publishing: &mut Option<Publishing>) -> Outcome {
    match publishing {
        Some(batch) => {
            let outcome = (&mut batch.confirm).await;
            let (ids, since) = (std::mem::take(&mut batch.ids), batch.since);
            *publishing = None;
            (ids, since, outcome)
        }
        None => std::future::pending().await,
    }
}

/// The outcome of the task, if there is one; else never.
async fn finished(task: &mut Option<JoinHandle<Marked>>) -> Marked {
    match task {
        Some(running) => {
            let outcome = running.await;
            *task = None;
            outcome.unwrap_or(Ok(Vec::new()))
        }
        None => std::future::pending().await,
    }
}

async fn finished_if_any(task: &mut Option<JoinHandle<Marked>>) -> Marked {
    if task.is_some() { finished(task).await } else { Ok(Vec::new()) }
}

#[cfg(test)]
mod tests;
