//! A client and a server session joined in memory, under a clock that only the test moves

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod broker;

use std::time::{Duration, Instant};

use bytes::Bytes;
use stomp_codec::{ChunkDecoder, Command, Frame, Item, Limits, Mode, Version, client, server};

pub type Server = server::Session<u32>;
pub type ServerEvent = server::Event<u32>;

/// A server session that a test writes to octet by octet
pub struct Wire {
    pub now: Instant,
    pub server: Server,
    /// Reads what the server writes.
    decoder: ChunkDecoder,
    /// Everything that the server wrote.
    pub written: Vec<u8>,
}

impl Wire {
    pub fn new(config: server::Config) -> Self {
        let now = Instant::now();
        Self {
            now,
            server: Server::new(config, now),
            decoder: ChunkDecoder::new(Mode::Strict, Limits::DEFAULT),
            written: Vec::new(),
        }
    }

    /// A session of `version` that is open, with CONNECTED already read
    pub fn open(version: Version, config: server::Config) -> Self {
        let mut wire = Self::new(config);
        wire.say(&format!("CONNECT\naccept-version:{version}\nhost:h\n\n\0"));
        let event = wire.event();
        assert!(matches!(event, Some(ServerEvent::Connect { .. })), "{event:?}");
        wire.accept();
        let connected = wire.frame().unwrap();
        assert_eq!(connected.command(), Command::Connected);
        wire
    }

    pub fn accept(&mut self) {
        let accepted = server::Accepted::new("session-1").server("test/1.0").user_name("alice");
        self.server.accept(self.now, accepted);
    }

    /// Writes to the server
    pub fn say(&mut self, text: &str) {
        self.say_octets(text.as_bytes());
    }

    pub fn say_octets(&mut self, octets: &[u8]) {
        self.server.handle_bytes(self.now, Bytes::copy_from_slice(octets));
    }

    pub fn event(&mut self) -> Option<ServerEvent> {
        self.server.poll_event()
    }

    /// All events that are there
    pub fn events(&mut self) -> Vec<ServerEvent> {
        std::iter::from_fn(|| self.event()).collect()
    }

    /// Moves what the server wrote to the reader; gives the octets
    pub fn read(&mut self) -> Vec<u8> {
        let mut octets = Vec::new();
        while let Some(transmit) = self.server.poll_transmit() {
            octets.extend_from_slice(&transmit.into_bytes());
        }
        if let Some(version) = self.server.version() {
            self.decoder.set_version(version);
        }
        self.decoder.push(Bytes::copy_from_slice(&octets));
        self.written.extend_from_slice(&octets);
        octets
    }

    /// What the server wrote, as text
    pub fn read_text(&mut self) -> String {
        String::from_utf8(self.read()).unwrap()
    }

    /// The next frame of the server
    pub fn frame(&mut self) -> Option<Frame> {
        loop {
            match self.decoder.decode().unwrap() {
                Some(Item::Frame(frame)) => return Some(frame),
                Some(_) => {}
                None => {
                    if self.read().is_empty() {
                        return None;
                    }
                }
            }
        }
    }

    /// All frames of the server that are there
    pub fn frames(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.frame()).collect()
    }

    /// Lets time pass, acting on every deadline on the way
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.server.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.server.handle_timeout(self.now);
            self.read();
        }
        self.now = end;
        self.server.handle_timeout(end);
    }

    /// Answers every receipt as if it had been done at once; gives the events
    pub fn answer_all(&mut self) -> Vec<ServerEvent> {
        let mut events = Vec::new();
        while let Some(mut event) = self.event() {
            if let Some(token) = receipt_of(&mut event) {
                self.server.receipt(token, &[]);
            }
            events.push(event);
        }
        events
    }

    /// What is said leads to one ERROR and the end, and to no other event; gives the ERROR
    #[track_caller]
    pub fn refused(&mut self, text: &str) -> Frame {
        self.say(text);
        self.refusal()
    }

    #[track_caller]
    pub fn refusal(&mut self) -> Frame {
        let events = self.events();
        assert!(matches!(events.as_slice(), [ServerEvent::Closed { .. }]), "{events:?}");
        let frames = self.frames();
        let [error] = frames.as_slice() else { panic!("{frames:?}") };
        assert_eq!(error.command(), Command::Error);
        let message = error.header("message").unwrap();
        assert!(!message.is_empty() && message.len() <= 255 && !message.contains('\n'));
        assert!(self.server.is_closed());
        assert!(!self.server.wants_input());
        assert_eq!(self.server.poll_timeout(), None);
        error.clone()
    }
}

