//! Consumers of queues and durable subscriptions, many on one channel.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use futures::future::{BoxFuture, join_all, try_join_all};
use futures::{FutureExt, StreamExt, poll};
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
    BasicQosOptions, ChannelFlowOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer};
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinHandle;

use crate::local::lock;
use crate::remote::{Inbox, Incoming, Settlement, Verdict};
use crate::{BrokerError, EndReason, Source, Target};

use super::admin::Admin;
use super::config::QueueType;
use super::control::Turn;
use super::failure::Lost;
use super::ledger::{Frame, Ledger};
use super::names::Names;
use super::patterns::Patterns;
use super::wire::{self, Decoded};

/// The most channels that consumers share. The broker has a process for each.
const LANES: usize = 32;
/// The most deliveries that are handed over at once.
const BATCH: usize = 256;

/// Names a delivery among those of its channel.
pub(super) type Tag = u64;

/// The consuming side of a link.
pub(super) struct Consumers {
    connection: Arc<Connection>,
    /// Of the queues that are declared here.
    kind: QueueType,
    names: Arc<Names>,
    patterns: Arc<Patterns>,
    admin: Arc<Admin>,
    lost: Lost,
    lanes: AsyncMutex<Vec<Arc<Lane>>>,
    /// By the number of their inbox.
    entries: Mutex<HashMap<u64, Arc<Entry>>>,
}

/// A channel with its consumers.
struct Lane {
    channel: Channel,
    /// Held while frames are queued that settle, so that they are in the order of the ledger.
    ledger: AsyncMutex<Ledger>,
    /// The prefetch that is set for the next consumer, held until it is there.
    prefetch: AsyncMutex<Option<u16>>,
    consumers: AtomicUsize,
}

/// A consumer.
struct Entry {
    inbox: Arc<Inbox<Tag>>,
    lane: Arc<Lane>,
    name: ShortString,
    /// What the broker has delivered and nobody has settled.
    open: Mutex<BTreeSet<Tag>>,
    queue: ShortString,
    kind: QueueType,
    prefetch: u16,
    /// Whether anything was ever settled.
    settled: AtomicBool,
    /// Whether this side has ended it. Changed and acted upon under the lock of the ledger.
    cancelled: AtomicBool,
    /// What moves deliveries to the inbox; taken once everything is given back.
    pump: AsyncMutex<Option<JoinHandle<()>>>,
}

impl Consumers {
    pub(super) fn new(
        connection: Arc<Connection>,
        kind: QueueType,
        names: Arc<Names>,
        patterns: Arc<Patterns>,
        admin: Arc<Admin>,
        lost: Lost,
    ) -> Self {
        Self {
            connection,
            kind,
            names,
            patterns,
            admin,
            lost,
            lanes: AsyncMutex::default(),
            entries: Mutex::default(),
        }
    }

    /// Starts to deliver to an inbox from a queue that exists.
    pub(super) async fn start(
        &self,
        inbox: &Arc<Inbox<Tag>>,
        queue: ShortString,
    ) -> Result<(), BrokerError> {
        let epoch = inbox.epoch();
        let lane = self.lane().await?;
        let name = ShortString::from(format!("mq-{}", inbox.id));
        // 0 means without a limit.
        let prefetch = u16::try_from(inbox.options.prefetch_messages).unwrap_or(u16::MAX).max(1);
        let consumer = lane.consume(queue.clone(), name.clone(), prefetch).await;
        let mut consumer = match consumer {
            Ok(consumer) => consumer,
            Err(error) => {
                // Others lose their channel with it.
                lane.consumers.fetch_sub(1, Relaxed);
                return Err(self.lost.fail(&error));
            }
        };
        let entry = Arc::new(Entry {
            inbox: Arc::clone(inbox),
            lane,
            name,
            queue,
            kind: self.kind,
            prefetch,
            open: Mutex::default(),
            settled: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            pump: AsyncMutex::new(None),
        });
        // What waits there already is with the inbox when this returns.
        entry.lane.sync().await.map_err(|error| self.lost.fail(&error))?;
        let pump = Pump {
            entry: Arc::clone(&entry),
            epoch,
            names: Arc::clone(&self.names),
            patterns: Arc::clone(&self.patterns),
            admin: Arc::clone(&self.admin),
            lost: self.lost.clone(),
        };
        let mut first = Vec::new();
        while let Some(Some(Ok(delivery))) = consumer.next().now_or_never() {
            first.push(delivery);
        }
        pump.push(first);
        *entry.pump.lock().await = Some(tokio::spawn(pump.run(consumer)));
        lock(&self.entries).insert(inbox.id, entry);
        Ok(())
    }

