//! What the conformance kit does not ask: several nodes over one NATS server, other programs on it,
//! names of any kind, and servers in trouble.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "../remote_backend/mod.rs"]
mod remote_backend;

mod copies;
mod names;
mod nodes;
mod programs;
mod server;
mod steps;
