//! STOMP over WebSocket and TCP: server and client.
//!
//! The protocol itself (frames, sessions) is in [`stomp_codec`]; this crate joins it to sockets, with tokio.
//!
//! - [`ServerConnection`]: the server's side of one connection; [`TcpAcceptor`] makes them from TCP, and
#![cfg_attr(feature = "axum", doc = "  [`axum::StompUpgrade`] from a route of an axum router.")]
#![cfg_attr(
    not(feature = "axum"),
    doc = "  `axum::StompUpgrade` (feature `axum`) from a route of an axum router."
)]
//! - [`client::Client`]: a client for both.
//! - [`Transport`]: what both stand on, for drivers of one's own: octets in, frames out, over any byte stream.
//!
//! Everything that accumulates is bounded ([`TransportConfig`]), every wait ends, and every future is cancel safe
//! where it says so.
//!
//! # Features
//!
//! | feature | default | what |
//! |---|---|---|
//! | `axum` | no | the extractor `StompUpgrade` |
//! | `tls` | no | TLS of the server's side, with certificates that are exchanged while it runs |

mod acceptor;
#[cfg(feature = "axum")]
pub mod axum;
pub mod client;
mod close;
mod config;
mod driver;
mod error;
mod handshake;
mod origin;
mod server;
mod subprotocol;
#[cfg(feature = "tls")]
pub mod tls;
mod transport;

pub use acceptor::TcpAcceptor;
pub use close::{CloseCode, PeerClose};
pub use config::TransportConfig;
pub use error::TransportError;
pub use origin::{InvalidOrigin, OriginPolicy, OriginRefused};
pub use server::{EventOrRoom, ServerConnection};
pub use subprotocol::Subprotocol;
pub use transport::{Role, Transport, TransportKind};
