//! Webhooks: what happens is told to programs of others, in order, until they have it.
//!
//! Each webhook has a durable subscription of the broker of its own, to all conversations. So what a sender was
//! receipted is kept for it with the same confirmation (P1, P2), whatever becomes of this process; and without a
//! webhook no message costs anything.

mod event;
mod hook;
pub(crate) mod sign;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mq_bridge::{BrokerError, Declaration, Publish, Source, SubscribeOptions, Target};
use tokio::task::JoinHandle;

use crate::auth::Secret;
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::http_client::HttpClient;
use crate::keys::record_id;
use crate::lock::lock;
use crate::registry::RecordKind;
use crate::store::StoreError;
use hook::Kept;
use worker::Worker;

pub use event::EventKind;
pub use hook::{NewWebhook, Webhook, WebhookStats};

/// Random octets of a signing secret
const SECRET: usize = 32;

/// How often it is looked whether other nodes made or removed webhooks
const LOOK: Duration = Duration::from_secs(10);

/// How many webhooks there are at most: each one is sent everything that happens
pub const MAX_WEBHOOKS: usize = 100;

/// How the deliveries of webhooks are tried
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WebhookOptions {
    /// What calls; it decides which addresses may be called, and how long a call takes
    pub client: HttpClient,
    /// How long is waited after the first failure; twice as long after each further one. Default: 1 s
    pub first_backoff: Duration,
    /// How long is waited at most. Default: 1 h
    pub last_backoff: Duration,
    /// How often an event is tried before it goes to the dead letters. Default: 15, which is some 5 h
    pub attempts: u32,
    /// How many calls are under way at a time, for each webhook. Default: 8
    pub parallel: usize,
}

impl WebhookOptions {
    /// The defaults, with this client
    #[must_use]
    pub const fn new(client: HttpClient) -> Self {
        Self {
            client,
            first_backoff: Duration::from_secs(1),
            last_backoff: Duration::from_secs(3600),
            attempts: 15,
            parallel: 8,
        }
    }
}

/// The webhooks of a gateway, and the tasks that deliver to them
///
/// Cheap to clone. The tasks end when the gateway is shut down.
#[derive(Clone)]
pub struct Webhooks {
    shared: Arc<Shared>,
}

struct Shared {
    gateway: Gateway,
    options: WebhookOptions,
    workers: Mutex<HashMap<String, JoinHandle<()>>>,
}

/// Why a webhook was not made
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// Another one was made with the same idempotency key
    #[error("another webhook was made with this idempotency key")]
    Exists,
    /// There are [`MAX_WEBHOOKS`]
    #[error("there are {MAX_WEBHOOKS} webhooks, which is the limit")]
    TooMany,
    /// The gateway, its broker or its store failed
    #[error(transparent)]
    Gateway(#[from] GatewayError),
}

impl From<StoreError> for WebhookError {
    fn from(error: StoreError) -> Self {
        Self::Gateway(error.into())
    }
}

impl From<BrokerError> for WebhookError {
    fn from(error: BrokerError) -> Self {
        Self::Gateway(error.into())
    }
}

