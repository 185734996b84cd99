//! RabbitMQ over AMQP 0-9-1.

mod admin;
mod config;
mod consumers;
mod control;
mod driver;
mod failure;
mod fan;
mod headers;
mod ledger;
mod link;
mod names;
mod patterns;
mod publisher;
mod wire;

use crate::BrokerError;
use crate::remote::{Bridge, delegate_broker};

use driver::RabbitMqDriver;

pub use config::{QueueType, RabbitMqConfig};

/// RabbitMQ
///
/// A queue is a durable queue of the same name, a durable subscription a durable queue that is bound
/// to the exchange of topics, and all topics that this process listens to come over one queue of its
/// own. Two connections do everything. A confirmation is the broker's; an acknowledgement is
/// confirmed when the broker has taken it, which is a moment before it is on the disk.
///
/// Other programs read and write the same queues and topics: headers are AMQP headers.
///
/// The client library logs refusals, such as a queue that does not exist, with target `lapin`.
#[derive(Debug)]
pub struct RabbitMq {
    bridge: Bridge<RabbitMqDriver>,
}

impl RabbitMq {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`NotApplicable`](BrokerError::NotApplicable) for a URL that is none,
    /// [`Refused`](BrokerError::Refused) for wrong credentials or a missing virtual host, and
    /// [`Disconnected`](BrokerError::Disconnected) if the server could not be reached in time.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready it leaves no connection behind.
    pub async fn open(config: RabbitMqConfig) -> Result<Self, BrokerError> {
        let options = config.remote;
        let bridge = Bridge::open(RabbitMqDriver::new(config)?, options).await?;
        Ok(Self { bridge })
    }
}

delegate_broker!(RabbitMq);
