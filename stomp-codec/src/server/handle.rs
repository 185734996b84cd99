//! What each frame of the client does

use std::collections::VecDeque;

use super::receipt::Effect;
use super::session::{Phase, Session, timer};
use super::subscription::{Key, Subscription};
use super::transaction::Step;
use super::{AckMode, Action, CloseReason, ErrorReply, Event, ReceiptToken, SubscriptionId};
use crate::escape::Reading;
use crate::grammar;
use crate::{ByteStr, Command, Frame, HeartBeat, Mode, Version, view};

/// Longest subscription identifier: each MESSAGE carries it.
const MAX_SUBSCRIPTION_ID: usize = 1024;

/// Frames up to this size are copied into a transaction, so as not to hold the buffers they came in.
const DETACHED: usize = 64 * 1024;

/// Why a frame is refused, and the text that says so
struct Refusal(CloseReason);

impl Refusal {
    const fn protocol(what: &'static str) -> Self {
        Self(CloseReason::Protocol(what))
    }

    const fn limit(what: &'static str) -> Self {
        Self(CloseReason::Limit(what))
    }
}

impl<T> Session<T> {
    /// Takes one frame of the client; gives the event of a frequent one, and queues those of the others
    pub(super) fn handle_frame(&mut self, frame: Frame) -> Option<Event<T>> {
        // The most frequent one, apart from the others: a frame is large, and moved as seldom as can be.
        if frame.command() == Command::Send && self.phase == Phase::Open {
            return self.handle_send(frame);
        }
        let receipt = frame.header_text("receipt");
        let mut event = None;
        let result = match (self.phase, frame.command()) {
            (Phase::Opening, Command::Connect | Command::Stomp) => {
                self.handle_connect(frame);
                Ok(())
            }
            (Phase::Opening, _) => Err(Refusal::protocol("the first frame must be CONNECT")),
            (_, Command::Connect | Command::Stomp) => {
                Err(Refusal::protocol("the session is already open"))
            }
            (_, Command::Send) => return self.handle_send(frame),
            (_, Command::Subscribe) => self.handle_subscribe(frame),
            (_, Command::Unsubscribe) => self.handle_unsubscribe(frame),
            (_, Command::Ack) => self.handle_ack(&frame, false).map(|ack| event = ack),
            (_, Command::Nack) => self.handle_ack(&frame, true).map(|nack| event = nack),
            (_, Command::Begin) => self.handle_begin(&frame),
            (_, Command::Commit) => self.handle_commit(&frame),
            (_, Command::Abort) => self.handle_abort(&frame),
            (_, Command::Disconnect) => {
                self.handle_disconnect(&frame);
                Ok(())
            }
            (_, Command::Connected | Command::Message | Command::Receipt | Command::Error) => {
                Err(Refusal::protocol("a client does not send this command"))
            }
        };
        if let Err(refusal) = result {
            self.refuse_frame(receipt, refusal);
        }
        event
    }

    fn refuse_frame(&mut self, receipt: Option<ByteStr>, Refusal(reason): Refusal) {
        let text = match &reason {
            CloseReason::Protocol(what) | CloseReason::Limit(what) => what,
            _ => "refused",
        };
        self.refuse(receipt, reason, text);
    }

    fn handle_connect(&mut self, mut frame: Frame) {
        self.timers.stop(timer::CONNECT);
        let accept_version = frame.header("accept-version");
        let is_1_0_only = accept_version.is_none();
        let version = self.config.versions.negotiate(accept_version.as_deref());
        let Some(version) = version else {
            let versions = self.config.versions.to_string();
            let body = format!("Supported protocol versions are {versions}\n");
            let reply = ErrorReply::new("no common protocol version")
                .header("version", versions)
                .body(body);
            self.reply(&reply, CloseReason::Protocol("no common protocol version"));
            return;
        };
        let refusal = if is_1_0_only {
            let unknown = frame.command() == Command::Stomp && self.config.mode == Mode::Strict;
            // Only now is it known that blanks around values are padding.
            frame.reading = Reading::Trimmed;
            unknown.then_some("STOMP without accept-version")
        } else if version == Version::V1_0 {
            None
        } else if self.config.require_host && !frame.has_header("host") {
            Some("CONNECT without host")
        } else {
            let heart_beat = frame
                .header("heart-beat")
                .map_or(Some(HeartBeat::NONE), |it| HeartBeat::parse(&it));
            match heart_beat {
                Some(heart_beat) => {
                    self.peer_heart_beat = heart_beat;
                    None
                }
                None => Some("malformed heart-beat header"),
            }
        };
        if let Some(what) = refusal {
            self.refuse(None, CloseReason::Protocol(what), what);
            return;
        }
        match view::Connect::try_from(frame) {
            Ok(connect) => {
                self.version = version;
                self.decoder.set_version(version);
                self.decoder.set_limits(self.config.limits);
                self.phase = Phase::Authenticating;
                self.events.push_back(Event::Connect { connect, version });
            }
            // Cannot be: only CONNECT and STOMP come here.
            Err(_) => self.end(CloseReason::Protocol("not a CONNECT frame")),
        }
    }

