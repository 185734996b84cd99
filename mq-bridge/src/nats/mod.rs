//! NATS: JetStream for what is kept, its streams' subjects for what is not.
//!
//! A queue is a consumer of a work-queue stream that holds all queues, with the queue's subject as
//! its filter. A topic is a subject of a stream that keeps a message as long as a consumer is
//! interested, and a durable subscription is such a consumer; who subscribes to a topic hears its
//! subject, as any client of NATS may. A third stream registers what NATS has no place for. A node
//! has one connection.

mod api;
mod background;
mod backlog;
mod catch_up;
mod config;
mod consumer;
mod copies;
mod driver;
mod filters;
mod link;
mod listen;
mod memory;
mod names;
mod place;
mod plan;
mod publish;
mod pull;
mod registry;
mod session;
mod takeover;
mod topology;
mod wire;

use crate::BrokerError;
use crate::remote::{Bridge, delegate_broker};

use driver::NatsDriver;

pub use config::NatsConfig;

/// The broker over NATS with JetStream, 2.9 or newer
///
/// Several objects, in any number of processes, with the same account of the same server or cluster
/// and the same [prefix](NatsConfig::with_prefix) are one broker.
#[derive(Debug)]
pub struct Nats {
    bridge: Bridge<NatsDriver>,
}

impl Nats {
    /// Connects, and makes the streams that are not there.
    ///
    /// # Errors
    ///
    /// [`Refused`](BrokerError::Refused) for a URL, credentials or a server that will not do,
    /// [`Disconnected`](BrokerError::Disconnected) if it cannot be reached in time.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready it leaves no connection behind.
    pub async fn open(config: NatsConfig) -> Result<Self, BrokerError> {
        let options = config.remote;
        Ok(Self { bridge: Bridge::open(NatsDriver::new(config)?, options).await? })
    }
}

delegate_broker!(Nats);
