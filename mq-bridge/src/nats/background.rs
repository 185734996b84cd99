//! What a session does besides what it is asked for.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Subject, Subscriber};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::BrokerError;

use super::consumer::{ACK, NAK};
use super::memory::Ticket;
use super::session::Session;

/// How often a session looks after what it holds.
const TICK: Duration = Duration::from_secs(1);
/// How many questions about messages are on their way.
const ASKED_AT_ONCE: usize = 64;
/// The server tells of every consumer that is deleted: then come the names of stream and consumer.
pub(super) const DELETED: &str = "$JS.EVENT.ADVISORY.CONSUMER.DELETED.";

/// Settles what the last link could not: what it held is given back, before anyone consumes, and
/// what it had acknowledged is so again.
pub(super) async fn settle_before(session: &Session, made: Vec<String>) -> Result<(), BrokerError> {
    let (held, acknowledged) = session.memory.to_settle(made);
    // Before that, or it would settle what takes an old place anew.
    session.catch_up(&[held.as_slice(), &acknowledged].concat()).await?;
    let (gone, held) = if session.is_old { sort_out(session, held).await? } else { (vec![], held) };
    for reply in acknowledged.into_iter().chain(gone) {
        session.send(reply.into_string(), ACK).await?;
    }
    // Of several consumers: each confirms its own.
    let mut held = held.into_iter().peekable();
    while let Some(reply) = held.next() {
        let consumer = consumer_of(&reply);
        if held.peek().is_some_and(|next| consumer_of(next) == consumer) {
            session.send(reply.into_string(), NAK).await?;
        } else {
            session.confirmed(reply.into_string(), NAK).await?;
        }
    }
    session.memory.settled();
    Ok(())
}

/// Tells what was held and is not in its stream any more from what is. The acknowledgement of the former
/// was carried out when the server was killed, but not written down: an old server would try to deliver
/// it again and again, and nothing else meanwhile.
async fn sort_out(
    session: &Session,
    held: Vec<Subject>,
) -> Result<(Vec<Subject>, Vec<Subject>), BrokerError> {
    let looked = stream::iter(held).map(|reply| async move {
        let kept = match (reply.split('.').nth(2), Ticket::read(&reply)) {
            (Some(stream), Some(ticket)) => session.is_kept(stream, ticket.seq).await?,
            _ => true,
        };
        Ok::<_, BrokerError>((kept, reply))
    });
    let (mut gone, mut kept) = (Vec::new(), Vec::new());
    let mut looked = pin!(looked.buffered(ASKED_AT_ONCE));
    while let Some((is_kept, reply)) = looked.try_next().await? {
        if is_kept { kept.push(reply) } else { gone.push(reply) }
    }
    Ok((gone, kept))
}

/// What the subjects of all deliveries of a consumer have in common.
fn consumer_of(reply: &str) -> &str {
    // The count and what comes after it are the last five tokens, in both forms at least.
    reply.rsplitn(6, '.').last().unwrap_or(reply)
}

pub(super) async fn watch_connection(
    session: Arc<Session>,
    mut went: watch::Receiver<Option<Arc<str>>>,
) {
    let reason = went.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
    session.fail(reason.as_deref().unwrap_or("the client has ended"));
}

/// Takes what other nodes declare.
pub(super) async fn watch_records(session: Arc<Session>, mut records: Subscriber) {
    let prefix = session.plan.records();
    let prefix = prefix.trim_end_matches('>');
    while let Some(message) = records.next().await {
        let Some(token) = message.subject.strip_prefix(prefix) else { continue };
        let consumers = session.places.consumers_of(token);
        let Some(first) = consumers.first() else { continue };
        let Ok(version) = session.record(&first.address).await else { return };
        consumers.iter().for_each(|consumer| consumer.update(&version));
    }
}

/// Hears of queues and durable subscriptions that are deleted.
pub(super) async fn watch_deletions(session: Arc<Session>, mut deletions: Subscriber) {
    while let Some(message) = deletions.next().await {
        let names = message.subject.strip_prefix(DELETED).and_then(|names| names.split_once('.'));
        let Some((stream, consumer)) = names else { continue };
        let plan = &session.plan;
        let token = if stream == plan.queues {
            session.forget_queue(consumer);
            format!("q.{consumer}")
        } else if stream == plan.topics {
            format!("d.{consumer}")
        } else {
            continue;
        };
        for consumer in session.places.consumers_of(&token) {
            consumer.find_out(&session).await;
        }
    }
}

/// Looks after what is on its way and what is held.
pub(super) async fn tick(session: Arc<Session>) {
    let mut ticks = interval(TICK.min(session.plan.ack_wait / 6));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        session.check_flights();
        if session.client.connection_state() == State::Disconnected {
            session.fail("the connection was lost");
            return;
        }
        for consumer in session.places.consumers() {
            if consumer.tick(&session).await.is_err() {
                return;
            }
        }
    }
}
