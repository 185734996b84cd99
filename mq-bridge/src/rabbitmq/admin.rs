//! Calls that the broker may refuse, which closes the channel they are made on.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lapin::options::{QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::BrokerError;
use crate::local::lock;

use super::config::QueueType;
use super::failure::{Lost, Refusal, broker_error, refusal};

/// The most of these calls at the same time.
const CALLS: usize = 16;
/// The client remembers every queue that a channel has declared: after so many calls a new one.
const USES: usize = 1000;
/// A quorum queue that cannot answer within 250 ms is given as empty and without consumers.
const PROMPT: Duration = Duration::from_millis(200);

/// A queue as the broker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Those that are with no consumer.
    pub(super) ready: u64,
    /// A quorum queue counts consumers until all that they held is settled.
    pub(super) consumers: u64,
    /// Whether zeros can be believed.
    pub(super) certain: bool,
}

/// A channel that a refusal may close.
struct Scratch {
    channel: Channel,
    uses: usize,
}

/// Channels for calls that may be refused.
pub(super) struct Admin {
    connection: Arc<Connection>,
    idle: Mutex<Vec<Scratch>>,
    permits: Semaphore,
    lost: Lost,
}

impl Admin {
    pub(super) fn new(connection: Arc<Connection>, lost: Lost) -> Self {
        Self { connection, idle: Mutex::default(), permits: Semaphore::new(CALLS), lost }
    }

    async fn scratch(&self) -> Result<Scratch, BrokerError> {
        let idle = lock(&self.idle).pop();
        if let Some(Scratch { channel, uses }) = idle
            && uses < USES
            && channel.status().connected()
        {
            return Ok(Scratch { channel, uses: uses + 1 });
        }
        let made = self.connection.create_channel().await;
        let channel = made.map_err(|error| self.lost.check(&error))?;
        Ok(Scratch { channel, uses: 1 })
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, BrokerError> {
        let closed = |_| BrokerError::Disconnected { reason: "closed".into() };
        self.permits.acquire().await.map_err(closed)
    }

    /// Takes the channel back unless the call has closed it.
    fn done<T>(&self, scratch: Scratch, outcome: &Result<T, lapin::Error>) {
        match outcome {
            Ok(_) => lock(&self.idle).push(scratch),
            Err(error) => {
                self.lost.check(error);
            }
        }
    }

    /// The queue, if there is one.
    pub(super) async fn find(&self, name: &ShortString) -> Result<Option<Found>, BrokerError> {
        let _permit = self.permit().await?;
        let scratch = self.scratch().await?;
        let channel = &scratch.channel;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let asked = Instant::now();
        let outcome = channel.queue_declare(name.clone(), options, FieldTable::default()).await;
        self.done(scratch, &outcome);
        match outcome {
            Ok(queue) => Ok(Some(Found {
                ready: queue.message_count().into(),
                consumers: queue.consumer_count().into(),
                certain: asked.elapsed() < PROMPT,
            })),
            Err(error) if refusal(&error) == Some(Refusal::NotFound) => Ok(None),
            Err(error) => Err(broker_error(&error)),
        }
    }

    /// Makes a queue that lasts, bound to every one of `keys`.
    pub(super) async fn declare(
        &self,
        name: &ShortString,
        kind: QueueType,
        exchange: &ShortString,
        keys: Vec<ShortString>,
    ) -> Result<(), BrokerError> {
        let _permit = self.permit().await?;
        let scratch = self.scratch().await?;
        let channel = &scratch.channel;
        let outcome = async {
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(name.clone(), options, arguments(kind)).await?;
            for key in keys {
                let options = QueueBindOptions::default();
                let none = FieldTable::default();
                channel.queue_bind(name.clone(), exchange.clone(), key, options, none).await?;
            }
            Ok(())
        };
        let outcome = outcome.await;
        self.done(scratch, &outcome);
        outcome.map_err(|error| broker_error(&error))
    }

    /// Removes a queue with everything in it, if there is one.
    pub(super) async fn delete(&self, name: &ShortString) -> Result<(), BrokerError> {
        let _permit = self.permit().await?;
        let scratch = self.scratch().await?;
        let channel = &scratch.channel;
        let outcome = channel.queue_delete(name.clone(), QueueDeleteOptions::default()).await;
        self.done(scratch, &outcome);
        match outcome {
            Err(error) if refusal(&error) != Some(Refusal::NotFound) => Err(broker_error(&error)),
            _ => Ok(()),
        }
    }

    /// Makes a queue that only this connection has, for as long as it lasts. `false` if another
    /// connection has it.
    pub(super) async fn lock(&self, name: &ShortString) -> Result<bool, BrokerError> {
        let _permit = self.permit().await?;
        let scratch = self.scratch().await?;
        let channel = &scratch.channel;
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let outcome = channel.queue_declare(name.clone(), options, FieldTable::default()).await;
        self.done(scratch, &outcome);
        match outcome {
            Ok(_) => Ok(true),
            Err(error) if refusal(&error) == Some(Refusal::Locked) => Ok(false),
            Err(error) => Err(broker_error(&error)),
        }
    }
}

fn arguments(kind: QueueType) -> FieldTable {
    let mut arguments = FieldTable::default();
    let mut put = |name: &'static str, value| {
        arguments.insert(name.into(), value);
    };
    match kind {
        QueueType::Quorum => {
            put("x-queue-type", AMQPValue::LongString("quorum".into()));
            // Without a limit what is given back goes to the end of the queue instead of to its
            // place; this one is never reached.
            put("x-delivery-limit", AMQPValue::LongInt(i32::MAX));
        }
        QueueType::Classic => put("x-queue-type", AMQPValue::LongString("classic".into())),
        QueueType::Priority => {
            put("x-queue-type", AMQPValue::LongString("classic".into()));
            put("x-max-priority", AMQPValue::LongInt(9));
        }
    }
    arguments
}
