//! One STOMP connection: the protocol's side of it, shared by all who use it, and the task that owns
//! the socket.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes, BytesMut};
use stomp_codec::client::{
    self, ClientError, Event, ReceiptHandle, SubscriptionHandle, TransactionHandle,
};
use stomp_codec::server::AckMode;
use stomp_codec::{Frame, view};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use crate::BrokerError;
use crate::local::lock;

use super::config::{Address, StompRelayConfig};
use super::protocol::{protocol, refused, words};

/// How much may wait to be written before writers are asked to wait, in octets.
const HIGH_WATER: usize = 1 << 20;
/// How much is read from the socket at once, in octets.
const READ: usize = 64 << 10;
/// How many slices are written to the socket at once.
const SLICES: usize = 32;

/// What messages of a subscription are handed to, in order.
pub(super) type Handler = Box<dyn Fn(Vec<view::Message>) + Send + Sync>;

/// An open session; dropping it cuts the connection
pub(super) struct Session {
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    state: Mutex<State>,
    /// Told when something waits to be written.
    written: Notify,
    /// Told when little waits any more.
    drained: Notify,
    lost: watch::Sender<Option<Arc<str>>>,
}

struct State {
    session: client::Session,
    receipts: HashMap<ReceiptHandle, oneshot::Sender<Result<(), BrokerError>>>,
    handlers: HashMap<SubscriptionHandle, Arc<Handler>>,
    connecting: Option<oneshot::Sender<Result<String, BrokerError>>>,
    /// What the server said when it refused a frame.
    refusal: Option<Arc<str>>,
    /// Taken from the session and not yet written to the socket.
    outgoing: usize,
}

/// A receipt that will come, or fail.
pub(super) struct Receipt {
    answer: Option<oneshot::Receiver<Result<(), BrokerError>>>,
    lost: watch::Receiver<Option<Arc<str>>>,
}

