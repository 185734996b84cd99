//! What comes in: frames are found, and looked into no further than somebody asks.

use memchr::memmem::Finder;
use memchr::{memchr, memrchr};

use crate::LoadError;

/// Finds frames in the octets of one connection
#[derive(Debug)]
pub(crate) struct Scan {
    framed: bool,
    head_end: Finder<'static>,
    content_length: Finder<'static>,
}

/// What was found
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    Frame(Incoming<'a>),
    HeartBeat,
    Ping(&'a [u8]),
    /// The server's Close frame: code and reason
    Close(&'a [u8]),
}

/// A STOMP frame
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incoming<'a> {
    /// Command and header lines, each with its line feed
    pub(crate) head: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl<'a> Incoming<'a> {
    pub(crate) fn command(&self) -> &'a [u8] {
        self.head.split(|octet| *octet == b'\n').next().map(trim).unwrap_or_default()
    }

    /// The value of the first header of this name, as it is on the wire.
    pub(crate) fn header(&self, name: &[u8]) -> Option<&'a [u8]> {
        let mut rest = self.head;
        while let Some(end) = memchr(b'\n', rest) {
            let (line, after) = rest.split_at_checked(end + 1)?;
            rest = after;
            if let Some(value) =
                line.strip_prefix(name).and_then(|line| line.strip_prefix(b":".as_slice()))
            {
                return Some(trim(value));
            }
        }
        None
    }
}

/// Without the line's end.
fn trim(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

impl Scan {
    pub(crate) fn new(framed: bool) -> Self {
        Self {
            framed,
            head_end: Finder::new(b"\n\n"),
            content_length: Finder::new(b"\ncontent-length:"),
        }
    }

    /// Takes the next item off the front of `octets`; `None` if it has not arrived whole.
    pub(crate) fn next<'a>(
        &mut self,
        octets: &mut &'a [u8],
    ) -> Result<Option<Item<'a>>, LoadError> {
        if self.framed { self.message(octets) } else { self.frame(octets) }
    }

    fn message<'a>(&self, octets: &mut &'a [u8]) -> Result<Option<Item<'a>>, LoadError> {
        let [first, second, rest @ ..] = *octets else { return Ok(None) };
        let (len, rest) = match second {
            126 => match rest.split_first_chunk() {
                Some((len, rest)) => (usize::from(u16::from_be_bytes(*len)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((len, rest)) => (u64::from_be_bytes(*len) as usize, rest),
                None => return Ok(None),
            },
            len => (usize::from(*len), rest),
        };
        let Some((payload, rest)) = rest.split_at_checked(len) else { return Ok(None) };
        *octets = rest;
        let item = match first {
            0x81 | 0x82 => self.payload(payload)?,
            0x88 => Item::Close(payload),
            0x89 => Item::Ping(payload),
            0x8a => Item::HeartBeat,
            _ => return Err(unexpected("a WebSocket frame of a kind that is not understood")),
        };
        Ok(Some(item))
    }

    /// One message: one frame, as all servers send it, or heart-beats.
    fn payload<'a>(&self, payload: &'a [u8]) -> Result<Item<'a>, LoadError> {
        if payload.iter().all(|octet| matches!(octet, b'\n' | b'\r')) {
            return Ok(Item::HeartBeat);
        }
        let mut rest = payload;
        match self.frame(&mut rest)? {
            Some(item) if rest.iter().all(|octet| matches!(octet, b'\n' | b'\r')) => Ok(item),
            _ => Err(unexpected("a WebSocket message that is not one STOMP frame")),
        }
    }

    fn frame<'a>(&self, octets: &mut &'a [u8]) -> Result<Option<Item<'a>>, LoadError> {
        while let [b'\n' | b'\r', rest @ ..] = *octets {
            *octets = rest;
        }
        let all = *octets;
        let Some(end) = self.head_end.find(all) else { return Ok(None) };
        let Some((head, rest)) = all.split_at_checked(end + 1) else { return Ok(None) };
        let rest = rest.get(1..).unwrap_or_default();
        let len = match self.content_length.find(head) {
            Some(at) => number(head.get(at + 16..).unwrap_or_default()),
            None => memchr(0, rest),
        };
        let Some((body, rest)) = len.and_then(|len| rest.split_at_checked(len)) else {
            return Ok(None);
        };
        match rest {
            [0, rest @ ..] => {
                *octets = rest;
                Ok(Some(Item::Frame(Incoming { head, body })))
            }
            [] => Ok(None),
            _ => Err(unexpected("a frame whose body is longer than it says")),
        }
    }
}

