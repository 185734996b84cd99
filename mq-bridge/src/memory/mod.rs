//! The broker that keeps everything in this process.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use async_trait::async_trait;

use crate::local::{
    Charge, Counters, Entry, Group, Keeper, Live, LiveSubscription, Matched, Retention, Settings,
    Stored, Tables, consume, read, write,
};
use crate::{
    Acker, Broker, BrokerError, Capabilities, Capability, Confirm, DeadLetterReason, Declaration,
    DeclarationKind, Derived, EndReason, Health, Message, Metrics, Publish, Source, SourceStats,
    SubscribeOptions, Subscription, Target, validate_pattern,
};

/// How much a [`Memory`] broker keeps
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// The most octets of messages that wait in queues and durable subscriptions, a message in
    /// many of them counted once. Beyond it a publish fails with
    /// [`BrokerError::Overloaded`]. Default 256 MiB.
    pub max_bytes: usize,
    /// The largest message, headers and body together. Default 64 MiB.
    pub max_message: usize,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { max_bytes: 256 << 20, max_message: 64 << 20 }
    }
}

impl MemoryConfig {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the most octets that are kept.
    #[must_use]
    pub const fn with_max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets the largest message, in octets.
    #[must_use]
    pub const fn with_max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }
}

/// The broker that keeps everything in this process: nothing survives it
///
/// For tests, for development, and where losing undelivered messages with the process is
/// acceptable. It declares no [`Capability::Durable`].
#[derive(Debug)]
pub struct Memory {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: MemoryConfig,
    tables: RwLock<Tables>,
    counters: Arc<Counters>,
    used: Arc<AtomicUsize>,
    last_key: AtomicU64,
    last_entry: AtomicU64,
    stopped: AtomicBool,
}

impl Memory {
    /// An empty broker.
    #[must_use]
    pub fn new(config: MemoryConfig) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                tables: RwLock::default(),
                counters: Arc::default(),
                used: Arc::default(),
                last_key: AtomicU64::new(0),
                last_entry: AtomicU64::new(0),
                stopped: AtomicBool::new(false),
            }),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(MemoryConfig::default())
    }
}

impl Shared {
    fn next_key(&self) -> u64 {
        self.last_key.fetch_add(1, Relaxed) + 1
    }

    fn next_entry(&self) -> u64 {
        self.last_entry.fetch_add(1, Relaxed) + 1
    }

    fn check_running(&self) -> Result<(), BrokerError> {
        if self.stopped.load(Relaxed) { Err(BrokerError::ShutDown) } else { Ok(()) }
    }

    /// Everything that can refuse a publish, before anything is done.
    fn prepare(&self, tables: &Tables, publish: &Publish) -> Result<Prepared, BrokerError> {
        self.check(&publish.message)?;
        let matched = tables.resolve(&publish.targets)?;
        let charge = if matched.groups.is_empty() {
            None
        } else {
            Some(self.charge(tables, publish.message.cost())?)
        };
        Ok(Prepared { matched, charge })
    }

    fn check(&self, message: &Message) -> Result<(), BrokerError> {
        self.check_running()?;
        let size = message.headers.as_bytes().len() + message.body.len();
        if size > self.config.max_message {
            return Err(BrokerError::TooLarge { size, limit: self.config.max_message });
        }
        Ok(())
    }

    /// Publishes to one queue, which most do, without making lists of one.
    fn publish_to_queue(&self, tables: &Tables, publish: Publish) -> Result<(), BrokerError> {
        let Publish { mut targets, message, redelivered } = publish;
        self.check(&message)?;
        let Some(target) = targets.pop() else { return Ok(()) };
        let group = tables.queue(target.name())?;
        let charge = Some(self.charge(tables, message.cost())?);
        let derived = Derived::new();
        let stored = Arc::new(Stored { message, redelivered, derived, _charge: charge });
        self.push(group, stored, target, None);
        Counters::add(&self.counters.published, 1);
        Ok(())
    }

    /// Makes room, where it lacks, by forgetting what has expired.
    fn charge(&self, tables: &Tables, cost: usize) -> Result<Charge, BrokerError> {
        Charge::take(&self.used, cost, self.config.max_bytes).or_else(|_| {
            let now = SystemTime::now();
            for group in tables.groups() {
                self.expired(group, group.take_expired(now));
            }
            Charge::take(&self.used, cost, self.config.max_bytes)
        })
    }

    fn hand_out(&self, publish: Publish, prepared: Prepared) {
        let Publish { targets, message, redelivered } = publish;
        for (live, index) in prepared.matched.live {
            if let Some(target) = targets.get(index) {
                live.push(&message, target, redelivered);
            }
        }
        if !prepared.matched.groups.is_empty() {
            let stored = Arc::new(Stored {
                message,
                redelivered,
                derived: Derived::new(),
                _charge: prepared.charge,
            });
            for (group, index) in prepared.matched.groups {
                if let Some(target) = targets.get(index) {
                    self.push(&group, Arc::clone(&stored), target.clone(), None);
                }
            }
        }
        Counters::add(&self.counters.published, 1);
    }

    fn push(
        &self,
        group: &Group,
        stored: Arc<Stored>,
        target: Target,
        dead_letter: Option<DeadLetterReason>,
    ) {
        let entry = Entry { id: 0, stored, target, deliveries: 0, written: u32::MAX, dead_letter };
        group.push(|| self.next_entry(), entry);
    }

    fn subscribe_live(
        self: &Arc<Self>,
        pattern: Arc<str>,
        options: &SubscribeOptions,
    ) -> Result<Subscription, BrokerError> {
        validate_pattern(&pattern)?;
        let live =
            Arc::new(Live::new(self.next_key(), pattern, options, Arc::clone(&self.counters)));
        write(&self.tables).insert_live(&live);
        let shared = Arc::clone(self);
        let on_drop = move |live: &Live| write(&shared.tables).remove_live(live);
        Ok(Subscription::new(LiveSubscription { live, on_drop }, Acker::none()))
    }
}

