//! A backend as a third party would write it, and its proof: docs/write-a-backend.md walks through
//! it. It keeps everything in one locked table, declares only `order`, and passes the kit.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use mq_bridge::testkit::Harness;
use mq_bridge::{
    Acker, Broker, BrokerError, Capabilities, Capability, Confirm, Declaration, DeclarationKind,
    Delivery, DeliverySource, EndReason, Health, Metrics, Nack, Overflow, PatternMap, Publish,
    Settle, Source, SourceStats, SubscribeOptions, Subscription, Target, pattern_matches,
    validate_name, validate_pattern, validate_topic,
};

const MAX_MESSAGE: usize = 16 << 20;

#[derive(Debug, Default)]
struct Plain(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    kept: HashMap<Source, Kept>,
    consumers: BTreeMap<u64, Consumer>,
    /// Which consumers a topic leads to.
    live: PatternMap<u64>,
    last_id: u64,
    dropped: u64,
    stopped: bool,
}

#[derive(Debug, Default)]
struct Kept {
    patterns: Vec<Arc<str>>,
    ready: BTreeMap<u64, Delivery>,
}

#[derive(Debug)]
struct Consumer {
    source: Source,
    options: SubscribeOptions,
    unacked: BTreeMap<u64, Delivery>,
    /// What waits for a topic's subscriber.
    buffer: Vec<Delivery>,
    dropped: u64,
    ended: Option<EndReason>,
    waker: Option<Waker>,
}

fn cost<'a>(deliveries: impl IntoIterator<Item = &'a Delivery>) -> usize {
    deliveries.into_iter().map(|one| one.message.cost()).sum()
}

impl Consumer {
    fn end(&mut self, reason: EndReason) {
        self.ended.get_or_insert(reason);
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    fn hand(&mut self, delivery: Delivery, all: &mut u64) {
        while cost(&self.buffer).saturating_add(delivery.message.cost()) > self.options.buffer_bytes
        {
            self.dropped += 1;
            *all += 1;
            match self.options.overflow {
                Overflow::DropOldest if !self.buffer.is_empty() => drop(self.buffer.remove(0)),
                Overflow::Disconnect => return self.end(EndReason::Overflow),
                _ => return,
            }
        }
        self.buffer.push(delivery);
        self.waker.take().into_iter().for_each(Waker::wake);
    }
}

impl Table {
    fn wake_for_kept(&mut self) {
        if self.kept.values().any(|kept| !kept.ready.is_empty()) {
            self.consumers.values_mut().filter_map(|one| one.waker.take()).for_each(Waker::wake);
        }
    }

    fn check(&self, publish: &Publish) -> Result<(), BrokerError> {
        let size = publish.message.headers.as_bytes().len() + publish.message.body.len();
        if self.stopped {
            return Err(BrokerError::ShutDown);
        } else if size > MAX_MESSAGE {
            return Err(BrokerError::TooLarge { size, limit: MAX_MESSAGE });
        }
        publish.targets.iter().try_for_each(|target| match target {
            Target::Topic(name) => validate_topic(name),
            Target::Queue(name) => self.find(&Source::Queue(Arc::clone(name))).map(drop),
        })
    }

    fn find(&self, source: &Source) -> Result<&Kept, BrokerError> {
        self.kept.get(source).ok_or_else(|| BrokerError::not_declared(source))
    }

    fn publish(&mut self, publish: &Publish) -> Result<(), BrokerError> {
        self.check(publish)?;
        self.last_id += 1;
        let delivery = |target: &Target| {
            let mut delivery = Delivery::new(self.last_id, publish.message.clone(), target.clone());
            delivery.redelivered = publish.redelivered;
            delivery
        };
        let leads = |target: &&Target, source: &Source, patterns: &[Arc<str>]| match target {
            Target::Queue(name) => *source == Source::Queue(Arc::clone(name)),
            Target::Topic(name) => patterns.iter().any(|one| pattern_matches(one, name)),
        };
        for (source, kept) in &mut self.kept {
            let target = publish.targets.iter().find(|one| leads(one, source, &kept.patterns));
            kept.ready.extend(target.map(|target| (self.last_id, delivery(target))));
        }
        let mut live = BTreeMap::new();
        for target in publish.targets.iter().filter(|one| matches!(one, Target::Topic(_))) {
            self.live.visit(target.name(), &mut |id| {
                live.entry(*id).or_insert(target);
            });
        }
        for (id, target) in live {
            if let Some(one) = self.consumers.get_mut(&id).filter(|one| one.ended.is_none()) {
                one.hand(delivery(target), &mut self.dropped);
            }
        }
        self.wake_for_kept();
        Ok(())
    }

    fn give_back(&mut self, source: &Source, deliveries: impl IntoIterator<Item = Delivery>) {
        if let Some(kept) = self.kept.get_mut(source) {
            kept.ready.extend(deliveries.into_iter().map(|mut one| {
                one.redelivered = true;
                one.delivery_count = 2;
                (one.tag, one)
            }));
        }
        self.wake_for_kept();
    }
}

impl Plain {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap()
    }
}

#[async_trait]
impl Broker for Plain {
    fn publish(&self, publish: Publish) -> Confirm {
        Confirm::ready(self.table().publish(&publish))
    }

    async fn declare(&self, declaration: &Declaration) -> Result<(), BrokerError> {
        validate_name(&declaration.name)?;
        let name = Arc::clone(&declaration.name);
        let mut table = self.table();
        match &declaration.kind {
            DeclarationKind::Queue => drop(table.kept.entry(Source::Queue(name)).or_default()),
            DeclarationKind::Durable { patterns } => {
                patterns.iter().try_for_each(|one| validate_pattern(one))?;
                let kept = table.kept.entry(Source::Durable(name)).or_default();
                kept.patterns.extend(patterns.iter().map(Arc::clone));
            }
        }
        Ok(())
    }

