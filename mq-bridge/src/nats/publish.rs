//! Publishes on their way: written in order, confirmed by JetStream one by one.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{Message, StatusCode};
use serde::Deserialize;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::local::lock;
use crate::remote::{Outgoing, Pending};
use crate::{BrokerError, Source, Target};

use super::api::parse;
use super::session::Session;
use super::topology::SENTINEL;
use super::wire;

/// The most messages that are written and not confirmed: a stream refuses what it cannot queue.
const IN_FLIGHT: usize = 4096;
/// A stream that confirms nothing for so long is given up, and the link with it.
const CONFIRMING: Duration = Duration::from_secs(10);
/// The most queues that are known to exist.
const KNOWN_QUEUES: usize = 100_000;

/// What is written and not confirmed.
#[derive(Debug)]
pub(super) struct Flights {
    /// `None` when the link is lost.
    table: Mutex<Option<HashMap<u64, Flight>>>,
    room: Semaphore,
    /// Confirmed, and to be [verified](Session::verify).
    doubtful: Mutex<Vec<Flight>>,
    doubted: Notify,
    /// Queues that exist, by the names of their consumers.
    queues: Mutex<Queues>,
}

#[derive(Debug, Default)]
struct Queues {
    known: HashSet<String>,
    /// How many were deleted: what was found out before one was, counts no more.
    deleted: u64,
}

/// Publishes that are confirmed together.
#[derive(Debug)]
struct Flight {
    /// Messages not yet confirmed.
    waiting: usize,
    stored: usize,
    failed: Option<BrokerError>,
    /// Whether some of them are for topics.
    topics: bool,
    since: Instant,
    pending: Pending,
}

impl Default for Flights {
    fn default() -> Self {
        Self {
            table: Mutex::new(Some(HashMap::new())),
            room: Semaphore::new(IN_FLIGHT),
            doubtful: Mutex::default(),
            doubted: Notify::new(),
            queues: Mutex::default(),
        }
    }
}

impl Session {
    /// Writes publishes that are confirmed together, as there is room.
    pub(super) async fn publish(&self, outgoing: Outgoing) {
        let Outgoing { publishes, pending } = outgoing;
        for target in publishes.iter().flat_map(|one| &one.targets) {
            if let Target::Queue(name) = target
                && let Err(error) = self.check_queue(name).await
            {
                return pending.complete(Err(error));
            }
        }
        let id = self.next_id();
        let name = || format!("{}{id}", &self.base[self.base.len().saturating_sub(22)..]);
        let mut messages = Vec::with_capacity(publishes.len());
        for (index, publish) in publishes.iter().enumerate() {
            messages.extend(wire::encode(publish, &self.plan.subjects, || {
                format!("{}.{index}", name())
            }));
        }
        if let Some(size) = messages.iter().map(wire::Outgoing::size).max()
            && size > self.max_payload
        {
            return pending.complete(Err(BrokerError::TooLarge { size, limit: self.max_payload }));
        }
        let targets = publishes.iter().flat_map(|one| &one.targets);
        let flight = Flight {
            waiting: messages.len(),
            stored: 0,
            failed: None,
            topics: targets.into_iter().any(|target| matches!(target, Target::Topic(_))),
            since: Instant::now(),
            pending,
        };
        match &mut *lock(&self.flights.table) {
            Some(table) => table.insert(id, flight),
            None => return,
        };
        let reply = format!("{}.r.f{id}", self.base);
        for wire::Outgoing { subject, headers, payload } in messages {
            let Ok(place) = self.flights.room.acquire().await else { return };
            // Comes back when it is confirmed.
            place.forget();
            let written = if headers.is_empty() {
                self.client.publish_with_reply(subject, reply.clone(), payload).await
            } else {
                let reply = reply.clone();
                self.client.publish_with_reply_and_headers(subject, reply, headers, payload).await
            };
            if let Err(error) = written {
                self.fail(&error.to_string());
                return;
            }
        }
    }

