mod decode;
mod frame;
mod io;
mod outbox;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use stomp_codec::Transmit;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::{CloseCode, PeerClose, TransportConfig, TransportError};

use self::decode::{Control, FrameReader};
use self::frame::FrameWriter;
pub use self::frame::Role;
use self::io::{Duplex, poll_read};
use self::outbox::Outbox;

/// A connection that carries STOMP: octets in, frames out, over WebSocket or over a plain byte stream
///
/// The same type serves both ends and both kinds, so that whatever drives a session needs not know what is below.
///
/// - In: [`recv`](Self::recv) gives octets as they arrive, cut anywhere. On a WebSocket text and binary
///   messages mean the same, empty ones are skipped, pings are answered.
/// - Out: [`feed`](Self::feed) queues one frame or heart-beat, [`flush`](Self::flush) writes all that is queued with as
///   few system calls as possible. Feed everything that is ready, then flush once: this is worth several
///   times the throughput. On a WebSocket each `feed` is one message, text if it is UTF-8 and else binary.
/// - End: [`close`](Self::close) queues the Close frame, [`finish`](Self::finish) sees it through.
///
/// Dropping a transport cuts the connection without ceremony.
#[derive(Debug)]
pub struct Transport {
    inner: Inner,
    outbox: Outbox,
    config: TransportConfig,
    state: State,
    peer_close: Option<PeerClose>,
    /// Since when the peer has taken nothing although something waits.
    stalled: Option<Instant>,
    /// Pongs fed since the outbox was last empty.
    pongs: usize,
    /// The end of the input, met and not yet told.
    end: Option<End>,
    /// The peer's frames cannot be told apart any more.
    malformed: bool,
    /// When the transport began to finish.
    finishing: Option<Instant>,
}

#[allow(
    clippy::large_enum_variant,
    reason = "WebSockets are the many, and one allocation less for each"
)]
enum Inner {
    Stream(Box<dyn Duplex>),
    WebSocket {
        io: Box<dyn Duplex>,
        /// What was read beyond the end of the HTTP head.
        read_ahead: Bytes,
        reader: FrameReader,
        writer: FrameWriter,
    },
}

/// What ended the input, behind payload octets that go first
#[derive(Debug)]
enum End {
    Closed(PeerClose),
    Failed(TransportError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing may be fed any more; what is queued still goes out.
    Closed,
    /// Writing has failed; what the peer sent before may still be read.
    WriteFailed,
}

/// What a [`Transport`] runs over
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportKind {
    /// STOMP directly on a byte stream
    Stream,
    /// STOMP in WebSocket messages
    WebSocket,
}

impl Transport {
    /// STOMP over TCP; sets `TCP_NODELAY`.
    ///
    /// # Errors
    ///
    /// [`TransportError::Io`] if the socket is gone already.
    pub fn tcp(stream: TcpStream, config: TransportConfig) -> Result<Self, TransportError> {
        stream.set_nodelay(true)?;
        Ok(Self::stream(stream, config))
    }

    /// STOMP over any byte stream: TLS, a Unix socket, a pipe.
    pub fn stream<T>(io: T, config: TransportConfig) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::new(Inner::Stream(Box::new(io)), config)
    }

