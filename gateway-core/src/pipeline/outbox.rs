//! What stands in the outbox and is not under way: after a failure, of a node that is gone, or behind another node.

use std::collections::HashSet;
use std::time::Duration;

use mq_bridge::{BrokerError, Publish};
use tokio::time::{Instant, sleep, sleep_until};

use super::{BATCH, FIRST_BACKOFF, LAST_BACKOFF, Worker, finished_if_any, publication};
use crate::error::GatewayError;
use crate::names::ConversationId;
use crate::store::{OutboxId, StoreError, Unpublished};

/// After so long the store is asked whether another node has published what something here is behind; while it has
/// not, each time later.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LAST_LOOK: Duration = Duration::from_millis(250);
/// How long a gateway that stops waits for other nodes; then they publish what it leaves.
const FAREWELL: Duration = Duration::from_secs(2);

/// What waits for other nodes.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Here something of this node is behind another node's, and whatever follows is behind that.
    conversations: HashSet<ConversationId>,
    /// Entries of other nodes that senders of this node wait for: they used the key of one again.
    elsewhere: HashSet<OutboxId>,
    /// The next look, and how long it was put off.
    next: Option<(Instant, Duration)>,
}

impl Held {
    /// Whether a message of `conversation` is to stay in the outbox for now.
    pub(super) fn keeps(&mut self, conversation: &ConversationId, behind: bool) -> bool {
        if self.conversations.contains(conversation) {
            return true;
        }
        if behind {
            self.conversations.insert(conversation.clone());
            self.look_soon();
        }
        behind
    }

    /// A sender waits for what another node publishes.
    pub(super) fn wait_for(&mut self, id: OutboxId) {
        self.elsewhere.insert(id);
        self.look_soon();
    }

    fn look_soon(&mut self) {
        self.next = Some((Instant::now() + FIRST_LOOK, FIRST_LOOK));
    }

    /// Sets the next look, if there is anything to look after.
    fn schedule(&mut self, progress: bool) {
        let before = self.next.map_or(FIRST_LOOK, |(_, delay)| delay);
        let delay = if progress { FIRST_LOOK } else { (before * 2).min(LAST_LOOK) };
        self.next = self.is_any().then(|| (Instant::now() + delay, delay));
    }

    fn is_any(&self) -> bool {
        !self.conversations.is_empty() || !self.elsewhere.is_empty()
    }