impl Session {
    /// Connects, and gives what the server calls itself.
    pub(super) async fn connect(
        config: &StompRelayConfig,
        address: &Address,
    ) -> Result<(Self, String), BrokerError> {
        let disconnected =
            |error: io::Error| BrokerError::Disconnected { reason: error.to_string().into() };
        let place = (address.host.as_str(), address.port);
        let stream = TcpStream::connect(place).await.map_err(disconnected)?;
        stream.set_nodelay(true).map_err(disconnected)?;
        let now = Instant::now().into_std();
        let session = client::Session::new(protocol(config, address), now)
            .map_err(|error| refused(&error))?;
        let (connecting, connected) = oneshot::channel();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                session,
                receipts: HashMap::new(),
                handlers: HashMap::new(),
                connecting: Some(connecting),
                refusal: None,
                outgoing: 0,
            }),
            written: Notify::new(),
            drained: Notify::new(),
            lost: watch::Sender::new(None),
        });
        let task = tokio::spawn(Arc::clone(&shared).run(stream)).abort_handle();
        let session = Self { shared, task };
        match connected.await {
            Ok(outcome) => outcome.map(|server| (session, server)),
            Err(_) => Err(session.shared.disconnected()),
        }
    }

    /// Writes frames, all of them together and in order.
    pub(super) fn write<T>(
        &self,
        write: impl FnOnce(&mut Writer<'_>) -> Result<T, ClientError>,
    ) -> Result<T, BrokerError> {
        let mut state = lock(&self.shared.state);
        let outcome = write(&mut Writer { state: &mut state, shared: &self.shared });
        drop(state);
        self.shared.written.notify_one();
        outcome.map_err(|error| match error {
            ClientError::NotConnected => self.shared.disconnected(),
            other => refused(&other),
        })
    }

    /// Waits until there is room for more.
    pub(super) async fn room(&self) {
        loop {
            let drained = self.shared.drained.notified();
            if lock(&self.shared.state).has_room() {
                return;
            }
            drained.await;
        }
    }

    /// Resolves with the reason when the session has ended.
    pub(super) async fn lost(&self) -> Arc<str> {
        let mut lost = self.shared.lost.subscribe();
        let reason = lost.wait_for(Option::is_some).await;
        reason.ok().and_then(|reason| reason.clone()).unwrap_or_else(|| "closed".into())
    }

    /// What the server said when it refused a frame: that of the only one, where there is one.
    pub(super) fn refusal(&self) -> Option<Arc<str>> {
        lock(&self.shared.state).refusal.clone()
    }

    /// How many messages came for subscriptions that had ended.
    pub(super) fn dropped(&self) -> u64 {
        lock(&self.shared.state).session.dropped()
    }

    /// Leaves in order.
    pub(super) async fn close(&self) {
        lock(&self.shared.state).session.disconnect(Instant::now().into_std());
        self.shared.written.notify_one();
        self.lost().await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// Writes frames of one session.
pub(super) struct Writer<'a> {
    state: &'a mut State,
    shared: &'a Shared,
}

impl Writer<'_> {
    pub(super) fn send(&mut self, frame: Frame) -> Result<(), ClientError> {
        self.state.session.send(frame, None, false).map(drop)
    }

    pub(super) fn send_confirmed(&mut self, frame: Frame) -> Result<Receipt, ClientError> {
        let receipt = self.state.session.send(frame, None, true)?;
        Ok(self.receipt(receipt))
    }

    pub(super) fn begin(&mut self) -> Result<TransactionHandle, ClientError> {
        self.state.session.begin()
    }

    pub(super) fn send_within(
        &mut self,
        transaction: &TransactionHandle,
        frame: Frame,
    ) -> Result<(), ClientError> {
        self.state.session.send(frame, Some(transaction), false).map(drop)
    }

    pub(super) fn ack_within(
        &mut self,
        transaction: &TransactionHandle,
        message: &view::Message,
    ) -> Result<(), ClientError> {
        self.state.session.ack(message, Some(transaction), false).map(drop)
    }

    pub(super) fn commit(
        &mut self,
        transaction: TransactionHandle,
    ) -> Result<Receipt, ClientError> {
        let receipt = self.state.session.commit(transaction, true)?;
        Ok(self.receipt(receipt))
    }

    pub(super) fn ack(&mut self, message: &view::Message) -> Result<(), ClientError> {
        self.state.session.ack(message, None, false).map(drop)
    }

    pub(super) fn ack_confirmed(
        &mut self,
        message: &view::Message,
    ) -> Result<Receipt, ClientError> {
        let receipt = self.state.session.ack(message, None, true)?;
        Ok(self.receipt(receipt))
    }

    pub(super) fn nack(&mut self, message: &view::Message) -> Result<(), ClientError> {
        self.state.session.nack(message, None, false).map(drop)
    }

    pub(super) fn nack_confirmed(
        &mut self,
        message: &view::Message,
    ) -> Result<Receipt, ClientError> {
        let receipt = self.state.session.nack(message, None, true)?;
        Ok(self.receipt(receipt))
    }

    /// Frames that do nothing; what the server had to send before it saw them comes before the
    /// receipt.
    pub(super) fn nothing(&mut self) -> Result<Receipt, ClientError> {
        let transaction = self.begin()?;
        let receipt = self.state.session.abort(transaction, true)?;
        Ok(self.receipt(receipt))
    }

    pub(super) fn subscribe(
        &mut self,
        destination: &str,
        ack: AckMode,
        headers: &[(&str, &str)],
        handler: Handler,
    ) -> Result<(SubscriptionHandle, Receipt), ClientError> {
        let (handle, receipt) = self.state.session.subscribe(destination, ack, headers, true)?;
        self.state.handlers.insert(handle, Arc::new(handler));
        Ok((handle, self.receipt(receipt)))
    }

    pub(super) fn unsubscribe(
        &mut self,
        subscription: SubscriptionHandle,
        headers: &[(&str, &str)],
    ) -> Result<Receipt, ClientError> {
        let receipt = self.state.session.unsubscribe(subscription, headers, true)?;
        self.state.handlers.remove(&subscription);
        Ok(self.receipt(receipt))
    }

    fn receipt(&mut self, handle: Option<ReceiptHandle>) -> Receipt {
        let lost = self.shared.lost.subscribe();
        let answer = handle.map(|handle| {
            let (sender, answer) = oneshot::channel();
            self.state.receipts.insert(handle, sender);
            answer
        });
        Receipt { answer, lost }
    }
}

impl Receipt {
    /// Waits for it.
    ///
    /// # Errors
    ///
    /// `Refused` with what the server said of the frame, or `Disconnected`.
    pub(super) async fn received(self) -> Result<(), BrokerError> {
        let Some(answer) = self.answer else { return Ok(()) };
        answer.await.unwrap_or_else(|_| {
            let reason = self.lost.borrow().clone();
            Err(BrokerError::Disconnected { reason: reason.unwrap_or_else(|| "closed".into()) })
        })
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.waiting() < HIGH_WATER || self.session.is_closed()
    }

    /// Octets that wait to be written.
    const fn waiting(&self) -> usize {
        self.session.queued() + self.outgoing
    }
}

/// What came in one turn, to be handed on when the session is free again.
#[derive(Default)]
struct Turn {
    messages: Vec<(Arc<Handler>, Vec<view::Message>)>,
    answers: Vec<Answer>,
}

/// What becomes of a frame, and who waits to know.
struct Answer {
    waiting: oneshot::Sender<Result<(), BrokerError>>,
    outcome: Result<(), BrokerError>,
}

impl Shared {
    async fn run(self: Arc<Self>, stream: TcpStream) {
        let (reader, writer) = stream.into_split();
        let outcome = self.drive(reader, writer).await;
        let reason: Arc<str> = match outcome {
            Ok(()) => "closed".into(),
            Err(error) => error.to_string().into(),
        };
        self.lose(&reason);
        let mut state = lock(&self.state);
        // Whoever waits is told by this.
        let State { receipts, handlers, connecting, .. } = &mut *state;
        let ended = (std::mem::take(receipts), std::mem::take(handlers), connecting.take());
        drop(state);
        drop(ended);
        self.drained.notify_waiters();
    }

