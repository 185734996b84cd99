use std::str;

use super::frame::{Role, mask};
use crate::{CloseCode, PeerClose, TransportError};

/// Reads WebSocket frames (RFC 6455 section 5) out of a byte stream cut anywhere
///
/// STOMP frames may be cut anywhere across messages, so no message is ever put together: the payloads of text and binary
/// messages, of all that is in one read, move to the front of it, next to each other. An idle decoder holds no buffer.
#[derive(Debug)]
pub(super) struct FrameReader {
    /// Which end this is: the other masks or does not.
    role: Role,
    max_message: usize,
    /// The head of a frame, as far as it has arrived.
    head: [u8; MAX_HEAD],
    head_len: usize,
    frame: Option<Frame>,
    message: Option<Message>,
    /// The payload of a control frame, as far as it has arrived.
    control: Vec<u8>,
}

/// Two octets, eight of length, four of masking key
const MAX_HEAD: usize = 14;

/// A frame whose head has arrived
#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: Kind,
    last: bool,
    /// Octets of the payload still to come
    left: usize,
    /// Rotated so that it begins with the key of the next octet
    key: Option<[u8; 4]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Of a text or binary message, first or continued
    Data,
    Close,
    Ping,
    Pong,
}

/// The message that is being received
#[derive(Debug)]
struct Message {
    /// Its octets so far, those of the current frame included
    len: usize,
    /// `None` where it is binary
    text: Option<Utf8>,
}

/// What comes up between the octets
#[derive(Debug)]
pub(super) enum Control {
    Ping(Vec<u8>),
    /// Nothing is read behind it.
    Close(PeerClose),
}

impl FrameReader {
    pub(super) const fn new(role: Role, max_message: usize) -> Self {
        Self {
            role,
            max_message,
            head: [0; MAX_HEAD],
            head_len: 0,
            frame: None,
            message: None,
            control: Vec::new(),
        }
    }

    pub(super) const fn set_max_message(&mut self, octets: usize) {
        self.max_message = octets;
    }

    /// Decodes what was read. Leaves the payload octets at the front of `octets` and gives their number, with the first
    /// control frame that is met, if any, and how much of `octets` was not looked at behind it.
    ///
    /// On an error the payload octets before it are at the front as well.
    pub(super) fn decode(&mut self, octets: &mut [u8]) -> Decoded {
        let mut decoded = Decoded { payload: 0, rest: octets.len(), outcome: Ok(None) };
        while decoded.rest > 0 && matches!(decoded.outcome, Ok(None)) {
            let at = octets.len() - decoded.rest;
            let outcome = match self.frame {
                Some(frame) => {
                    let end = at + frame.left.min(decoded.rest);
                    let piece = octets.get_mut(at..end).unwrap_or_default();
                    let len = piece.len();
                    decoded.rest -= len;
                    let outcome = self.payload(frame, piece);
                    if frame.kind == Kind::Data && outcome.is_ok() {
                        octets.copy_within(at..end, decoded.payload);
                        decoded.payload += len;
                    }
                    outcome
                }
                None => {
                    decoded.rest -= self.take_head(octets.get(at..).unwrap_or_default());
                    self.finish_head()
                }
            };
            decoded.outcome = outcome;
        }
        decoded
    }

    /// Takes octets of a head, no more than belong to it, and gives their number.
    fn take_head(&mut self, octets: &[u8]) -> usize {
        if self.head_len == 0
            && let Some(head) = octets.first_chunk()
        {
            // All of it, and more, is there.
            self.head = *head;
            self.head_len = 2;
            self.head_len = self.head_size();
            return self.head_len;
        }
        let mut taken = 0;
        loop {
            let missing = self.head_size() - self.head_len;
            let rest = octets.get(taken..).unwrap_or_default();
            let piece = rest.get(..missing).unwrap_or(rest);
            if piece.is_empty() {
                return taken;
            }
            let free = self.head.iter_mut().skip(self.head_len);
            free.zip(piece).for_each(|(slot, octet)| *slot = *octet);
            self.head_len += piece.len();
            taken += piece.len();
        }
    }

    /// The size of the head that is being received, as far as it is known.
    fn head_size(&self) -> usize {
        let [_, second, ..] = self.head;
        if self.head_len < 2 {
            return 2;
        }
        let length = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if second & 0x80 == 0 { 0 } else { 4 }
    }

