//! What goes out: frames that are built once and patched for each message.

use std::sync::Arc;

use crate::body::{DIGITS, MIN_BODY, Pattern, Stamp, put};

/// The masking key of every WebSocket frame. RFC 6455 wants it unpredictable; for octets that no proxy sees, a
/// constant does the same work at the server and lets a frame be masked once.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Octets on their way to the server
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) octets: Vec<u8>,
    /// How many of them are written.
    pub(crate) written: usize,
    pub(crate) framed: bool,
}

impl Outbox {
    pub(crate) fn waiting(&self) -> usize {
        self.octets.len() - self.written
    }

    /// Queues octets as they are.
    pub(crate) fn raw(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    /// Queues one STOMP frame, in a text message where there are messages.
    pub(crate) fn frame(&mut self, parts: &[&[u8]]) {
        if !self.framed {
            parts.iter().for_each(|part| self.raw(part));
            return;
        }
        self.message(1, parts);
    }

    /// Queues one WebSocket message.
    pub(crate) fn message(&mut self, opcode: u8, parts: &[&[u8]]) {
        put_head(&mut self.octets, opcode, parts.iter().map(|part| part.len()).sum());
        let start = self.octets.len();
        parts.iter().for_each(|part| self.octets.extend_from_slice(part));
        let payload = self.octets.get_mut(start..).unwrap_or_default();
        payload.iter_mut().zip(KEY.iter().cycle()).for_each(|(octet, key)| *octet ^= key);
    }
}

fn put_head(out: &mut Vec<u8>, opcode: u8, len: usize) {
    out.push(0x80 | opcode);
    if let Ok(short) = u8::try_from(len)
        && short < 126
    {
        out.push(0x80 | short);
    } else if let Ok(short) = u16::try_from(len) {
        out.push(0x80 | 126);
        out.extend_from_slice(&short.to_be_bytes());
    } else {
        out.push(0x80 | 127);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
    out.extend_from_slice(&KEY);
}

/// The SEND frames of one flow: everything but the stamp and the filler is there already
#[derive(Debug)]
pub(crate) struct SendFrames {
    /// All before the filler
    head: Vec<u8>,
    /// The octets of the pattern, masked as they stand in this frame; shared by the flows
    filler: Arc<Vec<u8>>,
    end: u8,
    /// Where the digits of the body are in `head`, and how far they are from the begin of the payload
    digits: (usize, usize),
    /// The same for the digits of the receipt
    receipt: Option<(usize, usize)>,
    flow: u32,
    key: [u8; 4],
}

/// Digits of a receipt's name: the flow and the number of the message
const RECEIPT: usize = 9;

/// The fillers of all flows: one for each place that a body can have in its masking key
#[derive(Debug, Default)]
pub(crate) struct Fillers([Option<Arc<Vec<u8>>>; 4]);

/// What all SEND frames of a run have in common
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendPlan<'a> {
    pub(crate) headers: &'a [(String, String)],
    pub(crate) receipts: bool,
    pub(crate) size: usize,
    pub(crate) framed: bool,
}

impl SendFrames {
    pub(crate) fn new(
        flow: u32,
        destination: &str,
        plan: SendPlan<'_>,
        pattern: &Pattern,
        fillers: &mut Fillers,
    ) -> Self {
        let SendPlan { headers, receipts, size, framed } = plan;
        let mut payload = format!("SEND\ndestination:{destination}\ncontent-length:{size}\n");
        for (name, value) in headers {
            payload.push_str(&format!("{name}:{value}\n"));
        }
        let receipt = receipts.then(|| {
            payload.push_str("receipt:");
            let at = payload.len();
            payload.push_str("#########\n");
            at
        });
        payload.push('\n');
        let digits = payload.len() + DIGITS.start;
        payload.push('L');
        payload.push_str("###############");
        let key = if framed { KEY } else { [0; 4] };
        let mut head = Vec::new();
        if framed {
            put_head(&mut head, 1, payload.len() + size - MIN_BODY + 1);
        }
        let start = head.len();
        head.extend(payload.bytes().zip(key.iter().cycle()).map(|(octet, key)| octet ^ key));
        let place = payload.len() % 4;
        let masked = || {
            let keys = key.iter().cycle().skip(place);
            Arc::new(pattern.octets().iter().zip(keys).map(|(octet, key)| octet ^ key).collect())
        };
        let filler = match fillers.0.get_mut(place) {
            Some(filler) => Arc::clone(filler.get_or_insert_with(masked)),
            None => masked(),
        };
        let end = key.get((payload.len() + size - MIN_BODY) % 4).copied().unwrap_or_default();
        let place = |at| (start + at, at);
        Self { head, filler, end, digits: place(digits), receipt: receipt.map(place), flow, key }
    }