    /// Moves octets until the session has ended.
    async fn drive(&self, mut reader: OwnedReadHalf, mut writer: OwnedWriteHalf) -> io::Result<()> {
        let mut outgoing = VecDeque::<Bytes>::new();
        let mut incoming = BytesMut::new();
        let mut open = true;
        loop {
            let (ended, deadline) = self.turn(&mut outgoing);
            if ended {
                return Ok(());
            }
            let due = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = slices.iter_mut().zip(&outgoing).map(|(slot, octets)| {
                *slot = IoSlice::new(octets);
            });
            let filled = filled.count();
            incoming.reserve(READ);
            tokio::select! {
                count = writer.write_vectored(&slices[..filled]), if filled > 0 => {
                    self.sent(&mut outgoing, count?);
                }
                count = reader.read_buf(&mut incoming), if open => {
                    acknowledge_soon(reader.as_ref());
                    let now = Instant::now().into_std();
                    let mut state = lock(&self.state);
                    if count? == 0 {
                        open = false;
                        state.session.handle_eof(now);
                    } else {
                        state.session.handle_bytes(now, incoming.split().freeze());
                    }
                }
                () = due => lock(&self.state).session.handle_timeout(Instant::now().into_std()),
                () = self.written.notified() => {}
            }
        }
    }

    /// Hands on what has come, and takes what is to be written.
    fn turn(&self, outgoing: &mut VecDeque<Bytes>) -> (bool, Option<std::time::Instant>) {
        let mut turn = Turn::default();
        let mut state = lock(&self.state);
        while let Some(event) = state.session.poll_event() {
            self.event(&mut state, event, &mut turn);
        }
        while outgoing.len() < SLICES {
            let Some(transmit) = state.session.poll_transmit() else { break };
            state.outgoing += transmit.len();
            outgoing.extend(transmit.slices().cloned());
        }
        let ended = state.session.is_closed();
        let deadline = state.session.poll_timeout();
        drop(state);
        // A receipt tells that a subscription is live, or gone: messages first.
        for (handler, messages) in turn.messages {
            handler(messages);
        }
        for Answer { waiting, outcome } in turn.answers {
            let _nobody_waits = waiting.send(outcome);
        }
        (ended, deadline)
    }

    fn event(&self, state: &mut State, event: Event, turn: &mut Turn) {
        match event {
            Event::Connected { connected, .. } => {
                if let Some(waiting) = state.connecting.take() {
                    let server = connected.server().unwrap_or_default();
                    let _nobody_waits = waiting.send(Ok(server.into()));
                }
            }
            Event::Message { subscription, message } => {
                let Some(handler) = state.handlers.get(&subscription) else { return };
                match turn.messages.last_mut() {
                    Some((last, messages)) if Arc::ptr_eq(last, handler) => messages.push(message),
                    _ => turn.messages.push((Arc::clone(handler), vec![message])),
                }
            }
            Event::Receipt { receipt, .. } => {
                let waiting = state.receipts.remove(&receipt);
                turn.answers.extend(waiting.map(|waiting| Answer { waiting, outcome: Ok(()) }));
            }
            Event::ReceiptTimeout { .. } => {
                self.lose(&"the broker does not answer".into());
                state.session.handle_eof(Instant::now().into_std());
            }
            Event::Error { error, receipt } => {
                let reason = words(&error);
                self.lose(&reason);
                state.refusal = Some(Arc::clone(&reason));
                let refused = BrokerError::Refused { reason };
                if let Some(waiting) = state.connecting.take() {
                    let _nobody_waits = waiting.send(Err(refused));
                } else if let Some(waiting) = receipt.and_then(|one| state.receipts.remove(&one)) {
                    turn.answers.push(Answer { waiting, outcome: Err(refused) });
                }
            }
            Event::Closed { reason, .. } => self.lose(&reason.to_string().into()),
            _ => {}
        }
    }

    /// Notes what was written to the socket.
    fn sent(&self, outgoing: &mut VecDeque<Bytes>, count: usize) {
        let mut left = count;
        while let Some(first) = outgoing.front_mut() {
            let taken = left.min(first.len());
            first.advance(taken);
            left -= taken;
            if !first.is_empty() {
                break;
            }
            outgoing.pop_front();
        }
        let mut state = lock(&self.state);
        state.outgoing -= count;
        if state.waiting() < HIGH_WATER {
            self.drained.notify_waiters();
        }
    }

    /// The first reason counts.
    fn lose(&self, reason: &Arc<str>) {
        self.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            if first {
                *lost = Some(Arc::clone(reason));
            }
            first
        });
    }

    fn disconnected(&self) -> BrokerError {
        let reason = self.lost.borrow().clone();
        BrokerError::Disconnected { reason: reason.unwrap_or_else(|| "closed".into()) }
    }
}

/// The broker writes frame by frame and waits, as TCP does by default, for the acknowledgement of the
/// last before it sends the next; the kernel keeps that back for 40 ms unless it is told otherwise,
/// again and again.
fn acknowledge_soon(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    let _only_slower = rustix::net::sockopt::set_tcp_quickack(stream, true);
    #[cfg(not(target_os = "linux"))]
    let _ = stream;
}
