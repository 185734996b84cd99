//! The dialect of ActiveMQ 5 (Classic).
//!
//! Queues take lists of destinations, transactions are atomic, and the statistics plugin tells what
//! waits. The registry is a number of queues that are browsed.

mod consumers;
mod control;
mod link;
mod nodes;
mod shards;
mod statistics;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::time::timeout;

use crate::remote::{Link, Topics};
use crate::{BrokerError, Capability};

use super::config::StompRelayConfig;
use super::session::Session;
use super::{Handle, listening, names, registry, routing, session, syncs, wire};

use consumers::Sessions;
use link::ActiveMqLink;
use statistics::Statistics;

pub(super) const CAPABILITIES: [Capability; 8] = [
    Capability::Durable,
    Capability::DurableAck,
    Capability::Order,
    Capability::DeadLetter,
    Capability::Expiry,
    Capability::Takeover,
    Capability::AtomicBatch,
    Capability::Depth,
];

/// A link over open sessions: one that publishes, and at least one that consumes. `probed` says
/// whether a server has been found to be set as needed.
pub(super) async fn open(
    config: &StompRelayConfig,
    publishing: Arc<Session>,
    first: Arc<Session>,
    more: Vec<Arc<Session>>,
    topics: &Arc<Topics>,
    probed: &AtomicBool,
) -> Result<Box<dyn Link<Handle = Handle>>, BrokerError> {
    let consuming = Sessions { first, more };
    let statistics = Statistics::open(&consuming.first).await?;
    if !probed.load(Relaxed) {
        let Ok(outcome) = timeout(config.probe_timeout(), statistics.of(names::CONTROL)).await
        else {
            let reason = "its statistics plugin does not answer: it needs \
                          <statisticsBrokerPlugin/> among its <plugins>";
            return Err(BrokerError::Refused { reason: reason.into() });
        };
        outcome?;
        probed.store(true, Relaxed);
    }
    let limit = config.max_message;
    Ok(Box::new(ActiveMqLink::open(publishing, consuming, statistics, topics, limit).await?))
}