/// The number that a header line begins with.
fn number(line: &[u8]) -> Option<usize> {
    let mut number: usize = 0;
    for digit in line.iter().take_while(|octet| octet.is_ascii_digit()) {
        number = number.checked_mul(10)?.checked_add(usize::from(digit - b'0'))?;
    }
    Some(number)
}

fn unexpected(what: &str) -> LoadError {
    LoadError::Server(format!("it sent {what}"))
}

/// The end of an HTTP head, if it is there: how many octets it has.
pub(crate) fn http_head(octets: &[u8]) -> Option<usize> {
    memrchr(b'\n', octets)?;
    memchr::memmem::find(octets, b"\r\n\r\n").map(|at| at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: &[u8] = b"MESSAGE\nsubscription:0\r\nack:a\\c1\ncontent-length:3\n\na\0b\0";

    #[test]
    fn a_frame_is_found_once_it_is_whole() {
        let mut scan = Scan::new(false);
        let wire = [b"\n\n", FRAME, b"\nRECEIPT\nreceipt-id:x\n\n\0"].concat();
        for cut in 0..=FRAME.len() + 1 {
            let mut octets = &wire[..cut];
            assert_eq!(scan.next(&mut octets).unwrap(), None, "{cut}");
        }
        let mut octets = &wire[..];
        let Some(Item::Frame(frame)) = scan.next(&mut octets).unwrap() else { panic!() };
        assert_eq!((frame.command(), frame.body), (&b"MESSAGE"[..], &b"a\0b"[..]));
        assert_eq!(frame.header(b"ack"), Some(&b"a\\c1"[..]));
        assert_eq!(frame.header(b"subscription"), Some(&b"0"[..]));
        assert_eq!(frame.header(b"content"), None);
        let Some(Item::Frame(frame)) = scan.next(&mut octets).unwrap() else { panic!() };
        assert_eq!(frame.header(b"receipt-id"), Some(&b"x"[..]));
        assert!(octets.is_empty());
    }

    #[test]
    fn a_message_is_a_frame_or_a_heart_beat_or_a_fault() {
        let mut scan = Scan::new(true);
        let message = |first, payload: &[u8]| {
            let mut wire = vec![first, u8::try_from(payload.len()).unwrap()];
            wire.extend(payload);
            wire
        };
        let wire = [message(0x81, FRAME), message(0x81, b"\n"), message(0x89, b"p")].concat();
        let mut octets = &wire[..];
        assert!(matches!(scan.next(&mut octets), Ok(Some(Item::Frame(_)))));
        assert_eq!(scan.next(&mut octets).unwrap(), Some(Item::HeartBeat));
        assert_eq!(scan.next(&mut octets).unwrap(), Some(Item::Ping(b"p")));
        assert_eq!(scan.next(&mut octets).unwrap(), None);
        for wrong in
            [message(0x81, &FRAME[..20]), message(0x01, FRAME), message(0x82, b"x\n\ny\0z")]
        {
            assert!(scan.next(&mut &wrong[..]).is_err());
        }
    }

    #[test]
    fn a_body_that_goes_on_behind_its_length_is_a_fault() {
        let mut octets = &b"MESSAGE\ncontent-length:1\n\nab\0"[..];
        assert!(Scan::new(false).next(&mut octets).is_err());
    }
}
