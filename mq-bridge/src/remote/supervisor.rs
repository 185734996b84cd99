//! Keeps a bridge connected: connects, attaches what is subscribed, writes, and begins anew when
//! the link is lost.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::time::{Instant, sleep_until, timeout};

use crate::{BrokerError, EndReason, Health};

use super::backoff::Backoff;
use super::bridge::{Current, Shared, State};
use super::{Driver, Link};

/// How many subscriptions are attached to a new link at the same time.
const ATTACHING: usize = 64;
/// A link that lived so long was a good one: the next is tried without a long wait.
const SETTLED: Duration = Duration::from_secs(1);

/// Runs until the bridge is stopped.
pub(super) async fn run<D: Driver>(shared: Arc<Shared<D>>, first: D::Link) {
    let mut backoff = Backoff::new(&shared.options);
    let mut link = Arc::new(first);
    let mut epoch = 1;
    loop {
        let since = Instant::now();
        shared.set_max_message(link.max_message());
        shared.set_state(State::Up(Current { epoch, link: Arc::clone(&link) }));
        shared.outbox.reopen();
        let reason = tokio::select! {
            reason = link.lost() => reason,
            () = shared.stopped() => return,
            reason = serve(&shared, epoch, &link) => reason,
        };
        tracing::warn!(broker = ?shared.driver, %reason, "lost the connection to the broker");
        epoch += 1;
        shared.down(epoch, &reason);
        if since.elapsed() > SETTLED {
            backoff.reset();
        }
        let Some(next) = reconnect(&shared, &mut backoff).await else { return };
        tracing::info!(broker = ?shared.driver, "connected to the broker again");
        link = Arc::new(next);
    }
}

/// Attaches everything, then only writes. Never ends by itself.
async fn serve<D: Driver>(shared: &Arc<Shared<D>>, epoch: u64, link: &Arc<D::Link>) -> Arc<str> {
    let attaching = async {
        attach_all(shared, epoch, link).await;
        shared.set_health(Health::Up);
    };
    let writing = async {
        loop {
            let batch = shared.outbox.take().await;
            link.publish(batch).await;
        }
    };
    futures::join!(attaching, writing).1
}

async fn attach_all<D: Driver>(shared: &Arc<Shared<D>>, epoch: u64, link: &Arc<D::Link>) {
    // Topics first: they miss what comes before.
    let listened = stream::iter(shared.topics.listened());
    listened
        .for_each_concurrent(ATTACHING, |one| async move {
            match shared.listen(&one, epoch, link).await {
                Ok(()) | Err(BrokerError::Disconnected { .. }) => {}
                Err(error) => {
                    tracing::warn!(pattern = %one.pattern, %error, "could not subscribe again");
                    one.end(&EndReason::Broker(error.to_string().into()));
                }
            }
        })
        .await;
    let inboxes = stream::iter(shared.inboxes());
    inboxes
        .for_each_concurrent(ATTACHING, |inbox| async move {
            let outcome = match shared.consume(&inbox, epoch, link).await {
                Err(BrokerError::NotDeclared { .. }) => {
                    match shared.declare_again(&inbox.source, link).await {
                        Ok(()) => shared.consume(&inbox, epoch, link).await,
                        Err(error) => Err(error),
                    }
                }
                other => other,
            };
            let reason = match outcome {
                Ok(()) | Err(BrokerError::Disconnected { .. }) => return,
                Err(BrokerError::NotDeclared { .. }) => EndReason::Deleted,
                Err(error) => EndReason::Broker(error.to_string().into()),
            };
            tracing::warn!(source = %inbox.source, %reason, "could not consume again");
            inbox.end(reason);
        })
        .await;
}

/// Tries until it succeeds; `None` when the bridge is stopped. Publishes that have waited for as
/// long as they may fail meanwhile.
async fn reconnect<D: Driver>(shared: &Arc<Shared<D>>, backoff: &mut Backoff) -> Option<D::Link> {
    let patience = Instant::now() + shared.options.patience;
    let giving_up = async {
        sleep_until(patience).await;
        let error = BrokerError::Disconnected { reason: shared.down_reason() };
        shared.outbox.close(error.clone());
        shared.outbox.fail(&error);
        std::future::pending().await
    };
    let connecting = async {
        loop {
            tokio::time::sleep(backoff.next()).await;
            match connect(shared).await {
                Ok(link) => return link,
                Err(error) => {
                    tracing::debug!(broker = ?shared.driver, %error, "cannot connect");
                    shared.set_down_reason(error.to_string().into());
                }
            }
        }
    };
    tokio::select! {
        link = connecting => Some(link),
        () = shared.stopped() => None,
        never = giving_up => never,
    }
}

/// One attempt.
pub(super) async fn connect<D: Driver>(shared: &Shared<D>) -> Result<D::Link, BrokerError> {
    let limit = shared.options.connect_timeout;
    let attempt = timeout(limit, shared.driver.connect(&shared.topics)).await;
    attempt.unwrap_or_else(|_| {
        let reason = format!("no answer within {limit:?}").into();
        Err(BrokerError::Disconnected { reason })
    })
}

/// The first connection: tried until the time for opening is over, or the broker refuses.
pub(super) async fn connect_first<D: Driver>(shared: &Shared<D>) -> Result<D::Link, BrokerError> {
    let mut backoff = Backoff::new(&shared.options);
    let deadline = Instant::now() + shared.options.connect_timeout;
    loop {
        match connect(shared).await {
            Err(error) if error.is_retryable() => {
                let next = Instant::now() + backoff.next();
                if next > deadline {
                    return Err(error);
                }
                sleep_until(next).await;
            }
            other => return other,
        }
    }
}
