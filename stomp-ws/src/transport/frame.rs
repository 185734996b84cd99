use std::io;

use bytes::{Bytes, BytesMut};
use stomp_codec::Transmit;

use super::outbox::{COPY_LIMIT, Outbox};
use crate::close::{CloseCode, fit_reason};

/// Which end of a WebSocket this is: a client masks what it sends, a server does not (RFC 6455 section 5.1)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a WebSocket has two ends")]
pub enum Role {
    /// The end that opened the connection
    Client,
    /// The end that accepted it
    Server,
}

/// Writes WebSocket frames: each message in one frame, as no peer needs them cut.
#[derive(Debug)]
pub(super) struct FrameWriter {
    keys: Option<MaskKeys>,
    force_binary: bool,
}

impl FrameWriter {
    pub(super) fn new(role: Role, force_binary: bool) -> Self {
        let keys = (role == Role::Client).then(MaskKeys::default);
        Self { keys, force_binary }
    }

    /// One message with one STOMP frame or heart-beat: text if it is UTF-8 (W-25).
    pub(super) fn message(&mut self, out: &mut Outbox, transmit: &Transmit) -> io::Result<()> {
        let text = transmit.is_heart_beat() || (!self.force_binary && transmit.is_text());
        let len = transmit.len();
        self.write(out, if text { Opcode::Text } else { Opcode::Binary }, len, transmit.slices())
    }

    pub(super) fn pong(&mut self, out: &mut Outbox, payload: &Bytes) -> io::Result<()> {
        self.write(out, Opcode::Pong, payload.len(), [payload])
    }

    /// A Close frame; a code that may not be sent gives a frame without one.
    pub(super) fn close(
        &mut self,
        out: &mut Outbox,
        code: CloseCode,
        reason: &str,
    ) -> io::Result<()> {
        let mut payload = BytesMut::new();
        if code.can_be_sent() {
            payload.extend_from_slice(&code.as_u16().to_be_bytes());
            payload.extend_from_slice(fit_reason(reason).as_bytes());
        }
        self.write(out, Opcode::Close, payload.len(), [&payload.freeze()])
    }

    fn write<'a>(
        &mut self,
        out: &mut Outbox,
        opcode: Opcode,
        len: usize,
        slices: impl IntoIterator<Item = &'a Bytes>,
    ) -> io::Result<()> {
        let (head, head_len) = head(opcode, len, self.keys.is_some());
        let head = head.get(..head_len).unwrap_or_default();
        let Some(keys) = &mut self.keys else {
            out.push_slice(head);
            slices.into_iter().for_each(|slice| out.push(slice));
            return Ok(());
        };
        let key = keys.next()?;
        if len <= COPY_LIMIT {
            out.begin(head_len + key.len() + len);
            out.push_slice(head);
            out.push_slice(&key);
            slices.into_iter().for_each(|slice| out.push_slice(slice));
            mask(out.last_mut(len), key);
        } else {
            out.push_slice(head);
            out.push_slice(&key);
            let mut payload = BytesMut::with_capacity(len);
            slices.into_iter().for_each(|slice| payload.extend_from_slice(slice));
            mask(&mut payload, key);
            out.push(&payload.freeze());
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Opcode {
    Text = 1,
    Binary = 2,
    Close = 8,
    Pong = 10,
}

/// The head of a final frame, without its masking key (RFC 6455 section 5.2), and its length.
fn head(opcode: Opcode, len: usize, masked: bool) -> ([u8; 10], usize) {
    let mask_bit = if masked { 0x80 } else { 0 };
    let mut head = [0; 10];
    let [first, second, rest @ ..] = &mut head;
    *first = 0x80 | opcode as u8;
    let head_len = if let Ok(len) = u8::try_from(len)
        && len < 126
    {
        *second = mask_bit | len;
        2
    } else if let Ok(len) = u16::try_from(len) {
        *second = mask_bit | 126;
        rest.iter_mut().zip(len.to_be_bytes()).for_each(|(to, from)| *to = from);
        4
    } else {
        *second = mask_bit | 127;
        *rest = (len as u64).to_be_bytes();
        10
    };
    (head, head_len)
}

pub(super) fn mask(payload: &mut [u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    rest.iter_mut().zip(key.into_iter().cycle()).for_each(|(octet, key)| *octet ^= key);
}

/// Unpredictable masking keys (RFC 6455 section 5.3), fetched from the system in blocks
#[derive(Default)]
struct MaskKeys {
    block: [[u8; 4]; 16],
    left: usize,
}

impl MaskKeys {
    fn next(&mut self) -> io::Result<[u8; 4]> {
        if self.left == 0 {
            getrandom::fill(self.block.as_flattened_mut()).map_err(io::Error::other)?;
            self.left = self.block.len();
        }
        self.left -= 1;
        Ok(self.block.get(self.left).copied().unwrap_or_default())
    }
}

impl std::fmt::Debug for MaskKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MaskKeys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_has_the_shortest_length() {
        let octets = |len, masked| {
            let (head, n) = head(Opcode::Text, len, masked);
            head[..n].to_vec()
        };
        assert_eq!(octets(0, false), [0x81, 0]);
        assert_eq!(octets(125, true), [0x81, 0x80 | 125]);
        assert_eq!(octets(126, false), [0x81, 126, 0, 126]);
        assert_eq!(octets(65_535, true), [0x81, 0x80 | 126, 0xff, 0xff]);
        assert_eq!(octets(65_536, false), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn masking_is_octet_by_octet_with_the_key_repeated() {
        let key = [1, 2, 3, 250];
        for len in 0..40_u8 {
            let plain: Vec<u8> = (0..len).collect();
            let mut masked = plain.clone();
            mask(&mut masked, key);
            let expected: Vec<u8> = plain.iter().enumerate().map(|(i, b)| b ^ key[i % 4]).collect();
            assert_eq!(masked, expected);
        }
    }
}
