use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::connection::{Connection, Plan, Stage, refusal};
use crate::frames::Outbox;
use crate::pace::Alarm;
use crate::scan::{Incoming, Item, Scan, http_head};
use crate::{LoadError, Target};

/// The alarm's place among the tokens of the connections
const ALARM: Token = Token(usize::MAX - 1);
/// Octets of the buffer that everything is read into
const BUFFER: usize = 256 * 1024;
/// Reads of one connection before the others have their turn
const READS: usize = 16;

/// What a scenario does with what happens
pub(crate) trait Handler {
    /// What follows has come at this time, in microseconds since the engine was made.
    fn clock(&mut self, _micros: u64) {}
    /// The connection is signed in and subscribed.
    fn ready(&mut self, _index: usize) {}
    /// A MESSAGE has come; answers go to `outbox`.
    fn message(&mut self, _index: usize, _frame: Incoming<'_>, _outbox: &mut Outbox) {}
    /// A RECEIPT has come.
    fn receipt(&mut self, _index: usize, _id: &[u8]) {}
    /// The connection has ended.
    fn closed(&mut self, index: usize, why: LoadError);
}

/// The event loop: all connections of a run
#[derive(Debug)]
pub(crate) struct Engine<'a> {
    target: &'a Target,
    poll: Poll,
    events: Events,
    alarm: Option<Alarm>,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    scan: Scan,
    started: Instant,
    now: Instant,
    /// Connections with something to write.
    dirty: Vec<usize>,
    /// Connections that have had their turn, and had more.
    again: Vec<usize>,
    ready: usize,
}

impl<'a> Engine<'a> {
    /// For frames of up to `largest` octets.
    pub(crate) fn new(target: &'a Target, largest: usize) -> Result<Self, LoadError> {
        let now = Instant::now();
        Ok(Self {
            target,
            poll: Poll::new()?,
            events: Events::with_capacity(4096),
            alarm: None,
            connections: Vec::new(),
            buffer: vec![0; BUFFER.max(2 * largest)],
            scan: Scan::new(target.address.path.is_some()),
            started: now,
            now,
            dirty: Vec::new(),
            again: Vec::new(),
            ready: 0,
        })
    }

    /// Begins a connection; its index.
    pub(crate) fn open(&mut self, plan: Plan) -> Result<usize, LoadError> {
        let index = self.connections.len();
        let connection = Connection::open(self.target, plan)?;
        self.connections.push(connection);
        self.register(index)?;
        Ok(index)
    }

    /// Begins a connection in the place of one that is closed.
    pub(crate) fn open_again(&mut self, index: usize, plan: Plan) -> Result<(), LoadError> {
        let connection = Connection::open(self.target, plan)?;
        if let Some(place) = self.connections.get_mut(index) {
            self.ready -= usize::from(place.stage == Stage::Ready);
            *place = connection;
        }
        self.register(index)
    }

    fn register(&mut self, index: usize) -> Result<(), LoadError> {
        if let Some(connection) = self.connections.get_mut(index) {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(connection.socket(), Token(index), interest)?;
        }
        self.dirty.push(index);
        Ok(())
    }

    /// Cuts a connection off, without a word.
    pub(crate) fn cut(&mut self, index: usize) {
        if let Some(connection) = self.connections.get_mut(index) {
            self.ready -= usize::from(connection.stage == Stage::Ready);
            connection.stage = Stage::Closed;
            let _ = connection.socket().shutdown(std::net::Shutdown::Both);
        }
    }

    /// How many connections are ready.
    pub(crate) const fn ready(&self) -> usize {
        self.ready
    }

    /// The time at the begin of this turn.
    pub(crate) const fn now(&self) -> Instant {
        self.now
    }