/// Takes the receipt token out of an event
pub fn receipt_of(event: &mut ServerEvent) -> Option<server::ReceiptToken> {
    match event {
        ServerEvent::Send { receipt, .. }
        | ServerEvent::Staged { receipt, .. }
        | ServerEvent::Subscribe { receipt, .. }
        | ServerEvent::Unsubscribe { receipt, .. }
        | ServerEvent::Ack { receipt, .. }
        | ServerEvent::Nack { receipt, .. }
        | ServerEvent::Commit { receipt, .. }
        | ServerEvent::Disconnect { receipt } => receipt.take(),
        _ => None,
    }
}

/// A MESSAGE for receivers
pub fn message(message_id: &str, body: &str) -> stomp_codec::SharedMessage {
    stomp_codec::SharedMessage::new(
        &Frame::new(Command::Message)
            .with_header("destination", "/q")
            .with_header("message-id", message_id)
            .with_body(body.to_owned()),
    )
    .unwrap()
}

/// Client and server, joined
pub struct Pair {
    pub now: Instant,
    pub client: client::Session,
    pub server: Server,
    pub client_events: Vec<client::Event>,
    pub server_events: Vec<ServerEvent>,
    /// Whether the server's application answers CONNECT and receipts at once.
    pub is_willing: bool,
    /// Octets in each direction, in one piece per transmit or, where set, in pieces of so many octets.
    pub piece: usize,
}

impl Pair {
    pub fn new(client: client::Config, server: server::Config) -> Self {
        let now = Instant::now();
        Self {
            now,
            client: client::Session::new(client, now).unwrap(),
            server: Server::new(server, now),
            client_events: Vec::new(),
            server_events: Vec::new(),
            is_willing: true,
            piece: usize::MAX,
        }
    }

    /// Joined and connected
    pub fn connected(client: client::Config, server: server::Config) -> Self {
        let mut pair = Self::new(client, server);
        pair.drive();
        assert!(matches!(pair.client_events.remove(0), client::Event::Connected { .. }));
        assert!(matches!(pair.server_events.remove(0), ServerEvent::Connect { .. }));
        pair
    }

    /// Moves octets and events until nothing moves; gives the octets moved
    pub fn drive(&mut self) -> usize {
        let mut moved = 0;
        loop {
            let before = (moved, self.client_events.len(), self.server_events.len());
            while let Some(transmit) = self.client.poll_transmit() {
                moved += transmit.len();
                for piece in pieces(&transmit.into_bytes(), self.piece) {
                    self.server.handle_bytes(self.now, piece);
                }
            }
            while let Some(mut event) = self.server.poll_event() {
                if self.is_willing {
                    if let ServerEvent::Connect { .. } = event {
                        self.server.accept(self.now, server::Accepted::new("s"));
                    }
                    if let Some(token) = receipt_of(&mut event) {
                        self.server.receipt(token, &[]);
                    }
                }
                self.server_events.push(event);
            }
            while let Some(transmit) = self.server.poll_transmit() {
                moved += transmit.len();
                for piece in pieces(&transmit.into_bytes(), self.piece) {
                    self.client.handle_bytes(self.now, piece);
                }
            }
            while let Some(event) = self.client.poll_event() {
                self.client_events.push(event);
            }
            if before == (moved, self.client_events.len(), self.server_events.len()) {
                return moved;
            }
        }
    }

    /// Lets time pass, acting on every deadline of both on the way
    pub fn pass(&mut self, time: Duration) -> usize {
        let end = self.now + time;
        let mut moved = 0;
        loop {
            let due = [self.client.poll_timeout(), self.server.poll_timeout()];
            let Some(due) = due.into_iter().flatten().min().filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            moved += self.drive();
        }
        self.now = end;
        moved
    }
}

fn pieces(octets: &Bytes, size: usize) -> impl Iterator<Item = Bytes> {
    let size = size.min(octets.len()).max(1);
    (0..octets.len())
        .step_by(size)
        .map(move |at| octets.slice(at..octets.len().min(at.saturating_add(size))))
}