    /// JetStream has answered to one message of flight `id`.
    pub(super) fn published(&self, id: u64, answer: &Message) {
        #[derive(Deserialize)]
        struct Stored {}
        let outcome = if answer.status == Some(StatusCode::NO_RESPONDERS) {
            // The next link makes the streams again.
            Err(self.broken("the stream is not there"))
        } else {
            match parse::<Stored>(&answer.payload) {
                Ok(Stored {}) => Ok(()),
                Err(refusal) if refusal.is_temporary() => {
                    Err(BrokerError::Disconnected { reason: refusal.to_string().into() })
                }
                Err(refusal) => Err(refusal.into()),
            }
        };
        let mut table = lock(&self.flights.table);
        let Some(table) = &mut *table else { return };
        let Some(flight) = table.get_mut(&id) else { return };
        self.flights.room.add_permits(1);
        flight.waiting -= 1;
        match outcome {
            Ok(()) => flight.stored += 1,
            Err(error) => {
                flight.failed.get_or_insert(error);
            }
        }
        if flight.waiting == 0
            && let Some(flight) = table.remove(&id)
        {
            if flight.topics && self.is_old {
                lock(&self.flights.doubtful).push(flight);
                self.flights.doubted.notify_one();
            } else {
                flight.land();
            }
        }
    }

    /// Confirms what an old server has confirmed only when that is true. Such a server, when it is
    /// told to stop, forgets its consumers before it stops to take messages for their stream, and
    /// confirms those though nobody is left to keep them for.
    pub(super) async fn verify(self: Arc<Self>) {
        loop {
            self.flights.doubted.notified().await;
            let doubtful = std::mem::take(&mut *lock(&self.flights.doubtful));
            match self.consumer_info(&self.plan.topics, SENTINEL).await {
                Ok(Some(_)) => doubtful.into_iter().for_each(Flight::land),
                Ok(None) => self.fail("the server is about to stop"),
                Err(_) => return,
            }
        }
    }

    /// Fails the link if a publish waits for its confirmation for too long.
    pub(super) fn check_flights(&self) {
        let late = |one: &Flight| one.since.elapsed() > CONFIRMING;
        if lock(&self.flights.table).iter().flat_map(HashMap::values).any(late) {
            self.fail("JetStream does not confirm");
        }
    }

    async fn check_queue(&self, name: &Arc<str>) -> Result<(), BrokerError> {
        let source = Source::Queue(Arc::clone(name));
        let address = self.plan.address(&source);
        let deleted = {
            let queues = lock(&self.flights.queues);
            if queues.known.contains(&address.consumer) {
                return Ok(());
            }
            queues.deleted
        };
        if self.consumer_info(&address.stream, &address.consumer).await?.is_none() {
            return Err(BrokerError::not_declared(&source));
        }
        let mut queues = lock(&self.flights.queues);
        if queues.deleted == deleted {
            if queues.known.len() == KNOWN_QUEUES {
                queues.known.clear();
            }
            queues.known.insert(address.consumer);
        }
        Ok(())
    }

    /// A queue was deleted.
    pub(super) fn forget_queue(&self, consumer: &str) {
        let mut queues = lock(&self.flights.queues);
        queues.deleted += 1;
        queues.known.remove(consumer);
    }
}

impl Flight {
    fn land(self) {
        self.pending.complete(match self.failed {
            None => Ok(()),
            Some(error) if self.stored == 0 => Err(error),
            // Of several messages some are stored: to be repeated as what may have happened.
            Some(error) => {
                Err(BrokerError::Disconnected { reason: format!("a part failed: {error}").into() })
            }
        });
    }
}

impl Flights {
    /// The link is lost. Nobody knows what became of them; their confirmations say so.
    pub(super) fn abandon(&self) {
        let abandoned = lock(&self.table).take();
        drop(abandoned);
        lock(&self.doubtful).clear();
    }
}
