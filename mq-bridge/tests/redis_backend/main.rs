//! What the conformance kit does not ask: several nodes over one Redis, other programs on it, and
//! servers in trouble.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "../remote_backend/mod.rs"]
mod remote_backend;

mod bodies;
mod nodes;
mod programs;
mod server;
mod steps;
