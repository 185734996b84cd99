//! Calls to programs of others: bounded in time and size, and not into the private network unless that is wanted.

mod addresses;
mod client;
mod endpoint;

pub use addresses::Reach;
pub use client::{HttpAnswer, HttpClient, HttpError, InvalidUrl, OutgoingUrl};
pub(crate) use endpoint::Endpoint;
pub use endpoint::InvalidSecret;
