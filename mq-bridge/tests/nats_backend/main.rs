//! What the conformance kit does not ask: several nodes over one NATS server, other programs on it,
//! names of any kind, and servers in trouble.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod copies;
mod names;
mod nodes;
mod programs;
mod proxy;
mod server;
mod steps;