    fn handle_send(&mut self, frame: Frame) -> Option<Event<T>> {
        let names = ["destination", "transaction", "receipt"];
        let [destination, transaction, receipt] = frame.find_each(names);
        let has_destination = destination.is_some_and(|value| !value.is_empty());
        let is_staged = transaction.is_some();
        let receipt = receipt.and_then(|_| frame.header_text("receipt"));
        if !has_destination {
            self.refuse_frame(receipt, Refusal::protocol("SEND without destination"));
            return None;
        }
        if is_staged {
            if let Err(refusal) = self.stage(&frame) {
                self.refuse_frame(receipt, refusal);
                return None;
            }
        }
        let receipt = receipt.map(|id| self.receipts.owe(id.detached(), Effect::None));
        let send = view::Send::try_from(frame).ok()?;
        Some(if is_staged {
            Event::Staged { send, receipt }
        } else {
            Event::Send { send, receipt }
        })
    }

    /// Keeps a SEND for the transaction that it names
    fn stage(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let Some(name) = self.transaction_of(frame, "SEND in an unknown transaction")? else {
            return Ok(());
        };
        let size = frame.size();
        self.check_transaction(&name, size)?;
        let kept = if size <= DETACHED { frame.detached() } else { frame.clone() };
        if let Ok(kept) = view::Send::try_from(kept) {
            self.transactions.add(&name, Step::Send(kept));
        }
        Ok(())
    }

    fn handle_subscribe(&mut self, frame: Frame) -> Result<(), Refusal> {
        let destination = required(&frame, "destination", "SUBSCRIBE without destination")?;
        let key = match frame.header_text("id") {
            Some(id) if id.is_empty() => {
                return Err(Refusal::protocol("SUBSCRIBE with an empty id"));
            }
            Some(id) if id.as_bytes().len() > MAX_SUBSCRIPTION_ID => {
                return Err(Refusal::limit("subscription id longer than 1024 octets"));
            }
            Some(id) => Key::Id(id.detached()),
            None if self.version > Version::V1_0 => {
                return Err(Refusal::protocol("SUBSCRIBE without id"));
            }
            None => Key::Destination(destination.detached()),
        };
        let individual_allowed = self.version > Version::V1_0 || self.config.mode == Mode::Lenient;
        let ack = match frame.header("ack").as_deref() {
            None | Some("auto") => AckMode::Auto,
            Some("client") => AckMode::Client,
            Some("client-individual") if individual_allowed => AckMode::ClientIndividual,
            Some(_) => return Err(Refusal::protocol("SUBSCRIBE with an unknown ack mode")),
        };
        if self.subscriptions.contains(&key) {
            return Err(Refusal::protocol("the subscription id is in use"));
        }
        if self.subscriptions.len() >= self.config.max_subscriptions {
            return Err(Refusal::limit("too many subscriptions"));
        }
        let head = self.message_head(match &key {
            Key::Id(id) => Some(id),
            Key::Destination(_) => None,
        });
        let id = self.subscriptions.insert(key, ack, head, self.config.window.max(1));
        let effect = Effect::Release { slot: id.slot, number: id.number };
        let receipt = self.owe_with(&frame, effect);
        if receipt.is_some() {
            if let Some(subscription) = self.subscriptions.get_mut(&id) {
                subscription.held = Some(VecDeque::new());
            }
        }
        if let Ok(frame) = view::Subscribe::try_from(frame) {
            self.events.push_back(Event::Subscribe { id, destination, ack, frame, receipt });
        }
        Ok(())
    }

