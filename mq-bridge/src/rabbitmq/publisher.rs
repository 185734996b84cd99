//! Publishes on one channel, in order, and follows their confirmations.

use std::collections::{BTreeMap, HashSet};
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock};

use futures::future::join_all;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, poll};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{Channel, Confirmation, Connection, PublisherConfirm};
use tokio::sync::mpsc;

use crate::local::{lock, read, write};
use crate::remote::{Outgoing, Pending};
use crate::{BrokerError, Source, Target};

use super::admin::Admin;
use super::failure::Lost;
use super::names::Names;
use super::wire::{self, Part};

/// So many messages, or octets, are handed to the socket before the next are made.
const WINDOW: usize = 64;
const WINDOW_BYTES: usize = 1 << 20;
/// The most names of queues that are known to exist.
const KNOWN: usize = 1 << 16;

/// The publishing side of a link.
pub(super) struct Publisher {
    channel: Channel,
    names: Arc<Names>,
    admin: Arc<Admin>,
    frame_max: usize,
    sequence: AtomicI64,
    known: Arc<Known>,
    sent: mpsc::UnboundedSender<Vec<Sent>>,
    lost: Lost,
}

/// Queues that exist, as far as is known: those that do not are refused before anything is sent.
#[derive(Default)]
pub(super) struct Known(RwLock<HashSet<Arc<str>>>);

impl Known {
    pub(super) fn insert(&self, name: &Arc<str>) {
        let mut known = write(&self.0);
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(Arc::clone(name));
    }

    pub(super) fn remove(&self, name: &str) {
        write(&self.0).remove(name);
    }
}

/// A message that is on its way.
struct Sent {
    sequence: Option<(i64, Arc<str>)>,
    /// Its place among those that are confirmed together.
    place: usize,
    group: Arc<Group>,
    confirm: PublisherConfirm,
}

/// Publishes that are confirmed together. Dropped undecided they fail as `Disconnected`.
struct Group(Mutex<Undecided>);

struct Undecided {
    left: usize,
    failure: Option<(usize, BrokerError)>,
    pending: Option<Pending>,
}

impl Group {
    fn decide(&self, place: usize, outcome: Result<(), BrokerError>) {
        let mut group = lock(&self.0);
        if let Err(error) = outcome
            && group.failure.as_ref().is_none_or(|(first, _)| place < *first)
        {
            group.failure = Some((place, error));
        }
        group.left -= 1;
        if group.left == 0
            && let Some(pending) = group.pending.take()
        {
            pending.complete(group.failure.take().map_or(Ok(()), |(_, error)| Err(error)));
        }
    }
}

impl Publisher {
    /// The publisher, and what follows the confirmations until the link is lost.
    pub(super) async fn open(
        connection: &Connection,
        names: Arc<Names>,
        admin: Arc<Admin>,
        known: Arc<Known>,
        lost: Lost,
    ) -> Result<(Self, impl Future<Output = ()> + use<>), lapin::Error> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let (sent, received) = mpsc::unbounded_channel();
        let following = follow(channel.clone(), received, Arc::clone(&known), lost.clone());
        let frame_max = usize::try_from(connection.configuration().frame_max()).unwrap_or(0);
        let publisher = Self {
            channel,
            names,
            admin,
            frame_max,
            sequence: AtomicI64::new(0),
            known,
            sent,
            lost,
        };
        Ok((publisher, following))
    }

    /// Writes publishes; returns when all of them are on the socket.
    pub(super) async fn publish(&self, batch: Vec<Outgoing>) {
        let missing = self.find_missing(&batch).await;
        let mut window = Window { publisher: self, writing: Vec::new(), bytes: 0 };
        for Outgoing { publishes, pending } in batch {
            let parts = publishes.iter().map(|outbound| {
                for target in &outbound.targets {
                    if let Target::Queue(name) = target
                        && let Some(error) = missing.get(name)
                    {
                        return Err(error.clone());
                    }
                }
                let next = || self.sequence.fetch_add(1, Relaxed);
                wire::encode(outbound, &self.names, self.frame_max, next)
            });
            let parts: Vec<Part> = match parts.collect::<Result<Vec<_>, _>>() {
                Ok(parts) => parts.into_iter().flatten().collect(),
                Err(error) => {
                    pending.complete(Err(error));
                    continue;
                }
            };
            let undecided = Undecided { left: parts.len(), failure: None, pending: Some(pending) };
            let group = Arc::new(Group(Mutex::new(undecided)));
            for (place, part) in parts.into_iter().enumerate() {
                window.write(place, part, Arc::clone(&group)).await;
            }
        }
        window.flush().await;
    }

    /// The queues that do not exist, or cannot be asked for, of those that are not known.
    async fn find_missing(&self, batch: &[Outgoing]) -> BTreeMap<Arc<str>, BrokerError> {
        let mut unknown = HashSet::new();
        {
            let known = read(&self.known.0);
            let publishes = batch.iter().flat_map(|outgoing| &outgoing.publishes);
            for target in publishes.flat_map(|outbound| &outbound.targets) {
                if let Target::Queue(name) = target
                    && !known.contains(name)
                {
                    unknown.insert(Arc::clone(name));
                }
            }
        }
        let asking = unknown.into_iter().map(|name| async move {
            let found = match self.names.queue(&name) {
                Ok(queue) => self.admin.find(&queue).await,
                Err(error) => Err(error),
            };
            match found {
                Ok(Some(_)) => {
                    self.known.insert(&name);
                    None
                }
                Ok(None) => {
                    let error = BrokerError::not_declared(&Source::Queue(Arc::clone(&name)));
                    Some((name, error))
                }
                Err(error) => Some((name, error)),
            }
        });
        join_all(asking).await.into_iter().flatten().collect()
    }
}

