//! The broker that makes of a storage.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock};

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};

use crate::local::{
    Counters, Entry, Group, Keeper, Live, LiveSubscription, Tables, consume, lock, read, write,
};
use crate::{
    Acker, Broker, BrokerError, Capabilities, Capability, Confirm, Confirmer, DeadLetterReason,
    Declaration, EndReason, Health, Metrics, Publish, Source, SourceStats, SubscribeOptions,
    Subscription, validate_pattern,
};

use super::Storage;
use super::op::{Offered, Op, OpQueue, Routed};
use super::writer::Writer;

/// How a [`StorageBroker`] uses its storage
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StorageOptions {
    /// Whether what the storage has written survives the death of the process; without it the broker
    /// does not declare [`Capability::Durable`]. Default `true`.
    pub durable: bool,
    /// The most octets of publishes that wait to be written. Beyond it a publish fails with
    /// [`BrokerError::Overloaded`]. Default 64 MiB.
    pub max_pending_bytes: usize,
    /// The largest message, headers and body together, in octets. Default 64 MiB.
    pub max_message: usize,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self { durable: true, max_pending_bytes: 64 << 20, max_message: 64 << 20 }
    }
}

impl StorageOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether what is written survives the death of the process.
    #[must_use]
    pub const fn with_durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Sets the most octets that wait to be written.
    #[must_use]
    pub const fn with_max_pending_bytes(mut self, bytes: usize) -> Self {
        self.max_pending_bytes = bytes;
        self
    }

    /// Sets the largest message, in octets.
    #[must_use]
    pub const fn with_max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }
}

/// The broker over a [`Storage`]
///
/// One thread owns the storage and writes what has gathered meanwhile at once. What a consumer has
/// room for goes to it from memory once it is written; the rest stays in the storage and is read
/// when there is room. That a message is handed out is written down before. Topic subscribers are
/// served in this process and nothing is stored for them.
///
/// Dropped without [`shutdown`](Broker::shutdown) it finishes what it has taken in the background.
pub struct StorageBroker {
    shared: Arc<Shared>,
    capabilities: Capabilities,
    done: watch::Receiver<()>,
}

pub(super) struct Shared {
    options: StorageOptions,
    pub(super) tables: RwLock<Tables>,
    pub(super) counters: Arc<Counters>,
    pub(super) queue: OpQueue,
    health: Mutex<Health>,
    last_live: AtomicU64,
    killed: AtomicBool,
}

impl StorageBroker {
    /// Opens a storage, on the thread that owns it from then on, and loads what it keeps.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Storage`] with what `open` or [`load`](Storage::load) says.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready the storage is dropped as well.
    pub async fn open<S: Storage>(
        open: impl FnOnce() -> Result<S, S::Error> + Send + 'static,
        options: StorageOptions,
    ) -> Result<Self, BrokerError> {
        let shared = Arc::new(Shared {
            options,
            queue: OpQueue::new(options.max_pending_bytes),
            tables: RwLock::default(),
            counters: Arc::default(),
            health: Mutex::new(Health::Up),
            last_live: AtomicU64::new(0),
            killed: AtomicBool::new(false),
        });
        let (opened_sender, opened) = oneshot::channel();
        let (done_sender, done) = watch::channel(());
        let writer_shared = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("mq-bridge-writer".to_owned())
            .spawn(move || match open().and_then(|storage| Writer::new(writer_shared, storage)) {
                Ok(writer) => {
                    if opened_sender.send(Ok(())).is_ok() {
                        writer.run(done_sender);
                    }
                }
                Err(error) => {
                    let reason = error.to_string().into();
                    let _ = opened_sender.send(Err(BrokerError::Storage { reason }));
                }
            })
            .map_err(|error| BrokerError::Storage { reason: error.to_string().into() })?;
        opened.await.unwrap_or(Err(BrokerError::ShutDown))?;
        Ok(Self { shared, capabilities: capabilities(options), done })
    }

    /// Stops at once, as a killed process does: nothing more is written, and what was not confirmed
    /// fails as [`BrokerError::Disconnected`]. For tests.
    #[cfg(any(test, feature = "testkit"))]
    pub async fn kill(&self) {
        self.shared.killed.store(true, Relaxed);
        self.shutdown().await;
    }

    fn route(&self, publish: Publish) -> Result<Routed, BrokerError> {
        let size = publish.message.headers.as_bytes().len() + publish.message.body.len();
        let limit = self.shared.options.max_message;
        if size > limit {
            return Err(BrokerError::TooLarge { size, limit });
        }
        let matched = read(&self.shared.tables).resolve(&publish.targets)?;
        Ok(Routed { publish, matched })
    }

    fn enqueue(&self, routed: Vec<Routed>) -> Confirm {
        let mut confirm = None;
        let offered = self.shared.queue.offer(routed, || {
            let (confirmer, waiting) = Confirm::pair();
            confirm = Some(waiting);
            confirmer
        });
        Confirm::ready(match offered {
            Offered::Queued => {
                if let Some(confirm) = confirm {
                    return confirm;
                }
                Ok(())
            }
            Offered::HandOut(routed) => {
                routed.iter().for_each(Routed::hand_to_live);
                Counters::add(&self.shared.counters.published, routed.len());
                Ok(())
            }
            Offered::Refused(error) => Err(error),
        })
    }

    fn check_running(&self) -> Result<(), BrokerError> {
        if self.shared.queue.is_stopped() { Err(BrokerError::ShutDown) } else { Ok(()) }
    }
}

