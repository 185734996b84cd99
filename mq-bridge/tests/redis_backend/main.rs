//! What the conformance kit does not ask: several nodes over one Redis, other programs on it, and
//! servers in trouble.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod bodies;
mod nodes;
mod programs;
mod proxy;
mod server;
mod steps;
