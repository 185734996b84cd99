use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::{
    Accepted, Config, DeliverError, ErrorReply, Event, OpenError, ReceiptToken, SubscriptionId,
};
use crate::server::AckMode;
use crate::{SharedMessage, Transmit, Version};

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
    config: Arc<Config>,
    now: Instant,
    events: VecDeque<Event<T>>,
    transmits: VecDeque<Transmit>,
}

impl<T> Session<T> {
    /// A session of a connection that was just made
    pub fn new(config: impl Into<Arc<Config>>, now: Instant) -> Self {
        Self { config: config.into(), now, events: VecDeque::new(), transmits: VecDeque::new() }
    }

    /// Takes octets as they were received, in pieces of any size
    ///
    /// Frames that lie within one piece are slices of it.
    pub fn handle_bytes(&mut self, now: Instant, octets: Bytes) {
        let _ = (now, octets);
    }

    /// Does what is due at `now`; calling it early or late is harmless
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
    }

    /// The connection gives no more octets; frames received before are still processed
    pub fn handle_eof(&mut self, now: Instant) {
        self.now = now;
    }

    /// The next event, decoded from what was received
    ///
    /// `None` where more octets, or the application's answer to [`Event::Connect`] or to receipts, are needed.
    pub fn poll_event(&mut self) -> Option<Event<T>> {
        self.events.pop_front()
    }

    /// The next frame or heart-beat to write
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Opens the session: sends CONNECTED; what was pipelined behind CONNECT is processed from here on
    ///
    /// Does nothing unless [`Event::Connect`] waits for its answer.
    pub fn accept(&mut self, now: Instant, accepted: Accepted) {
        let _ = (now, accepted);
    }

    /// Refuses the session: sends ERROR and ends
    ///
    /// Use the same text whatever the reason: it must not tell whether the user exists.
    pub fn reject(&mut self, now: Instant, reply: impl Into<ErrorReply>) {
        let _ = (now, reply.into());
    }

    /// Answers a receipt: RECEIPT leaves once all earlier ones were answered
    ///
    /// `headers` are added to it; those that the version cannot carry are left out.
    pub fn receipt(&mut self, token: ReceiptToken, headers: &[(&str, &str)]) {
        let _ = (token, headers);
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
        let _ = (subscription, message, token, redelivered);
        Err(DeliverError::NoSubscription)
    }

    /// Sends ERROR and ends the session; RECEIPTs not yet answered never leave
    pub fn fail(&mut self, now: Instant, reply: impl Into<ErrorReply>) {
        let _ = (now, reply.into());
    }

    /// Ends the session without a frame
    pub fn close(&mut self, now: Instant) {
        let _ = now;
    }

    /// Opens a subscription that the client did not ask for, such as that of a `/temp-queue/` destination
    ///
    /// # Errors
    ///
    /// Where the name is taken or the session has as many subscriptions as it may.
    pub fn open_subscription(
        &mut self,
        name: &str,
        ack: AckMode,
    ) -> Result<SubscriptionId, OpenError> {
        let _ = (name, ack);
        Err(OpenError::NotConnected)
    }

    /// Sets how many messages of a subscription may be unacknowledged at a time, at least 1
    ///
    /// [`Config::window`] unless set. Of no effect with [`AckMode::Auto`].
    pub fn set_window(&mut self, subscription: &SubscriptionId, messages: usize) {
        let _ = (subscription, messages);
    }

    /// How many more messages the subscription takes now; `usize::MAX` with [`AckMode::Auto`], 0 where it
    /// has ended
    pub fn window(&self, subscription: &SubscriptionId) -> usize {
        let _ = subscription;
        0
    }

    /// How many messages of the subscription are delivered and not settled
    pub fn unacked(&self, subscription: &SubscriptionId) -> usize {
        let _ = subscription;
        0
    }

    /// Octets that wait to be written
    pub fn queued(&self) -> usize {
        0
    }

    /// Whether more octets should be read: not while the application owes an answer that everything waits
    /// for, and not after the end
    pub fn wants_input(&self) -> bool {
        true
    }

    /// Whether the session has ended; [`Event::Closed`] may still be to come
    pub fn is_closed(&self) -> bool {
        false
    }

    /// The version, once CONNECT has been received
    pub fn version(&self) -> Option<Version> {
        None
    }
}

impl<T> fmt::Debug for Session<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("config", &self.config).finish_non_exhaustive()
    }
}
