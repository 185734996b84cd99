use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use bytes::Bytes;

use super::{ClientError, Config, Event, ReceiptHandle, SubscriptionHandle, TransactionHandle};
use crate::server::AckMode;
use crate::{Frame, Transmit, Version, view};

/// The client's side of one connection, without I/O and without a clock
///
/// Its methods are of the same kinds as those of [`server::Session`](crate::server::Session), and a driver
/// is written alike. CONNECT is the first transmit.
pub struct Session {
    config: Config,
    now: Instant,
    events: VecDeque<Event>,
    transmits: VecDeque<Transmit>,
}

impl Session {
    /// A session of a connection that was just made
    ///
    /// # Errors
    ///
    /// Where CONNECT cannot be written: a header of `config` holds CR, LF or NUL.
    pub fn new(config: Config, now: Instant) -> Result<Self, ClientError> {
        Ok(Self { config, now, events: VecDeque::new(), transmits: VecDeque::new() })
    }

    /// Takes octets as they were received, in pieces of any size
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
    pub fn poll_event(&mut self) -> Option<Event> {
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

    /// Sends a message: `frame` is a SEND with `destination`
    ///
    /// `receipt` and `transaction` headers are written by the session. With `receipt` an
    /// [`Event::Receipt`] of the returned handle follows, or an event that it will not come.
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
        let _ = (frame, transaction, receipt);
        Err(ClientError::NotConnected)
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
        let _ = (destination, ack, headers, receipt);
        Err(ClientError::NotConnected)
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
        let _ = (subscription, headers, receipt);
        Err(ClientError::NotConnected)
    }

    /// Acknowledges a message
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
        let _ = (message, transaction, receipt);
        Err(ClientError::NotConnected)
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
        let _ = (message, transaction, receipt);
        Err(ClientError::NotConnected)
    }

    /// Starts a transaction
    ///
    /// # Errors
    ///
    /// Nothing was written.
    pub fn begin(&mut self) -> Result<TransactionHandle, ClientError> {
        Err(ClientError::NotConnected)
    }

    /// Applies a transaction
    ///
    /// # Errors
    ///
    /// Nothing was written.
    pub fn commit(
        &mut self,
        transaction: TransactionHandle,
        receipt: bool,
    ) -> Result<Option<ReceiptHandle>, ClientError> {
        let _ = (transaction, receipt);
        Err(ClientError::NotConnected)
    }

    /// Discards a transaction
    ///
    /// # Errors
    ///
    /// Nothing was written.
    pub fn abort(
        &mut self,
        transaction: TransactionHandle,
        receipt: bool,
    ) -> Result<Option<ReceiptHandle>, ClientError> {
        let _ = (transaction, receipt);
        Err(ClientError::NotConnected)
    }

    /// Leaves: sends DISCONNECT with a receipt and ends once it is answered, or not in time
    ///
    /// Nothing is sent after it. Before CONNECTED it ends the session at once.
    pub fn disconnect(&mut self, now: Instant) {
        let _ = now;
    }

    /// Octets that wait to be written
    pub fn queued(&self) -> usize {
        0
    }

    /// Whether the session is open for commands
    pub fn is_connected(&self) -> bool {
        false
    }

    /// Whether the session has ended; [`Event::Closed`] may still be to come
    pub fn is_closed(&self) -> bool {
        false
    }

    /// The version, once connected
    pub fn version(&self) -> Option<Version> {
        None
    }

    /// Messages that were dropped because their subscription was unknown or a required header missing
    pub fn dropped(&self) -> u64 {
        0
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("config", &self.config).finish_non_exhaustive()
    }
}
