use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::time::Instant;

use bytes::Bytes;

use super::{
    ClientError, CloseReason, Config, Event, ReceiptHandle, SubscriptionHandle, TransactionHandle,
};
use crate::outbox::Outbox;
use crate::server::AckMode;
use crate::timer::{Timers, send_after};
use crate::{
    ChunkDecoder, Command, ContentType, Frame, HeartBeat, Item, Mode, Transmit, Version,
    encode_transmit, view,
};

/// The client's side of one connection, without I/O and without a clock
///
/// Its methods are of the same kinds as those of [`server::Session`](crate::server::Session), and a driver
/// is written alike. CONNECT is the first transmit.
pub struct Session {
    config: Config,
    phase: Phase,
    version: Version,
    decoder: ChunkDecoder,
    eof: bool,
    /// The latest time that anybody told.
    now: Instant,
    events: VecDeque<Event>,
    outbox: Outbox,
    timers: Timers<5>,
    /// What the server's `heart-beat` header said.
    peer_heart_beat: HeartBeat,
    subscriptions: Subscriptions,
    transactions: HashSet<u64>,
    /// Receipts that were asked for and have not come, oldest first.
    receipts: VecDeque<(u64, Instant)>,
    /// How many of the last receipts have a deadline counted from a time told before they were asked for.
    undated: usize,
    /// The receipt of DISCONNECT.
    farewell: Option<u64>,
    next_receipt: u64,
    next_transaction: u64,
    dropped: u64,
}

/// The live subscriptions, by number and by what MESSAGE names them by
#[derive(Debug, Default)]
struct Subscriptions {
    names: HashMap<u64, Name>,
    by_id: HashMap<String, u64>,
    /// 1.0 servers may leave `subscription` out of MESSAGE.
    by_destination: HashMap<String, u64>,
    next: u64,
}

#[derive(Debug)]
struct Name {
    id: String,
    destination: String,
}

/// Where the session is in its life
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Open,
    /// DISCONNECT was sent
    Leaving,
    Closed,
}

/// Indices into the table of deadlines
mod timer {
    pub(super) const CONNECT: usize = 0;
    pub(super) const SEND: usize = 1;
    pub(super) const RECEIVE: usize = 2;
    pub(super) const RECEIPT: usize = 3;
    pub(super) const DISCONNECT: usize = 4;
}

impl Session {
    /// A session of a connection that was just made
    ///
    /// # Errors
    ///
    /// Where CONNECT cannot be written: a header of `config` holds CR, LF or NUL.
    pub fn new(config: Config, now: Instant) -> Result<Self, ClientError> {
        let connect = encode_transmit(&connect_frame(&config), Version::V1_2)?;
        let mut outbox = Outbox::default();
        outbox.push(connect);
        let mut timers = Timers::new(now);
        timers.set(timer::CONNECT, now, config.connect_timeout);
        Ok(Self {
            phase: Phase::Connecting,
            version: Version::V1_2,
            decoder: ChunkDecoder::new(config.mode, config.limits),
            eof: false,
            now,
            events: VecDeque::new(),
            outbox,
            timers,
            peer_heart_beat: HeartBeat::NONE,
            subscriptions: Subscriptions::default(),
            transactions: HashSet::new(),
            receipts: VecDeque::new(),
            undated: 0,
            farewell: None,
            next_receipt: 0,
            next_transaction: 0,
            dropped: 0,
            config,
        })
    }

    /// Takes octets as they were received, in pieces of any size
    pub fn handle_bytes(&mut self, now: Instant, octets: Bytes) {
        self.at(now);
        if octets.is_empty() || self.phase == Phase::Closed {
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
            self.end(CloseReason::ConnectTimeout);
        }
        if self.timers.is_due(timer::RECEIVE, now) {
            self.end(CloseReason::HeartBeatTimeout);
        }
        if self.timers.is_due(timer::DISCONNECT, now) {
            self.end(CloseReason::Disconnect { confirmed: false });
        }
        if self.timers.is_due(timer::RECEIPT, now) {
            while let Some((number, deadline)) = self.receipts.front().copied() {
                if deadline > now {
                    break;
                }
                self.receipts.pop_front();
                self.events.push_back(Event::ReceiptTimeout { receipt: ReceiptHandle { number } });
            }
            self.watch_receipts();
        }
        if self.timers.is_due(timer::SEND, now) {
            // What waits to be written is as good as a heart-beat, and one heart-beat is enough.
            if self.outbox.is_empty() {
                self.outbox.push(Transmit::heart_beat());
            }
            self.promise_life();
        }
    }

