use bytes::BytesMut;
use thiserror::Error;

use crate::{DecodeError, Decoder, EncodeError, Frame, Item, Limits, Mode, Version, encode};

/// Frames over `tokio_util::codec::Framed`
///
/// Reads and writes as 1.2 until [`StompCodec::set_version`], which belongs between CONNECTED and the
/// next frame. It knows nothing of sessions: for those see [`server`](crate::server) and
/// [`client`](crate::client).
#[derive(Clone, Debug)]
pub struct StompCodec {
    decoder: Decoder,
    version: Version,
}

impl StompCodec {
    /// A codec for the beginning of a stream
    pub const fn new(mode: Mode, limits: Limits) -> Self {
        Self { decoder: Decoder::new(mode, limits), version: Version::V1_2 }
    }

    /// Reads and writes what follows as `version`
    pub const fn set_version(&mut self, version: Version) {
        self.version = version;
        self.decoder.set_version(version);
    }

    /// Bounds what follows by `limits`
    pub const fn set_limits(&mut self, limits: Limits) {
        self.decoder.set_limits(limits);
    }
}

impl Default for StompCodec {
    fn default() -> Self {
        Self::new(Mode::default(), Limits::default())
    }
}

impl tokio_util::codec::Decoder for StompCodec {
    type Item = Item;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Item>, CodecError> {
        Ok(self.decoder.decode(src)?)
    }
}

impl tokio_util::codec::Encoder<Frame> for StompCodec {
    type Error = CodecError;

    fn encode(&mut self, frame: Frame, dst: &mut BytesMut) -> Result<(), CodecError> {
        Ok(encode(&frame, self.version, dst)?)
    }
}

/// What can go wrong with a [`StompCodec`]
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The connection failed, or ended within a frame
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The peer sent octets that are not STOMP, or exceed a limit
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The frame cannot be expressed in the version
    #[error(transparent)]
    Encode(#[from] EncodeError),
}