    /// STOMP over a WebSocket whose HTTP upgrade is done.
    ///
    /// `read_ahead` is what was read from `io` behind the HTTP head, often nothing. A server starts with
    /// [`max_message_before_connect`](TransportConfig::max_message_before_connect).
    pub fn websocket<T>(io: T, read_ahead: &[u8], role: Role, config: TransportConfig) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let io: Box<dyn Duplex> = Box::new(io);
        let limit = match role {
            Role::Client => config.max_message,
            Role::Server => config.max_message_before_connect,
        };
        let read_ahead = Bytes::copy_from_slice(read_ahead);
        let reader = FrameReader::new(role, limit);
        let writer = FrameWriter::new(role, config.force_binary);
        Self::new(Inner::WebSocket { io, read_ahead, reader, writer }, config)
    }

    fn new(inner: Inner, config: TransportConfig) -> Self {
        Self {
            inner,
            outbox: Outbox::default(),
            config,
            state: State::Open,
            peer_close: None,
            stalled: None,
            pongs: 0,
            end: None,
            malformed: false,
            finishing: None,
        }
    }

    /// What this runs over.
    #[must_use]
    pub const fn kind(&self) -> TransportKind {
        match self.inner {
            Inner::Stream(_) => TransportKind::Stream,
            Inner::WebSocket { .. } => TransportKind::WebSocket,
        }
    }

    /// The bounds in force.
    #[must_use]
    pub const fn config(&self) -> &TransportConfig {
        &self.config
    }

    /// How the peer closed, once it has: its Close frame. `None` on a byte stream and after a lost connection.
    #[must_use]
    pub const fn peer_close(&self) -> Option<&PeerClose> {
        self.peer_close.as_ref()
    }

    /// Octets that wait for the peer. Stop producing while this is high; see
    /// [`write_budget`](TransportConfig::write_budget).
    #[must_use]
    pub fn queued(&self) -> usize {
        self.outbox.len()
    }

    /// Whether the peer did not take everything at the last write.
    pub(crate) const fn is_stalled(&self) -> bool {
        self.stalled.is_some()
    }

    /// When the peer has to have taken something of what waits ([`write_timeout`](TransportConfig::write_timeout)).
    #[must_use]
    pub fn write_deadline(&self) -> Option<Instant> {
        self.stalled.and_then(|since| since.checked_add(self.config.write_timeout))
    }

    /// Allows messages of [`max_message`](TransportConfig::max_message) octets: the session is established.
    pub fn set_established(&mut self) {
        if let Inner::WebSocket { reader, .. } = &mut self.inner {
            reader.set_max_message(self.config.max_message);
        }
    }

    /// The next octets from the peer, `None` at the end: the peer's Close frame or end of stream.
    ///
    /// Writes what is queued before it waits.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing that arrived is lost.
    ///
    /// # Errors
    ///
    /// After an error call [`close`](Self::close) with [`TransportError::close_code`], then
    /// [`finish`](Self::finish). A failed write is not reported here: what the peer sent
    /// before it went away is still read.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, TransportError> {
        poll_fn(|cx| {
            let received = self.poll_recv(cx);
            if received.is_pending() {
                // Its outcome is in the state, and the next write tells it.
                let _ = self.poll_flush(cx);
            }
            received
        })
        .await
    }

    /// Polls for the next octets; unlike [`recv`](Self::recv) it writes nothing.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, TransportError>> {
        if self.peer_close.is_some() {
            return Poll::Ready(Ok(None));
        }
        loop {
            match self.end.take() {
                Some(End::Closed(close)) => {
                    let code = close.code;
                    self.peer_close = Some(close);
                    self.close(code, "");
                    return Poll::Ready(Ok(None));
                }
                Some(End::Failed(error)) => {
                    self.malformed = true;
                    return Poll::Ready(Err(error));
                }
                None => {}
            }
            let max_pongs = self.config.max_pongs;
            let received = match &mut self.inner {
                Inner::Stream(io) => {
                    let copy = |octets: &mut [u8]| match octets {
                        [] => None,
                        octets => Some(Bytes::copy_from_slice(octets)),
                    };
                    return poll_read(Pin::new(io), cx, copy).map_err(TransportError::Io);
                }
                Inner::WebSocket { read_ahead, reader, .. } if !read_ahead.is_empty() => {
                    let mut octets = std::mem::take(read_ahead).to_vec();
                    Received::decode(reader, &mut octets, max_pongs)
                }
                Inner::WebSocket { io, reader, .. } => {
                    ready!(poll_read(Pin::new(io), cx, |octets| {
                        Received::decode(reader, octets, max_pongs)
                    }))?
                }
            };
            if received.at_end {
                return Poll::Ready(Ok(None));
            }
            self.end = received.end;
            for ping in received.pings {
                if let Err(error) = self.answer_ping(ping) {
                    self.end = Some(End::Failed(error));
                    break;
                }
            }
            if !received.payload.is_empty() {
                return Poll::Ready(Ok(Some(received.payload)));
            }
        }
    }

    fn answer_ping(&mut self, ping: Vec<u8>) -> Result<(), TransportError> {
        let Inner::WebSocket { writer, .. } = &mut self.inner else { return Ok(()) };
        if self.state != State::Open {
            return Ok(());
        }
        if self.pongs >= self.config.max_pongs {
            return Err(TransportError::PingFlood { limit: self.config.max_pongs });
        }
        self.pongs += 1;
        writer.pong(&mut self.outbox, &ping.into())?;
        Ok(())
    }

    /// Queues one frame or heart-beat; nothing is written before [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// [`TransportError::SlowPeer`] when the queue would exceed its budget, [`TransportError::Closed`] after
    /// [`close`](Self::close), after the peer's Close frame and after a failed write. Nothing was queued then.
    #[allow(clippy::needless_pass_by_value, reason = "what is queued is no longer the caller's")]
    pub fn feed(&mut self, transmit: Transmit) -> Result<(), TransportError> {
        if self.state != State::Open {
            return Err(TransportError::Closed);
        }
        let queued = self.outbox.len() + transmit.len();
        if queued > self.config.write_budget && !self.outbox.is_empty() {
            return Err(TransportError::SlowPeer { queued, limit: self.config.write_budget });
        }
        match &mut self.inner {
            Inner::Stream(_) => transmit.slices().for_each(|slice| self.outbox.push(slice)),
            Inner::WebSocket { writer, .. } => writer.message(&mut self.outbox, &transmit)?,
        }
        Ok(())
    }

    /// Writes everything that is queued.
    ///
    /// Waits as long as the peer does not read; whoever drives a session watches
    /// [`write_deadline`](Self::write_deadline).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was not written stays queued.
    ///
    /// # Errors
    ///
    /// [`TransportError::Io`]; the queue is discarded then.
    pub async fn flush(&mut self) -> Result<(), TransportError> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Polls [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        if self.outbox.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let before = self.outbox.len();
        let (Inner::Stream(io) | Inner::WebSocket { io, .. }) = &mut self.inner;
        let mut io = Pin::new(io);
        let mut written = self.outbox.poll_write(io.as_mut(), cx);
        if let Poll::Ready(Ok(())) = written {
            written = io.poll_flush(cx);
        }
        match written {
            Poll::Ready(Ok(())) => {
                self.stalled = None;
                self.pongs = 0;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                self.abandon();
                Poll::Ready(Err(error.into()))
            }
            Poll::Pending => {
                if self.stalled.is_none() || self.outbox.len() < before {
                    self.stalled = Some(Instant::now());
                }
                Poll::Pending
            }
        }
    }

    /// Ends the sending side: queues a Close frame behind what is queued. Nothing can be fed afterwards.
    ///
    /// `reason` is cut to 123 octets. A byte stream carries neither. Does nothing when closed before.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        if self.state != State::Open {
            return;
        }
        self.state = State::Closed;
        if let Inner::WebSocket { writer, .. } = &mut self.inner {
            // Without randomness no frame can be masked; the peer then sees the end of the stream alone.
            let _ = writer.close(&mut self.outbox, code, reason);
        }
    }

    /// Gives up writing: discards what is queued.
    pub(crate) fn abandon(&mut self) {
        self.stalled = None;
        self.state = State::WriteFailed;
        self.outbox.clear();
    }

    /// Sees a [`close`](Self::close) through: writes what is queued, waits for the peer's side and ends the
    /// byte stream. Closes with [`CloseCode::NORMAL`] if nobody did.
    ///
    /// What the peer still sends is discarded. Bounded: a peer that takes nothing for
    /// [`linger`](TransportConfig::linger), or does not take everything within
    /// [`write_timeout`](TransportConfig::write_timeout), or then does not close its side within
    /// [`linger`](TransportConfig::linger), is cut off.
    ///
    /// # Cancel safety
    ///
    /// May be called again after it was cancelled.
    pub async fn finish(&mut self) {
        self.close(CloseCode::NORMAL, "");
        let TransportConfig { linger, write_timeout, .. } = self.config;
        let started = *self.finishing.get_or_insert_with(Instant::now);
        let end = later(started, write_timeout.saturating_add(linger));
        let mut deadline = later(started, linger);
        while !self.outbox.is_empty() {
            let before = self.outbox.len();
            let written = timeout_at(deadline, poll_fn(|cx| self.poll_write_out(cx))).await;
            if written.is_err() && self.outbox.len() == before {
                return;
            }
            deadline = later(Instant::now(), linger).min(end);
        }
        // Either the peer closes its side as well, or it had its time.
        let _ = timeout_at(deadline, poll_fn(|cx| self.poll_end(cx))).await;
    }

    /// Writes what is queued and throws away what arrives: a peer that is busy sending shall be able to read.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_flush(cx).is_ready() {
            return Poll::Ready(());
        }
        // Its end is of no interest: the write fails soon.
        let _ = self.poll_discard(cx);
        Poll::Pending
    }

    /// Ends our direction of the byte stream and waits for the end of the peer's.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A WebSocket has ended with the peer's Close frame. Without frames, its end is that of the byte stream,
        // which the peer may be waiting to see first; closing the socket on what it still sends would make
        // the system discard what we sent last.
        let framed = self.kind() == TransportKind::WebSocket && !self.malformed;
        if framed {
            ready!(self.poll_discard(cx));
        }
        let _ = ready!(Pin::new(self.io()).poll_shutdown(cx));
        if !framed {
            ready!(self.poll_discard(cx));
        }
        Poll::Ready(())
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.malformed {
            while let Ok(1..) = ready!(poll_read(Pin::new(self.io()), cx, |octets| octets.len())) {}
        } else {
            while let Ok(Some(_)) = ready!(self.poll_recv(cx)) {}
        }
        Poll::Ready(())
    }

    fn io(&mut self) -> &mut Box<dyn Duplex> {
        let (Inner::Stream(io) | Inner::WebSocket { io, .. }) = &mut self.inner;
        io
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stream(_) => "Stream",
            Self::WebSocket { .. } => "WebSocket",
        })
    }
}

