//! STOMP 1.2 over TCP, written for the tests alone: it can say anything, also what no client should.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::server::{Server, password};

/// A frame from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub command: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Frame {
    /// The value of a header; the test fails where it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.find(name).unwrap_or_else(|| panic!("no header {name} in {self:?}"))
    }

    /// The first value of a header.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The header `seq`.
    pub fn seq(&self) -> u64 {
        self.header("seq").parse().expect("a number")
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }
}

/// One connection.
pub struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
    /// Frames that came while another kind was waited for.
    aside: VecDeque<Frame>,
    receipts: u64,
}

impl Wire {
    /// Opens a connection and says nothing.
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        Self::over(stream)
    }

    fn over(stream: TcpStream) -> Self {
        Self { stream, input: Vec::new(), aside: VecDeque::new(), receipts: 0 }
    }

    /// Signs in a user of the test server, as this device.
    pub fn sign_in(server: &Server, user: &str, device: &str) -> Self {
        Self::try_sign_in(server.stomp, user, device).expect("the server is there")
    }

    /// Signs in and subscribes to `/inbox` as subscription `inbox`, client-individual.
    pub fn inbox(server: &Server, user: &str, device: &str) -> Self {
        let mut wire = Self::sign_in(server, user, device);
        wire.subscribe("inbox", "/inbox", &[("ack", "client-individual")]);
        wire
    }

    /// Writes octets as they are.
    pub fn raw(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).expect("write");
    }

    /// Writes octets as they are, to a server that may have closed the connection.
    pub fn try_raw(&mut self, octets: &[u8]) {
        let _ = self.stream.write_all(octets);
    }

    /// Writes a frame.
    pub fn frame(&mut self, command: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) {
        self.raw(&encode(command, headers, body.as_ref()));
    }

    /// Writes a frame with a receipt and returns its RECEIPT.
    pub fn call(
        &mut self,
        command: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Frame {
        let receipt = self.start_call(command, headers, body);
        self.receipt(&receipt)
    }

    /// Writes a frame with a receipt and returns its RECEIPT.
    ///
    /// # Errors
    ///
    /// [`Lost`] where the server says to try again, or goes away.
    pub fn try_call(
        &mut self,
        command: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Frame, Lost> {
        self.try_frame(command, &[headers, &[("receipt", "tried")]].concat(), body)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.poll(deadline)? {
                Some(frame) if frame.find("receipt-id") != Some("tried") => {}
                Some(frame) if frame.command == "RECEIPT" => return Ok(frame),
                Some(frame) if frame.find("retry") == Some("true") => return Err(Lost),
                other => panic!("no RECEIPT: {other:?}"),
            }
        }
    }

    /// Writes a frame with a receipt; returns the receipt's name without waiting for it.
    pub fn start_call(
        &mut self,
        command: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> String {
        self.receipts += 1;
        let receipt = format!("receipt-{}", self.receipts);
        self.frame(command, &[headers, &[("receipt", receipt.as_str())]].concat(), body);
        receipt
    }

    /// SUBSCRIBEs; returns the RECEIPT: the subscription is live.
    pub fn subscribe(&mut self, id: &str, destination: &str, headers: &[(&str, &str)]) -> Frame {
        let own = [("id", id), ("destination", destination)];
        self.call("SUBSCRIBE", &[&own, headers].concat(), "")
    }

    /// SENDs text; returns the RECEIPT.
    pub fn send(&mut self, destination: &str, body: &str, headers: &[(&str, &str)]) -> Frame {
        let own = [("destination", destination), ("content-type", "text/plain")];
        self.call("SEND", &[&own, headers].concat(), body)
    }

    /// ACKs a message; returns when the server confirmed it.
    pub fn ack(&mut self, message: &Frame) {
        self.call("ACK", &[("id", message.header("ack"))], "");
    }

    /// The next MESSAGE. Other frames are kept for later; an ERROR fails the test.
    pub fn message(&mut self) -> Frame {
        self.wait(|frame| frame.command == "MESSAGE")
    }

    /// The next MESSAGE that a person wrote (not one about members).
    pub fn chat_message(&mut self) -> Frame {
        loop {
            let message = self.message();
            if message.header("kind") == "message" {
                return message;
            }
        }
    }

    /// The next MESSAGE of a subscription.
    pub fn message_of(&mut self, subscription: &str) -> Frame {
        self.wait(|frame| {
            frame.command == "MESSAGE" && frame.find("subscription") == Some(subscription)
        })
    }

    /// The RECEIPT of this name.
    pub fn receipt(&mut self, name: &str) -> Frame {
        self.wait(|frame| frame.command == "RECEIPT" && frame.find("receipt-id") == Some(name))
    }

    /// The ERROR that the server says before it closes the connection, and the closing itself.
    pub fn error_and_close(&mut self) -> Frame {
        let deadline = Instant::now() + PATIENCE;
        let error = loop {
            match self.read_frame(deadline) {
                Some(frame) if frame.command == "ERROR" => break frame,
                Some(_) => {}
                None => panic!("the connection was closed without an ERROR"),
            }
        };
        let after = self.read_frame(deadline);
        assert_eq!(after, None, "a frame after ERROR");
        error
    }

    /// Waits until the server has closed the connection; says whether an ERROR came before.
    pub fn closed(&mut self) -> Option<Frame> {
        let deadline = Instant::now() + PATIENCE;
        let mut error = None;
        while let Some(frame) = self.read_frame(deadline) {
            if frame.command == "ERROR" {
                error = Some(frame);
            }
        }
        error
    }

    /// The MESSAGEs that had come, or come before the server answers one more frame. The server may
    /// end the connection instead.
    pub fn try_messages(&mut self) -> Vec<Frame> {
        self.try_raw(&encode("BEGIN", &[("transaction", "t"), ("receipt", "barrier")], b""));
        let deadline = Instant::now() + PATIENCE;
        let mut messages: Vec<Frame> = self.aside.drain(..).collect();
        while let Some(frame) = self.read_frame(deadline) {
            if frame.command == "RECEIPT" && frame.find("receipt-id") == Some("barrier") {
                break;
            }
            messages.push(frame);
        }
        messages.retain(|frame| frame.command == "MESSAGE");
        messages
    }

    fn wait(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        if let Some(position) = self.aside.iter().position(&wanted) {
            return self.aside.remove(position).expect("just found");
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.read_frame(deadline) {
                Some(frame) if wanted(&frame) => return frame,
                Some(frame) if frame.command == "ERROR" => panic!(
                    "unexpected ERROR {:?}: {}",
                    frame.headers,
                    String::from_utf8_lossy(&frame.body)
                ),
                Some(frame) => self.aside.push_back(frame),
                None => panic!("the server closed the connection"),
            }
        }
    }

    /// The next frame, or `None` at the end of the connection.
    fn read_frame(&mut self, deadline: Instant) -> Option<Frame> {
        match self.poll(deadline) {
            Ok(Some(frame)) => Some(frame),
            Ok(None) => panic!("nothing came; aside: {:?}", self.aside),
            Err(Lost) => None,
        }
    }

    /// The next frame, or `None` if there was none until then. Knows nothing of frames kept aside.
    ///
    /// # Errors
    ///
    /// [`Lost`] at the end of the connection.
    pub fn poll(&mut self, deadline: Instant) -> Result<Option<Frame>, Lost> {
        loop {
            let beats = self.input.iter().take_while(|&&octet| octet == b'\n').count();
            self.input.drain(..beats);
            if let Some((frame, length)) = decode(&self.input) {
                self.input.drain(..length);
                return Ok(Some(frame));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let left = left.max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).expect("timeout");
            let mut chunk = [0; 64 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Lost),
                Ok(length) => self.input.extend_from_slice(&chunk[..length]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return Err(Lost),
            }
        }
    }

    /// Writes a frame to a server that may be gone.
    ///
    /// # Errors
    ///
    /// [`Lost`] if it is.
    pub fn try_frame(
        &mut self,
        command: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<(), Lost> {
        self.stream.write_all(&encode(command, headers, body.as_bytes())).map_err(|_| Lost)
    }

    /// Signs in at a server that may be gone.
    ///
    /// # Errors
    ///
    /// [`Lost`] if it is, or goes before it has answered.
    pub fn try_sign_in(address: SocketAddr, user: &str, device: &str) -> Result<Self, Lost> {
        let stream = TcpStream::connect(address).map_err(|_| Lost)?;
        stream.set_nodelay(true).map_err(|_| Lost)?;
        let mut wire = Self::over(stream);
        let passcode = password(user);
        let headers = [
            ("accept-version", "1.2"),
            ("host", "localhost"),
            ("login", user),
            ("passcode", passcode.as_str()),
            ("device", device),
        ];
        wire.try_frame("CONNECT", &headers, "")?;
        match wire.poll(Instant::now() + PATIENCE)? {
            Some(frame) if frame.command == "CONNECTED" => {
                assert_eq!(frame.header("user-name"), user);
                Ok(wire)
            }
            Some(frame) if frame.find("retry") == Some("true") => Err(Lost),
            other => panic!("no CONNECTED: {other:?}"),
        }
    }
}

/// The connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost;

/// A frame as STOMP 1.2 writes it.
pub fn encode(command: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut octets = format!("{command}\n");
    for (name, value) in headers {
        if command == "CONNECT" {
            octets.push_str(&format!("{name}:{value}\n"));
        } else {
            octets.push_str(&format!("{}:{}\n", escape(name), escape(value)));
        }
    }
    if !body.is_empty() {
        octets.push_str(&format!("content-length:{}\n", body.len()));
    }
    octets.push('\n');
    let mut octets = octets.into_bytes();
    octets.extend_from_slice(body);
    octets.push(0);
    octets
}

/// The frame at the start of the octets, with its length, if it is complete.
pub fn decode(octets: &[u8]) -> Option<(Frame, usize)> {
    let head_length = octets.windows(2).position(|window| window == b"\n\n")?;
    let head = std::str::from_utf8(&octets[..head_length]).expect("UTF-8");
    let mut lines = head.split('\n');
    let command = lines.next().expect("a command").to_owned();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}")))
        .map(|(name, value)| match command.as_str() {
            "CONNECTED" => (name.to_owned(), value.to_owned()),
            _ => (unescape(name), unescape(value)),
        })
        .collect();
    let start = head_length + 2;
    let declared = headers.iter().find(|(name, _)| name == "content-length");
    let length = match declared {
        Some((_, length)) => length.parse().expect("a number"),
        None => octets[start..].iter().position(|&octet| octet == 0)?,
    };
    let end = start + length;
    let last = *octets.get(end)?;
    assert_eq!(last, 0, "no NUL after the body");
    let body = octets[start..end].to_vec();
    Some((Frame { command, headers, body }, end + 1))
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\r', "\\r").replace('\n', "\\n").replace(':', "\\c")
}

fn unescape(text: &str) -> String {
    let mut result = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        result.push(match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('c') => ':',
                Some('\\') => '\\',
                other => panic!("undefined escape {other:?}"),
            },
            other => other,
        });
    }
    result
}
