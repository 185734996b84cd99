//! Who consumes: coming, going, and taking over from other nodes.
//!
//! Every takeover is registered and gets a number, larger than that of all before it. A consumer
//! knows the last one that it has seen or is itself, and ends when a later one comes: it is told
//! over a subject that all who consume the same source listen to, and it looks when it comes back
//! after its link was lost.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::remote::Inbox;
use crate::{BrokerError, EndReason, SubscribeOptions};

use super::api::ConsumerInfo;
use super::backlog::Owed;
use super::consumer::{Consumer, NAK};
use super::place::{Place, PlaceState};
use super::plan::Address;
use super::pull::EXPIRES;
use super::session::{AskError, Session};

/// How long another node may take to let go.
const LETTING_GO: Duration = Duration::from_secs(2);
/// How often to look whether a node that does not answer is still delivered to.
const LOOKING: Duration = Duration::from_millis(200);
/// How often others are asked to let go; each that does answers once.
const ROUNDS: usize = 100;
/// The most messages that are given back for a node that does not do it itself.
const MAX_GIVEN_BACK: usize = 10_000;

const TAKE: &str = "take ";
const WHO: &str = "who";
const GONE: &str = "gone";
const HERE: &str = "here";

/// Where a consumer stands among takeovers: after the one with this number, counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn(u64);

impl Turn {
    /// What an inbox has noted; the first turn of all if nothing.
    pub(super) fn of(inbox: &Inbox<u64>) -> Self {
        Self(inbox.generation().parse().unwrap_or_default())
    }

    /// The turn that begins with takeover `number`.
    const fn after(number: u64) -> Self {
        Self(number + 1)
    }

    /// Whether takeover `number` ends this turn.
    pub(super) const fn is_ended_by(self, number: u64) -> bool {
        self.0 <= number
    }

    fn note(self, inbox: &Inbox<u64>) {
        inbox.set_generation(&self.0.to_string());
    }
}

/// What the others say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    /// There are none.
    None,
    /// One that is not to go is here.
    Here,
    /// One is here and does not answer.
    Silent,
}

impl Session {
    /// Lets an inbox consume; see [`Link::consume`](crate::remote::Link::consume).
    pub(super) async fn consume(
        self: &Arc<Self>,
        inbox: &Arc<Inbox<u64>>,
    ) -> Result<(), BrokerError> {
        let address = self.plan.address(&inbox.source);
        let place = self.places.enter(&address);
        let outcome = self.consume_at(&place, inbox).await;
        if !matches!(outcome, Ok(true)) {
            self.places.leave(&address);
        }
        outcome.map(drop)
    }

    /// Says whether it consumes; if not, the inbox has ended.
    async fn consume_at(
        self: &Arc<Self>,
        place: &Arc<Place>,
        inbox: &Arc<Inbox<u64>>,
    ) -> Result<bool, BrokerError> {
        let address = &place.address;
        let epoch = inbox.epoch();
        let mut state = place.state.lock().await;
        let returning = !inbox.generation().is_empty();
        let SubscribeOptions { takeover, .. } = inbox.options;
        let taking = takeover && !returning;
        let mut unheard = false;
        if taking {
            if self.consumer_info(&address.stream, &address.consumer).await?.is_none() {
                return Err(BrokerError::not_declared(&address.source));
            }
            let number = self.become_owner(address).await?;
            Turn::after(number).note(inbox);
            match self.ask_others(address, &format!("{TAKE}{number}"), ROUNDS).await? {
                Others::None => {}
                Others::Here => {
                    inbox.end(EndReason::TakenOver);
                    return Ok(false);
                }
                Others::Silent => {
                    tracing::warn!(source = %address.source, "another node does not let go");
                    unheard = true;
                }
            }
        }
        let alone = taking || self.finds_nobody(address, &state).await?;
        self.listen_for_takeovers(place, &mut state).await?;
        let (info, version, owner) = futures::try_join!(
            self.consumer_info(&address.stream, &address.consumer),
            self.record(address),
            self.owner(address),
        )?;
        let outcome = match info {
            None => Err(BrokerError::not_declared(&address.source)),
            Some(_) if (taking || returning) && Turn::of(inbox).is_ended_by(owner) => {
                inbox.end(EndReason::TakenOver);
                Ok(false)
            }
            Some(info) => {
                // Whoever held it holds it no more.
                let before = if alone && !unheard && info.num_ack_pending > 0 {
                    self.give_back_all(address, &info).await?
                } else {
                    Owed::default()
                };
                // Others may share what is not taken over.
                let owed = if takeover { before } else { Owed::default() };
                if !taking && !returning {
                    Turn::after(owner).note(inbox);
                }
                inbox.set_settings(version.record.settings());
                let consumer =
                    Arc::new(Consumer::new(inbox, epoch, address, info.created, version));
                consumer.start(self, (!unheard).then_some(owed)).await?;
                self.places.insert(&consumer);
                state.consumers.push(consumer);
                Ok(true)
            }
        };
        state.leave_if_empty();
        outcome
    }

