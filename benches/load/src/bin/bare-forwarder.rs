//! The least that a STOMP server over WebSocket can do: it reads where a message goes and forwards the octets.
//!
//! One thread. What is readable is drained and written once per wake-up. There are no sessions, acknowledgements, ids,
//! limits, heart-beats, checks of text or of frames: the ceiling that a real server is compared with.
//!
//! `bare-forwarder [ADDRESS]` prints `ready ADDRESS` once it listens.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX - 1);
/// A client is not read while more than this waits for one that it writes to.
const HIGH_WATER: usize = 1024 * 1024;

struct Client {
    socket: TcpStream,
    upgraded: bool,
    /// What has arrived of a frame that is not whole
    left: Vec<u8>,
    out: Vec<u8>,
    dirty: bool,
    subscriptions: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Clients {
    all: Vec<Option<Client>>,
    free: Vec<usize>,
    subscribers: HashMap<Vec<u8>, Vec<usize>>,
    dirty: Vec<usize>,
    /// Clients that were not drained
    again: Vec<usize>,
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let mut listener = TcpListener::bind(address)?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("ready {}", listener.local_addr()?);
    stomp_load::raise_file_limit();

    let mut events = Events::with_capacity(4096);
    let mut clients = Clients::default();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let wait = (!clients.again.is_empty()).then_some(std::time::Duration::ZERO);
        match poll.poll(&mut events, wait) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        }
        for index in std::mem::take(&mut clients.again) {
            clients.read(index, &mut buffer);
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((socket, _)) = listener.accept() {
                    clients.add(socket, &poll)?;
                }
                continue;
            }
            if event.is_writable() {
                clients.write(event.token().0);
            }
            if event.is_readable() {
                clients.read(event.token().0, &mut buffer);
            }
        }
        for index in std::mem::take(&mut clients.dirty) {
            clients.write(index);
        }
    }
}