    async fn delete(&self, source: &Source) -> Result<(), BrokerError> {
        let mut table = self.table();
        table.kept.remove(source);
        let consumers = table.consumers.values_mut().filter(|one| one.source == *source);
        consumers.for_each(|one| one.end(EndReason::Deleted));
        Ok(())
    }

    async fn subscribe(
        &self,
        source: Source,
        options: SubscribeOptions,
    ) -> Result<Subscription, BrokerError> {
        if options.takeover {
            return Err(BrokerError::Unsupported(Capability::Takeover));
        }
        let mut table = self.table();
        table.last_id += 1;
        let id = table.last_id;
        match &source {
            Source::Topic(pattern) => {
                validate_pattern(pattern)?;
                table.live.insert(pattern, id);
            }
            kept => drop(table.find(kept)?),
        }
        let consumer = Consumer {
            source,
            options,
            unacked: BTreeMap::new(),
            buffer: Vec::new(),
            dropped: 0,
            ended: None,
            waker: None,
        };
        table.consumers.insert(id, consumer);
        let seat = || Seat { id, table: Arc::clone(&self.0) };
        Ok(Subscription::new(PlainStream(seat()), Acker::new(PlainAcker(seat()))))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new(&[Capability::Order], MAX_MESSAGE)
    }

    fn health(&self) -> Health {
        match self.table().stopped {
            true => Health::Down { reason: "shut down".into() },
            false => Health::Up,
        }
    }

    fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::default();
        metrics.dropped = self.table().dropped;
        metrics
    }

    async fn stats(&self, source: &Source) -> Result<SourceStats, BrokerError> {
        let table = self.table();
        let ready = table.find(source)?.ready.len();
        let consumers = || table.consumers.values().filter(|one| one.source == *source);
        let mut stats = SourceStats::default();
        stats.consumers = consumers().count() as u64;
        stats.unacked = consumers().map(|one| one.unacked.len()).sum::<usize>() as u64;
        stats.depth = ready as u64 + stats.unacked;
        Ok(stats)
    }

    async fn shutdown(&self) {
        let mut table = self.table();
        table.stopped = true;
        table.consumers.values_mut().for_each(|one| one.end(EndReason::ShutDown));
    }
}

/// A consumer's place in the table.
#[derive(Debug)]
struct Seat {
    id: u64,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug)]
struct PlainStream(Seat);

impl DeliverySource for PlainStream {
    fn poll_batch(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Vec<Delivery>>> {
        let table = &mut *self.0.table.lock().unwrap();
        let rivals = table.consumers.len();
        let consumer = table.consumers.get_mut(&self.0.id).unwrap();
        let mut batch = std::mem::take(&mut consumer.buffer);
        if let Some(kept) = table.kept.get_mut(&consumer.source) {
            let share = kept.ready.len().div_ceil(rivals);
            while batch.len() < share
                && consumer.unacked.len() < consumer.options.prefetch_messages as usize
                && cost(consumer.unacked.values()) < consumer.options.prefetch_bytes
            {
                let Some((tag, delivery)) = kept.ready.pop_first() else { break };
                consumer.unacked.insert(tag, delivery.clone());
                batch.push(delivery);
            }
        }
        match (batch.is_empty(), &consumer.ended) {
            (false, _) => Poll::Ready(Some(batch)),
            (true, Some(_)) => Poll::Ready(None),
            (true, None) => {
                consumer.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn end_reason(&self) -> Option<EndReason> {
        self.0.table.lock().unwrap().consumers.get(&self.0.id)?.ended.clone()
    }

    fn dropped(&self) -> u64 {
        self.0.table.lock().unwrap().consumers.get(&self.0.id).map_or(0, |one| one.dropped)
    }
}

impl Drop for PlainStream {
    fn drop(&mut self) {
        let mut table = self.0.table.lock().unwrap();
        if let Some(gone) = table.consumers.remove(&self.0.id) {
            table.live.remove(gone.source.name(), |id| *id == self.0.id);
            table.give_back(&gone.source, gone.unacked.into_values());
        }
    }
}

#[derive(Debug)]
struct PlainAcker(Seat);

impl PlainAcker {
    fn settle(&self, tags: &[u64], back: bool) -> Confirm {
        let mut table = self.0.table.lock().unwrap();
        if let Some(consumer) = table.consumers.get_mut(&self.0.id) {
            let settled: Vec<_> =
                tags.iter().filter_map(|tag| consumer.unacked.remove(tag)).collect();
            let source = consumer.source.clone();
            table.give_back(&source, settled.into_iter().filter(|_| back));
        }
        Confirm::ready(Ok(()))
    }
}

impl Settle for PlainAcker {
    fn ack(&self, tags: &[u64]) -> Confirm {
        self.settle(tags, false)
    }

    fn nack(&self, tags: &[u64], what: Nack) -> Confirm {
        self.settle(tags, what == Nack::Requeue)
    }
}

struct PlainHarness(Arc<Plain>);

#[async_trait]
impl Harness for PlainHarness {
    fn broker(&self) -> Arc<dyn Broker> {
        Arc::<Plain>::clone(&self.0)
    }

    async fn stop(&mut self) {
        self.0.shutdown().await;
    }

    async fn kill(&mut self) {
        self.0.shutdown().await;
    }

    async fn start(&mut self) {
        self.0 = Arc::default();
    }
}

mod conformance {
    mq_bridge::testkit::suite!(async { super::PlainHarness(std::sync::Arc::default()) });
}
