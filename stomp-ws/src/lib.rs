//! STOMP over WebSocket and TCP: server and client transports.

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
mod transport;

pub use acceptor::TcpAcceptor;
pub use close::{CloseCode, PeerClose};
pub use config::TransportConfig;
pub use error::TransportError;
pub use origin::{InvalidOrigin, OriginPolicy, OriginRefused};
pub use server::{EventOrRoom, ServerConnection};
pub use subprotocol::Subprotocol;
pub use transport::{Role, Transport, TransportKind};
