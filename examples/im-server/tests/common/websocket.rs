//! A WebSocket client that does exactly as it is told, also what RFC 6455 forbids.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// The opcode of a text message.
pub const TEXT: u8 = 1;
/// The opcode of a binary message.
pub const BINARY: u8 = 2;
/// The opcode of a Close frame.
pub const CLOSE: u8 = 8;

/// An open WebSocket.
pub struct WebSocket {
    stream: TcpStream,
    input: Vec<u8>,
}

impl WebSocket {
    /// Opens `/ws` with these further request headers.
    ///
    /// # Errors
    ///
    /// The status, where the server does not switch protocols.
    pub fn open(address: SocketAddr, headers: &[(&str, &str)]) -> Result<Self, u16> {
        let mut request = format!(
            "GET /ws HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let mut stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream.write_all(request.as_bytes()).expect("write");
        let mut socket = Self { stream, input: Vec::new() };
        let end = loop {
            if let Some(end) = socket.input.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(socket.fill(), "closed during the handshake");
        };
        let head = String::from_utf8(socket.input.drain(..end).collect()).expect("UTF-8");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        match status.expect("a status") {
            101 => Ok(socket),
            status => Err(status),
        }
    }

    /// Sends one unfragmented message, masked as a client must.
    pub fn send(&mut self, opcode: u8, payload: &[u8]) {
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        let mut frame = vec![0x80 | opcode];
        match u16::try_from(payload.len()) {
            Ok(length @ 0..=125) => frame.push(0x80 | length as u8),
            Ok(length) => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(octet, mask)| octet ^ mask));
        self.raw(&frame);
    }

    /// Writes octets as they are; the server may have closed the connection.
    pub fn raw(&mut self, octets: &[u8]) {
        let _ = self.stream.write_all(octets);
    }

    /// The next frame (opcode and payload), or `None` at the end of the connection.
    pub fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((opcode, payload, length)) = frame(&self.input) {
                self.input.drain(..length);
                return Some((opcode, payload));
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Reads to the end of the connection: the text of the last message before the Close frame, if
    /// there was one, and the close code.
    pub fn closing(&mut self) -> (String, u16) {
        let mut last = String::new();
        while let Some((opcode, payload)) = self.read() {
            match opcode {
                CLOSE => {
                    let code = payload.get(..2).expect("a close code");
                    return (last, u16::from_be_bytes([code[0], code[1]]));
                }
                TEXT | BINARY => last = String::from_utf8_lossy(&payload).into_owned(),
                _ => {}
            }
        }
        panic!("closed without a Close frame; the last message was {last:?}");
    }

    fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(length) => {
                self.input.extend_from_slice(&chunk[..length]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("read: {error}"),
        }
    }
}

/// The frame at the start of the octets, with its length. Servers do not mask.
fn frame(octets: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let opcode = octets.first()? & 0x0f;
    let (length, start) = match octets.get(1)? {
        126 => (u16::from_be_bytes(octets.get(2..4)?.try_into().ok()?).into(), 4),
        127 => (u64::from_be_bytes(octets.get(2..10)?.try_into().ok()?) as usize, 10),
        length => (usize::from(*length), 2),
    };
    let payload = octets.get(start..start + length)?.to_vec();
    Some((opcode, payload, start + length))
}