    /// Begins the frame, once its head is complete.
    fn finish_head(&mut self) -> Result<Option<Control>, TransportError> {
        // The first two octets are looked at as soon as they are here: a peer that speaks something else is told so.
        if self.head_len < 2 {
            return Ok(None);
        }
        let [first, second, ..] = self.head;
        let last = first & 0x80 != 0;
        let (kind, starts) = match first & 0x0f {
            0 => (Kind::Data, None),
            1 => (Kind::Data, Some(Some(Utf8::default()))),
            2 => (Kind::Data, Some(None)),
            8 => (Kind::Close, None),
            9 => (Kind::Ping, None),
            10 => (Kind::Pong, None),
            _ => return broken("this opcode does not exist"),
        };
        if first & 0x70 != 0 {
            return broken("reserved bits must be zero as no extension was agreed");
        }
        if kind == Kind::Data && starts.is_some() == self.message.is_some() {
            return broken(
                "a message must be finished before the next and begun before it is continued",
            );
        }
        let short = usize::from(second & 0x7f);
        if kind != Kind::Data && (!last || short > 125) {
            return broken("control frames have at most 125 octets and are not fragmented");
        }
        match (self.role, second & 0x80 != 0) {
            (Role::Server, false) => return broken("a client must mask its frames"),
            (Role::Client, true) => return broken("a server may not mask its frames"),
            _ => {}
        }
        let size = self.head_size();
        let key_len = if second & 0x80 == 0 { 0 } else { 4 };
        if self.head_len < size - key_len {
            return Ok(None);
        }
        // The length is looked at before the key is here, so that nobody waits for what is refused anyway.
        let [_, _, a, b, c, d, e, f, g, h, ..] = self.head;
        let (len, least) = match short {
            126 => (u64::from(u16::from_be_bytes([a, b])), 126),
            127 => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 65_536),
            _ => (short as u64, 0),
        };
        if len < least {
            return broken("a length must be in its shortest form");
        }
        let limit = if kind == Kind::Data { self.max_message } else { 125 };
        let before = match &self.message {
            Some(message) if kind == Kind::Data => message.len,
            _ => 0,
        };
        let left = usize::try_from(len).ok().filter(|len| *len <= limit.saturating_sub(before));
        let Some(left) = left else { return Err(TransportError::MessageTooBig { limit }) };
        if self.head_len < size {
            return Ok(None);
        }

        let key = self.head.get(size - key_len..size).and_then(|key| key.try_into().ok());
        self.head_len = 0;
        if let Some(text) = starts {
            self.message = Some(Message { len: left, text });
        } else if let Some(message) = self.message.as_mut().filter(|_| kind == Kind::Data) {
            message.len += left;
        }
        let frame = Frame { kind, last, left, key };
        self.frame = Some(frame);
        if left == 0 { self.payload(frame, &mut []) } else { Ok(None) }
    }

    /// Takes octets of a frame's payload, and ends the frame behind its last one.
    fn payload(
        &mut self,
        mut frame: Frame,
        piece: &mut [u8],
    ) -> Result<Option<Control>, TransportError> {
        if let Some(key) = &mut frame.key {
            mask(piece, *key);
            if piece.len() < frame.left {
                key.rotate_left(piece.len() % 4);
            }
        }
        frame.left -= piece.len();
        let done = frame.left == 0;
        self.frame = (!done).then_some(frame);
        if frame.kind != Kind::Data {
            self.control.extend_from_slice(piece);
            return if done { self.control(frame.kind) } else { Ok(None) };
        }
        if let Some(Message { text: Some(text), .. }) = &mut self.message {
            text.check(piece, done && frame.last)?;
        }
        if done && frame.last {
            self.message = None;
        }
        Ok(None)
    }

    fn control(&mut self, kind: Kind) -> Result<Option<Control>, TransportError> {
        let payload = std::mem::take(&mut self.control);
        match kind {
            Kind::Ping => Ok(Some(Control::Ping(payload))),
            Kind::Close => close(&payload).map(Some),
            Kind::Pong | Kind::Data => Ok(None),
        }
    }
}

/// What [`FrameReader::decode`] made of one read
#[derive(Debug)]
pub(super) struct Decoded {
    /// Octets of payload, at the front
    pub(super) payload: usize,
    /// Octets at the end that were not looked at
    pub(super) rest: usize,
    pub(super) outcome: Result<Option<Control>, TransportError>,
}

fn broken<T>(rule: &'static str) -> Result<T, TransportError> {
    Err(TransportError::Protocol { rule })
}

fn close(payload: &[u8]) -> Result<Control, TransportError> {
    let (code, reason) = match payload {
        [] => (CloseCode::NO_STATUS, &[][..]),
        [_] => return broken("a close code has two octets"),
        [high, low, reason @ ..] => {
            let code = CloseCode::new(u16::from_be_bytes([*high, *low]));
            if !code.can_be_sent() {
                return broken("this close code may not be sent");
            }
            (code, reason)
        }
    };
    let reason = str::from_utf8(reason).map_err(|_| TransportError::InvalidUtf8)?;
    Ok(Control::Close(PeerClose::new(code, reason)))
}

/// Checks text that arrives in pieces, cut anywhere
#[derive(Clone, Copy, Debug, Default)]
struct Utf8 {
    /// The beginning of a character that is cut
    open: [u8; 4],
    open_len: usize,
}

impl Utf8 {
    fn check(&mut self, mut piece: &[u8], end: bool) -> Result<(), TransportError> {
        while self.open_len > 0
            && let [next, rest @ ..] = piece
        {
            if let Some(slot) = self.open.get_mut(self.open_len) {
                *slot = *next;
            }
            self.open_len += 1;
            piece = rest;
            match str::from_utf8(self.open.get(..self.open_len).unwrap_or_default()) {
                Ok(_) => self.open_len = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(TransportError::InvalidUtf8),
            }
        }
        if let Err(error) = str::from_utf8(piece) {
            if error.error_len().is_some() {
                return Err(TransportError::InvalidUtf8);
            }
            let cut = piece.get(error.valid_up_to()..).unwrap_or_default();
            self.open_len = cut.len();
            self.open.iter_mut().zip(cut).for_each(|(slot, octet)| *slot = *octet);
        }
        if end && self.open_len > 0 { Err(TransportError::InvalidUtf8) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
