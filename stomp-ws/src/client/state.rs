use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time;

use bytes::Bytes;
use stomp_codec::client::{self, CloseReason, Event, ReceiptHandle, Session, SubscriptionHandle};
use stomp_codec::{Transmit, Version, view};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::{ClientError, Closed, ServerError};
use crate::driver::{Driver, Machine, Next, Tell};
use crate::{CloseCode, TransportError};

/// Octets that may wait to be written before callers wait for room
const HIGH_WATER: usize = 1024 * 1024;

/// What the handles and the task of one client share
///
/// Handles lock the session, give it a command and wake the task: commands of many callers leave in one write.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Wakes the task.
    wake: Notify,
    /// Wakes callers that wait for room.
    room: Notify,
    /// Octets of messages that wait in subscriptions.
    buffered: AtomicUsize,
    buffer: usize,
    closed: watch::Sender<Option<Closed>>,
}

#[derive(Debug)]
struct State {
    session: Session,
    connected: Option<oneshot::Sender<(view::Connected, Version)>>,
    receipts: HashMap<ReceiptHandle, oneshot::Sender<Result<view::Receipt, ClientError>>>,
    subscriptions: HashMap<SubscriptionHandle, mpsc::UnboundedSender<view::Message>>,
    error: Option<ServerError>,
    reason: Option<CloseReason>,
}

pub(super) type ReceiptReceiver = oneshot::Receiver<Result<view::Receipt, ClientError>>;