    fn handle_unsubscribe(&mut self, frame: Frame) -> Result<(), Refusal> {
        let key = match (frame.header_text("id"), frame.header_text("destination")) {
            (Some(id), _) => Key::Id(id),
            (None, Some(destination)) if self.version == Version::V1_0 => {
                Key::Destination(destination)
            }
            (None, _) => return Err(Refusal::protocol("UNSUBSCRIBE without id")),
        };
        let Some(mut subscription) = self.subscriptions.remove(&key) else {
            return Err(Refusal::protocol("UNSUBSCRIBE of an unknown subscription"));
        };
        let held = subscription.held.take();
        self.drop_held(held.as_ref());
        let id = subscription.id.clone();
        let returned = subscription.into_tokens().collect();
        let receipt = self.owe(&frame);
        if let Ok(frame) = view::Unsubscribe::try_from(frame) {
            self.events.push_back(Event::Unsubscribe { id, frame, returned, receipt });
        }
        Ok(())
    }

    fn handle_ack(&mut self, frame: &Frame, nack: bool) -> Result<Option<Event<T>>, Refusal> {
        let transaction = self.transaction_of(frame, "ACK in an unknown transaction")?;
        let Some((subscription, index)) = self.find_delivery(frame)? else {
            // Acknowledges what needs no acknowledgement.
            self.confirm(frame);
            return Ok(None);
        };
        if let Some(name) = &transaction {
            self.check_transaction(name, 0)?;
        }
        let Some(receiver) = self.subscriptions.get_mut(&subscription) else { return Ok(None) };
        let covered = receiver.cover(index);
        if let Some(name) = transaction {
            self.transactions.add(&name, Step::Settle { nack, subscription, covered });
            self.confirm(frame);
            return Ok(None);
        }
        receiver.settle(covered.iter().map(|(number, _)| *number));
        let tokens = covered.into_iter().map(|(_, token)| token).collect();
        let receipt = self.owe(frame);
        Ok(Some(if nack {
            Event::Nack { subscription, tokens, receipt }
        } else {
            Event::Ack { subscription, tokens, receipt }
        }))
    }

    /// The delivery that an ACK or NACK names: its subscription and its place there
    ///
    /// `None` for a message of an auto subscription, which lenient mode lets pass.
    fn find_delivery(&self, frame: &Frame) -> Result<Option<(SubscriptionId, usize)>, Refusal> {
        let unknown = Refusal::protocol("ACK of an unknown message");
        let named = frame.header_text("subscription");
        if let Some(name) = &named {
            let subscription = self.subscriptions.find(&Key::Id(name.clone()));
            if subscription.is_some_and(|it| it.ack == AckMode::Auto) {
                return match self.config.mode {
                    Mode::Lenient => Ok(None),
                    Mode::Strict => {
                        Err(Refusal::protocol("ACK of a message that needs no acknowledgement"))
                    }
                };
            }
        }
        let place = |it: &Subscription<T>, index| (it.id.clone(), index);
        match self.version {
            Version::V1_2 => {
                let id = required(frame, "id", "ACK without id")?;
                let (slot, number) =
                    grammar::delivery(&id).ok_or(Refusal::protocol("ACK of an unknown message"))?;
                let subscription =
                    usize::try_from(slot).ok().and_then(|slot| self.subscriptions.slot(slot));
                let found = subscription.and_then(|it| Some(place(it, it.find_number(number)?)));
                found.map(Some).ok_or(unknown)
            }
            Version::V1_1 => {
                let message_id = required(frame, "message-id", "ACK without message-id")?;
                let name = named.ok_or(Refusal::protocol("ACK without subscription"))?;
                let subscription = self.subscriptions.find(&Key::Id(name));
                let found =
                    subscription.and_then(|it| Some(place(it, it.find_message(&message_id)?)));
                found.map(Some).ok_or(unknown)
            }
            Version::V1_0 => {
                let message_id = required(frame, "message-id", "ACK without message-id")?;
                let mut subscriptions = self.subscriptions.iter();
                let found =
                    subscriptions.find_map(|it| Some(place(it, it.find_message(&message_id)?)));
                found.map(Some).ok_or(unknown)
            }
        }
    }

    fn handle_begin(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let name = required(frame, "transaction", "BEGIN without transaction")?;
        if self.transactions.contains(&name) {
            return Err(Refusal::protocol("the transaction is already open"));
        }
        if self.transactions.len() >= self.config.max_transactions {
            return Err(Refusal::limit("too many open transactions"));
        }
        self.transactions.begin(name.detached(), self.now);
        self.check_transaction_octets(0)?;
        self.watch_transactions();
        self.confirm(frame);
        Ok(())
    }

