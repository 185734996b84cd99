//! The session as a link of the bridge.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;

use crate::remote::{Held, Inbox, Link, Outgoing, Settlement, Verdict};
use crate::{BrokerError, Declaration, Source, SourceStats};

use super::consumer::{ACK, NAK, replies};
use super::session::Session;

/// What a message may have beside headers and body, in octets: more is found out when it is written.
const OVERHEAD: usize = 4096;

pub(super) struct NatsLink {
    session: Arc<Session>,
}

impl NatsLink {
    pub(super) const fn new(session: Arc<Session>) -> Self {
        Self { session }
    }
}

#[async_trait]
impl Link for NatsLink {
    /// The place of a message in its stream.
    type Handle = u64;

    fn max_message(&self) -> usize {
        self.session.max_payload.saturating_sub(OVERHEAD)
    }

    async fn lost(&self) -> Arc<str> {
        self.session.lost().await
    }

    async fn publish(&self, batch: Vec<Outgoing>) {
        for outgoing in batch {
            self.session.publish(outgoing).await;
        }
    }

    async fn declare(&self, declaration: &Declaration) -> Result<(), BrokerError> {
        self.session.declare(declaration).await
    }

    async fn delete(&self, source: &Source) -> Result<(), BrokerError> {
        self.session.delete(source).await
    }

    async fn stats(&self, source: &Source, held: Held) -> Result<SourceStats, BrokerError> {
        self.session.stats(source, held).await
    }

    async fn consume(&self, inbox: &Arc<Inbox<u64>>) -> Result<(), BrokerError> {
        self.session.consume(inbox).await
    }

    async fn stop(&self, inbox: &Arc<Inbox<u64>>) -> Result<(), BrokerError> {
        self.session.stop(inbox).await
    }

    async fn settle(&self, batch: Vec<Settlement<u64>>) -> Result<(), BrokerError> {
        let session = &self.session;
        // Those of one consumer together: one confirmation is enough for them.
        let mut grouped: HashMap<(u64, Verdict), Settlement<u64>> = HashMap::new();
        for settlement in batch {
            match grouped.entry((settlement.inbox.id, settlement.verdict)) {
                Entry::Occupied(mut same) => same.get_mut().handles.extend(settlement.handles),
                Entry::Vacant(new) => {
                    new.insert(settlement);
                }
            }
        }
        let settling = grouped.into_values().filter_map(|settlement| {
            let consumer = session.places.consumer(settlement.inbox.id)?;
            let verdict = settlement.verdict;
            let tickets = consumer.begin_settling(&settlement.handles);
            Some(async move {
                let how = if verdict == Verdict::Ack { ACK } else { NAK };
                session.settle_all(replies(&tickets), how).await?;
                consumer.settled(tickets, verdict, &session.memory);
                Ok(())
            })
        });
        try_join_all(settling).await.map(drop)
    }

    async fn listen(&self, pattern: &Arc<str>) -> Result<(), BrokerError> {
        self.session.listen(pattern).await
    }

    async fn unlisten(&self, pattern: &Arc<str>) -> Result<(), BrokerError> {
        self.session.unlisten(pattern);
        Ok(())
    }

    async fn close(&self) {
        // What was written is with the server when it answers.
        let _ = self.session.round_trip().await;
    }
}

impl Drop for NatsLink {
    fn drop(&mut self) {
        self.session.end();
    }
}
