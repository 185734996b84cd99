//! What the fuzz targets share
//!
//! The first octet of an input chooses version, mode and limits; the rest is what the target is about.

use bytes::{Bytes, BytesMut};
use stomp_codec::{ChunkDecoder, DecodeError, Decoder, Item, Limits, Mode, Version};

/// Version, mode and limits
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub version: Version,
    pub mode: Mode,
    pub limits: Limits,
}

impl Setting {
    /// Takes the first octet
    pub fn split(data: &[u8]) -> Option<(Self, &[u8])> {
        let (first, rest) = data.split_first()?;
        let version = Version::ALL[usize::from(first % 3)];
        let mode = if first & 4 == 0 { Mode::Strict } else { Mode::Lenient };
        let limits = if first & 8 == 0 {
            Limits::DEFAULT
        } else {
            Limits::DEFAULT.with_header_line(16).with_headers(4).with_head(64).with_body(8)
        };
        Some((Self { version, mode, limits }, rest))
    }

    pub fn decoder(self) -> Decoder {
        let mut decoder = Decoder::new(self.mode, self.limits);
        decoder.set_version(self.version);
        decoder
    }

    pub fn chunk_decoder(self) -> ChunkDecoder {
        let mut decoder = ChunkDecoder::new(self.mode, self.limits);
        decoder.set_version(self.version);
        decoder
    }
}

/// What comes out, heart-beats added up, and the error at the end
pub type Outcome = (Vec<Item>, Option<DecodeError>);

fn add(items: &mut Vec<Item>, item: Item) {
    match (items.last_mut(), item) {
        (Some(Item::HeartBeats(before)), Item::HeartBeats(count)) => *before += count,
        (_, item) => items.push(item),
    }
}

/// Decodes pieces through one growing buffer
pub fn decode<'a>(mut decoder: Decoder, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut items = Vec::new();
    let mut buffer = BytesMut::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(item)) => add(&mut items, item),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.decode(&mut buffer), Err(error), "an error is for ever");
                    return (items, Some(error));
                }
            }
        }
        assert!(decoder.offset() <= u64::MAX - buffer.len() as u64);
    }
    (items, None)
}

/// Decodes pieces of their own
pub fn decode_chunks<'a>(
    mut decoder: ChunkDecoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Outcome {
    let mut items = Vec::new();
    let mut received = 0;
    for piece in pieces {
        received += piece.len() as u64;
        decoder.push(Bytes::copy_from_slice(piece));
        loop {
            match decoder.decode() {
                Ok(Some(item)) => add(&mut items, item),
                Ok(None) => break,
                Err(error) => return (items, Some(error)),
            }
        }
        assert_eq!(decoder.offset() + decoder.pending() as u64, received, "nothing is lost");
    }
    (items, None)
}
