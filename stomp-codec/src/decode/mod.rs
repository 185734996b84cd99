mod chunk;
mod scan;
#[cfg(test)]
mod tests;

use bytes::{Buf, Bytes, BytesMut};

pub use chunk::ChunkDecoder;

use crate::frame::Octets;
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
        self.scanner.set_limits(limits);
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
            match self.scanner.scan(src)? {
                Found::More => return Ok(None),
                Found::HeartBeats { octets, count } => {
                    src.advance(octets);
                    if let Some(item) = self.heart_beats(octets, count) {
                        return Ok(Some(item));
                    }
                }
                Found::Frame { head, body } => {
                    let octets = src.split_to(head + body + 1).freeze();
                    return Ok(Some(Item::Frame(self.frame(octets, head, body))));
                }
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
            match self.scanner.scan(src)? {
                Found::More => return Ok(None),
                Found::HeartBeats { octets, count } => {
                    src.advance(octets);
                    if let Some(item) = self.heart_beats(octets, count) {
                        return Ok(Some(item));
                    }
                }
                Found::Frame { head, body } => {
                    let octets = src.split_to(head + body + 1);
                    return Ok(Some(Item::Frame(self.frame(octets, head, body))));
                }
            }
        }
    }

    /// Takes EOLs; `None` where all of them were NULs that mean nothing
    fn heart_beats(&mut self, octets: usize, count: usize) -> Option<Item> {
        self.scanner.taken(octets);
        (count > 0).then_some(Item::HeartBeats(count))
    }

    /// Makes a frame of its octets
    #[inline]
    fn frame(&mut self, all: Bytes, head: usize, body: usize) -> Frame {
        self.scanner.taken(all.len());
        let command = self.scanner.command;
        // EOLs behind CONNECT are tolerated, not a body.
        let is_connect = matches!(command, Command::Connect | Command::Stomp);
        let has_body = !is_connect || self.scanner.version == Version::V1_0;
        Frame {
            command,
            reading: self.scanner.reading(),
            escaped: self.scanner.escaped(),
            cr_ends_lines: self.scanner.has_cr(),
            lines: self.scanner.lines.take(),
            octets: Octets::Wire { all, head, body: if has_body { body } else { 0 } },
        }
    }
}
