//! What the conformance kit does not ask: what nodes over one server know of each other, and other
//! programs on it. Over ActiveMQ, and over [RabbitMQ](rabbitmq).

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "../remote_backend/mod.rs"]
mod remote_backend;

mod nodes;
mod programs;
mod rabbitmq;
mod steps;
