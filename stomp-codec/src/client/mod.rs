//! The client's side of one connection, without I/O and without a clock

mod config;
mod event;
mod session;

pub use config::Config;
pub use event::{
    ClientError, CloseReason, Event, ReceiptHandle, SubscriptionHandle, TransactionHandle,
};
pub use session::Session;
