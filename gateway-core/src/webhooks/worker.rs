use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{FuturesUnordered, StreamExt as _};
use mq_bridge::{
    Acker, BrokerError, Declaration, Delivery, EndReason, Publish, Source, SubscribeOptions,
};
use tokio::sync::Semaphore;
use tracing::{Instrument as _, Span};

use super::event::{Data, Event, EventKind, lane};
use super::hook::Kept;
use super::{WebhookOptions, dead_letters, declare, sign, subscription};
use crate::gateway::Gateway;
use crate::http_client::{HttpError, OutgoingUrl};
use crate::names::{ConversationId, UserName};
use crate::presence::Presence;
use crate::registry::RecordKind;
use crate::store::StoreError;
use crate::trace::{self, TRACEPARENT, TRACESTATE};

/// How many events may be on their way to one webhook, and how many octets of them
const PREFETCH: (u32, usize) = (256, 1 << 20);

/// How often a node that does not deliver looks whether the one that does is gone
const STANDBY: Duration = Duration::from_secs(5);

/// The pause after a failure of the broker or the store
const PAUSE: Duration = Duration::from_secs(1);

/// Delivers to one webhook.
pub(super) struct Worker {
    gateway: Gateway,
    options: WebhookOptions,
    id: String,
}

/// Why a worker no longer has the events.
enum End {
    /// There is no such webhook any more.
    Removed,
    /// Another node delivers.
    TakenOver,
    /// Something failed that may be mended.
    Failed(String),
}

