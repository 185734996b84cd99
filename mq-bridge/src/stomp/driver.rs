//! Connecting, and what the server is like.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use async_trait::async_trait;
use futures::future::try_join_all;
use futures::try_join;
use tokio::time::timeout;

use crate::remote::{Driver, Topics};
use crate::{BrokerError, Capability};

use super::config::{Address, StompRelayConfig};
use super::consumers::Sessions;
use super::link::StompLink;
use super::names;
use super::session::Session;
use super::statistics::Statistics;

const CAPABILITIES: [Capability; 7] = [
    Capability::Durable,
    Capability::DurableAck,
    Capability::Order,
    Capability::DeadLetter,
    Capability::Expiry,
    Capability::Takeover,
    Capability::AtomicBatch,
];
/// What the server calls itself in CONNECTED.
const SERVER: &str = "ActiveMQ/";

pub(super) struct StompDriver {
    config: StompRelayConfig,
    address: Address,
    /// Whether a server has been found to be set as needed.
    probed: AtomicBool,
}

impl StompDriver {
    pub(super) fn new(config: StompRelayConfig) -> Result<Self, BrokerError> {
        let address = config.address()?;
        Ok(Self { config, address, probed: AtomicBool::new(false) })
    }

    async fn session(&self) -> Result<Arc<Session>, BrokerError> {
        let (session, server) = Session::connect(&self.config, &self.address).await?;
        if !server.starts_with(SERVER) {
            let reason = format!("the relay speaks to ActiveMQ 5, and this is {server:?}");
            return Err(BrokerError::Refused { reason: reason.into() });
        }
        Ok(Arc::new(session))
    }
}

#[async_trait]
impl Driver for StompDriver {
    type Link = StompLink;

    fn capabilities(&self) -> &[Capability] {
        &CAPABILITIES
    }

    async fn connect(&self, topics: &Arc<Topics>) -> Result<StompLink, BrokerError> {
        let more = try_join_all((1..self.config.consuming).map(|_| self.session()));
        let (publishing, first, more) = try_join!(self.session(), self.session(), more)?;
        let consuming = Sessions { first, more };
        let statistics = Statistics::open(&consuming.first).await?;
        if !self.probed.load(Relaxed) {
            let probe = timeout(self.config.probe_timeout(), statistics.of(names::CONTROL));
            match probe.await {
                Ok(outcome) => outcome.map(drop)?,
                Err(_) => {
                    let reason = "its statistics plugin does not answer: it needs \
                                  <statisticsBrokerPlugin/> among its <plugins>";
                    return Err(BrokerError::Refused { reason: reason.into() });
                }
            }
            self.probed.store(true, Relaxed);
        }
        StompLink::open(publishing, consuming, statistics, topics, self.config.max_message).await
    }
}

impl fmt::Debug for StompDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ActiveMQ").field(&self.config.place()).finish()
    }
}