    /// The channel with the fewest consumers; a new one while there are few.
    async fn lane(&self) -> Result<Arc<Lane>, BrokerError> {
        let mut lanes = self.lanes.lock().await;
        let least = lanes.iter().min_by_key(|lane| lane.consumers.load(Relaxed));
        if let Some(lane) = least
            && (lanes.len() >= LANES || lane.consumers.load(Relaxed) == 0)
        {
            lane.consumers.fetch_add(1, Relaxed);
            return Ok(Arc::clone(lane));
        }
        let made = self.connection.create_channel().await;
        let channel = made.map_err(|error| self.lost.check(&error))?;
        let lane = Arc::new(Lane {
            channel,
            ledger: AsyncMutex::default(),
            prefetch: AsyncMutex::default(),
            consumers: AtomicUsize::new(1),
        });
        lanes.push(Arc::clone(&lane));
        Ok(lane)
    }

    /// Stops to deliver to an inbox, and gives everything back that is not settled.
    pub(super) async fn stop(&self, inbox: u64) -> Result<(), BrokerError> {
        let entry = lock(&self.entries).get(&inbox).cloned();
        let Some(entry) = entry else { return Ok(()) };
        entry.stop().await.map_err(|error| self.lost.fail(&error))?;
        lock(&self.entries).remove(&inbox);
        Ok(())
    }

    /// Ends the consumers of a source, since another node takes over, but for those that had their
    /// turn later. Gives how many have ended, and the latest turn of those that have not.
    pub(super) async fn let_go(
        &self,
        source: &Source,
        turn: Turn,
    ) -> Result<(u64, Option<Turn>), BrokerError> {
        let mut ending = Vec::new();
        let mut later = None;
        for entry in self.entries_of(source) {
            match entry.inbox.generation().parse::<Turn>() {
                Ok(own) if own > turn => later = later.max(Some(own)),
                _ => ending.push(entry),
            }
        }
        ending.iter().for_each(|entry| entry.inbox.end(EndReason::TakenOver));
        try_join_all(ending.iter().map(|entry| self.stop(entry.inbox.id))).await?;
        Ok((ending.len() as u64, later))
    }

    /// Whether the broker counts a consumer until it has given back all that it held.
    pub(super) fn are_counted_until_empty(&self) -> bool {
        self.kind == QueueType::Quorum
    }

    /// Whether the inbox has a consumer.
    pub(super) fn has(&self, inbox: u64) -> bool {
        lock(&self.entries).contains_key(&inbox)
    }

    /// Whether no consumer of a source that has none any more, as the broker sees it, still has to
    /// give back here what it held.
    pub(super) fn hold_nothing(&self, source: &Source) -> bool {
        self.are_counted_until_empty() || self.entries_of(source).is_empty()
    }

    /// How many there are of a source.
    pub(super) fn number_of(&self, source: &Source) -> u64 {
        self.entries_of(source).len() as u64
    }

    fn entries_of(&self, source: &Source) -> Vec<Arc<Entry>> {
        let entries = lock(&self.entries);
        entries.values().filter(|entry| entry.inbox.source == *source).cloned().collect()
    }

    /// What the consumers of a source have and have not settled, all that is on its way included.
    pub(super) async fn held(&self, source: &Source) -> Result<u64, BrokerError> {
        let entries = self.entries_of(source);
        try_join_all(entries.iter().map(|entry| entry.lane.sync()))
            .await
            .map_err(|error| self.lost.fail(&error))?;
        Ok(entries.iter().map(|entry| lock(&entry.open).len() as u64).sum())
    }

