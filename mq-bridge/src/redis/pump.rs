//! Reads for one consumer, as far as it has room.

use std::sync::Arc;
use std::time::Duration;

use ::redis::Value;

use crate::EndReason;
use crate::remote::{Inbox, Incoming};

use super::consumers::Watched;
use super::entry::{self, EntryId, source_key};
use super::error::Fault;
use super::link::Shared;
use super::script::READ;
use super::value::{items, list, number, text};

/// The most that one consumer takes at once while others here are idle.
const SHARE: usize = 16;
/// How long to wait after the server has refused to read.
const REFUSED: Duration = Duration::from_millis(500);

pub(super) struct Pump {
    pub(super) shared: Arc<Shared>,
    pub(super) watched: Arc<Watched>,
    pub(super) inbox: Arc<Inbox<EntryId>>,
    /// As the server knows the consumer.
    pub(super) name: String,
    pub(super) generation: String,
    pub(super) epoch: u64,
}

enum Read {
    Entries {
        incoming: Vec<Incoming<EntryId>>,
        /// Nothing was left.
        all: bool,
    },
    Ended(String),
}

impl Pump {
    /// Runs until the inbox or the link has ended.
    pub(super) async fn run(self) {
        while let Some(room) = self.inbox.wait_for_room(self.epoch).await {
            let most = if self.watched.has_idle() { room.min(SHARE) } else { room };
            match self.read(most).await {
                Ok(Read::Entries { incoming, all }) => {
                    self.inbox.push(self.epoch, incoming);
                    if all {
                        self.watched.turn().await;
                    } else {
                        self.watched.wake();
                    }
                }
                Ok(Read::Ended(why)) => {
                    self.end(&why);
                    break;
                }
                Err(Fault::Lost(_)) => break,
                Err(fault) => {
                    let error = fault.into_error();
                    if !error.is_retryable() {
                        self.inbox.end(EndReason::Broker(error.to_string().into()));
                        break;
                    }
                    tracing::warn!(source = %self.inbox.source, %error, "could not read");
                    tokio::time::sleep(REFUSED).await;
                }
            }
        }
        // Whoever woke it counted on it.
        self.watched.wake();
    }

    async fn read(&self, most: usize) -> Result<Read, Fault> {
        let source = &self.inbox.source;
        let mut call = READ.call(&self.shared.prefix);
        call.arg(source_key(source)).arg(&self.name).arg(&self.generation);
        call.arg(most).arg(self.inbox.room_bytes());
        let answer = self.shared.control.run(&call).await?;
        if !matches!(answer, Value::Array(_)) {
            return Ok(Read::Ended(text(answer)));
        }
        let [entries, counts, all, gone] = items(answer);
        if number(&gone) > 0 {
            tracing::error!(%source, count = number(&gone), "somebody has removed bodies of messages");
        }
        let counts: Vec<_> = list(counts).iter().map(number).collect();
        let incoming = list(entries)
            .into_iter()
            .enumerate()
            .map(|(index, entry)| {
                let deliveries = counts.get(index).map_or(1, |count| *count);
                entry::read(entry, source, u32::try_from(deliveries).unwrap_or(u32::MAX))
            })
            .collect();
        Ok(Read::Entries { incoming, all: number(&all) == 1 })
    }

    fn end(&self, why: &str) {
        match why {
            "deleted" => self.inbox.end(EndReason::Deleted),
            "taken over" => self.inbox.end(EndReason::TakenOver),
            // The others took this node for dead; it begins anew.
            _ => self.shared.loss.report(&"the lease of the node is over".into()),
        }
    }
}