struct Prepared {
    matched: Matched,
    charge: Option<Charge>,
}

/// The group keeps its messages itself; what it gives up is gone.
impl Keeper for Shared {
    fn settled(&self, group: &Arc<Group>, entries: Vec<Entry>) -> Confirm {
        group.sub_depth(entries.len() as u64);
        Confirm::ready(Ok(()))
    }

    fn dead_letter(
        &self,
        group: &Arc<Group>,
        entries: Vec<Entry>,
        why: DeadLetterReason,
    ) -> Confirm {
        group.sub_depth(entries.len() as u64);
        let queue = group
            .settings()
            .dead_letter
            .and_then(|name| read(&self.tables).group(&Source::Queue(name)).ok().map(Arc::clone));
        if let Some(queue) = queue {
            for entry in entries {
                self.push(&queue, entry.stored, entry.target, Some(why));
            }
        }
        Confirm::ready(Ok(()))
    }

    fn expired(&self, group: &Arc<Group>, entries: Vec<Entry>) {
        Counters::add(&self.counters.expired, entries.len());
        group.sub_depth(entries.len() as u64);
    }

    fn recount(&self, _group: &Arc<Group>, _counts: Vec<(u64, u32)>) {}

    fn fetch(&self, _group: &Arc<Group>, _generation: u64) {}
}

#[async_trait]
impl Broker for Memory {
    fn publish(&self, publish: Publish) -> Confirm {
        let tables = read(&self.shared.tables);
        if let [Target::Queue(_)] = &*publish.targets {
            return Confirm::ready(self.shared.publish_to_queue(&tables, publish));
        }
        Confirm::ready(match self.shared.prepare(&tables, &publish) {
            Ok(prepared) => {
                self.shared.hand_out(publish, prepared);
                Ok(())
            }
            Err(error) => Err(error),
        })
    }

    fn publish_batch(&self, batch: Vec<Publish>) -> Confirm {
        let tables = read(&self.shared.tables);
        let prepared: Result<Vec<Prepared>, BrokerError> =
            batch.iter().map(|publish| self.shared.prepare(&tables, publish)).collect();
        Confirm::ready(prepared.map(|prepared| {
            for (publish, prepared) in batch.into_iter().zip(prepared) {
                self.shared.hand_out(publish, prepared);
            }
        }))
    }

    async fn declare(&self, declaration: &Declaration) -> Result<(), BrokerError> {
        self.shared.check_running()?;
        declaration.validate()?;
        if read(&self.shared.tables).is_declared(declaration) {
            return Ok(());
        }
        let settings = Settings::of(declaration);
        let tables = &mut *write(&self.shared.tables);
        let mut ensure =
            |source: Source, settings: Settings, update: bool| match tables.group(&source) {
                Ok(group) if update => group.set_settings(settings),
                Ok(_) => {}
                Err(_) => {
                    let key = self.shared.next_key();
                    let group = Group::new(key, source, Retention::Here, settings);
                    tables.insert_group(Arc::new(group));
                }
            };
        if let Some(name) = &declaration.dead_letter {
            ensure(Source::queue(Arc::clone(name)), Settings::default(), false);
        }
        let name = Arc::clone(&declaration.name);
        match &declaration.kind {
            DeclarationKind::Queue => ensure(Source::Queue(name), settings, true),
            DeclarationKind::Durable { patterns } => {
                ensure(Source::Durable(Arc::clone(&name)), settings, true);
                tables.bind(&name, patterns);
            }
        }
        Ok(())
    }

    async fn delete(&self, source: &Source) -> Result<(), BrokerError> {
        self.shared.check_running()?;
        if matches!(source, Source::Topic(_)) {
            return Err(BrokerError::not_declared(source));
        }
        let removed = write(&self.shared.tables).remove_group(source);
        if let Some(group) = removed {
            group.end(&EndReason::Deleted, &*self.shared);
        }
        Ok(())
    }

    async fn subscribe(
        &self,
        source: Source,
        options: SubscribeOptions,
    ) -> Result<Subscription, BrokerError> {
        self.shared.check_running()?;
        if let Source::Topic(pattern) = source {
            return self.shared.subscribe_live(pattern, &options);
        }
        let group = read(&self.shared.tables).group(&source).map(Arc::clone)?;
        let keeper: Arc<dyn Keeper> = Arc::<Shared>::clone(&self.shared);
        consume(&group, &options, &keeper, &self.shared.counters)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new(
            &[
                Capability::Order,
                Capability::DeliveryCount,
                Capability::DeadLetter,
                Capability::Expiry,
                Capability::Takeover,
                Capability::AtomicBatch,
                Capability::Depth,
            ],
            self.shared.config.max_message,
        )
    }

    fn health(&self) -> Health {
        if self.shared.stopped.load(Relaxed) {
            Health::Down { reason: "shut down".into() }
        } else {
            Health::Up
        }
    }

    fn metrics(&self) -> Metrics {
        self.shared.counters.snapshot(0, self.shared.used.load(Relaxed))
    }

    async fn stats(&self, source: &Source) -> Result<SourceStats, BrokerError> {
        read(&self.shared.tables).stats(source)
    }

    async fn shutdown(&self) {
        self.shared.stopped.store(true, Relaxed);
        let tables = read(&self.shared.tables);
        tables.live().for_each(|live| live.end(EndReason::ShutDown));
        tables.groups().for_each(|group| group.end(&EndReason::ShutDown, &*self.shared));
    }
}

#[cfg(test)]
mod tests;
