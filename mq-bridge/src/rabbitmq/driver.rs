//! Connects.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use lapin::{Connection, ConnectionProperties};

use crate::remote::{Driver, Topics};
use crate::{BrokerError, Capability};

use super::config::{QueueType, RabbitMqConfig};
use super::failure::connect_error;
use super::link::RabbitMqLink;
use super::names::Names;
use super::patterns::Patterns;

/// Connects to RabbitMQ.
pub(crate) struct RabbitMqDriver {
    config: RabbitMqConfig,
    names: Arc<Names>,
    patterns: Arc<Patterns>,
}

impl fmt::Debug for RabbitMqDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

impl RabbitMqDriver {
    pub(super) fn new(config: RabbitMqConfig) -> Result<Self, BrokerError> {
        config.uri()?;
        let names = Arc::new(Names::new(&config.prefix, &config.topic_exchange)?);
        Ok(Self { config, names, patterns: Arc::default() })
    }

    async fn connection(&self, what: &str) -> Result<Connection, BrokerError> {
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("mq-bridge, {what}").into());
        let connected = Connection::connect_uri(self.config.uri()?, properties).await;
        connected.map_err(|error| connect_error(&error))
    }
}

#[async_trait]
impl Driver for RabbitMqDriver {
    type Link = RabbitMqLink;

    fn capabilities(&self) -> &[Capability] {
        const CLASSIC: &[Capability] = &[
            Capability::Durable,
            Capability::Order,
            Capability::DeadLetter,
            Capability::Expiry,
            Capability::Takeover,
            Capability::Depth,
        ];
        const PRIORITY: &[Capability] = &[
            Capability::Durable,
            Capability::Order,
            Capability::DeadLetter,
            Capability::Priority,
            Capability::Expiry,
            Capability::Takeover,
            Capability::Depth,
        ];
        const QUORUM: &[Capability] = &[
            Capability::Durable,
            Capability::Order,
            Capability::DeliveryCount,
            Capability::DeadLetter,
            Capability::Expiry,
            Capability::Takeover,
            Capability::Depth,
        ];
        match self.config.queue_type {
            QueueType::Quorum => QUORUM,
            QueueType::Classic => CLASSIC,
            QueueType::Priority => PRIORITY,
        }
    }

    async fn connect(&self, topics: &Arc<Topics>) -> Result<RabbitMqLink, BrokerError> {
        let publishing = self.connection("publishing").await?;
        let consuming = self.connection("consuming").await?;
        let (names, patterns) = (Arc::clone(&self.names), Arc::clone(&self.patterns));
        RabbitMqLink::open(&self.config, names, patterns, topics, publishing, consuming).await
    }
}