/// Messages whose frames are queued in order but not yet on the socket.
struct Window<'a> {
    publisher: &'a Publisher,
    writing: Vec<Writing<'a>>,
    bytes: usize,
}

struct Writing<'a> {
    sequence: Option<(i64, Arc<str>)>,
    place: usize,
    group: Arc<Group>,
    write: Pin<Box<dyn Future<Output = lapin::Result<PublisherConfirm>> + Send + 'a>>,
}

impl Window<'_> {
    async fn write(&mut self, place: usize, part: Part, group: Arc<Group>) {
        let Publisher { channel, names, .. } = self.publisher;
        let Part { queue, key, properties, body } = part;
        self.bytes += body.len();
        let exchange = if queue.is_some() { ShortString::default() } else { names.topics.clone() };
        let options =
            BasicPublishOptions { mandatory: queue.is_some(), ..BasicPublishOptions::default() };
        let sequence = queue.and_then(|queue| Some((wire::sequence(&properties)?, queue)));
        let mut write =
            async move { channel.basic_publish(exchange, key, options, &body, properties).await }
                .boxed();
        // The first poll queues the frames, so messages go out in the order of these calls.
        let sent = match poll!(&mut write) {
            std::task::Poll::Ready(outcome) => std::future::ready(outcome).boxed(),
            std::task::Poll::Pending => write,
        };
        self.writing.push(Writing { sequence, place, group, write: sent });
        if self.writing.len() >= WINDOW || self.bytes >= WINDOW_BYTES {
            self.flush().await;
        }
    }

    async fn flush(&mut self) {
        self.bytes = 0;
        let mut sent = Vec::with_capacity(self.writing.len());
        for Writing { sequence, place, group, write } in self.writing.drain(..) {
            match write.await {
                Ok(confirm) => sent.push(Sent { sequence, place, group, confirm }),
                // Its group is dropped: nobody knows.
                Err(error) => {
                    self.publisher.lost.fail(&error);
                }
            }
        }
        // Nobody follows any more only when the link is gone.
        let _ = self.publisher.sent.send(sent);
    }
}

/// A confirmation, and what it belongs to.
struct Confirmed {
    sequence: Option<(i64, Arc<str>)>,
    place: usize,
    group: Arc<Group>,
    outcome: lapin::Result<Confirmation>,
}

/// Decides publishes as their confirmations come in.
///
/// The client hands a returned message out with whichever confirmation is resolved next, be it of
/// another message. But it resolves all that one frame of the broker confirms under one lock, and
/// the return of a message comes before its own confirmation. So when that lock was free after a
/// confirmation has been seen, its return is with one of those that are ready.
async fn follow(
    channel: Channel,
    mut sent: mpsc::UnboundedReceiver<Vec<Sent>>,
    known: Arc<Known>,
    lost: Lost,
) {
    let mut waiting = FuturesUnordered::new();
    let mut returned = HashSet::new();
    let mut ready: Vec<Confirmed> = Vec::new();
    loop {
        if ready.is_empty() {
            tokio::select! {
                more = sent.recv() => {
                    let Some(more) = more else { return };
                    waiting.extend(more.into_iter().map(|one| {
                        let Sent { sequence, place, group, confirm } = one;
                        confirm.map(move |outcome| Confirmed { sequence, place, group, outcome })
                    }));
                }
                Some(one) = waiting.next(), if !waiting.is_empty() => ready.push(one),
            }
            while let Some(Some(one)) = waiting.next().now_or_never() {
                ready.push(one);
            }
        }
        // Waits for the lock and for nothing else.
        let _ = channel.wait_for_confirms().now_or_never();
        let mut next = Vec::new();
        while let Some(Some(one)) = waiting.next().now_or_never() {
            next.push(one);
        }
        for Confirmed { outcome, .. } in ready.iter().chain(&next) {
            if let Ok(Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message))) =
                outcome
            {
                returned.extend(wire::sequence(&message.delivery.properties));
            }
        }
        for Confirmed { sequence, place, group, outcome } in ready.drain(..) {
            let outcome = match outcome {
                Ok(Confirmation::Ack(_)) => match sequence {
                    Some((sequence, queue)) if returned.remove(&sequence) => {
                        known.remove(&queue);
                        Err(BrokerError::not_declared(&Source::Queue(queue)))
                    }
                    _ => Ok(()),
                },
                Ok(Confirmation::Nack(_)) => Err(BrokerError::Storage {
                    reason: "RabbitMQ did not take the message; its log says why".into(),
                }),
                Ok(Confirmation::NotRequested) => {
                    Err(BrokerError::Disconnected { reason: "the channel does not confirm".into() })
                }
                Err(error) => Err(lost.fail(&error)),
            };
            group.decide(place, outcome);
        }
        ready = next;
    }
}
