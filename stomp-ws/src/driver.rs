use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time;

use bytes::Bytes;
use stomp_codec::Transmit;
use tokio::time::{Instant, Sleep};

use crate::{CloseCode, Transport, TransportError};

/// Octets in the transport beyond which further frames stay with the session, where they are counted and can be
/// refused. Large enough to fill a socket's send buffer in one go.
const HIGH_WATER: usize = 64 * 1024;

/// Reads without a write in between. A peer that never stops sending must not keep its own answers from leaving;
/// one write for this many reads costs nothing.
const READS_PER_FLUSH: u32 = 16;

/// One side's protocol session, as a [`Driver`] moves it
pub(crate) trait Machine {
    type Event;

    fn handle_bytes(&mut self, now: time::Instant, octets: Bytes);
    fn handle_timeout(&mut self, now: time::Instant);
    fn handle_eof(&mut self, now: time::Instant);
    /// The transport refused what the peer sent; there is still a way to tell it.
    fn handle_refused(&mut self, now: time::Instant, error: &TransportError);
    fn poll_event(&mut self) -> Option<Self::Event>;
    fn poll_transmit(&mut self) -> Option<Transmit>;
    fn poll_timeout(&self) -> Option<time::Instant>;
    fn queued(&self) -> usize;
    fn wants_input(&self) -> bool;
    /// How to close the transport, if `event` is the last one.
    fn ending(event: &Self::Event) -> Option<(CloseCode, String)>;
}

/// What [`Driver::next`] tells besides events
pub(crate) enum Tell<'a> {
    Nothing,
    /// That no more than so many octets wait for the peer: gives [`Next::Room`].
    Room(usize),
    /// That nothing waits for the peer: calls this, once, and goes on.
    Written(&'a mut (dyn FnMut() + Send)),
}

/// What [`Driver::next`] gives
pub(crate) enum Next<E> {
    Event(E),
    Room,
}

/// Moves octets, time and events between a transport and a session
#[derive(Debug)]
pub(crate) struct Driver<M> {
    pub(crate) machine: M,
    pub(crate) transport: Transport,
    timer: Timer,
    phase: Phase,
    /// What to close the transport with, instead of what the session's end suggests.
    pub(crate) close_with: Option<(CloseCode, String)>,
    pub(crate) error: Option<TransportError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// No octets come any more; frames that are here are still acted on.
    Eof,
    /// The last event was given; the transport is being closed.
    Ended,
    Done,
}

impl<M: Machine> Driver<M> {
    pub(crate) fn new(machine: M, transport: Transport) -> Self {
        Self {
            machine,
            transport,
            timer: Timer::default(),
            phase: Phase::Running,
            close_with: None,
            error: None,
        }
    }

    /// Octets that wait for the peer, in the session and in the transport.
    pub(crate) fn queued(&self) -> usize {
        self.machine.queued() + self.transport.queued()
    }

    /// The next event; `None` once the transport is closed.
    pub(crate) async fn next(&mut self, mut tell: Tell<'_>) -> Option<Next<M::Event>> {
        if matches!(self.phase, Phase::Running | Phase::Eof) {
            return Some(poll_fn(|cx| self.poll_next(cx, &mut tell)).await);
        }
        if self.phase == Phase::Ended {
            if !self.is_lost() {
                // Rare, and large: no idle connection shall hold room for it.
                Box::pin(self.transport.finish()).await;
            }
            self.phase = Phase::Done;
        }
        None
    }

    /// The next event of what was read already.
    pub(crate) fn arrived(&mut self) -> Option<M::Event> {
        if !matches!(self.phase, Phase::Running | Phase::Eof) {
            return None;
        }
        let event = self.machine.poll_event()?;
        if let Some(ending) = M::ending(&event) {
            self.end(ending);
        }
        Some(event)
    }

