//! What the conformance kit does not ask: other programs on the same RabbitMQ, nodes that are cut
//! off, and what the broker refuses.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "../remote_backend/mod.rs"]
mod remote_backend;

mod nodes;
mod programs;
mod proxy;
mod refusals;
mod steps;