impl Drop for StorageBroker {
    fn drop(&mut self) {
        if !self.shared.queue.stop() {
            self.shared.queue.push(Op::Shutdown);
        }
    }
}

impl fmt::Debug for StorageBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageBroker")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Shared {
    fn enqueue(&self, op: impl FnOnce(Confirmer) -> Op) -> Confirm {
        let (confirmer, confirm) = Confirm::pair();
        self.queue.push(op(confirmer));
        confirm
    }

    pub(super) fn is_killed(&self) -> bool {
        self.killed.load(Relaxed)
    }

    pub(super) fn health(&self) -> Health {
        lock(&self.health).clone()
    }

    pub(super) fn set_health(&self, health: Health) {
        *lock(&self.health) = health;
    }

    pub(super) fn end_all(&self, reason: &EndReason) {
        let (live, groups): (Vec<_>, Vec<_>) = {
            let tables = read(&self.tables);
            (tables.live().map(Arc::clone).collect(), tables.groups().map(Arc::clone).collect())
        };
        live.iter().for_each(|live| live.end(reason.clone()));
        groups.iter().for_each(|group| group.end(reason, self));
    }
}

fn ids(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.id).collect()
}

/// The storage has everything already; the groups say what shall change in it.
impl Keeper for Shared {
    fn settled(&self, group: &Arc<Group>, entries: Vec<Entry>) -> Confirm {
        let (group, ids) = (Arc::clone(group), ids(&entries));
        self.enqueue(|confirmer| Op::Settle { group, ids, confirmer })
    }

    fn dead_letter(
        &self,
        group: &Arc<Group>,
        entries: Vec<Entry>,
        why: DeadLetterReason,
    ) -> Confirm {
        let group = Arc::clone(group);
        self.enqueue(|confirmer| Op::DeadLetter { group, entries, why, confirmer })
    }

    fn expired(&self, group: &Arc<Group>, entries: Vec<Entry>) {
        self.queue.push(Op::Expire { group: Arc::clone(group), ids: ids(&entries) });
    }

    fn recount(&self, group: &Arc<Group>, counts: Vec<(u64, u32)>) {
        self.queue.push(Op::Recount { group: Arc::clone(group), counts });
    }

    fn fetch(&self, group: &Arc<Group>, generation: u64) {
        self.queue.push(Op::Fetch { group: Arc::clone(group), generation });
    }
}

fn capabilities(options: StorageOptions) -> Capabilities {
    let has = |one: &Capability| match one {
        Capability::Durable | Capability::DurableAck => options.durable,
        Capability::Priority => false,
        _ => true,
    };
    let all: Vec<_> = Capability::ALL.into_iter().filter(has).collect();
    Capabilities::new(&all, options.max_message)
}

#[async_trait]
impl Broker for StorageBroker {
    fn publish(&self, publish: Publish) -> Confirm {
        match self.route(publish) {
            Ok(routed) => self.enqueue(vec![routed]),
            Err(error) => Confirm::ready(Err(error)),
        }
    }

    fn publish_batch(&self, batch: Vec<Publish>) -> Confirm {
        match batch.into_iter().map(|publish| self.route(publish)).collect() {
            Ok(routed) => self.enqueue(routed),
            Err(error) => Confirm::ready(Err(error)),
        }
    }

    async fn declare(&self, declaration: &Declaration) -> Result<(), BrokerError> {
        self.check_running()?;
        declaration.validate()?;
        if read(&self.shared.tables).is_declared(declaration) {
            return Ok(());
        }
        let declaration = declaration.clone();
        self.shared.enqueue(|confirmer| Op::Declare { declaration, confirmer }).await
    }

    async fn delete(&self, source: &Source) -> Result<(), BrokerError> {
        self.check_running()?;
        if matches!(source, Source::Topic(_)) {
            return Err(BrokerError::not_declared(source));
        }
        let source = source.clone();
        self.shared.enqueue(|confirmer| Op::Delete { source, confirmer }).await
    }

    async fn subscribe(
        &self,
        source: Source,
        options: SubscribeOptions,
    ) -> Result<Subscription, BrokerError> {
        self.check_running()?;
        if let Source::Topic(pattern) = source {
            validate_pattern(&pattern)?;
            let id = self.shared.last_live.fetch_add(1, Relaxed) + 1;
            let counters = Arc::clone(&self.shared.counters);
            let live = Arc::new(Live::new(id, pattern, &options, counters));
            write(&self.shared.tables).insert_live(&live);
            let shared = Arc::clone(&self.shared);
            let on_drop = move |live: &Live| write(&shared.tables).remove_live(live);
            return Ok(Subscription::new(LiveSubscription { live, on_drop }, Acker::none()));
        }
        let group = read(&self.shared.tables).group(&source).map(Arc::clone)?;
        let keeper: Arc<dyn Keeper> = Arc::<Shared>::clone(&self.shared);
        consume(&group, &options, &keeper, &self.shared.counters)
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn health(&self) -> Health {
        if self.shared.queue.is_stopped() {
            Health::Down { reason: "shut down".into() }
        } else {
            self.shared.health()
        }
    }

    fn metrics(&self) -> Metrics {
        self.shared.counters.snapshot(self.shared.queue.pending(), 0)
    }

    async fn stats(&self, source: &Source) -> Result<SourceStats, BrokerError> {
        read(&self.shared.tables).stats(source)
    }

    async fn shutdown(&self) {
        if !self.shared.queue.stop() {
            self.shared.queue.push(Op::Shutdown);
        }
        let mut done = self.done.clone();
        // The sender is dropped when the storage is let go.
        while done.changed().await.is_ok() {}
    }
}