    /// Settles, and returns when the channels have told the queues.
    pub(super) async fn settle(&self, batch: Vec<Settlement<Tag>>) -> Result<(), BrokerError> {
        let mut lanes: HashMap<usize, (Arc<Lane>, Vec<Settling>)> = HashMap::new();
        for Settlement { inbox, handles, verdict } in batch {
            let entry = lock(&self.entries).get(&inbox.id).cloned();
            let Some(entry) = entry else { continue };
            let lane = Arc::clone(&entry.lane);
            let (_, of_lane) =
                lanes.entry(Arc::as_ptr(&lane).addr()).or_insert_with(|| (lane, Vec::new()));
            of_lane.push(Settling { entry, tags: handles, verdict });
        }
        let settling = lanes.into_values().map(|(lane, of_lane)| async move {
            lane.settle(of_lane).await?;
            lane.sync().await
        });
        let outcome = join_all(settling).await.into_iter().collect::<Result<(), _>>();
        outcome.map_err(|error| self.lost.fail(&error))
    }
}

/// Deliveries of one consumer that are settled in the same way.
struct Settling {
    entry: Arc<Entry>,
    tags: Vec<Tag>,
    verdict: Verdict,
}

impl Lane {
    async fn consume(
        &self,
        queue: ShortString,
        name: ShortString,
        prefetch: u16,
    ) -> lapin::Result<Consumer> {
        let mut set = self.prefetch.lock().await;
        if *set != Some(prefetch) {
            self.channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            *set = Some(prefetch);
        }
        let options = BasicConsumeOptions::default();
        self.channel.basic_consume(queue, name, options, FieldTable::default()).await
    }

    /// Returns when the broker has done everything that was asked of it on this channel before.
    async fn sync(&self) -> lapin::Result<()> {
        self.channel.channel_flow(ChannelFlowOptions { active: true }).await.map(drop)
    }

    /// Settles what is open of it; the rest has been given back meanwhile.
    async fn settle(&self, batch: Vec<Settling>) -> lapin::Result<()> {
        let mut ledger = self.ledger.lock().await;
        let (mut acks, mut requeues) = (Vec::new(), Vec::new());
        for Settling { entry, tags, verdict } in batch {
            if entry.cancelled.load(Relaxed) {
                continue;
            }
            let settled = if verdict == Verdict::Ack { &mut acks } else { &mut requeues };
            let before = settled.len();
            let mut open = lock(&entry.open);
            settled.extend(tags.into_iter().filter(|tag| open.remove(tag)));
            entry.settled.fetch_or(settled.len() > before, Relaxed);
        }
        let acks = ledger.settle(&mut acks).into_iter().map(|Frame { tag, multiple }| {
            self.channel.basic_ack(tag, BasicAckOptions { multiple }).boxed()
        });
        let acks: Vec<_> = acks.collect();
        ledger.settle(&mut requeues);
        self.write(acks.into_iter().chain(requeues.into_iter().map(|tag| self.requeue(tag)))).await
    }

    /// Gives one delivery back. One by one: a quorum queue mixes up what it gets back in one go.
    fn requeue(&self, tag: Tag) -> Write<'_> {
        self.channel.basic_nack(tag, BasicNackOptions { multiple: false, requeue: true }).boxed()
    }

    /// Queues all frames in order at once, then waits until they are written.
    async fn write<'a>(&self, writes: impl Iterator<Item = Write<'a>>) -> lapin::Result<()> {
        let mut left = Vec::new();
        for mut write in writes {
            // The first poll queues the frame.
            match poll!(&mut write) {
                Poll::Ready(outcome) => outcome?,
                Poll::Pending => left.push(write),
            }
        }
        try_join_all(left).await.map(drop)
    }
}

type Write<'a> = BoxFuture<'a, lapin::Result<()>>;

