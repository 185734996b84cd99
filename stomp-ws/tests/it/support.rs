//! A small STOMP server, and WebSocket frames by hand.
#![allow(dead_code, reason = "each test file uses a part")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stomp_codec::server::{Accepted, CloseReason, Config, Event, Session, SubscriptionId};
use stomp_codec::{ByteStr, Command, Frame, SharedMessage};
use stomp_ws::{CloseCode, Role, ServerConnection, Transport, TransportConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

/// What a session of the test server saw
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) sends: Vec<Bytes>,
    pub(crate) committed: usize,
    pub(crate) acked: Vec<u64>,
    pub(crate) nacked: Vec<u64>,
    pub(crate) returned: Vec<u64>,
    pub(crate) reason: Option<CloseReason>,
    pub(crate) error: Option<String>,
    pub(crate) peer_close: Option<u16>,
}

/// Serves one connection: accepts everyone but mallory and brings each SEND to the subscriptions of its destination in
/// the same session. Refuses what is sent to `/forbidden`.
pub(crate) async fn serve(transport: Transport, config: Arc<Config>) -> Seen {
    let mut connection: ServerConnection<u64> = ServerConnection::new(transport, config);
    let mut subscriptions: Vec<(ByteStr, SubscriptionId)> = Vec::new();
    let mut seen = Seen::default();
    let mut next = 0;
    while let Some(event) = connection.event().await {
        match event {
            Event::Connect { connect, .. } => {
                if connect.login().as_deref() == Some("mallory") {
                    connection.reject("authentication failed");
                } else {
                    connection.accept(Accepted::new("s-1").server("test/1").user_name("alice"));
                }
            }
            Event::Send { send, receipt } => {
                let destination = send.destination().unwrap().into_owned();
                seen.sends.push(send.body_bytes());
                match destination.as_str() {
                    "/forbidden" => {
                        let reply =
                            stomp_codec::server::ErrorReply::new("not allowed").body("ask alice");
                        connection.fail(CloseCode::POLICY, reply.receipt(receipt));
                        continue;
                    }
                    "/shutdown" => {
                        connection.close(CloseCode::GOING_AWAY, "bye");
                        continue;
                    }
                    _ => {}
                }
                publish(
                    connection.session(),
                    &subscriptions,
                    &destination,
                    &send.body_bytes(),
                    &mut next,
                );
                if let Some(receipt) = receipt {
                    connection
                        .session()
                        .receipt(receipt, &[("x-sends", &seen.sends.len().to_string())]);
                }
            }
            Event::Subscribe { id, destination, receipt, .. } => {
                subscriptions.push((destination, id));
                if let Some(receipt) = receipt {
                    connection.session().receipt(receipt, &[]);
                }
            }
            Event::Unsubscribe { id, receipt, returned, .. } => {
                subscriptions.retain(|(_, other)| *other != id);
                seen.returned.extend(returned);
                if let Some(receipt) = receipt {
                    connection.session().receipt(receipt, &[]);
                }
            }
            Event::Ack { tokens, receipt, .. } => {
                seen.acked.extend(tokens);
                if let Some(receipt) = receipt {
                    connection.session().receipt(receipt, &[]);
                }
            }
            Event::Nack { tokens, receipt, .. } => {
                seen.nacked.extend(tokens);
                if let Some(receipt) = receipt {
                    connection.session().receipt(receipt, &[]);
                }
            }
            Event::Commit { actions, receipt } => {
                seen.committed += actions.len();
                if let Some(receipt) = receipt {
                    connection.session().receipt(receipt, &[]);
                }
            }
            Event::Staged { receipt, .. } | Event::Disconnect { receipt } => {
                if let Some(receipt) = receipt {
                    connection.session().receipt(receipt, &[]);
                }
            }
            Event::Closed { reason, returned } => {
                seen.reason = Some(reason);
                seen.returned.extend(returned);
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    seen.error = connection.transport_error().map(ToString::to_string);
    seen.peer_close = connection.peer_close().map(|close| close.code.as_u16());
    seen
}

pub(crate) fn message(destination: &str, number: u64, body: &Bytes) -> SharedMessage {
    let frame = Frame::new(Command::Message)
        .with_header("destination", destination)
        .with_header("message-id", &format!("m{number}"))
        .with_body(body.clone());
    SharedMessage::new(&frame).unwrap()
}

fn publish(
    session: &mut Session<u64>,
    subscriptions: &[(ByteStr, SubscriptionId)],
    destination: &str,
    body: &Bytes,
    next: &mut u64,
) {
    for (wanted, id) in subscriptions {
        if &**wanted == destination {
            *next += 1;
            session.deliver(id, &message(destination, *next, body), *next, false).unwrap();
        }
    }
}

/// The other end of a served connection, speaking WebSocket by hand
pub(crate) struct Raw<T = DuplexStream> {
    pub(crate) io: T,
    read: Vec<u8>,
    mask: bool,
}

/// A WebSocket frame as it was received
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    End,
}

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const FIN: u8 = 0x80;

impl<T: AsyncRead + AsyncWrite + Unpin> Raw<T> {
    pub(crate) fn new(io: T) -> Self {
        Self { io, read: Vec::new(), mask: true }
    }

    /// The server's end: does not mask.
    pub(crate) fn server(io: T) -> Self {
        Self { io, read: Vec::new(), mask: false }
    }

    pub(crate) async fn write(&mut self, octets: &[u8]) {
        self.io.write_all(octets).await.unwrap();
    }

    /// Sends a frame with the first octet as given.
    pub(crate) async fn frame(&mut self, first: u8, payload: &[u8]) {
        self.write(&frame(first, payload, self.mask)).await;
    }

    pub(crate) async fn text(&mut self, payload: &str) {
        self.frame(FIN | TEXT, payload.as_bytes()).await;
    }

    pub(crate) async fn connect(&mut self) {
        self.text("CONNECT\naccept-version:1.2\nhost:h\n\n\0").await;
        let connected = self.expect_text().await;
        assert!(connected.starts_with("CONNECTED\n"), "{connected}");
    }

    pub(crate) async fn expect_text(&mut self) -> String {
        match self.next().await {
            Got::Text(text) => text,
            other => panic!("{other:?}"),
        }
    }

    /// The next frame; fails a test that waits for nothing, whatever the clock.
    pub(crate) async fn next(&mut self) -> Got {
        loop {
            if let Some((first, payload, len)) = parse(&self.read) {
                assert_eq!(first & 0x70, 0, "reserved bits");
                self.read.drain(..len);
                return match first & 0x8f {
                    0x81 => Got::Text(String::from_utf8(payload).unwrap()),
                    0x82 => Got::Binary(payload),
                    0x8a => Got::Pong(payload),
                    0x88 if payload.is_empty() => Got::Close(1005, String::new()),
                    0x88 => Got::Close(
                        u16::from_be_bytes([payload[0], payload[1]]),
                        String::from_utf8(payload[2..].to_vec()).unwrap(),
                    ),
                    other => panic!("frame {other:x}"),
                };
            }
            match self.io.read_buf(&mut self.read).await {
                Ok(0) | Err(_) => {
                    assert!(self.read.is_empty(), "cut inside a frame: {:?}", self.read);
                    return Got::End;
                }
                Ok(_) => {}
            }
        }
    }

    /// Octets received and not taken by [`next`](Self::next).
    pub(crate) fn pending(&self) -> &[u8] {
        &self.read
    }
}

/// First octet, payload and whole length of the frame at the start of `octets`.
fn parse(octets: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let masked = octets.get(1)? & 0x80 != 0;
    let (len, mut start) = match octets.get(1)? & 0x7f {
        126 => (usize::from(u16::from_be_bytes(octets.get(2..4)?.try_into().unwrap())), 4),
        127 => (
            usize::try_from(u64::from_be_bytes(octets.get(2..10)?.try_into().unwrap())).unwrap(),
            10,
        ),
        len => (usize::from(len), 2),
    };
    let mut key = [0; 4];
    if masked {
        key = octets.get(start..start + 4)?.try_into().unwrap();
        start += 4;
    }
    let payload = octets.get(start..start + len)?;
    let payload = payload.iter().enumerate().map(|(i, octet)| octet ^ key[i % 4]).collect();
    Some((octets[0], payload, start + len))
}

pub(crate) fn frame(first: u8, payload: &[u8], mask: bool) -> Vec<u8> {
    let bit = if mask { 0x80 } else { 0 };
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(bit | u8::try_from(len).unwrap()),
        len @ 126..=65_535 => {
            out.push(bit | 126);
            out.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            out.push(bit | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    if mask {
        let key = [0x11, 0x22, 0x33, 0x44];
        out.extend(key);
        out.extend(payload.iter().enumerate().map(|(i, octet)| octet ^ key[i % 4]));
    } else {
        out.extend(payload);
    }
    out
}

/// A served WebSocket connection in memory with `buffer` octets in each direction.
pub(crate) fn websocket(
    config: Config,
    transport: TransportConfig,
    buffer: usize,
) -> (Raw, JoinHandle<Seen>) {
    let (near, far) = tokio::io::duplex(buffer);
    let transport = Transport::websocket(far, &[], Role::Server, transport);
    (Raw::new(near), tokio::spawn(serve(transport, Arc::new(config))))
}

/// The same with the defaults.
pub(crate) fn default_websocket() -> (Raw, JoinHandle<Seen>) {
    websocket(Config::default(), TransportConfig::DEFAULT, 1024 * 1024)
}

/// A served byte stream in memory.
pub(crate) fn stream(
    config: Config,
    transport: TransportConfig,
    buffer: usize,
) -> (DuplexStream, JoinHandle<Seen>) {
    let (near, far) = tokio::io::duplex(buffer);
    let transport = Transport::stream(far, transport);
    (near, tokio::spawn(serve(transport, Arc::new(config))))
}

/// Everything up to the end of the stream.
pub(crate) async fn read_to_end(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut octets = Vec::new();
    // A reset is an end, too.
    let _ = io.read_to_end(&mut octets).await;
    String::from_utf8(octets).unwrap()
}

/// A generous bound on what must not hang, in virtual or in real time.
pub(crate) const SOON: Duration = Duration::from_secs(60);