/// `start` plus `duration`, a day where that is beyond the clock.
fn later(start: Instant, duration: Duration) -> Instant {
    start.checked_add(duration).unwrap_or_else(|| start + Duration::from_secs(86_400))
}

/// What one read of a WebSocket brought
#[derive(Default)]
struct Received {
    at_end: bool,
    payload: Bytes,
    pings: Vec<Vec<u8>>,
    end: Option<End>,
}

impl Received {
    fn decode(reader: &mut FrameReader, octets: &mut [u8], max_pongs: usize) -> Self {
        let mut received = Self { at_end: octets.is_empty(), ..Self::default() };
        let (mut start, mut payload) = (0, 0);
        while start < octets.len() && received.end.is_none() {
            let decoded = reader.decode(octets.get_mut(start..).unwrap_or_default());
            octets.copy_within(start..start + decoded.payload, payload);
            payload += decoded.payload;
            start = octets.len() - decoded.rest;
            match decoded.outcome {
                Ok(None) => {}
                // More than may be answered are not collected either: the first too many ends the connection.
                Ok(Some(Control::Ping(ping))) => {
                    received.pings.push(ping);
                    if received.pings.len() > max_pongs {
                        break;
                    }
                }
                Ok(Some(Control::Close(close))) => received.end = Some(End::Closed(close)),
                Err(error) => received.end = Some(End::Failed(error)),
            }
        }
        received.payload = Bytes::copy_from_slice(octets.get(..payload).unwrap_or_default());
        received
    }
}
