//! Zero-copy STOMP 1.0, 1.1 and 1.2 frame codec and sans-I/O protocol sessions.

mod bytestr;
pub mod client;
#[cfg(feature = "codec")]
mod codec;
mod command;
mod content;
mod decode;
mod encode;
mod error;
mod escape;
mod frame;
mod heartbeat;
mod limits;
mod outbox;
pub mod server;
mod shared;
mod timer;
mod transmit;
mod version;
pub mod view;

pub use bytestr::ByteStr;
#[cfg(feature = "codec")]
pub use codec::{CodecError, StompCodec};
pub use command::Command;
pub use content::{ContentType, TextError};
pub use decode::{ChunkDecoder, Decoder, Item};
pub use encode::{encode, encode_parts, encode_transmit};
pub use error::{DecodeError, DecodeErrorKind, EncodeError};
pub use frame::Frame;
pub use heartbeat::HeartBeat;
pub use limits::{Limits, Mode};
pub use shared::SharedMessage;
pub use transmit::Transmit;
pub use version::{Version, Versions};
