//! A load generator for any STOMP server, over WebSocket or TCP.
//!
//! One thread, one event loop: what is readable is drained, what it leads to is put together, and each connection
//! is written once per turn. Frames are built before the run and patched per message, nothing is allocated for a message, and
//! no frame is decoded further than the scenario needs. So one core loads servers that are an order of magnitude
//! dearer per message.
//!
//! It trusts nothing: every body says which flow it belongs to and which message of it it is, and is
//! compared octet by octet. A run with a lost, repeated, reordered or corrupted message is a failed run.

mod archive;
mod ballast;
mod body;
mod connection;
mod engine;
mod error;
pub mod figures;
mod frames;
mod http;
mod latency;
mod ledger;
mod local;
mod pace;
mod process;
mod progress;
mod report;
mod scan;
pub mod scenario;
mod setting;
mod source;
mod target;
mod token;

pub use ballast::Ballast;
pub use error::LoadError;
pub use latency::Latency;
pub use ledger::Faults;
pub use local::{Keeping, Local, beside, im_server_program};
pub use process::{Usage, pin, raise_file_limit};
pub use progress::{Progress, Silent};
pub use report::Report;
pub use setting::Setting;
pub use target::{Address, Target};
