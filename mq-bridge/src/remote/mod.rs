//! What the backends over a network share: one supervisor for all of them.
//!
//! A backend writes a [`Driver`], which connects, and a [`Link`], which is one connected session
//! with the broker and knows its wire protocol. A [`Bridge`] makes a [`Broker`](crate::Broker) of them:
//! it reconnects with jittered backoff, attaches subscriptions to the new link, bounds what waits,
//! keeps the prefetch in messages and octets, hands one topic subscription of the broker to all
//! subscribers in this process, dead-letters, drops what has expired, and knows health and metrics.

mod backoff;
mod bridge;
mod inbox;
mod link;
mod options;
mod outbox;
mod settle;
mod supervisor;
#[cfg(all(test, feature = "memory", feature = "testkit"))]
mod tests;
mod topics;

pub(crate) use crate::delegate::delegate_broker;
pub(crate) use bridge::Bridge;
pub(crate) use inbox::{Inbox, Incoming};
pub(crate) use link::{DeadLetter, Driver, Held, Link, Outbound, Settlement, Verdict};
pub use options::RemoteOptions;
pub(crate) use outbox::{Outgoing, Pending};
pub(crate) use topics::Topics;
