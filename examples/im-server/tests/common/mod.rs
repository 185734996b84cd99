//! What the end-to-end tests share: the server as a child process, and clients that share no code
//! with it.

// Each test binary uses its own part of this, and none is a library.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::expect_used, clippy::panic)]

pub mod http;
pub mod load;
pub mod server;
pub mod stock;
pub mod websocket;
pub mod wire;

use std::time::Duration;

/// How long anything may take before a test gives up. Generous: test machines are busy machines.
pub const PATIENCE: Duration = Duration::from_secs(60);
