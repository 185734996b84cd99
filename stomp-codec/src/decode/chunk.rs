use bytes::Bytes;

use super::scan::Found;
use super::{Decoder, Item};
use crate::{DecodeError, Limits, Mode, Version};

/// Below this size the buffer of a partial frame grows by doubling, above it by a sixteenth: what is held
/// stays close to what was received, at the price of few copies that the allocator mostly avoids.
const DOUBLING: usize = 64 * 1024;

/// Decoder of octets that come in pieces of their own, such as WebSocket messages
///
/// A frame that lies within one piece is a slice of it. Only the part of a frame that a piece ends with is
/// copied, into a buffer that holds nothing else and is given up with the frame.
#[derive(Clone, Debug)]
pub struct ChunkDecoder {
    pub(super) decoder: Decoder,
    /// The beginning of a frame that is not complete. Empty while `chunk` is not.
    partial: Vec<u8>,
    /// What is left of the last piece.
    chunk: Bytes,
}

impl ChunkDecoder {
    /// A decoder for the beginning of a stream: reads as 1.2 until [`ChunkDecoder::set_version`]
    pub const fn new(mode: Mode, limits: Limits) -> Self {
        Self { decoder: Decoder::new(mode, limits), partial: Vec::new(), chunk: Bytes::new() }
    }

    /// Reads what follows as `version`; call it between frames
    pub const fn set_version(&mut self, version: Version) {
        self.decoder.set_version(version);
    }

    /// Bounds what follows by `limits`; call it between frames
    pub const fn set_limits(&mut self, limits: Limits) {
        self.decoder.set_limits(limits);
    }

    /// Octets of the stream that were taken so far, those of a partial frame not counted
    pub const fn offset(&self) -> u64 {
        self.decoder.offset()
    }

    /// Octets that were received and not taken
    pub fn pending(&self) -> usize {
        self.partial.len() + self.chunk.len()
    }

    /// Adds a piece; best called when [`ChunkDecoder::decode`] has nothing more to give
    pub fn push(&mut self, octets: Bytes) {
        if self.pending() == 0 {
            self.chunk = octets;
            return;
        }
        self.keep_partial();
        grow(&mut self.partial, octets.len());
        self.partial.extend_from_slice(&octets);
    }

    /// Takes the next frame or run of heart-beats; `None` where more octets are needed
    ///
    /// # Errors
    ///
    /// Where the octets are not STOMP or exceed a limit.
    pub fn decode(&mut self) -> Result<Option<Item>, DecodeError> {
        if !self.partial.is_empty() {
            if self.decoder.scanner.scan(&self.partial)? == Found::More {
                return Ok(None);
            }
            // The scan that follows ends at once: it goes on where this one stopped.
            self.chunk = Bytes::from(std::mem::take(&mut self.partial));
        }
        let item = self.decoder.decode_bytes(&mut self.chunk)?;
        if item.is_none() {
            self.keep_partial();
        } else if self.chunk.is_empty() {
            // An empty slice may still hold the buffer.
            self.chunk = Bytes::new();
        }
        Ok(item)
    }

    /// Copies what is left of the piece, so that the beginning of a frame does not hold all of it
    fn keep_partial(&mut self) {
        if !self.chunk.is_empty() {
            let rest = std::mem::take(&mut self.chunk);
            self.partial.reserve_exact(rest.len());
            self.partial.extend_from_slice(&rest);
        }
        self.chunk = Bytes::new();
    }
}

fn grow(buffer: &mut Vec<u8>, more: usize) {
    if buffer.capacity() - buffer.len() < more {
        let ahead = if buffer.len() < DOUBLING { buffer.len() } else { buffer.len() / 16 };
        buffer.reserve_exact(more.max(ahead));
    }
}