    /// The connection gives no more octets; frames received before are still processed
    pub fn handle_eof(&mut self, now: Instant) {
        self.at(now);
        self.eof = true;
        self.timers.stop(timer::RECEIVE);
    }

    /// The next event, decoded from what was received
    pub fn poll_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if self.phase == Phase::Closed {
                return None;
            }
            match self.decoder.decode() {
                Ok(Some(Item::Frame(frame))) => self.handle_frame(frame),
                Ok(Some(Item::HeartBeats(_))) => {}
                Ok(None) if !self.eof => return None,
                Ok(None) if self.phase == Phase::Leaving => {
                    self.end(CloseReason::Disconnect { confirmed: false });
                }
                Ok(None) => self.end(CloseReason::ConnectionLost),
                Err(error) => self.end(CloseReason::Malformed(error)),
            }
        }
    }

    /// The next frame or heart-beat to write
    ///
    /// Take one when the connection can be written to: what was taken counts as sent.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let transmit = self.outbox.pop();
        if transmit.is_some() {
            self.promise_life();
        }
        transmit
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Sends a message: `frame` is a SEND with `destination`
    ///
    /// `receipt` and `transaction` headers are written by the session, after those of the frame. With
    /// `receipt` an [`Event::Receipt`] of the returned handle follows, or an event that it will not come.
    ///
    /// # Errors
    ///
    /// Nothing was written.
    pub fn send(
        &mut self,
        frame: Frame,
        transaction: Option<&TransactionHandle>,
        receipt: bool,
    ) -> Result<Option<ReceiptHandle>, ClientError> {
        if frame.command() != Command::Send {
            return Err(ClientError::NotSend);
        }
        if frame.header("destination").is_none_or(|destination| destination.is_empty()) {
            return Err(ClientError::NoDestination);
        }
        let content_type = frame.header("content-type");
        if self.version == Version::V1_2
            && content_type.is_some_and(|value| ContentType::parse(&value).is_none())
        {
            return Err(ClientError::ContentType);
        }
        let frame = self.in_transaction(frame, transaction)?;
        self.write(frame, receipt)
    }

    /// Subscribes to `destination`; `headers` are added to the frame, `id` among them where it matters
    ///
    /// # Errors
    ///
    /// Nothing was written.
    pub fn subscribe(
        &mut self,
        destination: &str,
        ack: AckMode,
        headers: &[(&str, &str)],
        receipt: bool,
    ) -> Result<(SubscriptionHandle, Option<ReceiptHandle>), ClientError> {
        if destination.is_empty() {
            return Err(ClientError::NoDestination);
        }
        if ack == AckMode::ClientIndividual && self.version == Version::V1_0 {
            return Err(ClientError::Unsupported);
        }
        let number = self.subscriptions.next;
        let given = headers.iter().find(|(name, _)| *name == "id");
        let id = given.map_or_else(|| self.subscriptions.free_id(), |(_, id)| (*id).to_owned());
        if self.subscriptions.by_id.contains_key(&id) {
            return Err(ClientError::DuplicateId);
        }
        let mut frame = Frame::new(Command::Subscribe)
            .with_header("id", &id)
            .with_header("destination", destination)
            .with_header("ack", ack.as_str());
        for (name, value) in headers {
            if !matches!(*name, "id" | "destination" | "ack") {
                frame.push_header(name, value);
            }
        }
        let receipt = self.write(frame, receipt)?;
        self.subscriptions.next += 1;
        self.subscriptions.by_destination.insert(destination.to_owned(), number);
        self.subscriptions.by_id.insert(id.clone(), number);
        self.subscriptions.names.insert(number, Name { id, destination: destination.to_owned() });
        Ok((SubscriptionHandle { number }, receipt))
    }

    /// Ends a subscription; messages still under way are dropped
    ///
    /// # Errors
    ///
    /// Nothing was written.
    pub fn unsubscribe(
        &mut self,
        subscription: SubscriptionHandle,
        headers: &[(&str, &str)],
        receipt: bool,
    ) -> Result<Option<ReceiptHandle>, ClientError> {
        let number = subscription.number;
        let Some(name) = self.subscriptions.names.get(&number) else {
            return Err(ClientError::NoSubscription);
        };
        let mut frame = Frame::new(Command::Unsubscribe).with_header("id", &name.id);
        for (name, value) in headers {
            if *name != "id" {
                frame.push_header(name, value);
            }
        }
        let receipt = self.write(frame, receipt)?;
        self.subscriptions.remove(number);
        Ok(receipt)
    }

    /// Acknowledges a message, with what the version of the session names it by
    ///
    /// # Errors
    ///
    /// Nothing was written.
    pub fn ack(
        &mut self,
        message: &view::Message,
        transaction: Option<&TransactionHandle>,
        receipt: bool,
    ) -> Result<Option<ReceiptHandle>, ClientError> {
        self.settle(Command::Ack, message, transaction, receipt)
    }

    /// Says that a message was not consumed
    ///
    /// # Errors
    ///
    /// Nothing was written; 1.0 has no NACK.
    pub fn nack(
        &mut self,
        message: &view::Message,
        transaction: Option<&TransactionHandle>,
        receipt: bool,
    ) -> Result<Option<ReceiptHandle>, ClientError> {
        if self.version == Version::V1_0 {
            return Err(ClientError::Unsupported);
        }
        self.settle(Command::Nack, message, transaction, receipt)
    }

    /// Starts a transaction
    ///
    /// # Errors
    ///
    /// Nothing was written.
    pub fn begin(&mut self) -> Result<TransactionHandle, ClientError> {
        let number = self.next_transaction;
        let frame = Frame::new(Command::Begin).with_header("transaction", &transaction_id(number));
        self.write(frame, false)?;
        self.next_transaction += 1;
        self.transactions.insert(number);
        Ok(TransactionHandle { number })
    }

    /// Applies a transaction
    ///
    /// # Errors
    ///
    /// Nothing was written, and the transaction is lost with the session.
    #[allow(clippy::needless_pass_by_value, reason = "a transaction ends once")]
    pub fn commit(
        &mut self,
        transaction: TransactionHandle,
        receipt: bool,
    ) -> Result<Option<ReceiptHandle>, ClientError> {
        self.finish(Command::Commit, &transaction, receipt)
    }

    /// Discards a transaction
    ///
    /// # Errors
    ///
    /// Nothing was written, and the transaction is lost with the session.
    #[allow(clippy::needless_pass_by_value, reason = "a transaction ends once")]
    pub fn abort(
        &mut self,
        transaction: TransactionHandle,
        receipt: bool,
    ) -> Result<Option<ReceiptHandle>, ClientError> {
        self.finish(Command::Abort, &transaction, receipt)
    }

    /// Leaves: sends DISCONNECT with a receipt and ends once it is answered, or not in time
    ///
    /// Nothing is sent after it. Before CONNECTED it ends the session at once.
    pub fn disconnect(&mut self, now: Instant) {
        self.at(now);
        match self.phase {
            Phase::Connecting => self.end(CloseReason::Disconnect { confirmed: false }),
            Phase::Open => {
                let number = self.next_receipt;
                self.next_receipt += 1;
                let frame =
                    Frame::new(Command::Disconnect).with_header("receipt", &receipt_id(number));
                if let Ok(transmit) = encode_transmit(&frame, self.version) {
                    self.outbox.push(transmit);
                }
                self.farewell = Some(number);
                self.phase = Phase::Leaving;
                self.timers.stop(timer::SEND);
                self.timers.set(timer::DISCONNECT, self.now, self.config.disconnect_timeout);
            }
            Phase::Leaving | Phase::Closed => {}
        }
    }

    /// Octets that wait to be written
    pub const fn queued(&self) -> usize {
        self.outbox.octets()
    }

    /// Whether the session is open for commands
    pub fn is_connected(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether the session has ended; [`Event::Closed`] may still be to come
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// The version, once connected
    pub fn version(&self) -> Option<Version> {
        (self.phase != Phase::Connecting).then_some(self.version)
    }

    /// Messages that were dropped because their subscription was unknown or a required header missing
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn at(&mut self, now: Instant) {
        self.now = self.now.max(now);
        let undated = std::mem::take(&mut self.undated);
        if let Some(deadline) = self.now.checked_add(self.config.receipt_timeout) {
            for (_, receipt) in self.receipts.iter_mut().rev().take(undated) {
                *receipt = deadline;
            }
            self.watch_receipts();
        }
    }

    fn handle_frame(&mut self, frame: Frame) {
        match (frame.command(), self.phase) {
            (Command::Error, _) => self.handle_error(frame),
            (Command::Connected, Phase::Connecting) => self.handle_connected(frame),
            (_, Phase::Connecting) => {
                self.end(CloseReason::Protocol("the first frame is neither CONNECTED nor ERROR"));
            }
            (Command::Message, _) => self.handle_message(frame),
            (Command::Receipt, _) => self.handle_receipt(frame),
            (Command::Connected, _) => {
                self.end(CloseReason::Protocol("CONNECTED in an open session"));
            }
            (_, _) => self.end(CloseReason::Protocol("a server does not send this command")),
        }
    }

    fn handle_connected(&mut self, frame: Frame) {
        let version = match frame.header("version") {
            None => Some(Version::V1_0),
            Some(token) => Version::from_token(&token),
        };
        let Some(version) = version.filter(|it| self.config.versions.contains(*it)) else {
            self.end(CloseReason::Protocol("CONNECTED names a version that was not offered"));
            return;
        };
        let heart_beat = match frame.header("heart-beat").filter(|_| version > Version::V1_0) {
            None => Some(HeartBeat::NONE),
            Some(value) => HeartBeat::parse(&value),
        };
        let heart_beat = match (heart_beat, self.config.mode) {
            (Some(heart_beat), _) => heart_beat,
            (None, Mode::Lenient) => HeartBeat::NONE,
            (None, Mode::Strict) => {
                self.end(CloseReason::Protocol("malformed heart-beat header"));
                return;
            }
        };
        self.version = version;
        self.decoder.set_version(version);
        self.peer_heart_beat = heart_beat;
        self.phase = Phase::Open;
        self.timers.stop(timer::CONNECT);
        self.promise_life();
        self.expect_life();
        if let Ok(connected) = view::Connected::try_from(frame) {
            self.events.push_back(Event::Connected { connected, version, heart_beat });
        }
    }

    fn handle_message(&mut self, frame: Frame) {
        let is_complete = frame.has_header("destination") && frame.has_header("message-id");
        let number = match (frame.header("subscription"), frame.header("destination")) {
            (Some(id), _) => self.subscriptions.by_id.get(&*id),
            (None, Some(destination)) if self.version == Version::V1_0 => {
                self.subscriptions.by_destination.get(&*destination)
            }
            (None, _) => None,
        };
        let (true, Some(number)) = (is_complete, number) else {
            self.dropped += 1;
            return;
        };
        let subscription = SubscriptionHandle { number: *number };
        if let Ok(message) = view::Message::try_from(frame) {
            self.events.push_back(Event::Message { subscription, message });
        }
    }

    fn handle_receipt(&mut self, frame: Frame) {
        let number = frame.header("receipt-id").and_then(|id| receipt_number(&id));
        if number.is_some() && number == self.farewell {
            self.end(CloseReason::Disconnect { confirmed: true });
            return;
        }
        // One that nobody waits for (any more) means nothing.
        let Some(receipt) = number.and_then(|number| self.forget_receipt(number)) else { return };
        if let Ok(frame) = view::Receipt::try_from(frame) {
            self.events.push_back(Event::Receipt { receipt, frame });
        }
    }

    fn handle_error(&mut self, frame: Frame) {
        let number = frame.header("receipt-id").and_then(|id| receipt_number(&id));
        let receipt = number.and_then(|number| self.forget_receipt(number));
        if let Ok(error) = view::Error::try_from(frame) {
            self.events.push_back(Event::Error { error, receipt });
        }
        self.end(CloseReason::Error);
    }

    /// Removes a receipt that was waited for
    fn forget_receipt(&mut self, number: u64) -> Option<ReceiptHandle> {
        let index = self.receipts.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.receipts.remove(index);
        self.watch_receipts();
        Some(ReceiptHandle { number })
    }

    fn watch_receipts(&mut self) {
        match self.receipts.front() {
            Some((_, deadline)) => {
                self.timers.set(timer::RECEIPT, *deadline, std::time::Duration::ZERO);
            }
            None => self.timers.stop(timer::RECEIPT),
        }
    }

    fn in_transaction(
        &self,
        mut frame: Frame,
        transaction: Option<&TransactionHandle>,
    ) -> Result<Frame, ClientError> {
        if let Some(TransactionHandle { number }) = transaction {
            if !self.transactions.contains(number) {
                return Err(ClientError::NoTransaction);
            }
            frame.push_header("transaction", &transaction_id(*number));
        }
        Ok(frame)
    }

    fn settle(
        &mut self,
        command: Command,
        message: &view::Message,
        transaction: Option<&TransactionHandle>,
        receipt: bool,
    ) -> Result<Option<ReceiptHandle>, ClientError> {
        let frame = Frame::new(command);
        let message_id = || message.message_id().ok_or(ClientError::NoAckId);
        let frame = match self.version {
            Version::V1_0 => frame.with_header("message-id", &message_id()?),
            Version::V1_1 => {
                let subscription = message.subscription().ok_or(ClientError::NoAckId)?;
                frame
                    .with_header("message-id", &message_id()?)
                    .with_header("subscription", &subscription)
            }
            Version::V1_2 => frame.with_header("id", &message.ack().ok_or(ClientError::NoAckId)?),
        };
        let frame = self.in_transaction(frame, transaction)?;
        self.write(frame, receipt)
    }

    fn finish(
        &mut self,
        command: Command,
        transaction: &TransactionHandle,
        receipt: bool,
    ) -> Result<Option<ReceiptHandle>, ClientError> {
        if !self.transactions.remove(&transaction.number) {
            return Err(ClientError::NoTransaction);
        }
        let id = transaction_id(transaction.number);
        self.write(Frame::new(command).with_header("transaction", &id), receipt)
    }

    fn write(
        &mut self,
        mut frame: Frame,
        receipt: bool,
    ) -> Result<Option<ReceiptHandle>, ClientError> {
        if self.phase != Phase::Open {
            return Err(ClientError::NotConnected);
        }
        let number = self.next_receipt;
        if receipt {
            frame.push_header("receipt", &receipt_id(number));
        }
        let transmit = encode_transmit(&frame, self.version)?;
        let queued = self.outbox.octets();
        if queued > 0 && queued + transmit.len() > self.config.max_queued {
            return Err(ClientError::QueueFull);
        }
        self.outbox.push(transmit);
        if !receipt {
            return Ok(None);
        }
        self.next_receipt += 1;
        if let Some(deadline) = self.now.checked_add(self.config.receipt_timeout) {
            self.receipts.push_back((number, deadline));
            self.undated += 1;
            self.watch_receipts();
        }
        Ok(Some(ReceiptHandle { number }))
    }

    /// Something was sent: the next heart-beat can wait
    fn promise_life(&mut self) {
        if self.phase == Phase::Open {
            if let Some(interval) = self.config.heart_beat.outgoing(self.peer_heart_beat) {
                self.timers.set(timer::SEND, self.now, send_after(interval));
            }
        }
    }

    /// Something was received: the next octet can wait
    fn expect_life(&mut self) {
        if matches!(self.phase, Phase::Open | Phase::Leaving) && !self.eof {
            if let Some(interval) = self.config.heart_beat.incoming(self.peer_heart_beat) {
                let patience = interval.saturating_mul(self.config.heart_beat_tolerance.max(1));
                self.timers.set(timer::RECEIVE, self.now, patience);
            }
        }
    }

    fn end(&mut self, reason: CloseReason) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closed;
        self.timers.stop_all();
        let receipts = std::mem::take(&mut self.receipts);
        let lost = receipts.into_iter().map(|(number, _)| ReceiptHandle { number }).collect();
        self.subscriptions = Subscriptions::default();
        self.transactions.clear();
        self.events.push_back(Event::Closed { reason, lost });
    }
}

