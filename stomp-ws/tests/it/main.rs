//! The crate from outside: its client, its server side, and peers made by hand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod client;
mod slow;
mod stream;
mod support;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "axum")]
mod upgrade;
mod websocket;
