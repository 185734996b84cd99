//! The dialect of RabbitMQ's STOMP plugin.
//!
//! The plugin is a client of RabbitMQ that knows little of what RabbitMQ can do, and this dialect is
//! made of what it does know:
//!
//! - A queue is made by subscribing to it under a name of one's own (`x-queue-name`), and deleted by
//!   ending that subscription as one that was durable: [`scratch`].
//! - What a subscription holds when it ends stays with the connection; what is on its way then is
//!   an error. Hence the detour of [`parking`].
//! - Nothing tells how much a queue holds or who consumes it. A node that takes over, or deletes,
//!   asks all other nodes, which answer when they have let go; whether one that does not answer is
//!   dead shows in a queue that goes with its connection: [`nodes`].
//! - What is declared is kept in a queue that is read whole: [`store`].

mod consumers;
mod link;
mod names;
mod nodes;
mod notice;
mod parking;
mod scratch;
mod store;

use std::sync::Arc;
use std::sync::Mutex;

use crate::remote::{Link, Topics};
use crate::{BrokerError, Capability};

use super::config::{Address, StompRelayConfig};
use super::session::Session;
use super::{Handle, config, listening, registry, routing, session, syncs, wire};

use link::RabbitMqLink;
use scratch::Dial;

pub(super) const CAPABILITIES: [Capability; 5] = [
    Capability::Durable,
    Capability::Order,
    Capability::DeadLetter,
    Capability::Expiry,
    Capability::Takeover,
];

/// The entry of the registry by which the last link of this node has joined.
#[derive(Debug, Default)]
pub(super) struct Ties(Mutex<Option<registry::Entry>>);

/// A link over open sessions: one that publishes, and at least one that consumes.
pub(super) async fn open(
    config: &StompRelayConfig,
    address: &Address,
    publishing: Arc<Session>,
    consuming: Vec<Arc<Session>>,
    topics: &Arc<Topics>,
    ties: &Ties,
) -> Result<Box<dyn Link<Handle = Handle>>, BrokerError> {
    let dial = Dial { config: config.clone(), address: address.clone() };
    let limit = config.max_message;
    Ok(Box::new(RabbitMqLink::open(publishing, consuming, dial, topics, ties, limit).await?))
}