impl Webhooks {
    /// Delivers to the webhooks that the gateway's registry has, and to those that are made from now on. Must be called
    /// within a tokio runtime.
    ///
    /// Several nodes may do so: one of them delivers, and another one when that is gone.
    #[must_use]
    pub fn start(gateway: Gateway, options: WebhookOptions) -> Self {
        let inner = Arc::clone(&gateway.inner);
        let shared = Arc::new(Shared { gateway, options, workers: Mutex::default() });
        let watched = Self { shared };
        let webhooks = watched.clone();
        inner.tasks.spawn(async move {
            loop {
                if let Err(error) = watched.look().await {
                    tracing::warn!(%error, "the webhooks could not be read");
                }
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = watched.shared.gateway.inner.stop.cancelled() => return,
                }
            }
        });
        webhooks
    }

    /// Starts the workers of webhooks that have none, and finishes what is half removed.
    async fn look(&self) -> Result<(), WebhookError> {
        for record in self.registry().list(RecordKind::Webhook, "", MAX_WEBHOOKS).await? {
            let kept = Kept::read(&record)?;
            if kept.removed {
                self.clear(&record.id).await?;
            } else {
                self.work(&record.id);
            }
        }
        Ok(())
    }

    fn registry(&self) -> &Arc<dyn crate::registry::Registry> {
        self.shared.gateway.registry()
    }

    fn work(&self, id: &str) {
        let mut workers = lock(&self.shared.workers);
        workers.retain(|_, task| !task.is_finished());
        if !workers.contains_key(id) {
            let worker = Worker::new(self.shared.gateway.clone(), self.shared.options.clone(), id);
            let task = self.shared.gateway.inner.tasks.spawn(worker.run());
            workers.insert(id.to_owned(), task);
        }
    }

    /// Makes a webhook; gives the secret that its receiver checks signatures with, which is told again to none but a
    /// repeat with the same idempotency key. What happens after this returned is delivered.
    ///
    /// # Errors
    ///
    /// [`WebhookError`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready it may or may not have been made; an idempotency key tells.
    pub async fn create(&self, new: NewWebhook) -> Result<(Webhook, Secret), WebhookError> {
        let registry = self.registry();
        let id = record_id("webhook", new.idempotency_key.as_deref());
        if let Some(kept) = self.kept(&id).await? {
            return self.again(&id, &kept, &new).await;
        }
        if registry.list(RecordKind::Webhook, "", MAX_WEBHOOKS).await?.len() >= MAX_WEBHOOKS {
            return Err(WebhookError::TooMany);
        }
        let mut secret = [0; SECRET];
        getrandom::fill(&mut secret)
            .map_err(|error| StoreError::Unavailable(format!("no randomness: {error}")))?;
        let secret = format!("{}{}", sign::PREFIX, STANDARD.encode(secret));
        let kept = Kept::new(&new, secret.clone(), self.shared.gateway.inner.clock.now_millis());
        // First the record: were the subscription first, and this process killed, it would grow for ever.
        if !registry.insert(RecordKind::Webhook, &kept.record(&id)?).await? {
            let kept = self.kept(&id).await?.ok_or(WebhookError::Exists)?;
            return self.again(&id, &kept, &new).await;
        }
        self.begin(&id, &kept).await?;
        Ok((kept.webhook(&id), Secret::new(secret)))
    }

    /// The answer to a repeat; what a crash has left undone is done.
    async fn again(
        &self,
        id: &str,
        kept: &Kept,
        new: &NewWebhook,
    ) -> Result<(Webhook, Secret), WebhookError> {
        if !kept.is_alike(new) {
            return Err(WebhookError::Exists);
        }
        self.begin(id, kept).await?;
        Ok((kept.webhook(id), Secret::new(kept.secret.as_str())))
    }

    async fn begin(&self, id: &str, kept: &Kept) -> Result<(), GatewayError> {
        declare(&self.shared.gateway, id, &kept.events).await?;
        self.work(id);
        Ok(())
    }

    /// The webhooks, in the order of their ids: at most `limit` of those behind `after`
    ///
    /// # Errors
    ///
    /// What the store meets.
    pub async fn list(&self, after: &str, limit: usize) -> Result<Vec<Webhook>, StoreError> {
        let records = self.registry().list(RecordKind::Webhook, after, limit).await?;
        let mut webhooks = Vec::with_capacity(records.len());
        for record in &records {
            let kept = Kept::read(record)?;
            if !kept.removed {
                webhooks.push(kept.webhook(&record.id));
            }
        }
        Ok(webhooks)
    }

    /// A webhook, and how much waits for it; `None` where there is none
    ///
    /// # Errors
    ///
    /// What the store or the broker meets.
    pub async fn get(&self, id: &str) -> Result<Option<(Webhook, WebhookStats)>, GatewayError> {
        let Some(kept) = self.kept(id).await? else { return Ok(None) };
        let broker = self.shared.gateway.broker();
        let depth = async |source: Source| match broker.stats(&source).await {
            Ok(stats) => Ok(stats.depth),
            Err(BrokerError::NotDeclared { .. }) => Ok(0),
            Err(error) => Err(error),
        };
        let stats = WebhookStats {
            waiting: depth(Source::durable(subscription(id))).await?,
            dead: depth(Source::queue(dead_letters(id))).await?,
        };
        Ok(Some((kept.webhook(id), stats)))
    }

    async fn kept(&self, id: &str) -> Result<Option<Kept>, StoreError> {
        if uuid::Uuid::try_parse(id).is_err() {
            return Ok(None);
        }
        let record = self.registry().get(RecordKind::Webhook, id).await?;
        let kept = record.as_ref().map(Kept::read).transpose()?;
        Ok(kept.filter(|kept| !kept.removed))
    }

    /// Removes a webhook with all that waits for it; `false` where there is none
    ///
    /// # Errors
    ///
    /// What the store or the broker meets.
    pub async fn remove(&self, id: &str) -> Result<bool, GatewayError> {
        let Some(mut kept) = self.kept(id).await? else { return Ok(false) };
        kept.removed = true;
        self.registry().replace(RecordKind::Webhook, &kept.record(id)?).await?;
        self.clear(id).await?;
        Ok(true)
    }

    /// Removes what a webhook had in the broker, and then its record.
    async fn clear(&self, id: &str) -> Result<(), GatewayError> {
        let worker = lock(&self.shared.workers).remove(id);
        if let Some(worker) = worker {
            worker.abort();
        }
        let broker = self.shared.gateway.broker();
        broker.delete(&Source::durable(subscription(id))).await?;
        broker.delete(&Source::queue(dead_letters(id))).await?;
        self.registry().remove(RecordKind::Webhook, id).await?;
        Ok(())
    }

    /// Tries the dead letters of a webhook again; gives how many there were, `None` where there is no such webhook
    ///
    /// # Errors
    ///
    /// What the store or the broker meets.
    ///
    /// # Cancel safety
    ///
    /// Each dead letter stays one until it waits again: a call that is dropped loses none.
    pub async fn redeliver(&self, id: &str) -> Result<Option<u64>, GatewayError> {
        if self.kept(id).await?.is_none() {
            return Ok(None);
        }
        let broker = self.shared.gateway.broker();
        let source = Source::queue(dead_letters(id));
        broker.declare(&Declaration::queue(dead_letters(id))).await?;
        let there = broker.stats(&source).await?.depth;
        let mut dead = broker.subscribe(source, SubscribeOptions::new()).await?;
        let acker = dead.acker();
        let mut done = 0;
        while done < there {
            // Another call may have taken them.
            let batch = tokio::time::timeout(Duration::from_secs(5), dead.recv()).await;
            let Ok(Some(batch)) = batch else { break };
            let again = Target::topic(once_more(id));
            let tags: Vec<u64> = batch.iter().map(|delivery| delivery.tag).collect();
            let publishes = batch
                .into_iter()
                .map(|delivery| Publish::new(vec![again.clone()], delivery.message));
            broker.publish_batch(publishes.collect()).await?;
            acker.ack(&tags).await?;
            done += tags.len() as u64;
        }
        Ok(Some(done))
    }
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

/// Makes what keeps the events of a webhook.
async fn declare(gateway: &Gateway, id: &str, events: &[EventKind]) -> Result<(), BrokerError> {
    let mut patterns = vec![once_more(id)];
    if events.iter().any(|event| *event != EventKind::Presence) {
        patterns.push("conv.#".to_owned());
    }
    if events.contains(&EventKind::Presence) {
        patterns.push("presence.#".to_owned());
    }
    gateway.broker().declare(&Declaration::durable(subscription(id), patterns)).await
}

fn subscription(id: &str) -> String {
    format!("webhook.{id}")
}

fn dead_letters(id: &str) -> String {
    format!("webhook.{id}.dead")
}

/// Where a dead letter goes that is tried again.
fn once_more(id: &str) -> String {
    format!("webhook.{id}.again")
}
