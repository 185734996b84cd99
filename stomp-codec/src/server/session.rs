use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};

use super::receipt::{Effect, Receipts};
use super::subscription::{Key, Subscriptions};
use super::transaction::{Step, Transactions};
use super::{
    Accepted, AckMode, CloseReason, Config, DeliverError, ErrorReply, Event, OpenError,
    ReceiptToken, SubscriptionId,
};
use crate::encode::{HeadWriter, Writing, put_decimal, write_header};
use crate::outbox::Outbox;
use crate::timer::{Timers, send_after};
use crate::{
    ByteStr, ChunkDecoder, Command, DecodeError, HeartBeat, Item, SharedMessage, Transmit, Version,
};

/// The server's side of one connection, without I/O and without a clock
///
/// `T` is the application's token of one delivery, for instance its broker's delivery tag. The session keeps
/// it while the message is unacknowledged and hands it back with ACK, NACK, UNSUBSCRIBE or the end.
///
/// Methods come in four kinds:
///
/// - inputs: [`handle_bytes`](Self::handle_bytes), [`handle_timeout`](Self::handle_timeout),
///   [`handle_eof`](Self::handle_eof);
/// - outputs: [`poll_event`](Self::poll_event), [`poll_transmit`](Self::poll_transmit),
///   [`poll_timeout`](Self::poll_timeout);
/// - commands: [`accept`](Self::accept), [`reject`](Self::reject), [`receipt`](Self::receipt),
///   [`deliver`](Self::deliver), [`fail`](Self::fail), [`close`](Self::close);
/// - getters.
///
/// A driver loops: act on events until there is none, write transmits until there is none, then, if
/// [`wants_input`](Self::wants_input), wait for octets or for the time of `poll_timeout`. Frames are decoded
/// by `poll_event`, one at a time: what an application does about one event is done before the next frame
/// is looked at. After [`Event::Closed`] it writes what `poll_transmit` still gives and closes the connection.
pub struct Session<T> {
    pub(super) config: Arc<Config>,
    pub(super) phase: Phase,
    pub(super) version: Version,
    pub(super) decoder: ChunkDecoder,
    pub(super) eof: bool,
    /// The latest time that anybody told.
    pub(super) now: Instant,
    pub(super) events: VecDeque<Event<T>>,
    outbox: Outbox,
    /// Whether nothing was written for one whole stall timeout.
    has_stalled: bool,
    /// Octets of messages that wait for the RECEIPT of their SUBSCRIBE.
    held_octets: usize,
    pub(super) timers: Timers<5>,
    /// What the client's `heart-beat` header said.
    pub(super) peer_heart_beat: HeartBeat,
    pub(super) receipts: Receipts,
    pub(super) subscriptions: Subscriptions<T>,
    pub(super) transactions: Transactions<T>,
    next_delivery: u64,
    /// Where heads of messages are written; handed out slice by slice.
    arena: BytesMut,
}

/// Where the session is in its life
///
/// ```text
/// Opening -> Authenticating -> Open -> Leaving -> Closed
///    |              |           |                   ^
///    +--------------+-----------+-------------------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Before the CONNECT frame
    Opening,
    /// The application has not yet answered CONNECT
    Authenticating,
    Open,
    /// DISCONNECT was received, its RECEIPT has not left
    Leaving,
    Closed,
}

/// Indices into the table of deadlines
pub(super) mod timer {
    pub(in crate::server) const CONNECT: usize = 0;
    pub(in crate::server) const SEND: usize = 1;
    pub(in crate::server) const RECEIVE: usize = 2;
    pub(in crate::server) const TRANSACTION: usize = 3;
    pub(in crate::server) const STALL: usize = 4;
}

/// Octets of receipts owed before no further frame is read.
const MAX_RECEIPT_OCTETS: usize = 256 * 1024;

/// Heads of messages are written into pieces of this size.
const ARENA: usize = 4096;

/// Room for `ack` and `redelivered`.
const DELIVERY_HEADERS: usize = 80;