impl Shared {
    pub(super) fn new(
        session: Session,
        buffer: usize,
        connected: oneshot::Sender<(view::Connected, Version)>,
    ) -> Self {
        Self {
            state: Mutex::new(State {
                session,
                connected: Some(connected),
                receipts: HashMap::new(),
                subscriptions: HashMap::new(),
                error: None,
                reason: None,
            }),
            wake: Notify::new(),
            room: Notify::new(),
            buffered: AtomicUsize::new(0),
            buffer,
            closed: watch::Sender::new(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere while the lock was held leaves a session that is at worst ended early.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the session a command once there is room for what it writes.
    pub(super) async fn command(
        &self,
        command: impl FnOnce(&mut Session) -> Result<Option<ReceiptHandle>, client::ClientError>,
    ) -> Result<Option<ReceiptReceiver>, ClientError> {
        self.room().await?;
        let mut state = self.lock();
        let receipt = command(&mut state.session)?.map(|handle| state.expect(handle));
        drop(state);
        self.wake.notify_one();
        Ok(receipt)
    }

    /// Gives the session a SUBSCRIBE once there is room for it.
    pub(super) async fn subscribe(
        &self,
        command: impl FnOnce(
            &mut Session,
        )
            -> Result<(SubscriptionHandle, Option<ReceiptHandle>), client::ClientError>,
    ) -> Result<
        (SubscriptionHandle, mpsc::UnboundedReceiver<view::Message>, Option<ReceiptReceiver>),
        ClientError,
    > {
        self.room().await?;
        // Bounded by `buffer`, over all subscriptions together.
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.lock();
        let (subscription, receipt) = command(&mut state.session)?;
        state.subscriptions.insert(subscription, sender);
        let receipt = receipt.map(|handle| state.expect(handle));
        drop(state);
        self.wake.notify_one();
        Ok((subscription, receiver, receipt))
    }

    /// Gives the session a command now, whatever waits to be written.
    pub(super) fn command_now(&self, command: impl FnOnce(&mut Session)) {
        command(&mut self.lock().session);
        self.wake.notify_one();
    }

    /// Forgets a subscription: what still comes for it is dropped.
    pub(super) fn forget(&self, subscription: SubscriptionHandle) {
        self.lock().subscriptions.remove(&subscription);
    }

    /// A message was taken out of a subscription.
    pub(super) fn taken(&self, message: &view::Message) {
        let octets = message.frame().size();
        let before = self.buffered.fetch_sub(octets, Ordering::Relaxed);
        if before >= self.buffer && before - octets < self.buffer {
            self.wake.notify_one();
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.lock().session.is_connected()
    }

    pub(super) async fn closed(&self) -> Closed {
        let mut closed = self.closed.subscribe();
        let closed = closed.wait_for(Option::is_some).await.ok().and_then(|closed| closed.clone());
        closed.unwrap_or_else(|| self.lock().describe(None, None))
    }

    async fn room(&self) -> Result<(), ClientError> {
        loop {
            let room = self.room.notified();
            let ended = {
                let state = self.lock();
                if state.session.queued() < HIGH_WATER && !state.session.is_closed() {
                    return Ok(());
                }
                state.session.is_closed()
            };
            if ended {
                return Err(ClientError::Closed(self.closed().await));
            }
            room.await;
        }
    }

    fn on_event(&self, event: Event) {
        let mut state = self.lock();
        match event {
            Event::Connected { connected, version, .. } => {
                if let Some(waiting) = state.connected.take() {
                    // Whoever no longer waits has dropped the client, and the session ends.
                    let _ = waiting.send((connected, version));
                }
            }
            Event::Message { subscription, message } => {
                let octets = message.frame().size();
                if let Some(sender) = state.subscriptions.get(&subscription) {
                    self.buffered.fetch_add(octets, Ordering::Relaxed);
                    if sender.send(message).is_err() {
                        self.buffered.fetch_sub(octets, Ordering::Relaxed);
                    }
                }
            }
            Event::Receipt { receipt, frame } => state.answer(receipt, Ok(frame)),
            Event::ReceiptTimeout { receipt } => {
                state.answer(receipt, Err(ClientError::ReceiptTimeout));
            }
            Event::Error { error, receipt } => {
                let error = ServerError::new(error);
                if let Some(receipt) = receipt {
                    state.answer(receipt, Err(ClientError::Server(error.clone())));
                }
                state.error = Some(error);
            }
            Event::Closed { reason, .. } => {
                state.reason = Some(reason);
            }
            _ => {}
        }
    }

    /// Tells everyone that waits how the connection ended.
    fn announce(&self, driver: &Driver<Arc<Self>>) {
        let mut state = self.lock();
        let closed = state.describe(
            driver.transport.peer_close().cloned(),
            driver.error.as_ref().map(ToString::to_string),
        );
        for (_, waiting) in state.receipts.drain() {
            let _ = waiting.send(Err(ClientError::Closed(closed.clone())));
        }
        // Ends the subscriptions once what waits in them was taken.
        state.subscriptions.clear();
        state.connected = None;
        drop(state);
        self.closed.send_replace(Some(closed));
        self.room.notify_waiters();
    }
}

impl State {
    fn expect(&mut self, handle: ReceiptHandle) -> ReceiptReceiver {
        let (sender, receiver) = oneshot::channel();
        self.receipts.insert(handle, sender);
        receiver
    }

    fn answer(&mut self, handle: ReceiptHandle, outcome: Result<view::Receipt, ClientError>) {
        if let Some(waiting) = self.receipts.remove(&handle) {
            // Nobody has to wait for a receipt.
            let _ = waiting.send(outcome);
        }
    }

    fn describe(&self, peer_close: Option<crate::PeerClose>, transport: Option<String>) -> Closed {
        let reason = self.reason.clone().unwrap_or(CloseReason::ConnectionLost);
        Closed { reason, error: self.error.clone(), peer_close, transport }
    }
}

/// Runs one connection to its end.
pub(super) async fn run(mut driver: Driver<Arc<Shared>>) {
    let shared = Arc::clone(&driver.machine);
    loop {
        let next = tokio::select! {
            next = driver.next(Tell::Nothing) => next,
            () = shared.wake.notified() => continue,
        };
        match next {
            Some(Next::Event(event)) => {
                let graceful = match &event {
                    Event::Closed { reason, .. } => {
                        Some(matches!(reason, CloseReason::Disconnect { .. } | CloseReason::Error))
                    }
                    _ => None,
                };
                shared.on_event(event);
                // A server that still talks is about to close, and its code is worth the wait. One that is gone
                // may let the closing handshake run into its limit: nobody should wait for that.
                if graceful == Some(false) {
                    shared.announce(&driver);
                }
            }
            Some(Next::Room) => {}
            None => break,
        }
    }
    if shared.closed.borrow().is_none() {
        shared.announce(&driver);
    }
}

impl Machine for Arc<Shared> {
    type Event = Event;

    fn handle_bytes(&mut self, now: time::Instant, octets: Bytes) {
        self.lock().session.handle_bytes(now, octets);
    }

    fn handle_timeout(&mut self, now: time::Instant) {
        self.lock().session.handle_timeout(now);
    }

    fn handle_eof(&mut self, now: time::Instant) {
        self.lock().session.handle_eof(now);
    }

    fn handle_refused(&mut self, now: time::Instant, _: &TransportError) {
        self.lock().session.handle_eof(now);
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.lock().session.poll_event()
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        let mut state = self.lock();
        let before = state.session.queued();
        let transmit = state.session.poll_transmit();
        if before >= HIGH_WATER && state.session.queued() < HIGH_WATER {
            self.room.notify_waiters();
        }
        transmit
    }

    fn poll_timeout(&self) -> Option<time::Instant> {
        self.lock().session.poll_timeout()
    }

    fn queued(&self) -> usize {
        self.lock().session.queued()
    }

    fn wants_input(&self) -> bool {
        self.buffered.load(Ordering::Relaxed) < self.buffer
    }

    fn ending(event: &Event) -> Option<(CloseCode, String)> {
        let Event::Closed { reason, .. } = event else { return None };
        Some(match reason {
            CloseReason::Malformed(error) if error.kind().is_limit() => {
                (CloseCode::TOO_BIG, reason.to_string())
            }
            CloseReason::Malformed(_) | CloseReason::Protocol(_) => {
                (CloseCode::PROTOCOL_ERROR, reason.to_string())
            }
            CloseReason::HeartBeatTimeout | CloseReason::ConnectTimeout => {
                (CloseCode::POLICY, reason.to_string())
            }
            _ => (CloseCode::NORMAL, String::new()),
        })
    }
}

pub(super) fn now() -> time::Instant {
    Instant::now().into_std()
}