    /// Whether something is delivered and not acknowledged, and nobody is here to do it: the one who
    /// comes shall have that first.
    async fn finds_nobody(
        &self,
        address: &Address,
        state: &PlaceState,
    ) -> Result<bool, BrokerError> {
        if !state.consumers.is_empty() || state.listening.is_some() {
            return Ok(false);
        }
        let info = self.consumer_info(&address.stream, &address.consumer).await?;
        Ok(info.is_some_and(|info| info.num_ack_pending > 0)
            && self.ask_others(address, WHO, 2).await? == Others::None)
    }

    /// Ends what [`consume`](Self::consume) began.
    pub(super) async fn stop(&self, inbox: &Arc<Inbox<u64>>) -> Result<(), BrokerError> {
        let Some(consumer) = self.places.remove(inbox.id) else { return Ok(()) };
        let address = &consumer.address;
        let place = self.places.enter(address);
        let outcome = self.stop_at(&place, &consumer).await;
        // Now, and when the consumer came.
        self.places.leave(address);
        self.places.leave(address);
        outcome
    }

    async fn stop_at(&self, place: &Place, consumer: &Arc<Consumer>) -> Result<(), BrokerError> {
        let (open, empty) = {
            let mut state = place.state.lock().await;
            state.consumers.retain(|one| !Arc::ptr_eq(one, consumer));
            let open = consumer.stop(self).await?;
            (open, state.leave_if_empty())
        };
        let deleted = consumer.inbox.end_reason() == Some(EndReason::Deleted);
        if !open || !empty || deleted {
            return Ok(());
        }
        // Something that the server had sent may not have arrived. Where nobody else consumes, all
        // that is not acknowledged is that, or given back already.
        let address = &place.address;
        if self.ask_others(address, WHO, 2).await? == Others::None
            && let Some(info) = self.consumer_info(&address.stream, &address.consumer).await?
            && info.num_ack_pending > 0
        {
            self.give_back_all(address, &info).await?;
        }
        Ok(())
    }

    /// Asks those who consume the same on other nodes, again until there are none or one stays.
    async fn ask_others(
        &self,
        address: &Address,
        question: &str,
        rounds: usize,
    ) -> Result<Others, BrokerError> {
        let control = self.plan.control(address);
        for _ in 0..rounds {
            let question = Bytes::copy_from_slice(question.as_bytes());
            match self.ask(control.clone(), question, LETTING_GO).await {
                Ok(None) => return Ok(Others::None),
                Ok(Some(answer)) if answer.payload == HERE => return Ok(Others::Here),
                Ok(Some(_)) => {}
                Err(AskError::Silent) => return Ok(Others::Silent),
                Err(AskError::Broken(error)) => return Err(error),
            }
        }
        Ok(Others::Silent)
    }

    async fn listen_for_takeovers(
        self: &Arc<Self>,
        place: &Arc<Place>,
        state: &mut PlaceState,
    ) -> Result<(), BrokerError> {
        if state.listening.is_some() {
            return Ok(());
        }
        let questions = self.subscribe(self.plan.control(&place.address)).await?;
        let leave = Arc::new(Notify::new());
        state.listening = Some(Arc::clone(&leave));
        let (session, place) = (Arc::clone(self), Arc::clone(place));
        self.spawn(async move { session.answer_others(&place, questions, &leave).await });
        Ok(())
    }

