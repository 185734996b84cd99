use std::sync::Arc;
use std::time;

use bytes::Bytes;
use stomp_codec::server::{Accepted, CloseReason, Config, ErrorReply, Event, Session};
use stomp_codec::{Transmit, Version};
use tokio::time::Instant;

use crate::driver::{Driver, Machine, Next, Tell};
use crate::{CloseCode, PeerClose, Transport, TransportError};

/// The server's side of one STOMP connection, over WebSocket or TCP
///
/// Joins a [`Transport`] and a [`Session`] and keeps their time. The application loops over
/// [`event`](Self::event) and answers through [`session`](Self::session):
///
/// ```no_run
/// # use std::sync::Arc;
/// # use stomp_codec::server::{Accepted, Config, Event};
/// # use stomp_ws::{ServerConnection, Transport};
/// # async fn serve(transport: Transport, config: Arc<Config>) {
/// let mut connection: ServerConnection<u64> = ServerConnection::new(transport, config);
/// while let Some(event) = connection.event().await {
///     match event {
///         Event::Connect { connect, .. } if connect.login().as_deref() == Some("alice") => {
///             connection.accept(Accepted::new("an unguessable name").server("example/1.0"));
///         }
///         Event::Connect { .. } => connection.reject("authentication failed"),
///         Event::Send { send, receipt } => {
///             // ... pass it on, then:
///             if let Some(receipt) = receipt {
///                 connection.session().receipt(receipt, &[]);
///             }
///         }
///         Event::Closed { reason, returned, .. } => {
///             // `returned` goes back to the queues. The loop sees the close through.
///         }
///         _ => {}
///     }
/// }
/// # }
/// ```
///
/// Heart-beats, time limits and the closing handshake need nothing from the application but that it keeps calling
/// `event`. What it tells the session (RECEIPTs, MESSAGEs) is written when it next waits for an event: everything
/// at once, which is what makes it fast. Before waiting for something else for long, call
/// [`flush`](Self::flush).
///
/// # Slow clients
///
/// [`Session::deliver`] refuses messages when [`Config::max_queued`] octets wait; hold them back until
/// [`event_or_room`](Self::event_or_room) tells of room, or drop them. A client that takes nothing at all for
/// [`write_timeout`](crate::TransportConfig::write_timeout), or lets more than
/// [`write_budget`](crate::TransportConfig::write_budget) pile up (RECEIPTs, for instance), is cut off.
#[derive(Debug)]
pub struct ServerConnection<T> {
    driver: Driver<Session<T>>,
}

/// What [`ServerConnection::event_or_room`] gives
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "its name says that there are these two")]
#[allow(clippy::large_enum_variant, reason = "matched at once, not kept")]
pub enum EventOrRoom<T> {
    /// The client did something
    Event(Event<T>),
    /// No more octets wait for the client than asked for
    Room,
}

impl<T> ServerConnection<T> {
    /// Starts a session on a connection that was just made; its connect deadline begins now.
    pub fn new(transport: Transport, config: impl Into<Arc<Config>>) -> Self {
        let session = Session::new(config, Instant::now().into_std());
        Self { driver: Driver::new(session, transport) }
    }

    /// What the client did next.
    ///
    /// [`Event::Closed`] is the last event, whatever the reason: DISCONNECT, a lost connection, an error, a time
    /// limit. Whatever the application holds for the session can be released then. The next call writes what is
    /// left (an ERROR frame, for instance), performs the closing handshake and gives `None`; it is bounded in time
    /// as [`Transport::finish`] is. Dropping the connection instead cuts it off.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is lost when the future is dropped, for instance by `tokio::select!`.
    pub async fn event(&mut self) -> Option<Event<T>> {
        self.event_as_told(Tell::Nothing).await
    }

