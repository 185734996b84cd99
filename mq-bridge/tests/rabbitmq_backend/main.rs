//! What the conformance kit does not ask: other programs on the same RabbitMQ, nodes that are cut
//! off, and what the broker refuses.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod nodes;
mod programs;
mod proxy;
mod refusals;
mod steps;
