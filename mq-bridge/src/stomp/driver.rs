//! Connecting, and which dialect the server speaks.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use futures::future::try_join_all;
use futures::try_join;

use crate::remote::{Driver, Held, Inbox, Link, Outgoing, Settlement, Topics};
use crate::{BrokerError, Capability, Declaration, Source, SourceStats};

use super::config::{Address, StompRelayConfig};
use super::rabbitmq::Ties;
use super::session::Session;
use super::{Handle, activemq, rabbitmq};

/// What kind of server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    ActiveMq,
    RabbitMq,
}

impl Dialect {
    /// By what the server calls itself in CONNECTED.
    fn of(server: &str) -> Result<Self, BrokerError> {
        match server.split_once('/').map_or(server, |(name, _)| name) {
            "ActiveMQ" => Ok(Self::ActiveMq),
            "RabbitMQ" => Ok(Self::RabbitMq),
            _ => {
                let reason = format!(
                    "the relay speaks to ActiveMQ 5 and to RabbitMQ, and this is {server:?}"
                );
                Err(BrokerError::Refused { reason: reason.into() })
            }
        }
    }
}

pub(super) struct StompDriver {
    config: StompRelayConfig,
    address: Address,
    /// That of the first server that answered.
    dialect: OnceLock<Dialect>,
    /// Whether an ActiveMQ has been found to be set as needed.
    probed: AtomicBool,
    /// What a RabbitMQ may still have of earlier links.
    ties: Ties,
}

impl StompDriver {
    pub(super) fn new(config: StompRelayConfig) -> Result<Self, BrokerError> {
        let address = config.address()?;
        Ok(Self {
            config,
            address,
            dialect: OnceLock::new(),
            probed: AtomicBool::new(false),
            ties: Ties::default(),
        })
    }

    async fn session(&self) -> Result<(Arc<Session>, Dialect), BrokerError> {
        let (session, server) = Session::connect(&self.config, &self.address).await?;
        let dialect = Dialect::of(&server)?;
        if *self.dialect.get_or_init(|| dialect) != dialect {
            let reason = format!("this is {server:?} now, which was another kind of server before");
            return Err(BrokerError::Refused { reason: reason.into() });
        }
        Ok((Arc::new(session), dialect))
    }
}

#[async_trait]
impl Driver for StompDriver {
    type Link = StompLink;

    fn capabilities(&self) -> &[Capability] {
        match self.dialect.get() {
            Some(Dialect::ActiveMq) => &activemq::CAPABILITIES,
            Some(Dialect::RabbitMq) => &rabbitmq::CAPABILITIES,
            None => &[],
        }
    }

    async fn connect(&self, topics: &Arc<Topics>) -> Result<StompLink, BrokerError> {
        let (config, address) = (&self.config, &self.address);
        let more = try_join_all((1..config.consuming).map(|_| self.session()));
        let (publishing, first, more) = try_join!(self.session(), self.session(), more)?;
        let ((publishing, dialect), (first, _)) = (publishing, first);
        let more = more.into_iter().map(|(session, _)| session).collect();
        let link = match dialect {
            Dialect::ActiveMq => {
                activemq::open(config, publishing, first, more, topics, &self.probed).await?
            }
            Dialect::RabbitMq => {
                let consuming = std::iter::once(first).chain(more).collect();
                rabbitmq::open(config, address, publishing, consuming, topics, &self.ties).await?
            }
        };
        Ok(StompLink(link))
    }
}

impl fmt::Debug for StompDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.dialect.get() {
            Some(Dialect::ActiveMq) => "ActiveMQ",
            Some(Dialect::RabbitMq) => "RabbitMQ over STOMP",
            None => "STOMP",
        };
        f.debug_tuple(name).field(&self.config.place()).finish()
    }
}

/// A link in whatever dialect.
pub(super) struct StompLink(Box<dyn Link<Handle = Handle>>);

#[async_trait]
impl Link for StompLink {
    type Handle = Handle;

    fn max_message(&self) -> usize {
        self.0.max_message()
    }

    async fn lost(&self) -> Arc<str> {
        self.0.lost().await
    }

    async fn publish(&self, batch: Vec<Outgoing>) {
        self.0.publish(batch).await;
    }

    async fn declare(&self, declaration: &Declaration) -> Result<(), BrokerError> {
        self.0.declare(declaration).await
    }

    async fn delete(&self, source: &Source) -> Result<(), BrokerError> {
        self.0.delete(source).await
    }

    async fn stats(&self, source: &Source, held: Held) -> Result<SourceStats, BrokerError> {
        self.0.stats(source, held).await
    }

    async fn consume(&self, inbox: &Arc<Inbox<Handle>>) -> Result<(), BrokerError> {
        self.0.consume(inbox).await
    }

    async fn stop(&self, inbox: &Arc<Inbox<Handle>>) -> Result<(), BrokerError> {
        self.0.stop(inbox).await
    }

    async fn settle(&self, batch: Vec<Settlement<Handle>>) -> Result<(), BrokerError> {
        self.0.settle(batch).await
    }

    async fn listen(&self, pattern: &Arc<str>) -> Result<(), BrokerError> {
        self.0.listen(pattern).await
    }

    async fn unlisten(&self, pattern: &Arc<str>) -> Result<(), BrokerError> {
        self.0.unlisten(pattern).await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
