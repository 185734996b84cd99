//! From the broker to the client, and the client's acknowledgements back.

use std::time::{Duration, UNIX_EPOCH};

use mq_bridge::{Acker, Confirm, Delivery, EndReason, Message, Nack};
use stomp_codec::server::{ErrorReply, SubscriptionId};
use stomp_ws::CloseCode;

use super::input::{Ended, Input};
use super::run::{Session, Token};
use super::subscribe::Kind;
use crate::feed::FeedItem;
use crate::hub::DropReason;
use crate::outgoing::{self, Outgoing};

/// One in so many deliveries of a session is timed, the first of them.
const TIMED: u32 = 16;

impl Session {
    pub(super) fn on_input(&mut self, key: u64, input: Input) {
        match input {
            Input::Deliveries(batch) => {
                for delivery in batch {
                    self.on_delivery(key, delivery);
                }
            }
            Input::Live(FeedItem::Messages(messages)) => {
                for message in messages {
                    self.on_live(key, &message);
                }
            }
            Input::Live(FeedItem::Lagged(count)) => {
                // Counted where they were dropped.
                tracing::debug!(count, "messages dropped for a slow session");
            }
            Input::Timeline(messages) => {
                for message in messages {
                    self.on_timeline(key, &message);
                }
            }
            Input::Ended(ended) => self.on_ended(ended),
        }
    }

    fn on_delivery(&mut self, key: u64, delivery: Delivery) {
        let Some(subscriber) = self.subscribers.get(&key) else { return };
        let Some(acker) = &subscriber.acker else { return };
        let Delivery { tag, message, redelivered, derived, .. } = delivery;
        let echo = subscriber.kind == Kind::Inbox
            && self
                .who
                .as_ref()
                .is_some_and(|who| outgoing::is_echo(&message, &who.user, &who.device));
        if echo || self.has_expired(&message) {
            drop(acker.ack(&[tag]));
            return;
        }
        // Encoded once for all devices of this node that the message goes to.
        let frame = derived.get_or_make(|| outgoing::frame_of(&message));
        let Some(frame) = &*frame else {
            tracing::warn!("a message in the broker is none of ours");
            drop(acker.nack(&[tag], Nack::DeadLetter));
            return;
        };
        let token = Token { subscriber: key, tag: Some(tag) };
        match self.connection.session().deliver(&subscriber.id, frame, token, redelivered) {
            Ok(()) => {
                if subscriber.auto {
                    self.written.push(key, acker, tag);
                }
                self.delivered(&message);
            }
            Err(error) => {
                // The bounds are such that it fits; where it does not, the client is cut off, and
                // everything comes again.
                tracing::warn!(%error, "a delivery was not taken by the session");
                self.end(CloseCode::POLICY, "too slow: messages pile up");
            }
        }
    }

    /// Whether its time is over: a broker need not look at that, nor at the moment of delivery.
    fn has_expired(&self, message: &Message) -> bool {
        let Some(expires) = message.expires else { return false };
        let now = Duration::from_millis(self.inner.clock.now_millis());
        let expired = expires.duration_since(UNIX_EPOCH).is_ok_and(|expires| expires <= now);
        if expired {
            self.inner.metrics.expired.add(1);
        }
        expired
    }

    /// Counts a MESSAGE of this session; some of them are timed.
    fn delivered(&mut self, message: &Message) {
        if self.delivered.is_multiple_of(TIMED)
            && let Some(since) = outgoing::timestamp_of(message)
        {
            let now = self.inner.clock.now_millis();
            let time = Duration::from_millis(now.saturating_sub(since));
            self.inner.metrics.delivery_time.observe(time);
        }
        self.delivered = self.delivered.wrapping_add(1);
    }

    /// A live message. Where the client leaves too many unacknowledged, signals are dropped; all else
    /// waits in its feed, within the feed's bounds.
    fn on_live(&mut self, key: u64, message: &Outgoing) {
        let Some(subscriber) = self.subscribers.get(&key) else { return };
        if self.has_expired(message.message()) {
            return;
        }
        let inbox = subscriber.kind == Kind::Inbox;
        if subscriber.kind == Kind::Presence
            && let Some(name) = outgoing::is_hidden_from(message.message())
        {
            // The last word, to one who was blocked; nobody else hears it.
            if self.who.as_ref().is_some_and(|who| who.user.as_str() == name) {
                let id = subscriber.id.clone();
                if let Some(frame) = message.frame() {
                    let token = Token { subscriber: key, tag: None };
                    let _ = self.connection.session().deliver(&id, frame, token, false);
                }
                self.subscribers.remove(&key);
            }
            return;
        }
        let session = self.connection.session();
        let full =
            !subscriber.auto && session.window(&subscriber.id) <= subscriber.prefetch as usize;
        if inbox {
            let echo = self
                .who
                .as_ref()
                .is_some_and(|who| outgoing::is_echo(message.message(), &who.user, &who.device));
            if echo {
                return;
            }
            if full {
                self.inner.drops.add(DropReason::Unacknowledged, 1);
                return;
            }
        }
        let Some(frame) = message.frame() else { return };
        let token = Token { subscriber: key, tag: None };
        if let Err(error) = session.deliver(&subscriber.id, frame, token, false) {
            // As for deliveries: within the bounds it fits.
            tracing::warn!(%error, "a message was not taken by the session");
            self.end(CloseCode::POLICY, "too slow: messages pile up");
        } else {
            if full && !inbox {
                self.pause(key, true);
            }
            self.delivered(message.message());
        }
    }