impl From<BrokerError> for End {
    fn from(error: BrokerError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Whom to call, and how it is signed.
struct Receiver {
    url: OutgoingUrl,
    secret: String,
    events: Vec<EventKind>,
}

/// An event was delivered, was none, or is given up.
struct Done {
    lane: String,
    delivery: Delivery,
    delivered: bool,
}

impl Worker {
    pub(super) fn new(gateway: Gateway, options: WebhookOptions, id: &str) -> Self {
        Self { gateway, options, id: id.to_owned() }
    }

    /// Until the webhook is removed, or the gateway stops.
    pub(super) async fn run(self) {
        let stop = self.gateway.inner.stop.clone();
        loop {
            let end = tokio::select! {
                end = self.deliver() => end,
                () = stop.cancelled() => return,
            };
            let pause = async {
                match end {
                    End::Removed => return false,
                    End::TakenOver => self.stand_by().await,
                    End::Failed(error) => {
                        tracing::warn!(webhook = self.id, error, "a webhook has to wait");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                true
            };
            tokio::select! {
                goes_on = pause => if !goes_on { return },
                () = stop.cancelled() => return,
            }
        }
    }

    /// Until nobody has the events.
    async fn stand_by(&self) {
        let source = Source::durable(subscription(&self.id));
        loop {
            tokio::time::sleep(STANDBY).await;
            match self.gateway.broker().stats(&source).await {
                Ok(stats) if stats.consumers > 0 => {}
                _ => return,
            }
        }
    }

    async fn receiver(&self) -> Result<Receiver, End> {
        let record = self.gateway.registry().get(RecordKind::Webhook, &self.id).await?;
        let kept = record.as_ref().map(Kept::read).transpose()?;
        let kept = kept.filter(|kept| !kept.removed).ok_or(End::Removed)?;
        let url = kept.url.parse().map_err(|_| End::Removed)?;
        Ok(Receiver { url, secret: kept.secret, events: kept.events })
    }

    /// Delivers, each conversation in its order, until that ends.
    async fn deliver(&self) -> End {
        match self.try_deliver().await {
            Ok(end) | Err(end) => end,
        }
    }

    async fn try_deliver(&self) -> Result<End, End> {
        let receiver = Arc::new(self.receiver().await?);
        let broker = self.gateway.broker();
        declare(&self.gateway, &self.id, &receiver.events).await?;
        let source = Source::durable(subscription(&self.id));
        let options =
            SubscribeOptions::new().with_prefetch(PREFETCH.0, PREFETCH.1).with_takeover(true);
        let mut events = broker.subscribe(source, options).await?;
        let acker = events.acker();
        let calls = Arc::new(Semaphore::new(self.options.parallel.max(1)));
        let mut lanes: HashMap<String, VecDeque<Delivery>> = HashMap::new();
        let mut under_way: FuturesUnordered<BoxFuture<'_, Done>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                batch = events.recv() => {
                    let Some(batch) = batch else { break };
                    for delivery in batch {
                        let name = lane(&delivery.message);
                        match lanes.get_mut(&name) {
                            Some(waiting) => waiting.push_back(delivery),
                            None => {
                                lanes.insert(name.clone(), VecDeque::new());
                                under_way.push(self.event(&receiver, &calls, name, delivery).boxed());
                            }
                        }
                    }
                }
                Some(done) = under_way.next(), if !under_way.is_empty() => {
                    self.settle(&acker, &done).await?;
                    match lanes.get_mut(&done.lane).and_then(VecDeque::pop_front) {
                        Some(next) => {
                            under_way.push(self.event(&receiver, &calls, done.lane, next).boxed());
                        }
                        None => {
                            lanes.remove(&done.lane);
                        }
                    }
                }
            }
        }
        Ok(match events.end_reason() {
            Some(EndReason::TakenOver) => End::TakenOver,
            Some(reason) => End::Failed(reason.to_string()),
            None => End::Failed("the broker ended the subscription".to_owned()),
        })
    }

    /// Lets the broker forget an event, once it is delivered or a dead letter.
    async fn settle(&self, acker: &Acker, done: &Done) -> Result<(), End> {
        if !done.delivered {
            let broker = self.gateway.broker();
            let dead = dead_letters(&self.id);
            broker.declare(&Declaration::queue(dead.as_str())).await?;
            broker.publish(Publish::to_queue(dead, done.delivery.message.clone())).await?;
        }
        // Not waited for: an acknowledgement that is lost is a repeat, which the receiver knows by its id.
        drop(acker.ack(&[done.delivery.tag]));
        Ok(())
    }

    /// Tells of one event, again and again until that is done or given up.
    async fn event(
        &self,
        receiver: &Receiver,
        calls: &Semaphore,
        lane: String,
        delivery: Delivery,
    ) -> Done {
        let mut delivered = true;
        if let Some((kind, mut data)) = Data::of(&delivery.message) {
            if receiver.events.contains(&kind) {
                delivered &= self.tell(receiver, calls, kind, data.id(), &data).await;
            }
            if kind == EventKind::Message && receiver.events.contains(&EventKind::Offline) {
                let id = format!("{}.offline", data.id());
                data.users = self.away(&data).await;
                if !data.users.is_empty() {
                    delivered &= self.tell(receiver, calls, EventKind::Offline, &id, &data).await;
                }
            }
        }
        Done { lane, delivery, delivered }
    }

    /// Who of the conversation is away.
    async fn away(&self, data: &Data) -> Vec<String> {
        let Some(Ok(conversation)) = data.conversation().map(ConversationId::new) else {
            return Vec::new();
        };
        let people = loop {
            match self.gateway.directory().participants(&conversation).await {
                Ok(people) => break people,
                Err(error) if error.is_retryable() => tokio::time::sleep(PAUSE).await,
                Err(_) => return Vec::new(),
            }
        };
        let presence = loop {
            match self.gateway.presence(&people).await {
                Ok(presence) => break presence,
                Err(error) if error.is_retryable() => tokio::time::sleep(PAUSE).await,
                Err(_) => return Vec::new(),
            }
        };
        let away = |(user, presence): &(&UserName, Presence)| {
            user.as_str() != data.from() && !presence.is_online()
        };
        people.iter().zip(presence).filter(away).map(|(user, _)| user.to_string()).collect()
    }

    /// Whether the receiver took it, within the attempts that there are.
    async fn tell(
        &self,
        receiver: &Receiver,
        calls: &Semaphore,
        kind: EventKind,
        id: &str,
        data: &Data,
    ) -> bool {
        let event = Event { kind, timestamp: data.timestamp(), data };
        let Ok(body) = serde_json::to_vec(&event) else { return false };
        let span = data
            .header(TRACEPARENT)
            .and_then(|parent| trace::telling(parent, &self.id, id))
            .unwrap_or_else(Span::none);
        self.insist(receiver, calls, id, &trace_of(data), body.into()).instrument(span).await
    }

    /// Calls until it is taken, refused, or out of attempts.
    async fn insist(
        &self,
        receiver: &Receiver,
        calls: &Semaphore,
        id: &str,
        trace: &HeaderMap,
        body: Bytes,
    ) -> bool {
        let mut backoff = self.options.first_backoff;
        for attempt in 1..=self.options.attempts {
            let refused = match self.attempt(receiver, calls, id, trace, body.clone()).await {
                Ok(()) => return true,
                Err(Refused::Later(error)) => error,
                Err(Refused::ForGood(error)) => {
                    tracing::warn!(
                        webhook = self.id,
                        event = id,
                        error,
                        "a webhook refuses an event"
                    );
                    return false;
                }
            };
            tracing::debug!(
                webhook = self.id,
                event = id,
                attempt,
                error = refused,
                "a webhook failed"
            );
            if attempt < self.options.attempts {
                tokio::time::sleep(jittered(backoff)).await;
                backoff = (backoff * 2).min(self.options.last_backoff);
            }
        }
        tracing::warn!(webhook = self.id, event = id, "a webhook is out of reach: a dead letter");
        false
    }

    async fn attempt(
        &self,
        receiver: &Receiver,
        calls: &Semaphore,
        id: &str,
        trace: &HeaderMap,
        body: Bytes,
    ) -> Result<(), Refused> {
        let _call = calls.acquire().await;
        let seconds = self.gateway.inner.clock.now_millis() / 1000;
        let mut headers = sign::headers(&receiver.secret, id, seconds, &body)
            .ok_or_else(|| Refused::ForGood("the secret is unreadable".to_owned()))?;
        headers.extend(trace.clone());
        match self.options.client.post(&receiver.url, headers, body).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) if answer.status.as_u16() == 410 => {
                Err(Refused::ForGood(answer.status.to_string()))
            }
            Ok(answer) => Err(Refused::Later(answer.status.to_string())),
            // What it says beside its status is of no interest.
            Err(HttpError::TooLong(status)) if status.is_success() => Ok(()),
            Err(error @ HttpError::Forbidden) => Err(Refused::ForGood(error.to_string())),
            Err(error) => Err(Refused::Later(error.to_string())),
        }
    }
}

/// The trace context that a message came with: it is that of the call, too.
fn trace_of(data: &Data) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in [TRACEPARENT, TRACESTATE] {
        // What other programs have put into the broker nobody has looked at.
        let value = data.header(name).filter(|value| trace::is_sound(name, value));
        let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) else { break };
        headers.insert(HeaderName::from_static(name), value);
    }
    headers
}

/// Why an event was not taken.
enum Refused {
    Later(String),
    ForGood(String),
}

/// Three quarters of a time to all of it: those who failed together do not come again together.
fn jittered(time: Duration) -> Duration {
    let mut random = [0; 1];
    // Without randomness it is the time itself.
    let _ = getrandom::fill(&mut random);
    time - time / 4 * u32::from(random[0]) / 256
}
