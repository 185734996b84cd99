mod chunk;
mod grammar;
mod scan;
#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};

pub use chunk::ChunkDecoder;

use crate::frame::Head;
use crate::{Command, DecodeError, Frame, Limits, Mode, Version};
use scan::{Found, Scanner};

/// What a [`Decoder`] found
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "frames are the common case")]
pub enum Item {
    /// A whole frame
    Frame(Frame),
    /// So many EOLs between frames: heart-beats
    HeartBeats(usize),
}

/// Incremental decoder of a stream of octets that somebody else keeps
///
/// Remembers where it was: no octet is searched again when more arrive, whatever the size of the pieces.
/// After an error it yields that error for ever.
///
/// Where the octets come in pieces of their own, such as WebSocket messages, [`ChunkDecoder`] is the one to use.
#[derive(Clone, Debug)]
pub struct Decoder {
    scanner: Scanner,
}

impl Decoder {
    /// A decoder for the beginning of a stream: reads as 1.2 until [`Decoder::set_version`]
    pub const fn new(mode: Mode, limits: Limits) -> Self {
        Self { scanner: Scanner::new(mode, limits) }
    }

    /// Reads what follows as `version`; call it between frames
    pub const fn set_version(&mut self, version: Version) {
        self.scanner.version = version;
    }

    /// Bounds what follows by `limits`; call it between frames
    pub const fn set_limits(&mut self, limits: Limits) {
        self.scanner.limits = limits;
    }

    /// Octets of the stream that were taken so far
    pub const fn offset(&self) -> u64 {
        self.scanner.offset()
    }

    /// Takes the next frame, or a run of heart-beats, off the front of `src`
    ///
    /// `None` where more octets are needed: leave what is in `src` and append to it.
    ///
    /// # Errors
    ///
    /// Where the octets are not STOMP or exceed a limit.
    pub fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Item>, DecodeError> {
        loop {
            let found = self.scanner.scan(src)?;
            let Some(octets) = self.extent(found) else { return Ok(None) };
            let taken = src.split_to(octets).freeze();
            if let Some(item) = self.take(found, taken) {
                return Ok(Some(item));
            }
        }
    }

    /// As [`Decoder::decode`], off the front of octets that are shared
    ///
    /// # Errors
    ///
    /// Where the octets are not STOMP or exceed a limit.
    pub fn decode_bytes(&mut self, src: &mut Bytes) -> Result<Option<Item>, DecodeError> {
        loop {
            let found = self.scanner.scan(src)?;
            let Some(octets) = self.extent(found) else { return Ok(None) };
            let taken = src.split_to(octets);
            if let Some(item) = self.take(found, taken) {
                return Ok(Some(item));
            }
        }
    }

    /// How many octets belong to what was found
    const fn extent(&self, found: Found) -> Option<usize> {
        match found {
            Found::More => None,
            Found::HeartBeats { octets, .. } => Some(octets),
            Found::Frame { head, body } => Some(head + body + 1),
        }
    }

    /// Makes an item of the octets that were found; `None` for octets that mean nothing
    fn take(&mut self, found: Found, mut octets: Bytes) -> Option<Item> {
        self.scanner.taken(octets.len());
        match found {
            Found::More | Found::HeartBeats { count: 0, .. } => None,
            Found::HeartBeats { count, .. } => Some(Item::HeartBeats(count)),
            Found::Frame { head, body } => {
                let command = self.scanner.command;
                // EOLs behind CONNECT are tolerated, not a body.
                let is_connect = matches!(command, Command::Connect | Command::Stomp);
                let none = body == 0 || (is_connect && self.scanner.version > Version::V1_0);
                let body = if none {
                    Bytes::new()
                } else {
                    let mut rest = octets.split_off(head);
                    rest.truncate(body);
                    rest
                };
                Some(Item::Frame(Frame {
                    command,
                    reading: self.scanner.reading(),
                    escaped: self.scanner.escaped,
                    head: Head::Wire(octets),
                    spans: self.scanner.spans.take(),
                    body,
                }))
            }
        }
    }
}