    fn handle_commit(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let name = required(frame, "transaction", "COMMIT without transaction")?;
        let Some(transaction) = self.transactions.remove(&name) else {
            return Err(Refusal::protocol("COMMIT of an unknown transaction"));
        };
        self.watch_transactions();
        let mut actions = Vec::with_capacity(transaction.steps.len());
        for step in transaction.steps {
            actions.push(match step {
                Step::Send(send) => Action::Send(send),
                Step::Settle { nack, subscription, covered } => {
                    if let Some(subscription) = self.subscriptions.get_mut(&subscription) {
                        subscription.settle(covered.iter().map(|(number, _)| *number));
                    }
                    let tokens = covered.into_iter().map(|(_, token)| token).collect();
                    if nack { Action::Nack { tokens } } else { Action::Ack { tokens } }
                }
            });
        }
        let receipt = self.owe(frame);
        self.events.push_back(Event::Commit { actions, receipt });
        Ok(())
    }

    fn handle_abort(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let name = required(frame, "transaction", "ABORT without transaction")?;
        let Some(transaction) = self.transactions.remove(&name) else {
            return Err(Refusal::protocol("ABORT of an unknown transaction"));
        };
        self.watch_transactions();
        let mut tokens = Vec::new();
        self.undo(transaction.steps, &mut tokens);
        if !tokens.is_empty() {
            self.events.push_back(Event::Returned { tokens });
        }
        self.confirm(frame);
        Ok(())
    }

    fn handle_disconnect(&mut self, frame: &Frame) {
        self.phase = Phase::Leaving;
        self.timers.stop(timer::RECEIVE);
        self.timers.stop(timer::SEND);
        self.timers.stop(timer::TRANSACTION);
        let receipt = self.owe_with(frame, Effect::End);
        let has_ended = receipt.is_none() || self.eof;
        self.events.push_back(Event::Disconnect { receipt });
        if has_ended {
            self.end(CloseReason::Disconnect);
        }
    }

    /// The open transaction that a frame names, if it names one
    fn transaction_of(
        &self,
        frame: &Frame,
        unknown: &'static str,
    ) -> Result<Option<ByteStr>, Refusal> {
        let Some(name) = frame.header_text("transaction") else { return Ok(None) };
        if name.is_empty() || !self.transactions.contains(&name) {
            return Err(Refusal::protocol(unknown));
        }
        Ok(Some(name))
    }

    /// Refuses a step that the limits on transactions do not allow
    fn check_transaction(&self, name: &str, octets: usize) -> Result<(), Refusal> {
        let steps = self.transactions.steps(name).unwrap_or_default();
        if steps >= self.config.max_transaction_frames {
            return Err(Refusal::limit("too many frames in a transaction"));
        }
        self.check_transaction_octets(octets)
    }

    fn check_transaction_octets(&self, octets: usize) -> Result<(), Refusal> {
        if self.transactions.octets() + octets > self.config.max_transaction_octets {
            return Err(Refusal::limit("too many octets in open transactions"));
        }
        Ok(())
    }

    fn watch_transactions(&mut self) {
        match self.transactions.oldest() {
            Some(begun) => {
                self.timers.set(timer::TRANSACTION, begun, self.config.transaction_timeout);
            }
            None => self.timers.stop(timer::TRANSACTION),
        }
    }

    /// The receipt that a frame asks for, owed by the application
    fn owe(&mut self, frame: &Frame) -> Option<ReceiptToken> {
        self.owe_with(frame, Effect::None)
    }

    fn owe_with(&mut self, frame: &Frame, effect: Effect) -> Option<ReceiptToken> {
        let id = frame.header_text("receipt")?;
        Some(self.receipts.owe(id.detached(), effect))
    }

    /// Answers the receipt that a frame asks for: the session has done all there is to do
    fn confirm(&mut self, frame: &Frame) {
        if let Some(token) = self.owe(frame) {
            self.receipt(token, &[]);
        }
    }
}

/// A header that must be present and not empty
fn required(frame: &Frame, name: &str, missing: &'static str) -> Result<ByteStr, Refusal> {
    frame
        .header_text(name)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| Refusal::protocol(missing))
}