impl<T> Session<T> {
    /// A session of a connection that was just made
    pub fn new(config: impl Into<Arc<Config>>, now: Instant) -> Self {
        let config = config.into();
        let mut timers = Timers::new(now);
        timers.set(timer::CONNECT, now, config.connect_timeout);
        timers.set(timer::STALL, now, config.stall_timeout);
        Self {
            phase: Phase::Opening,
            version: Version::V1_2,
            decoder: ChunkDecoder::new(config.mode, config.limits_before_connect),
            eof: false,
            now,
            events: VecDeque::new(),
            outbox: Outbox::default(),
            has_stalled: false,
            held_octets: 0,
            timers,
            peer_heart_beat: HeartBeat::NONE,
            receipts: Receipts::default(),
            subscriptions: Subscriptions::new(),
            transactions: Transactions::new(),
            next_delivery: 0,
            arena: BytesMut::new(),
            config,
        }
    }

    /// Takes octets as they were received, in pieces of any size
    ///
    /// Frames that lie within one piece are slices of it. Octets behind DISCONNECT or the end are dropped.
    pub fn handle_bytes(&mut self, now: Instant, octets: Bytes) {
        self.at(now);
        if octets.is_empty() || matches!(self.phase, Phase::Leaving | Phase::Closed) {
            return;
        }
        self.expect_life();
        self.decoder.push(octets);
    }

    /// Does what is due at `now`; calling it early or late is harmless
    pub fn handle_timeout(&mut self, now: Instant) {
        self.at(now);
        let now = self.now;
        if self.timers.is_due(timer::CONNECT, now) {
            self.refuse(None, CloseReason::ConnectTimeout, "no CONNECT in time");
        }
        if self.timers.is_due(timer::RECEIVE, now) {
            if self.wants_input() {
                self.refuse(None, CloseReason::HeartBeatTimeout, "heart-beat missed");
            } else {
                // Nobody was reading: silence is not the client's.
                self.expect_life();
            }
        }
        if self.timers.is_due(timer::TRANSACTION, now) {
            let reason = CloseReason::Limit("a transaction was open for too long");
            self.refuse(None, reason, "a transaction was open for too long");
        }
        if !self.outbox.is_empty() && self.timers.is_due(timer::STALL, now) {
            // The time that started it may have been told long before; what starts now is certain.
            if self.has_stalled {
                self.end(CloseReason::Stalled);
            } else {
                self.has_stalled = true;
                self.timers.put_off(timer::STALL, now);
            }
        }
        if self.timers.is_due(timer::SEND, now) {
            // What waits to be written is as good as a heart-beat, and one heart-beat is enough.
            if self.outbox.is_empty() {
                self.push(Transmit::heart_beat());
            }
            self.timers.put_off(timer::SEND, now);
        }
    }

    /// The connection gives no more octets; frames received before are still processed
    pub fn handle_eof(&mut self, now: Instant) {
        self.at(now);
        self.eof = true;
        self.timers.stop(timer::RECEIVE);
        match self.phase {
            Phase::Leaving => self.end(CloseReason::Disconnect),
            Phase::Opening | Phase::Authenticating | Phase::Open | Phase::Closed => {}
        }
    }