impl Entry {
    /// Ends the consumer and gives back what is open, once; who comes later waits for it.
    async fn stop(&self) -> lapin::Result<()> {
        let mut pump = self.pump.lock().await;
        let Some(running) = &mut *pump else { return Ok(()) };
        // Nothing is settled from here on.
        let ledger = self.lane.ledger.lock().await;
        self.cancelled.store(true, Relaxed);
        drop(ledger);
        let fetched = self.catch_up(running.is_finished()).await?;
        let channel = &self.lane.channel;
        channel.basic_cancel(self.name.clone(), BasicCancelOptions::default()).await?;
        // It ends with the last delivery.
        let _ = running.await;
        self.inbox.give_back();
        let mut open: Vec<Tag> = std::mem::take(&mut *lock(&self.open)).into_iter().collect();
        // Whatever its tag, it comes after all that was delivered.
        open.extend(fetched);
        {
            let mut ledger = self.lane.ledger.lock().await;
            ledger.settle(&mut open.clone());
            self.lane.write(open.into_iter().map(|tag| self.lane.requeue(tag))).await?;
        }
        self.lane.sync().await?;
        *pump = None;
        self.lane.consumers.fetch_sub(1, Relaxed);
        Ok(())
    }

    /// Lets a quorum queue deliver what the last acknowledgements made room for. What it delivers
    /// after the consumer has been cancelled goes back before all that is given back here, and so
    /// out of order. To fetch one more waits for that, as nothing else does.
    async fn catch_up(&self, finished: bool) -> lapin::Result<Option<Tag>> {
        let room = lock(&self.open).len() < self.prefetch.into();
        if finished || !room || !self.settled.load(Relaxed) || self.kind != QueueType::Quorum {
            return Ok(None);
        }
        let options = BasicGetOptions { no_ack: false };
        let fetched = self.lane.channel.basic_get(self.queue.clone(), options).await?;
        Ok(fetched.map(|fetched| fetched.delivery.delivery_tag))
    }
}

/// Moves deliveries from the client to an inbox.
struct Pump {
    entry: Arc<Entry>,
    epoch: u64,
    names: Arc<Names>,
    patterns: Arc<Patterns>,
    admin: Arc<Admin>,
    lost: Lost,
}

impl Pump {
    async fn run(self, mut consumer: Consumer) {
        let mut batch = Vec::new();
        loop {
            let next = match batch.len() {
                0 => Some(consumer.next().await),
                BATCH.. => None,
                _ => consumer.next().now_or_never(),
            };
            match next {
                Some(Some(Ok(delivery))) => batch.push(delivery),
                Some(Some(Err(error))) => {
                    self.lost.fail(&error);
                    return;
                }
                Some(None) => break,
                None => self.push(std::mem::take(&mut batch)),
            }
        }
        self.push(batch);
        if !self.entry.cancelled.load(Relaxed) {
            self.cancelled_by_the_broker(consumer.queue()).await;
        }
    }

    fn push(&self, batch: Vec<lapin::message::Delivery>) {
        let inbox = &self.entry.inbox;
        lock(&self.entry.open).extend(batch.iter().map(|delivery| delivery.delivery_tag));
        let deliveries = batch.into_iter().map(|delivery| {
            let handle = delivery.delivery_tag;
            let decoded = wire::decode(delivery, &self.names);
            let target = self.target(&decoded);
            let Decoded { message, redelivered, delivery_count, dead_letter, .. } = decoded;
            let dead_letter = dead_letter.map(|(reason, _)| reason);
            Incoming { handle, message, target, redelivered, delivery_count, dead_letter }
        });
        // Not while the inbox is locked.
        let deliveries: Vec<_> = deliveries.collect();
        inbox.push(self.epoch, deliveries);
    }

    /// The first target that led here.
    fn target(&self, decoded: &Decoded) -> Target {
        if let Some((_, Some(target))) = &decoded.dead_letter {
            return target.clone();
        }
        match &self.entry.inbox.source {
            Source::Queue(name) => Target::Queue(Arc::clone(name)),
            Source::Durable(name) | Source::Topic(name) => self
                .patterns
                .first_match(name, &decoded.topics)
                // Published straight to the queue, by another program.
                .unwrap_or_else(|| Target::Topic(Arc::clone(name))),
        }
    }

    async fn cancelled_by_the_broker(&self, queue: ShortString) {
        match self.admin.find(&queue).await {
            Ok(None) => self.entry.inbox.end(EndReason::Deleted),
            // Moved to another node, say: consumed again on a new link.
            Ok(Some(_)) => self.lost.set("the broker has ended a consumer"),
            Err(_) => {}
        }
    }
}
