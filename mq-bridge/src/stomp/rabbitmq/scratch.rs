//! What may be refused, which costs the connection: on connections of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use stomp_codec::server::AckMode;
use tokio::sync::Mutex as AsyncMutex;

use crate::BrokerError;

use super::config::{Address, StompRelayConfig};
use super::names;
use super::session::{Receipt, Session};

/// How to connect.
#[derive(Clone)]
pub(super) struct Dial {
    pub(super) config: StompRelayConfig,
    pub(super) address: Address,
}

impl Dial {
    pub(super) async fn connect(&self) -> Result<Session, BrokerError> {
        Session::connect(&self.config, &self.address).await.map(|(session, _)| session)
    }
}

/// Waits for a receipt on a session where nothing else can have been refused.
pub(super) async fn alone(session: &Session, receipt: Receipt) -> Result<(), BrokerError> {
    let outcome = receipt.received().await;
    match session.refusal() {
        Some(reason) if outcome.is_err() => Err(BrokerError::Refused { reason }),
        _ => outcome,
    }
}

/// Makes and deletes queues, and looks whether they are there.
pub(super) struct Scratch {
    pub(super) dial: Dial,
    /// One that nothing was refused on.
    session: AsyncMutex<Option<Session>>,
}

impl Scratch {
    pub(super) fn new(dial: Dial) -> Self {
        Self { dial, session: AsyncMutex::default() }
    }

    /// Makes a queue, unless it is there.
    pub(super) async fn make(&self, queue: &str) -> Result<(), BrokerError> {
        self.touch(queue, &[]).await
    }

    /// Deletes a queue, with what it holds. Its consumers are gone.
    pub(super) async fn delete(&self, queue: &str) -> Result<(), BrokerError> {
        self.touch(queue, &[("durable", "true"), ("x-queue-name", queue)]).await
    }

    /// Subscribes to a queue, which makes it, and ends that.
    async fn touch(&self, queue: &str, ending: &[(&str, &str)]) -> Result<(), BrokerError> {
        let mut kept = self.session.lock().await;
        let old = kept.take();
        let is_old = old.is_some();
        let session = match old {
            Some(session) => session,
            None => self.dial.connect().await?,
        };
        let clean = match Self::touch_on(&session, queue, ending).await {
            Err(BrokerError::Disconnected { .. }) if is_old => {
                let session = self.dial.connect().await?;
                let clean = Self::touch_on(&session, queue, ending).await?;
                *kept = clean.then_some(session);
                return Ok(());
            }
            other => other?,
        };
        *kept = clean.then_some(session);
        Ok(())
    }

    /// Says whether the session can be used again: what it has got of the queue goes back with it.
    async fn touch_on(
        session: &Session,
        queue: &str,
        ending: &[(&str, &str)],
    ) -> Result<bool, BrokerError> {
        let got = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&got);
        let mut headers = vec![("id", "mq-touch"), ("prefetch-count", "1")];
        headers.extend(names::kept(queue));
        let (subscription, made) = session.write(|writer| {
            let handler = move |_| seen.store(true, Relaxed);
            let ack = AckMode::ClientIndividual;
            writer.subscribe(names::UNUSED, ack, &headers, Box::new(handler))
        })?;
        alone(session, made).await?;
        let ended = session.write(|writer| writer.unsubscribe(subscription, ending))?;
        alone(session, ended).await?;
        // What was on its way is refused now.
        let last = session.write(|writer| writer.nothing())?;
        let whole = last.received().await.is_ok() && session.dropped() == 0;
        Ok(whole && !got.load(Relaxed))
    }

    /// Whether a queue that belongs to another connection is gone.
    pub(super) async fn is_gone(&self, queue: &str) -> Result<bool, BrokerError> {
        let session = self.dial.connect().await?;
        let (_, found) = session.write(|writer| {
            let ack = AckMode::ClientIndividual;
            writer.subscribe(&names::to(queue), ack, &[], Box::new(drop))
        })?;
        match alone(&session, found).await {
            Err(BrokerError::Refused { reason }) => Ok(reason.starts_with("NOT_FOUND")),
            Err(error) => Err(error),
            Ok(()) => Ok(false),
        }
    }
}