    /// The next event, decoded from what was received
    ///
    /// `None` where more octets, or the application's answer to [`Event::Connect`] or to receipts, are needed.
    pub fn poll_event(&mut self) -> Option<Event<T>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if !matches!(self.phase, Phase::Opening | Phase::Open) || self.is_blocked() {
                return None;
            }
            // Asked far more often than there is something.
            if self.decoder.pending() == 0 && !self.eof {
                self.forget_events();
                return None;
            }
            match self.decoder.decode() {
                Ok(Some(Item::Frame(frame))) => {
                    if let Some(event) = self.handle_frame(frame) {
                        return Some(event);
                    }
                }
                Ok(Some(Item::HeartBeats(_))) => {}
                Ok(None) if self.eof => self.end(CloseReason::ConnectionLost),
                Ok(None) => {
                    self.forget_events();
                    return None;
                }
                Err(error) => self.malformed(error),
            }
        }
    }

    /// An idle session shall hold no room for events. The frequent ones never come through the queue.
    fn forget_events(&mut self) {
        if self.events.capacity() > 0 {
            self.events = VecDeque::new();
        }
    }

    /// The next frame or heart-beat to write
    ///
    /// Take one when the connection can be written to: what was taken counts as sent.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let transmit = self.outbox.pop()?;
        self.timers.put_off(timer::SEND, self.now);
        self.wait_for_reading();
        Some(transmit)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due
    pub fn poll_timeout(&self) -> Option<Instant> {
        let next = self.timers.next();
        if !self.outbox.is_empty() {
            return next;
        }
        // Nothing waits to be read.
        let others = self.timers.deadlines().enumerate().filter(|(it, _)| *it != timer::STALL);
        others.filter_map(|(_, deadline)| deadline).min()
    }

    /// Opens the session: sends CONNECTED; what was pipelined behind CONNECT is processed from here on
    ///
    /// Does nothing unless [`Event::Connect`] waits for its answer. Headers that cannot be carried are left out.
    #[allow(clippy::needless_pass_by_value, reason = "said once")]
    pub fn accept(&mut self, now: Instant, accepted: Accepted) {
        self.at(now);
        if self.phase != Phase::Authenticating {
            return;
        }
        let heart_beat = self.config.heart_beat.to_string();
        let mut headers = vec![("version", self.version.as_str()), ("session", &accepted.session)];
        if self.version > Version::V1_0 {
            headers.push(("heart-beat", &heart_beat));
        }
        headers.extend(accepted.server.as_deref().map(|server| ("server", server)));
        headers.extend(accepted.user_name.as_deref().map(|name| ("user-name", name)));
        headers.extend(accepted.headers.iter().map(|(name, value)| (&**name, &**value)));
        let transmit = lossy(Command::Connected, self.version, &headers, &Bytes::new());
        self.phase = Phase::Open;
        if let Some(interval) = self.config.heart_beat.outgoing(self.peer_heart_beat) {
            self.timers.set(timer::SEND, self.now, send_after(interval));
        }
        self.push(transmit);
        self.expect_life();
    }

    /// Refuses the session: sends ERROR and ends
    ///
    /// Use the same text whatever the reason: it must not tell whether the user exists.
    pub fn reject(&mut self, now: Instant, reply: impl Into<ErrorReply>) {
        self.at(now);
        if self.phase == Phase::Authenticating {
            self.reply(&reply.into(), CloseReason::Rejected);
        }
    }

    /// Answers a receipt: RECEIPT leaves once all earlier ones were answered
    ///
    /// `headers` are added to it; those that the version cannot carry are left out.
    #[allow(clippy::needless_pass_by_value, reason = "a token is answered once")]
    pub fn receipt(&mut self, token: ReceiptToken, headers: &[(&str, &str)]) {
        let Some(id) = self.receipts.id(&token) else { return };
        let mut all = Vec::with_capacity(headers.len() + 1);
        all.push(("receipt-id", &*id));
        all.extend_from_slice(headers);
        let transmit = lossy(Command::Receipt, self.version, &all, &Bytes::new());
        self.receipts.complete(&token, transmit);
        while let Some((transmit, effect)) = self.receipts.pop_ready() {
            self.push(transmit);
            match effect {
                Effect::None => {}
                Effect::Release { slot, number } => self.release(slot, number),
                Effect::End => self.end(CloseReason::Disconnect),
            }
        }
    }

    /// Sends `message` to a subscription
    ///
    /// With [`AckMode::Auto`] the token is dropped; otherwise it is kept until the message is settled.
    ///
    /// # Errors
    ///
    /// Nothing was sent, the token is dropped.
    pub fn deliver(
        &mut self,
        subscription: &SubscriptionId,
        message: &SharedMessage,
        token: T,
        redelivered: bool,
    ) -> Result<(), DeliverError> {
        let queued = self.queued();
        let receiver =
            self.subscriptions.get_mut(subscription).ok_or(DeliverError::NoSubscription)?;
        let shared = message.encoded(self.version);
        if self.phase != Phase::Open {
            return Err(DeliverError::NoSubscription);
        }
        if !shared.is_deliverable() {
            return Err(DeliverError::Unencodable);
        }
        // A message larger than the bound is let through when nothing else waits.
        if queued > 0 && queued + shared.len() > self.config.max_queued {
            return Err(DeliverError::QueueFull);
        }
        if receiver.ack == AckMode::Auto && receiver.held.is_none() && !redelivered {
            let transmit = Transmit::message(receiver.head.clone(), shared.clone());
            self.push(transmit);
            return Ok(());
        }
        self.deliver_individually(subscription, message, token, redelivered)
    }

    /// Sends `message` with a head of its own, remembers it until it is acknowledged, or holds it back
    #[inline(never)]
    fn deliver_individually(
        &mut self,
        subscription: &SubscriptionId,
        message: &SharedMessage,
        token: T,
        redelivered: bool,
    ) -> Result<(), DeliverError> {
        let version = self.version;
        let receiver =
            self.subscriptions.get_mut(subscription).ok_or(DeliverError::NoSubscription)?;
        if receiver.room() == 0 {
            return Err(DeliverError::WindowFull);
        }
        let shared = message.encoded(version).clone();
        let with_ack = receiver.ack != AckMode::Auto;
        let transmit = if redelivered || (with_ack && version == Version::V1_2) {
            let room = receiver.head.len() + DELIVERY_HEADERS;
            if self.arena.capacity() < room {
                self.arena = BytesMut::with_capacity(ARENA.max(room));
            }
            self.arena.put_slice(&receiver.head);
            if with_ack && version == Version::V1_2 {
                self.arena.put_slice(b"ack:");
                put_decimal(&mut self.arena, subscription.slot as u64);
                self.arena.put_u8(b'-');
                put_decimal(&mut self.arena, self.next_delivery);
                self.arena.put_u8(b'\n');
            }
            if redelivered {
                self.arena.put_slice(b"redelivered:true\n");
            }
            Transmit::delivery(self.arena.split().freeze(), shared)
        } else {
            Transmit::message(receiver.head.clone(), shared)
        };
        if with_ack {
            let message_id = (version < Version::V1_2).then(|| message.shared_message_id().clone());
            receiver.delivered(self.next_delivery, message_id, token);
            self.next_delivery += 1;
        }
        match &mut receiver.held {
            Some(held) => {
                self.held_octets += transmit.len();
                held.push_back(transmit);
            }
            None => self.push(transmit),
        }
        Ok(())
    }

    /// Sends ERROR and ends the session; RECEIPTs not yet answered never leave
    pub fn fail(&mut self, now: Instant, reply: impl Into<ErrorReply>) {
        self.at(now);
        self.reply(&reply.into(), CloseReason::Failed);
    }

    /// Ends the session without a frame
    pub fn close(&mut self, now: Instant) {
        self.at(now);
        self.end(CloseReason::Closed);
    }

    /// Opens a subscription that the client did not ask for, such as that of a `/temp-queue/` destination
    ///
    /// The client ends it with UNSUBSCRIBE of `name`, as if it had subscribed.
    ///
    /// # Errors
    ///
    /// Where the name is taken or the session has as many subscriptions as it may.
    pub fn open_subscription(
        &mut self,
        name: &str,
        ack: AckMode,
    ) -> Result<SubscriptionId, OpenError> {
        if self.phase != Phase::Open {
            return Err(OpenError::NotConnected);
        }
        let key = Key::Id(ByteStr::from(name));
        if self.subscriptions.contains(&key) {
            return Err(OpenError::DuplicateId);
        }
        if self.subscriptions.len() >= self.config.max_subscriptions {
            return Err(OpenError::TooMany);
        }
        let head = self.message_head(Some(name));
        Ok(self.subscriptions.insert(key, ack, head, self.config.window.max(1)))
    }

    /// Sets how many messages of a subscription may be unacknowledged at a time, at least 1
    ///
    /// [`Config::window`] unless set. Of no effect with [`AckMode::Auto`].
    pub fn set_window(&mut self, subscription: &SubscriptionId, messages: usize) {
        if let Some(subscription) = self.subscriptions.get_mut(subscription) {
            subscription.window = messages.max(1);
        }
    }

    /// How many more messages the subscription takes now; `usize::MAX` with [`AckMode::Auto`], 0 where it
    /// has ended
    pub fn window(&self, subscription: &SubscriptionId) -> usize {
        self.subscriptions.get(subscription).map_or(0, |subscription| subscription.room())
    }

    /// How many messages of the subscription are delivered and not settled
    pub fn unacked(&self, subscription: &SubscriptionId) -> usize {
        self.subscriptions.get(subscription).map_or(0, |subscription| subscription.unacked())
    }

    /// Octets that wait to be written
    pub const fn queued(&self) -> usize {
        self.outbox.octets() + self.held_octets
    }

    /// Whether more octets should be read: not while the application owes an answer that everything waits
    /// for, not while too much waits to be written, and not after the end
    pub fn wants_input(&self) -> bool {
        matches!(self.phase, Phase::Opening | Phase::Open) && !self.eof && !self.is_blocked()
    }

    /// Whether the session has ended; [`Event::Closed`] may still be to come
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// The version, once CONNECT has been received
    pub fn version(&self) -> Option<Version> {
        (self.phase != Phase::Opening).then_some(self.version)
    }

    fn at(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Whether no frame may be looked at before the application, or the client's reading, catches up
    fn is_blocked(&self) -> bool {
        !self.eof
            && (self.outbox.octets() > self.config.max_queued
                || self.receipts.len() >= self.config.max_pending_receipts.max(1)
                || self.receipts.octets() >= MAX_RECEIPT_OCTETS)
    }

    #[inline]
    fn push(&mut self, transmit: Transmit) {
        if self.outbox.is_empty() {
            self.wait_for_reading();
        }
        self.outbox.push(transmit);
    }

    /// Starts to wait for the client's reading anew
    #[inline]
    fn wait_for_reading(&mut self) {
        self.has_stalled = false;
        self.timers.put_off(timer::STALL, self.now);
    }

    /// Something was received: the next octet can wait
    fn expect_life(&mut self) {
        if self.phase == Phase::Open && !self.eof {
            if let Some(interval) = self.config.heart_beat.incoming(self.peer_heart_beat) {
                let patience = interval.saturating_mul(self.config.heart_beat_tolerance.max(1));
                self.timers.set(timer::RECEIVE, self.now, patience);
            }
        }
    }

    /// Lets the messages out that waited for the RECEIPT of their SUBSCRIBE
    fn release(&mut self, slot: usize, number: u64) {
        let held = self.subscriptions.at(slot, number).and_then(|it| it.held.take());
        for transmit in held.into_iter().flatten() {
            self.held_octets -= transmit.len();
            self.push(transmit);
        }
    }

    /// Messages that were held back for a subscription that ends are not sent
    pub(super) fn drop_held(&mut self, held: Option<&VecDeque<Transmit>>) {
        self.held_octets -= held.into_iter().flatten().map(Transmit::len).sum::<usize>();
    }

    /// Command and `subscription` header of every MESSAGE of a subscription
    pub(super) fn message_head(&self, name: Option<&str>) -> Bytes {
        let mut head = BytesMut::from(&b"MESSAGE\n"[..]);
        if let Some(name) = name {
            let writing = Writing::of(Command::Message, self.version);
            // Cannot fail: the name came in a header of the same version. One of the application's own
            // that cannot be carried is left out.
            let start = head.len();
            if write_header(&mut head, writing, b"subscription", name.as_bytes()).is_err() {
                head.truncate(start);
            }
        }
        head.freeze()
    }

    pub(super) fn malformed(&mut self, error: DecodeError) {
        let text = error.kind().to_string();
        self.refuse(None, CloseReason::Malformed(error), text);
    }

    /// Answers a frame at fault with ERROR and ends the session
    pub(super) fn refuse(
        &mut self,
        receipt: Option<ByteStr>,
        reason: CloseReason,
        message: impl Into<String>,
    ) {
        let mut reply = ErrorReply::new(message);
        // A receipt that the frame asked for names it; CONNECT has none.
        if let Some(id) = receipt.filter(|_| self.phase == Phase::Open) {
            reply = reply.header("receipt-id", &*id);
        }
        self.reply(&reply, reason);
    }

    pub(super) fn reply(&mut self, reply: &ErrorReply, reason: CloseReason) {
        if self.phase == Phase::Closed {
            return;
        }
        let is_negotiated = matches!(self.phase, Phase::Open | Phase::Leaving);
        let message = reply.safe_message(is_negotiated);
        let id = reply.receipt.as_ref().and_then(|token| self.receipts.id(token));
        let mut headers = vec![("message", &*message)];
        headers.extend(id.as_deref().map(|id| ("receipt-id", id)));
        if !reply.body.is_empty() {
            headers.push(("content-type", "text/plain"));
        }
        headers.extend(reply.headers.iter().map(|(name, value)| (&**name, &**value)));
        // What is said before negotiation means the same in every version.
        let version = if is_negotiated { self.version } else { Version::V1_0 };
        let transmit = lossy(Command::Error, version, &headers, &reply.body);
        self.push(transmit);
        self.end(reason);
    }

    /// Ends the session: everything goes back, nothing more is processed
    pub(super) fn end(&mut self, reason: CloseReason) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closed;
        self.timers.stop_all();
        let mut returned = Vec::new();
        for transaction in self.transactions.drain() {
            self.undo(transaction.steps, &mut returned);
        }
        self.held_octets = 0;
        for subscription in self.subscriptions.drain() {
            returned.extend(subscription.into_tokens());
        }
        self.receipts = Receipts::default();
        self.decoder = ChunkDecoder::new(self.config.mode, self.config.limits);
        self.events.push_back(Event::Closed { reason, returned });
    }

    /// Gives the acknowledgements of a transaction back to their subscriptions, or, where those have
    /// ended, to the application
    pub(super) fn undo(&mut self, steps: Vec<Step<T>>, returned: &mut Vec<T>) {
        for step in steps {
            if let Step::Settle { subscription, covered, .. } = step {
                match self.subscriptions.get_mut(&subscription) {
                    Some(subscription) => subscription.restore(covered),
                    None => returned.extend(covered.into_iter().map(|(_, token)| token)),
                }
            }
        }
    }
}

/// Encodes a frame of the session's own; headers that the version cannot carry are left out
fn lossy(command: Command, version: Version, headers: &[(&str, &str)], body: &Bytes) -> Transmit {
    let mut octets = BytesMut::new();
    // Cannot fail: only server commands come here, and only ERROR with a body.
    if let Ok(mut head) = HeadWriter::new(command, version, !body.is_empty(), &mut octets) {
        for (name, value) in headers {
            let _left_out = head.header(name.as_bytes(), value.as_bytes());
        }
        head.finish(body.len());
    }
    octets.put_slice(body);
    octets.put_u8(0);
    Transmit::from_bytes(octets.freeze())
}

impl<T> fmt::Debug for Session<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("phase", &self.phase)
            .field("version", &self.version)
            .field("subscriptions", &self.subscriptions.len())
            .field("transactions", &self.transactions.len())
            .field("receipts", &self.receipts.len())
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}
