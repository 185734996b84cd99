//! Zero-copy STOMP 1.0, 1.1 and 1.2 frame codec and sans-I/O protocol sessions
//!
//! Three layers, each usable without the ones above it; none does I/O, keeps a clock or needs a runtime:
//!
//! | layer | types | for |
//! |---|---|---|
//! | frames | [`Decoder`], [`ChunkDecoder`], [`Frame`], [`encode`] | reading and writing octets |
//! | sessions | [`server::Session`], [`client::Session`] | everything that the protocol asks of one side of a connection |
//! | fan-out | [`SharedMessage`], [`Transmit`] | one message to many receivers, encoded once |
//!
//! # Frames
//!
//! A decoder is given octets in pieces of any size and gives frames and heart-beats. A received [`Frame`] is a
//! set of slices of the buffer that it came in: nothing is copied, and a header is unescaped when it is asked
//! for, if it holds a backslash at all. [`view`] has a typed view of each command.
//!
//! ```
//! use bytes::BytesMut;
//! use stomp_codec::{Command, Decoder, Frame, Item, Limits, Mode, Version, encode};
//!
//! let frame = Frame::new(Command::Send).with_header("destination", "/queue/a:b").with_body("hello");
//! let mut buffer = BytesMut::new();
//! encode(&frame, Version::V1_2, &mut buffer)?;
//! assert_eq!(buffer, "SEND\ndestination:/queue/a\\cb\ncontent-length:5\n\nhello\0");
//!
//! let mut decoder = Decoder::new(Mode::Strict, Limits::DEFAULT);
//! let Some(Item::Frame(copy)) = decoder.decode(&mut buffer)? else { panic!() };
//! assert_eq!(copy.header("destination").as_deref(), Some("/queue/a:b"));
//! assert_eq!(copy.body(), b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Limits`] act while octets arrive and [`Mode`] says how to meet what the grammar forbids but real peers send.
//! Errors say which rule was broken, where, and whose fault it is: a [`DecodeError`] is the peer's, an
//! [`EncodeError`] the caller's.
//!
//! # Sessions
//!
//! A session takes octets and the time, and gives events, octets to write and its next deadline. Versions,
//! heart-beats, required headers, subscriptions, acknowledgements, transactions, receipts and limits are its own
//! business; authentication, authorization, routing and storage are the application's. The driver, which owns
//! the socket, is a short loop: see `examples/session.rs`.
//!
//! # Fan-out
//!
//! A [`SharedMessage`] is encoded once for each version that its receivers speak. What differs between them
//! (`subscription`, `ack`, `redelivered`) is written by [`server::Session::deliver`] in front of the shared octets; a
//! [`Transmit`] is then a few slices for one vectored write, and the body is never copied.
//!
//! # Features
//!
//! | feature | default | what |
//! |---|---|---|
//! | `codec` | yes | [`StompCodec`] for `tokio_util::codec::Framed` |
//!
//! # Promises
//!
//! No `unsafe`, no panic on any octets, memory bounded by the limits and close to what was received, work linear in
//! the octets however they are cut. Minimum supported Rust version: 1.85.

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
mod find;
mod frame;
mod grammar;
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