    /// Answers other nodes until nobody is left here.
    async fn answer_others(&self, place: &Place, mut questions: Subscriber, leave: &Arc<Notify>) {
        loop {
            let question = tokio::select! {
                question = questions.next() => question,
                () = leave.notified() => None,
            };
            let Some(question) = question else { return };
            let text = std::str::from_utf8(&question.payload).unwrap_or_default();
            let number = text.strip_prefix(TAKE).and_then(|number| number.parse::<u64>().ok());
            let mut state = place.state.lock().await;
            if let Some(number) = number {
                self.let_go(&mut state, number).await;
            }
            let empty = state.consumers.is_empty();
            if empty {
                // Before the answer: whoever asks again finds nobody.
                if questions.unsubscribe().await.is_err() {
                    return;
                }
                if state.listening.as_ref().is_some_and(|one| Arc::ptr_eq(one, leave)) {
                    state.listening = None;
                }
            }
            drop(state);
            if let Some(reply) = question.reply {
                let answer = if empty { GONE } else { HERE };
                let answer = self.send(reply.into_string(), Bytes::from_static(answer.as_bytes()));
                if answer.await.is_err() {
                    return;
                }
            }
            if empty {
                return;
            }
        }
    }

    /// Ends the consumers that a takeover ends.
    async fn let_go(&self, state: &mut PlaceState, number: u64) {
        let consumers = std::mem::take(&mut state.consumers);
        let (going, staying): (Vec<_>, Vec<_>) =
            consumers.into_iter().partition(|one| one.turn.is_ended_by(number));
        state.consumers = staying;
        for consumer in going {
            if let Err(error) = consumer.stop(self).await {
                tracing::debug!(source = %consumer.address.source, %error, "could not give back");
            }
            consumer.inbox.end(EndReason::TakenOver);
            if self.places.remove(consumer.inbox.id).is_some() {
                self.places.leave(&consumer.address);
            }
        }
    }

    /// Waits until the server has no request to deliver left, as those of a node that does not answer
    /// expire, and gives back what that one has.
    pub(super) async fn wait_for_others(&self, address: &Address) -> Result<Owed, BrokerError> {
        let deadline = Instant::now() + 2 * EXPIRES;
        loop {
            let info = self.consumer_info(&address.stream, &address.consumer).await?;
            let Some(info) = info else { return Ok(Owed::default()) };
            if info.num_waiting == 0 || Instant::now() > deadline {
                return self.give_back_all(address, &info).await;
            }
            sleep(LOOKING).await;
        }
    }

    /// Gives back everything that is delivered and not acknowledged, in order, whoever has it; what
    /// is given back already stays where it is.
    async fn give_back_all(
        &self,
        address: &Address,
        info: &ConsumerInfo,
    ) -> Result<Owed, BrokerError> {
        let Address { stream, consumer, .. } = address;
        let (floor, last) = (info.ack_floor.stream_seq, info.delivered.stream_seq);
        let mut messages = Vec::new();
        for filter in info.config.filters() {
            let mut from = floor + 1;
            while from <= last && messages.len() < MAX_GIVEN_BACK {
                let Some(kept) = self.next_kept(stream, filter, from).await? else { break };
                if kept.seq <= last {
                    messages.push(kept.seq);
                }
                from = kept.seq + 1;
            }
        }
        messages.sort_unstable();
        // Which delivery it was does not matter to the server, if only there was such a one.
        let delivery = info.delivered.consumer_seq;
        let replies = messages.into_iter().map(|seq| {
            Subject::from(format!("$JS.ACK.{stream}.{consumer}.1.{seq}.{delivery}.1.0"))
        });
        self.settle_all(replies, NAK).await?;
        Ok(Owed::by(info))
    }
}

impl PlaceState {
    /// Ends listening when nobody is here; says whether nobody is.
    fn leave_if_empty(&mut self) -> bool {
        let empty = self.consumers.is_empty();
        if empty && let Some(listening) = self.listening.take() {
            listening.notify_one();
        }
        empty
    }
}
