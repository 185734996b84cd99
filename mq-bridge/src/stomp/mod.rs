//! A relay to ActiveMQ or RabbitMQ, over STOMP.
//!
//! Everything that is kept is a plain queue of the broker. Which queues and durable subscriptions
//! there are, and which topics lead to them, is written in a [registry] that lives in the broker as
//! well; every node holds a copy, so a publish goes to all the queues it reaches without asking.
//! A node has a handful of connections however many consumers it has: one to publish and to hear of
//! topics and of other nodes, the others to consume.
//!
//! What the servers do differently is a dialect: [activemq] or [rabbitmq], chosen by what the server
//! calls itself.

mod activemq;
mod config;
mod driver;
mod listening;
mod names;
mod protocol;
mod rabbitmq;
mod registry;
mod routing;
mod session;
mod syncs;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use stomp_codec::view;

use crate::BrokerError;
use crate::remote::{Bridge, delegate_broker};

use driver::StompDriver;

pub use config::StompRelayConfig;

/// What settling a delivery needs: the delivery.
type Handle = Arc<view::Message>;

/// The broker over ActiveMQ 5 (Classic), or over RabbitMQ's STOMP plugin, by STOMP 1.2
///
/// Several objects, in any number of processes, with the same server are one broker. ActiveMQ needs
/// two settings that are not its defaults, `statisticsBrokerPlugin` and `persistJMSRedelivered`: see
/// the page on brokers. RabbitMQ's plugin tells less and guarantees less than RabbitMQ itself, which
/// the [capabilities](crate::Broker::capabilities) say: [`stats`](crate::Broker::stats) is
/// [`Unsupported`](BrokerError::Unsupported) there.
///
/// Other programs on the same server can send to `/queue/NAME` (on RabbitMQ `/amq/queue/NAME`) what a
/// declared queue `NAME` delivers here, consume what is published to it, and take part in topics as
/// `/topic/NAME`. A durable subscription keeps what is published through this crate.
#[derive(Debug)]
pub struct StompRelay {
    bridge: Bridge<StompDriver>,
}

impl StompRelay {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`Refused`](BrokerError::Refused) for a URL, credentials or a server that will not do,
    /// [`Disconnected`](BrokerError::Disconnected) if it cannot be reached in time.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready it leaves no connection behind.
    pub async fn open(config: StompRelayConfig) -> Result<Self, BrokerError> {
        let options = config.remote;
        Ok(Self { bridge: Bridge::open(StompDriver::new(config)?, options).await? })
    }
}

delegate_broker!(StompRelay);
