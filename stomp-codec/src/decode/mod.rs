use bytes::{Bytes, BytesMut};

use crate::{DecodeError, Frame, Limits, Mode, Version};

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
/// Remembers where it was: no octet is looked at again when more arrive, whatever the size of the pieces.
/// After an error it yields that error for ever.
#[derive(Clone, Debug)]
pub struct Decoder {
    version: Version,
    mode: Mode,
    limits: Limits,
}

impl Decoder {
    /// A decoder for the beginning of a stream: reads as 1.2 until [`Decoder::set_version`]
    pub fn new(mode: Mode, limits: Limits) -> Self {
        Self { version: Version::V1_2, mode, limits }
    }

    /// Reads what follows as `version`
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// Bounds what follows by `limits`
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes the next frame, or a run of heart-beats, off the front of `src`
    ///
    /// `None` where more octets are needed: leave what is in `src` and append to it.
    ///
    /// # Errors
    ///
    /// Where the octets are not STOMP or exceed a limit.
    pub fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Item>, DecodeError> {
        let _ = (src, self.mode, self.limits, self.version);
        Ok(None)
    }

    /// As [`Decoder::decode`], off the front of octets that are shared
    ///
    /// # Errors
    ///
    /// Where the octets are not STOMP or exceed a limit.
    pub fn decode_bytes(&mut self, src: &mut Bytes) -> Result<Option<Item>, DecodeError> {
        let _ = src;
        Ok(None)
    }
}