impl Subscriptions {
    /// An identifier that no live subscription has
    fn free_id(&self) -> String {
        // The caller may have given one of these himself.
        (self.next..)
            .map(|number| format!("sub-{number}"))
            .find(|id| !self.by_id.contains_key(id))
            .unwrap_or_default()
    }

    fn remove(&mut self, number: u64) {
        let Some(name) = self.names.remove(&number) else { return };
        self.by_id.remove(&name.id);
        if self.by_destination.get(&name.destination) == Some(&number) {
            self.by_destination.remove(&name.destination);
        }
    }
}

fn connect_frame(config: &Config) -> Frame {
    let command = if config.stomp_command { Command::Stomp } else { Command::Connect };
    let mut frame = Frame::new(command)
        .with_header("accept-version", &config.versions.to_string())
        .with_header("host", &config.host)
        .with_header("heart-beat", &config.heart_beat.to_string());
    if let Some(login) = &config.login {
        frame.push_header("login", login);
    }
    if let Some(passcode) = &config.passcode {
        frame.push_header("passcode", passcode);
    }
    for (name, value) in &config.headers {
        frame.push_header(name, value);
    }
    frame
}

fn receipt_id(number: u64) -> String {
    format!("r-{number}")
}

fn receipt_number(id: &str) -> Option<u64> {
    id.strip_prefix("r-")?.parse().ok()
}

fn transaction_id(number: u64) -> String {
    format!("tx-{number}")
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("config", &self.config)
            .field("phase", &self.phase)
            .field("version", &self.version)
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}
