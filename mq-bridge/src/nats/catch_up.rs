//! Streams that a server has restored behind their consumers.
//!
//! A server that is killed while it replaces the last file of a stream, which has become empty, may
//! forget how many messages the stream has had, and count on from an earlier one. What is published
//! then takes places that consumers have passed already: it is stored, confirmed and never delivered.
//! So each new link brings the streams to where their consumers are before anything is published.

use async_nats::Subject;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use crate::BrokerError;

use super::api::{Done, Sequences};
use super::memory::Ticket;
use super::session::Session;
use super::wire;

/// How many places are filled between two looks at the stream.
const FILLED_AT_ONCE: u64 = 1000;
/// The most places that are filled in an empty stream; beyond that it is told to skip them.
const MAX_FILLED: u64 = 10_000;
/// The last token of subjects that no queue and no topic has.
const NOBODYS: &str = "~";

/// Some consumers of a stream.
#[derive(Deserialize)]
struct Page {
    total: usize,
    consumers: Vec<Consumed>,
}

#[derive(Deserialize)]
struct Consumed {
    delivered: Sequences,
}

impl Session {
    /// Brings the streams to where their consumers are, and this node was: it remembers where it
    /// `settled`.
    pub(super) async fn catch_up(&self, settled: &[Subject]) -> Result<(), BrokerError> {
        let (plan, subjects) = (&self.plan, &self.plan.subjects);
        futures::try_join!(
            self.catch_up_stream(&plan.queues, &subjects.queues, settled),
            self.catch_up_stream(&plan.topics, &subjects.topics, settled),
        )?;
        Ok(())
    }

    async fn catch_up_stream(
        &self,
        stream: &str,
        prefix: &str,
        settled: &[Subject],
    ) -> Result<(), BrokerError> {
        let Some(info) = self.stream_info(stream).await? else { return Ok(()) };
        if info.config.num_replicas > 1 {
            // The other servers know.
            return Ok(());
        }
        let of_stream = format!(".{stream}.");
        let ours = settled.iter().filter(|reply| reply.contains(&of_stream));
        let ours = ours.filter_map(Ticket::read).map(|ticket| ticket.seq).max();
        // Before the stream is looked at: it is only ever behind this if it was restored so.
        let wanted = self.last_delivered(stream).await?.max(ours.unwrap_or_default());
        let subject = format!("{prefix}.{NOBODYS}");
        let mut skipped = false;
        let mut filled = None;
        loop {
            let Some(info) = self.stream_info(stream).await? else { return Ok(()) };
            let last = info.state.last_seq;
            let missing = wanted.saturating_sub(last);
            if missing == 0 {
                break;
            }
            if filled.is_none() && !skipped {
                tracing::warn!(stream, last, wanted, "the server has lost its place in the stream");
            }
            if missing > MAX_FILLED && info.state.messages == 0 && !skipped {
                skipped = true;
                let call = format!("STREAM.PURGE.{stream}");
                let Done {} = self.api(call, &json!({ "seq": wanted + 1 })).await?;
            } else {
                filled = Some(self.fill(&subject, missing.min(FILLED_AT_ONCE)).await?);
            }
        }
        match filled {
            Some(last) => self.purge(stream, &subject, last).await,
            None => Ok(()),
        }
    }

    /// The last place that a consumer of the stream was at; 0 if there is none.
    async fn last_delivered(&self, stream: &str) -> Result<u64, BrokerError> {
        let mut last = 0;
        let mut offset = 0;
        loop {
            let call = format!("CONSUMER.LIST.{stream}");
            let page: Page = self.api(call, &json!({ "offset": offset })).await?;
            offset += page.consumers.len();
            let places = page.consumers.iter().map(|one| one.delivered.stream_seq);
            last = places.fold(last, u64::max);
            if page.consumers.is_empty() || offset >= page.total {
                return Ok(last);
            }
        }
    }

    /// Publishes so many messages that reach nobody; gives the place of the last.
    async fn fill(&self, subject: &str, count: u64) -> Result<u64, BrokerError> {
        let headers = wire::nobodys();
        for _ in 1..count {
            let (subject, headers) = (subject.to_owned(), headers.clone());
            let written = self.client.publish_with_headers(subject, headers, Bytes::new()).await;
            written.map_err(|error| self.broken(error))?;
        }
        Ok(self.register(subject.to_owned(), headers, Bytes::new()).await?)
    }
}