    /// Writes everything that waits.
    pub(crate) async fn flush(&mut self) {
        poll_fn(|cx| {
            loop {
                let now = Instant::now();
                let written = match self.pump() {
                    Ok(false) => return Poll::Ready(()),
                    Ok(true) => self.transport.poll_flush(cx),
                    Err(error) => Poll::Ready(Err(error)),
                };
                match written {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => self.lost(now, error),
                    Poll::Pending if self.is_overdue(now) => {}
                    Poll::Pending => std::task::ready!(self.poll_timers(cx)),
                }
            }
        })
        .await;
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, tell: &mut Tell<'_>) -> Poll<Next<M::Event>> {
        let mut now = Instant::now();
        let mut reads = 0;
        let mut timely = false;
        loop {
            if let Some(event) = self.arrived() {
                return Poll::Ready(Next::Event(event));
            }
            let reading = self.phase == Phase::Running && self.machine.wants_input();
            if reading && reads < READS_PER_FLUSH {
                match self.transport.poll_recv(cx) {
                    Poll::Ready(received) => {
                        reads += 1;
                        self.received(now, received);
                        continue;
                    }
                    Poll::Pending => {}
                }
            }
            // Commands have no time of their own: this tells the session when they were given. After reading, so that
            // a peer is not declared silent whose octets were waiting here.
            if !timely {
                timely = true;
                self.machine.handle_timeout(now.into_std());
                if let Some(event) = self.arrived() {
                    return Poll::Ready(Next::Event(event));
                }
            }
            let written = match self.pump() {
                Ok(false) => Poll::Pending,
                Ok(true) => self.transport.poll_flush(cx),
                Err(error) => Poll::Ready(Err(error)),
            };
            match written {
                // The session may have had more than the transport took at once.
                Poll::Ready(Ok(())) if self.machine.queued() > 0 => continue,
                Poll::Pending if self.is_overdue(now) => continue,
                Poll::Ready(Ok(())) | Poll::Pending => {}
                Poll::Ready(Err(error)) => {
                    // What came before was read above, unless the application does not want it.
                    self.lost(now, error);
                    continue;
                }
            }
            match tell {
                Tell::Room(octets) if self.queued() <= *octets => return Poll::Ready(Next::Room),
                Tell::Written(written) if self.queued() == 0 => {
                    written();
                    *tell = Tell::Nothing;
                }
                _ => {}
            }
            if reading && reads >= READS_PER_FLUSH {
                reads = 0;
                continue;
            }
            if self.poll_timers(cx).is_pending() {
                return Poll::Pending;
            }
            now = Instant::now();
            timely = false;
        }
    }

    fn received(&mut self, now: Instant, received: Result<Option<Bytes>, TransportError>) {
        match received {
            Ok(Some(octets)) => self.machine.handle_bytes(now.into_std(), octets),
            Ok(None) => {
                self.phase = Phase::Eof;
                self.machine.handle_eof(now.into_std());
            }
            Err(error @ (TransportError::Io(_) | TransportError::Closed)) => self.lost(now, error),
            Err(error) => {
                self.phase = Phase::Eof;
                self.close_with = Some((error.close_code(), error.to_string()));
                self.machine.handle_refused(now.into_std(), &error);
                self.error = Some(error);
            }
        }
    }

    /// There is no way to the peer any more.
    fn lost(&mut self, now: Instant, error: TransportError) {
        self.phase = Phase::Eof;
        self.machine.handle_eof(now.into_std());
        // After the peer's Close frame ours is still owed; nothing else can be.
        if !matches!(error, TransportError::Closed) {
            self.transport.abandon();
        }
        self.error.get_or_insert(error);
    }

    fn is_lost(&self) -> bool {
        use TransportError::{Io, SlowPeer, WriteTimeout};
        matches!(self.error, Some(Io(_) | SlowPeer { .. } | WriteTimeout { .. }))
    }

    /// Moves frames from the session to the transport. Whether the transport has something to write.
    fn pump(&mut self) -> Result<bool, TransportError> {
        while self.transport.queued() < HIGH_WATER {
            let Some(transmit) = self.machine.poll_transmit() else { break };
            // What waits already tells the peer as much, once it reads it.
            if !(transmit.is_heart_beat() && self.transport.queued() > 0) {
                self.transport.feed(transmit)?;
            }
        }
        let limit = self.transport.config().write_budget;
        let queued = self.queued();
        if queued > limit && self.transport.is_stalled() {
            return Err(TransportError::SlowPeer { queued, limit });
        }
        Ok(self.transport.queued() > 0)
    }

    /// Moves the last frames to the transport and closes it behind them.
    fn end(&mut self, (code, reason): (CloseCode, String)) {
        self.phase = Phase::Ended;
        while let Some(transmit) = self.machine.poll_transmit() {
            if self.transport.feed(transmit).is_err() {
                break;
            }
        }
        let (code, reason) = self.close_with.take().unwrap_or((code, reason));
        self.transport.close(code, &reason);
    }

    /// Gives a peer up that has taken nothing for too long, and not just now either.
    fn is_overdue(&mut self, now: Instant) -> bool {
        let overdue = self.transport.write_deadline().is_some_and(|deadline| deadline <= now);
        if overdue {
            let timeout = self.transport.config().write_timeout;
            self.lost(now, TransportError::WriteTimeout { timeout });
        }
        overdue
    }

    /// Ready when time has changed something, pending with the waker registered for when it will.
    fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let protocol = self.machine.poll_timeout().map(Instant::from_std);
        let write = self.transport.write_deadline();
        let deadline = match (protocol, write) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => match a.or(b) {
                Some(only) => only,
                None => return Poll::Pending,
            },
        };
        if self.timer.poll(cx, deadline).is_pending() {
            return Poll::Pending;
        }
        self.machine.handle_timeout(Instant::now().into_std());
        Poll::Ready(())
    }
}

/// A timer whose deadline mostly moves away
///
/// Each frame puts off the next heart-beat. The timer stays where it was, wakes up early once, and is set to the
/// new deadline then: moving it for each frame would cost more than the frame.
#[derive(Debug, Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
