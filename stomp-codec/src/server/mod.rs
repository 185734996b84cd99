//! The server's side of one connection, without I/O and without a clock

mod config;
mod event;
mod handle;
mod receipt;
mod session;
mod subscription;
mod transaction;

pub use config::Config;
pub use event::{
    Accepted, AckMode, Action, CloseReason, DeliverError, ErrorReply, Event, OpenError,
    ReceiptToken, SubscriptionId,
};
pub use session::Session;