    /// Ready when it is time to look; never, if nothing is held. Cancel safe.
    pub(super) async fn due(&self) {
        match self.next {
            Some((at, _)) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

impl Worker {
    /// Publishes the whole outbox again, oldest first, until the broker has confirmed all of it that waits for no
    /// other node.
    pub(super) async fn recover(&mut self) {
        let mut backoff = FIRST_BACKOFF;
        while let Err(error) = self.publish_all().await {
            if is_the_end(&error) {
                // Nothing can follow; the outbox is for the next process.
                self.in_flight.clear();
                break;
            }
            tracing::warn!(%error, "the outbox could not be published; trying again");
            sleep(backoff).await;
            backoff = (backoff * 2).min(LAST_BACKOFF);
        }
        self.broken = false;
    }

    /// Publishes what other nodes have made way for.
    pub(super) async fn look_after_held(&mut self) {
        let before = self.in_flight.len();
        match self.publish_all().await {
            Ok(()) => {
                let progress = self.in_flight.len() < before;
                if self.held.next.is_some_and(|(_, delay)| delay >= LAST_LOOK) {
                    // It takes long: perhaps the other one is gone.
                    self.adopt().await;
                }
                self.held.schedule(progress);
            }
            Err(error) => {
                tracing::debug!(%error, "what is held could not be looked after");
                self.broken = true;
            }
        }
    }

    /// Waits, within reason, for the nodes that something here is behind.
    pub(super) async fn finish_held(&mut self) {
        let deadline = Instant::now() + FAREWELL;
        while self.held.is_any() && Instant::now() < deadline {
            self.held.due().await;
            self.look_after_held().await;
            if self.broken {
                return;
            }
        }
    }

    /// These go to the broker now.
    pub(super) fn tried(&mut self, ids: &[OutboxId]) {
        for id in ids {
            if let Some(in_flight) = self.in_flight.get_mut(id) {
                in_flight.tried = true;
            }
        }
    }

    async fn publish_all(&mut self) -> Result<(), GatewayError> {
        self.end_seeding().await?;
        self.publish_outbox().await
    }

    /// Publishes all that is in the outbox, is this node's and waits for no other, and notes what does.
    pub(super) async fn publish_outbox(&mut self) -> Result<(), GatewayError> {
        self.drain().await;
        let marked = finished_if_any(&mut self.marking).await;
        self.marked(marked);
        let lease = self.lease().ok_or_else(no_lease)?;
        // Asked before the outbox is read: what is not blocked then is found there.
        self.held.conversations = match self.store.shared() {
            Some(shared) => shared.blocked().await?.into_iter().collect(),
            None => HashSet::new(),
        };
        loop {
            if !self.published.is_empty() {
                self.store.mark_published(&self.published).await?;
                self.published.clear();
                self.confirmed.clear();
            }
            let page = self.store.unpublished(None, BATCH).await?;
            if page.is_empty() {
                break;
            }
            if self.lease() != Some(lease) {
                return Err(no_lease());
            }
            let (ids, batch): (Vec<_>, Vec<_>) = page
                .into_iter()
                .map(|Unpublished { id, message, targets, .. }| {
                    let new = self.in_flight.get(&id).is_some_and(|in_flight| !in_flight.tried);
                    (id, publication(&message, targets).with_redelivered(!new))
                })
                .unzip();
            self.tried(&ids);
            let since = Instant::now();
            match self.broker.publish_batch(batch.clone()).await {
                Ok(()) => self.settle_batch((ids, since, Ok(()))),
                Err(error) if is_final(&error) => self.publish_singly(ids, batch).await?,
                Err(error) => return Err(error.into()),
            }
        }
        self.settle_elsewhere().await
    }

    /// Answers those who wait for what other nodes have published by now.
    async fn settle_elsewhere(&mut self) -> Result<(), GatewayError> {
        let Some(shared) = self.store.shared() else { return Ok(()) };
        // All that is under way here was just published; the rest is another's, or waits for one.
        let waiting: Vec<OutboxId> = self.in_flight.keys().copied().collect();
        if waiting.is_empty() {
            self.held.elsewhere.clear();
        } else {
            let still: HashSet<_> = shared.still_waiting(&waiting).await?.into_iter().collect();
            for id in waiting.into_iter().filter(|id| !still.contains(id)) {
                self.answer(id, &Ok(()));
            }
            self.held.elsewhere = still;
        }
        self.held.schedule(false);
        Ok(())
    }

    /// One by one, to find the message that the broker refuses for good, and pass it over.
    async fn publish_singly(
        &mut self,
        ids: Vec<OutboxId>,
        batch: Vec<Publish>,
    ) -> Result<(), GatewayError> {
        for (id, publish) in ids.into_iter().zip(batch) {
            match self.broker.publish(publish).await {
                Ok(()) => self.settle(id, &Ok(())),
                Err(error) if is_final(&error) => {
                    tracing::error!(%error, "the broker refuses a stored message for good");
                    self.settle(id, &Err(error));
                    self.published.push(id);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The lease ran out, or is another one by now.
fn no_lease() -> GatewayError {
    StoreError::Unavailable("this node holds no lease".to_owned()).into()
}

fn is_the_end(error: &GatewayError) -> bool {
    matches!(
        error,
        GatewayError::Broker(BrokerError::ShutDown) | GatewayError::Store(StoreError::Closed)
    )
}

/// Whether the broker will never take it.
fn is_final(error: &BrokerError) -> bool {
    !error.is_retryable() && *error != BrokerError::ShutDown
}