    /// What the client did next, or that no more than `octets` wait to be written to it: whichever comes first.
    ///
    /// For an application that holds messages back until the client has read: `select!` this instead of
    /// [`event`](Self::event).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn event_or_room(&mut self, octets: usize) -> Option<EventOrRoom<T>> {
        Some(match self.driver.next(Tell::Room(octets)).await? {
            Next::Event(event) => EventOrRoom::Event(event),
            Next::Room => EventOrRoom::Room,
        })
    }

    /// What the client did next; calls `written` once, as soon as nothing waits to be written to it any more.
    ///
    /// For an application to which what it delivered counts as received then, as it does with `ack:auto`: cheaper than
    /// [`event_or_room`](Self::event_or_room) and [`event`](Self::event) by turns.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. `written` was called or was not; call this again with it if it was not.
    pub async fn event_and_written(
        &mut self,
        mut written: impl FnMut() + Send,
    ) -> Option<Event<T>> {
        self.event_as_told(Tell::Written(&mut written)).await
    }

    async fn event_as_told(&mut self, tell: Tell<'_>) -> Option<Event<T>> {
        match self.driver.next(tell).await? {
            Next::Event(event) => Some(event),
            // Nobody has asked for it.
            Next::Room => None,
        }
    }

    /// What the client did next, of what has arrived already; never waits, reads or writes.
    ///
    /// For an application that acts on all of it before its answers are written: after
    /// [`event`](Self::event), call this until it gives `None`.
    pub fn arrived(&mut self) -> Option<Event<T>> {
        self.driver.arrived()
    }

    /// The session, for commands: `receipt`, `deliver`, `set_window`, `open_subscription`, and its getters.
    ///
    /// Accept, reject, fail and close through the methods here: they know the time and the close code.
    pub const fn session(&mut self) -> &mut Session<T> {
        &mut self.driver.machine
    }

    /// Answers [`Event::Connect`]: opens the session.
    pub fn accept(&mut self, accepted: Accepted) {
        self.driver.transport.set_established();
        self.driver.machine.accept(now(), accepted);
    }

    /// Answers [`Event::Connect`]: ERROR, then close with 1008. Say the same whatever the reason.
    pub fn reject(&mut self, reply: impl Into<ErrorReply>) {
        self.driver.machine.reject(now(), reply);
    }

    /// Ends the session with ERROR, then closes with `code`: [`CloseCode::POLICY`] for what is not allowed,
    /// [`CloseCode::INTERNAL`] for a fault of the server, [`CloseCode::OVERLOAD`] to be tried again later.
    ///
    /// [`Event::Closed`] follows.
    pub fn fail(&mut self, code: CloseCode, reply: impl Into<ErrorReply>) {
        self.close_with(code, "");
        self.driver.machine.fail(now(), reply);
    }

    /// Ends the session without a frame and closes with `code`: [`CloseCode::GOING_AWAY`] when the server shuts
    /// down. `reason` is for whoever reads a log.
    ///
    /// [`Event::Closed`] follows.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.close_with(code, reason);
        self.driver.machine.close(now());
    }

    fn close_with(&mut self, code: CloseCode, reason: &str) {
        if !self.driver.machine.is_closed() {
            self.driver.close_with.get_or_insert_with(|| (code, reason.to_owned()));
        }
    }

    /// Writes everything that waits for the client, without looking at what it sends.
    ///
    /// Returns when all is written or the connection is lost; [`event`](Self::event) tells which.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn flush(&mut self) {
        self.driver.flush().await;
    }

    /// Octets that wait to be written to the client.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.driver.queued()
    }

    /// The session's version, once CONNECT was received.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.driver.machine.version()
    }

    /// The transport below: its kind and bounds.
    #[must_use]
    pub const fn transport(&self) -> &Transport {
        &self.driver.transport
    }

    /// What ended the connection, where it was more than the end of the session: a failed connection, a broken
    /// rule of RFC 6455, a client that does not read.
    #[must_use]
    pub const fn transport_error(&self) -> Option<&TransportError> {
        self.driver.error.as_ref()
    }

    /// The client's Close frame, where it sent one.
    #[must_use]
    pub const fn peer_close(&self) -> Option<&PeerClose> {
        self.driver.transport.peer_close()
    }
}

impl<T> Machine for Session<T> {
    type Event = Event<T>;

    fn handle_bytes(&mut self, now: time::Instant, octets: Bytes) {
        self.handle_bytes(now, octets);
    }

    fn handle_timeout(&mut self, now: time::Instant) {
        self.handle_timeout(now);
    }

    fn handle_eof(&mut self, now: time::Instant) {
        self.handle_eof(now);
    }

    fn handle_refused(&mut self, now: time::Instant, error: &TransportError) {
        self.fail(now, ErrorReply::new(error.to_string()));
    }

    fn poll_event(&mut self) -> Option<Event<T>> {
        self.poll_event()
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.poll_transmit()
    }

    fn poll_timeout(&self) -> Option<time::Instant> {
        self.poll_timeout()
    }

    fn queued(&self) -> usize {
        self.queued()
    }

    fn wants_input(&self) -> bool {
        self.wants_input()
    }

    fn ending(event: &Event<T>) -> Option<(CloseCode, String)> {
        let Event::Closed { reason, .. } = event else { return None };
        let text = match reason {
            CloseReason::Disconnect => String::new(),
            reason => reason.to_string(),
        };
        Some((CloseCode::new(reason.websocket_code()), text))
    }
}

fn now() -> time::Instant {
    Instant::now().into_std()
}