    /// Microseconds since the engine was made.
    pub(crate) fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).as_micros() as u64
    }

    /// Stops reading from a connection.
    pub(crate) fn pause(&mut self, index: usize) {
        if let Some(connection) = self.connections.get_mut(index) {
            connection.paused = true;
        }
    }

    /// Lets a connection read again.
    pub(crate) fn resume(&mut self, index: usize) {
        if let Some(connection) = self.connections.get_mut(index) {
            connection.paused = false;
            self.again.push(index);
        }
    }

    /// The queue of a connection that is ready and takes more; it is written at the end of the turn.
    pub(crate) fn outbox(&mut self, index: usize) -> Option<&mut Outbox> {
        self.connections.get(index).filter(|connection| connection.has_room())?;
        self.outbox_anyway(index)
    }

    /// The queue of a connection that is ready, however much waits in it.
    pub(crate) fn outbox_anyway(&mut self, index: usize) -> Option<&mut Outbox> {
        let connection = self.connections.get_mut(index)?;
        if connection.stage != Stage::Ready {
            return None;
        }
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(index);
        }
        Some(&mut connection.outbox)
    }

    /// Wakes the next turns at `at`, to some microseconds.
    pub(crate) fn alarm(&mut self, at: Instant) -> Result<(), LoadError> {
        if self.alarm.is_none() {
            let alarm = Alarm::new()?;
            alarm.register(self.poll.registry(), ALARM)?;
            self.alarm = Some(alarm);
        }
        if let Some(alarm) = &mut self.alarm {
            alarm.set(at)?;
        }
        Ok(())
    }

    /// Waits for something to happen, at most until `timeout`, and takes all of it.
    pub(crate) fn wait(
        &mut self,
        handler: &mut impl Handler,
        timeout: Duration,
    ) -> Result<(), LoadError> {
        let timeout = if self.again.is_empty() { timeout } else { Duration::ZERO };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => other?,
        }
        self.now = Instant::now();
        for index in std::mem::take(&mut self.again) {
            self.receive(index, handler);
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            if event.token() == ALARM {
                if let Some(alarm) = &mut self.alarm {
                    alarm.rang();
                }
                continue;
            }
            let index = event.token().0;
            if event.is_writable() {
                self.unblock(index, handler);
            }
            if event.is_readable() {
                self.receive(index, handler);
            }
        }
        self.events = events;
        Ok(())
    }

    /// Writes all that was queued in this turn.
    pub(crate) fn flush(&mut self, handler: &mut impl Handler) {
        for index in std::mem::take(&mut self.dirty) {
            let Some(connection) = self.connections.get_mut(index) else { continue };
            connection.dirty = false;
            if connection.stage != Stage::Closed
                && let Err(error) = connection.write()
            {
                self.lost(index, error.into(), handler);
            }
        }
    }

    fn unblock(&mut self, index: usize, handler: &mut impl Handler) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        if connection.stage != Stage::Closed
            && let Err(error) = connection.unblock()
        {
            self.lost(index, error.into(), handler);
        }
    }

    fn lost(&mut self, index: usize, why: LoadError, handler: &mut impl Handler) {
        self.cut(index);
        handler.closed(index, why);
    }

    fn receive(&mut self, index: usize, handler: &mut impl Handler) {
        if let Err(error) = self.drain(index, handler) {
            self.lost(index, error, handler);
        }
    }

    /// Reads a connection until it has no more.
    fn drain(&mut self, index: usize, handler: &mut impl Handler) -> Result<(), LoadError> {
        let started = self.started;
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        if connection.stage == Stage::Closed || connection.paused {
            return Ok(());
        }
        let before = connection.stage;
        for _ in 0..READS {
            let kept = connection.left.len();
            if let Some(front) = self.buffer.get_mut(..kept) {
                front.copy_from_slice(&connection.left);
            }
            let room = self.buffer.get_mut(kept..).unwrap_or_default();
            let size = room.len();
            let Some(count) = connection.read(room)? else { break };
            if count == 0 {
                return Err(LoadError::Lost("the server has closed it".to_owned()));
            }
            handler.clock(started.elapsed().as_micros() as u64);
            connection.left.clear();
            let octets = self.buffer.get(..kept + count).unwrap_or_default();
            let rest = take(connection, self.target, &mut self.scan, octets, index, handler)?;
            connection.left.extend_from_slice(rest);
            if count < size {
                break;
            }
            if connection.left.len() >= self.buffer.len() {
                return Err(LoadError::Server("it sent a frame without an end".to_owned()));
            }
            if !self.again.contains(&index) {
                self.again.push(index);
            }
        }
        if connection.outbox.waiting() > 0 && !connection.dirty {
            connection.dirty = true;
            self.dirty.push(index);
        }
        if before != Stage::Ready && connection.stage == Stage::Ready {
            self.ready += 1;
            handler.ready(index);
        }
        Ok(())
    }
}

/// Takes the items that have arrived whole; what is left of the octets.
fn take<'a>(
    connection: &mut Connection,
    target: &Target,
    scan: &mut Scan,
    mut octets: &'a [u8],
    index: usize,
    handler: &mut impl Handler,
) -> Result<&'a [u8], LoadError> {
    if connection.stage == Stage::Upgrading {
        let Some(end) = http_head(octets) else { return Ok(octets) };
        let (head, rest) = octets.split_at_checked(end).unwrap_or_default();
        connection.upgraded(target, head)?;
        octets = rest;
    }
    while let Some(item) = scan.next(&mut octets)? {
        match item {
            Item::Frame(frame) if connection.stage == Stage::Ready => {
                if frame.head.starts_with(b"MESSAGE\n") {
                    handler.message(index, frame, &mut connection.outbox);
                } else if frame.head.starts_with(b"RECEIPT\n") {
                    handler.receipt(index, frame.header(b"receipt-id").unwrap_or_default());
                } else {
                    return Err(refusal(frame));
                }
            }
            Item::Frame(frame) => connection.advance(frame)?,
            Item::HeartBeat => {}
            Item::Ping(payload) => connection.outbox.message(10, &[payload]),
            Item::Close(reason) => {
                let text = String::from_utf8_lossy(reason.get(2..).unwrap_or_default());
                return Err(LoadError::Lost(format!("the server has closed it: {text}")));
            }
        }
    }
    Ok(octets)
}