    /// Appends the frame of one message.
    pub(crate) fn put(&self, out: &mut Vec<u8>, seq: u64, micros: u64, pattern: &Pattern) {
        let start = out.len();
        out.extend_from_slice(&self.head);
        let stamp = Stamp { flow: self.flow, seq, micros };
        self.patch(out, start, self.digits, &stamp.digits());
        if let Some(place) = self.receipt {
            self.patch(out, start, place, &receipt(self.flow, seq));
        }
        out.extend_from_slice(self.filler.get(pattern.range(seq)).unwrap_or_default());
        out.push(self.end);
    }

    fn patch(&self, out: &mut [u8], start: usize, (at, offset): (usize, usize), digits: &[u8]) {
        let place = out.get_mut(start + at..start + at + digits.len()).unwrap_or_default();
        let keys = self.key.iter().cycle().skip(offset % 4);
        for ((slot, digit), key) in place.iter_mut().zip(digits).zip(keys) {
            *slot = digit ^ key;
        }
    }
}

fn receipt(flow: u32, seq: u64) -> [u8; RECEIPT] {
    let mut digits = [0; RECEIPT];
    let (first, second) = digits.split_at_mut(3);
    put(first, u64::from(flow));
    put(second, seq);
    digits
}

/// The flow and the number of the message that a receipt is for.
pub(crate) fn read_receipt(id: &[u8]) -> Option<(usize, u64)> {
    let (flow, seq) = id.split_at_checked(3).filter(|_| id.len() == RECEIPT)?;
    Some((crate::body::number(flow)? as usize, crate::body::number(seq)?))
}

/// Octets of a header's value, as 1.2 writes them.
pub(crate) fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for char in value.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            ':' => out.push_str("\\c"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::{Item, Scan};

    /// Turns the client's frames into what a server would send: unmasked.
    fn unmasked(mut wire: Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        while !wire.is_empty() {
            let (len, head) = match wire[1] & 0x7f {
                126 => (usize::from(u16::from_be_bytes([wire[2], wire[3]])), 4),
                127 => (u64::from_be_bytes(wire[2..10].try_into().unwrap()) as usize, 10),
                short => (usize::from(short), 2),
            };
            assert_eq!(wire[head..head + 4], KEY);
            let rest = wire.split_off(head + 4 + len);
            let payload = wire[head + 4..].iter().zip(KEY.iter().cycle()).map(|(o, k)| o ^ k);
            out.push(wire[0]);
            out.push(wire[1] & 0x7f);
            out.extend(&wire[2..head]);
            out.extend(payload);
            wire = rest;
        }
        out
    }

    #[test]
    fn a_patched_frame_is_a_right_one_whatever_the_size_and_the_place_of_its_body() {
        for framed in [true, false] {
            for size in [16, 17, 128, 1024, 70_000] {
                let pattern = Pattern::new(size);
                let mut fillers = Fillers::default();
                for name in ["a", "ab", "abc", "abcd"] {
                    let destination = format!("/queue/{name}");
                    let plan = SendPlan { headers: &[], receipts: true, size, framed };
                    let frames = SendFrames::new(5, &destination, plan, &pattern, &mut fillers);
                    let mut wire = Vec::new();
                    for seq in 0..20 {
                        frames.put(&mut wire, seq, seq * 10, &pattern);
                    }
                    let mut wire = if framed { unmasked(wire) } else { wire };
                    // As a server's: what is scanned is a MESSAGE.
                    let text = String::from_utf8_lossy(&wire).replace("SEND\n", "MESSAGE\n");
                    if !framed {
                        wire = text.into_bytes();
                    }
                    let mut seen = 0;
                    let mut scan = Scan::new(framed);
                    let mut rest = &wire[..];
                    while let Some(item) = scan.next(&mut rest).unwrap() {
                        let Item::Frame(frame) = item else { panic!("{item:?}") };
                        let stamp = pattern.check(frame.body).expect("a whole body");
                        let expected = Stamp { flow: 5, seq: seen, micros: seen * 10 };
                        assert_eq!(stamp, expected);
                        assert_eq!(frame.header(b"destination"), Some(destination.as_bytes()));
                        let receipt = frame.header(b"receipt").and_then(read_receipt);
                        assert_eq!(receipt, Some((5, seen)));
                        seen += 1;
                    }
                    assert_eq!((seen, rest.len()), (20, 0));
                }
            }
        }
    }

    #[test]
    fn a_value_is_escaped() {
        assert_eq!(escaped("a:b\\c\nd"), "a\\cb\\\\c\\nd");
    }
}