    /// The client has acknowledged something: what waited for that goes on, where it is enough.
    pub(super) fn resume(&mut self, subscription: &SubscriptionId) {
        let window = self.connection.session().window(subscription);
        let Some(key) = self.keys.get(subscription).copied() else { return };
        let subscriber = self.subscribers.get(&key);
        if subscriber.is_some_and(|subscriber| window > subscriber.prefetch as usize) {
            self.pause(key, false);
        }
    }

    fn pause(&mut self, key: u64, paused: bool) {
        let subscriber = self.subscribers.get_mut(&key);
        let changed = subscriber.is_some_and(|subscriber| subscriber.input.pause(paused));
        if changed && !paused {
            self.inputs.add(key);
        }
    }

    /// A message of a timeline. The one that says that this user is no longer a member is the last.
    fn on_timeline(&mut self, key: u64, message: &Outgoing) {
        self.on_live(key, message);
        let Some(who) = &self.who else { return };
        let subscriber = self.subscribers.get(&key);
        let Some(Kind::Timeline { opened }) = subscriber.map(|subscriber| &subscriber.kind) else {
            return;
        };
        let message = message.message();
        if outgoing::removes(message, &who.user) && outgoing::seq_of(message) > Some(*opened) {
            self.subscribers.remove(&key);
        }
    }

    fn on_ended(&mut self, ended: Ended) {
        match ended {
            Ended::Broker(Some(EndReason::TakenOver)) => {
                let reply = ErrorReply::new("device taken over")
                    .body("A newer session of this device has subscribed to the inbox.");
                self.end(CloseCode::POLICY, reply);
            }
            Ended::TooSlow => {
                self.end(CloseCode::POLICY, "too slow: a topic's buffer is full");
            }
            Ended::Missed => {
                let reply = ErrorReply::new("too slow: what was missed is not stored")
                    .header("retry", "true");
                self.end(CloseCode::OVERLOAD, reply);
            }
            Ended::Failed(error) => self.fail(&error, None),
            Ended::Broker(reason) => {
                let reason = reason.map(|reason| reason.to_string());
                tracing::debug!(reason, "a subscription was ended by the broker");
                let reply = ErrorReply::new("a subscription was ended").header("retry", "true");
                self.end(CloseCode::OVERLOAD, reply);
            }
        }
    }

    pub(super) fn settle(&self, tokens: &[Token], nack: Option<Nack>) -> Confirm {
        let settlements = self.by_acker(tokens, nack);
        Confirm::all(settlements.into_iter().map(Settlement::apply).collect())
    }

    pub(super) fn by_acker(&self, tokens: &[Token], nack: Option<Nack>) -> Vec<Settlement> {
        let mut settlements: Vec<(u64, Settlement)> = Vec::new();
        for token in tokens {
            let Some(tag) = token.tag else { continue };
            if let Some((key, settlement)) = settlements.last_mut()
                && *key == token.subscriber
            {
                settlement.tags.push(tag);
                continue;
            }
            let Some(subscriber) = self.subscribers.get(&token.subscriber) else { continue };
            // An inbox has nobody else to give a message to: what its device refuses comes again
            // with the next SUBSCRIBE.
            if nack.is_some() && subscriber.kind == Kind::Inbox {
                continue;
            }
            let Some(acker) = subscriber.acker.clone() else { continue };
            settlements.push((token.subscriber, Settlement { acker, tags: vec![tag], nack }));
        }
        settlements.into_iter().map(|(_, settlement)| settlement).collect()
    }
}

/// Deliveries of `auto` subscriptions, which count as delivered once everything is written.
#[derive(Default)]
pub(super) struct Written(Vec<Run>);

/// Deliveries of one subscription in a row.
struct Run {
    subscriber: u64,
    acker: Acker,
    tags: Vec<u64>,
}

impl Written {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(&mut self, subscriber: u64, acker: &Acker, tag: u64) {
        match self.0.last_mut() {
            Some(run) if run.subscriber == subscriber => run.tags.push(tag),
            _ => self.0.push(Run { subscriber, acker: acker.clone(), tags: vec![tag] }),
        }
    }

    /// Everything is written. Nothing is kept for the next time: most sessions are idle.
    pub(super) fn settle(&mut self) {
        for run in std::mem::take(&mut self.0) {
            drop(run.acker.ack(&run.tags));
        }
    }

    /// The subscription has ended: what it has taken goes back.
    pub(super) fn forget(&mut self, subscriber: u64) {
        self.0.retain(|run| run.subscriber != subscriber);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Tags of one subscription, to be settled alike.
pub(super) struct Settlement {
    acker: Acker,
    tags: Vec<u64>,
    nack: Option<Nack>,
}

impl Settlement {
    pub(super) fn apply(self) -> Confirm {
        match self.nack {
            None => self.acker.ack(&self.tags),
            Some(nack) => self.acker.nack(&self.tags, nack),
        }
    }
}