impl Clients {
    fn add(&mut self, mut socket: TcpStream, poll: &Poll) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let index = self.free.pop().unwrap_or(self.all.len());
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut socket, Token(index), interest)?;
        let client = Client {
            socket,
            upgraded: false,
            left: Vec::new(),
            out: Vec::new(),
            dirty: false,
            subscriptions: Vec::new(),
        };
        if index == self.all.len() {
            self.all.push(None);
        }
        if let Some(place) = self.all.get_mut(index) {
            *place = Some(client);
        }
        Ok(())
    }

    fn remove(&mut self, index: usize) {
        let Some(client) = self.all.get_mut(index).and_then(Option::take) else { return };
        self.free.push(index);
        for destination in client.subscriptions {
            if let Some(subscribers) = self.subscribers.get_mut(&destination) {
                subscribers.retain(|subscriber| *subscriber != index);
                if subscribers.is_empty() {
                    self.subscribers.remove(&destination);
                }
            }
        }
    }

    /// Reads a client until it has no more, or too much waits.
    fn read(&mut self, index: usize, buffer: &mut Vec<u8>) {
        loop {
            let Some(Some(client)) = self.all.get_mut(index) else { return };
            let kept = client.left.len();
            if buffer.len() < 2 * kept {
                buffer.resize(2 * kept, 0);
            }
            let (front, room) = buffer.split_at_mut(kept);
            front.copy_from_slice(&client.left);
            let count = match client.socket.read(room) {
                Ok(0) => return self.remove(index),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.remove(index),
            };
            let drained = count < room.len();
            client.left.clear();
            let Some((octets, _)) = buffer.split_at_mut_checked(kept + count) else { return };
            let rest = if client.upgraded {
                self.frames(index, octets)
            } else {
                self.upgrade(index, octets)
            };
            if let Some(Some(client)) = self.all.get_mut(index) {
                client.left.extend_from_slice(octets.get(rest..).unwrap_or_default());
            }
            if drained {
                return;
            }
            let full = self.dirty.iter().any(|dirty| {
                matches!(self.all.get(*dirty), Some(Some(client)) if client.out.len() > HIGH_WATER)
            });
            if full {
                return self.again.push(index);
            }
        }
    }

    fn upgrade(&mut self, index: usize, octets: &[u8]) -> usize {
        let Some(end) = memmem::find(octets, b"\r\n\r\n") else { return 0 };
        let head = String::from_utf8_lossy(octets.get(..end).unwrap_or_default());
        let key = head.lines().filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
            name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
        });
        let mut hash = sha1_smol::Sha1::from(key.unwrap_or_default());
        hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        let accept = STANDARD.encode(hash.digest().bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-accept: {accept}\r\nsec-websocket-protocol: v12.stomp\r\n\r\n"
        );
        self.put(index, &[answer.as_bytes()]);
        if let Some(Some(client)) = self.all.get_mut(index) {
            client.upgraded = true;
        }
        end + 4
    }

    /// Takes the frames that are whole; where the rest begins.
    fn frames(&mut self, index: usize, octets: &mut [u8]) -> usize {
        let mut at = 0;
        while let Some((head, len)) = frame_head(octets.get(at..).unwrap_or_default()) {
            let Some(frame) = octets.get_mut(at..at + head + len) else { return at };
            let (head, payload) = frame.split_at_mut(head);
            if let Some(key) = head.last_chunk::<4>() {
                unmask(payload, *key);
            }
            self.frame(index, payload);
            at += head.len() + len;
        }
        at
    }

    fn frame(&mut self, index: usize, frame: &[u8]) {
        if let Some(rest) = frame.strip_prefix(b"SEND\n") {
            const HEAD: &[u8] = b"MESSAGE\nsubscription:0\nmessage-id:0\n";
            let subscribers = header(rest, b"destination:").and_then(|to| self.subscribers.get(to));
            for subscriber in subscribers.into_iter().flatten() {
                let Some(Some(client)) = self.all.get_mut(*subscriber) else { continue };
                put_head(&mut client.out, HEAD.len() + rest.len());
                client.out.extend_from_slice(HEAD);
                client.out.extend_from_slice(rest);
                if !client.dirty {
                    client.dirty = true;
                    self.dirty.push(*subscriber);
                }
            }
        } else if frame.starts_with(b"CONNECT") {
            self.answer(index, b"CONNECTED\nversion:1.2\nheart-beat:0,0", b"");
        } else if frame.starts_with(b"SUBSCRIBE\n")
            && let Some(destination) = header(frame, b"destination:")
            && let Some(Some(client)) = self.all.get_mut(index)
        {
            client.subscriptions.push(destination.to_vec());
            self.subscribers.entry(destination.to_vec()).or_default().push(index);
        }
        if let Some(receipt) = header(frame, b"receipt:") {
            self.answer(index, b"RECEIPT\nreceipt-id:", receipt);
        }
    }

    fn answer(&mut self, index: usize, head: &[u8], value: &[u8]) {
        let mut frame = Vec::new();
        put_head(&mut frame, head.len() + value.len() + 3);
        self.put(index, &[&frame, head, value, b"\n\n\0"]);
    }

    fn put(&mut self, index: usize, parts: &[&[u8]]) {
        let Some(Some(client)) = self.all.get_mut(index) else { return };
        parts.iter().for_each(|part| client.out.extend_from_slice(part));
        if !client.dirty {
            client.dirty = true;
            self.dirty.push(index);
        }
    }

    /// Writes what waits for a client, as far as it takes it.
    fn write(&mut self, index: usize) {
        let Some(Some(client)) = self.all.get_mut(index) else { return };
        client.dirty = false;
        let mut written = 0;
        while let Some(waiting @ [_, ..]) = client.out.get(written..) {
            match client.socket.write(waiting) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return self.remove(index),
            }
        }
        client.out.drain(..written);
        if client.out.is_empty() && client.out.capacity() > HIGH_WATER {
            client.out = Vec::new();
        }
    }
}

/// The value of a header line that begins so.
fn header<'a>(frame: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    frame
        .split(|octet| *octet == b'\n')
        .take_while(|line| !line.is_empty())
        .find_map(|line| line.strip_prefix(name))
}

/// The size of a client's frame head, and of its payload.
fn frame_head(octets: &[u8]) -> Option<(usize, usize)> {
    let [_, second, rest @ ..] = octets else { return None };
    Some(match second & 0x7f {
        126 => (8, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (14, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?),
        short => (6, usize::from(short)),
    })
}

fn put_head(out: &mut Vec<u8>, len: usize) {
    out.push(0x81);
    if let Ok(len) = u8::try_from(len)
        && len < 126
    {
        out.push(len);
    } else if let Ok(len) = u16::try_from(len) {
        out.push(126);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(127);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
}

fn unmask(payload: &mut [u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    rest.iter_mut().zip(key.into_iter().cycle()).for_each(|(octet, key)| *octet ^= key);
}
