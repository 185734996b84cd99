//! The durable broker in one SQLite file.

mod op;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

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

use op::{Offered, Op, OpQueue, Routed};
use writer::Writer;

/// Where and how an [`Embedded`] broker keeps its messages
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmbeddedConfig {
    /// The file; made if it does not exist. Its folder must exist. SQLite keeps a second file
    /// beside it, of the same name with `-wal` at the end.
    pub path: PathBuf,
    /// The most octets of publishes that wait to be written. Beyond it a publish fails with
    /// [`BrokerError::Overloaded`]. Default 64 MiB.
    pub max_pending_bytes: usize,
    /// The largest message, headers and body together. Default 64 MiB.
    pub max_message: usize,
    /// The most octets that the file may grow to, rounded up to whole pages; a publish that does
    /// not fit fails with [`BrokerError::Storage`] and may be tried again when messages were
    /// acknowledged. Default `None`: as much as the disk has.
    pub max_file_bytes: Option<u64>,
    /// How long to wait for another broker to let go of the file, which may be finishing its last
    /// write. Default 5 seconds.
    pub open_timeout: Duration,
}

impl EmbeddedConfig {
    /// The defaults with this file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            max_pending_bytes: 64 << 20,
            max_message: 64 << 20,
            max_file_bytes: None,
            open_timeout: Duration::from_secs(5),
        }
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

    /// Sets how long to wait for another broker to let go of the file.
    #[must_use]
    pub const fn with_open_timeout(mut self, timeout: Duration) -> Self {
        self.open_timeout = timeout;
        self
    }

    /// Sets the most octets that the file may grow to.
    #[must_use]
    pub const fn with_max_file_bytes(mut self, bytes: u64) -> Self {
        self.max_file_bytes = Some(bytes);
        self
    }
}

/// The durable broker in one SQLite file
///
/// A confirmed publish is on the disk (write-ahead log, `synchronous=FULL`): it survives `kill -9`
/// and power loss. One thread owns the file and writes what has gathered meanwhile in one
/// transaction. A message is stored once, however many durable subscriptions it waits in. What a
/// consumer has room for goes to it from memory after the commit; the rest stays in the file and is
/// read when there is room. Topic subscribers are served in this process and nothing is stored for
/// them.
///
/// Only one process, and one `Embedded` in it, can have the file open.
///
/// Dropped without [`shutdown`](Broker::shutdown) it finishes what it has taken in the background.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    done: watch::Receiver<()>,
}

#[derive(Debug)]
struct Shared {
    config: EmbeddedConfig,
    tables: RwLock<Tables>,
    counters: Arc<Counters>,
    queue: OpQueue,
    health: Mutex<Health>,
    last_live: AtomicU64,
    killed: AtomicBool,
    failing: AtomicBool,
}

impl Embedded {
    /// Opens the file and starts the thread that owns it.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Storage`] if the file cannot be opened, is open elsewhere, is not ours or is of another version.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready the file is closed again.
    pub async fn open(config: EmbeddedConfig) -> Result<Self, BrokerError> {
        let shared = Arc::new(Shared {
            queue: OpQueue::new(config.max_pending_bytes),
            config,
            tables: RwLock::default(),
            counters: Arc::default(),
            health: Mutex::new(Health::Up),
            last_live: AtomicU64::new(0),
            killed: AtomicBool::new(false),
            failing: AtomicBool::new(false),
        });
        let (opened_sender, opened) = oneshot::channel();
        let (done_sender, done) = watch::channel(());
        let writer_shared = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("mq-bridge-writer".to_owned())
            .spawn(move || {
                let config = &writer_shared.config;
                let writer = schema::open(config)
                    .and_then(|file| Ok(Writer::new(Arc::clone(&writer_shared), file)?));
                match writer {
                    Ok(writer) => {
                        if opened_sender.send(Ok(())).is_ok() {
                            writer.run(done_sender);
                        }
                    }
                    Err(failure) => {
                        let path = config.path.display();
                        let reason = format!("cannot open {path}: {failure}").into();
                        let _ = opened_sender.send(Err(BrokerError::Storage { reason }));
                    }
                }
            })
            .map_err(|error| BrokerError::Storage { reason: error.to_string().into() })?;
        opened.await.unwrap_or(Err(BrokerError::ShutDown))?;
        Ok(Self { shared, done })
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
        let limit = self.shared.config.max_message;
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

impl Drop for Embedded {
    fn drop(&mut self) {
        if !self.shared.queue.stop() {
            self.shared.queue.push(Op::Shutdown);
        }
    }
}

impl Shared {
    fn enqueue(&self, op: impl FnOnce(Confirmer) -> Op) -> Confirm {
        let (confirmer, confirm) = Confirm::pair();
        self.queue.push(op(confirmer));
        confirm
    }

    fn is_killed(&self) -> bool {
        self.killed.load(Relaxed)
    }

    /// The last moment of a transaction at which a test can make it fail.
    fn check_fault(&self) -> rusqlite::Result<()> {
        if self.failing.load(Relaxed) || self.is_killed() {
            let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
            return Err(rusqlite::Error::SqliteFailure(full, None));
        }
        Ok(())
    }

    fn health(&self) -> Health {
        lock(&self.health).clone()
    }

    fn set_health(&self, health: Health) {
        *lock(&self.health) = health;
    }

    fn end_all(&self, reason: &EndReason) {
        let (live, groups): (Vec<_>, Vec<_>) = {
            let tables = read(&self.tables);
            (tables.live().map(Arc::clone).collect(), tables.groups().map(Arc::clone).collect())
        };
        live.iter().for_each(|live| live.end(reason.clone()));
        groups.iter().for_each(|group| group.end(reason, self));
    }
}

fn ids(entries: &[Entry]) -> Vec<(u64, u64)> {
    entries.iter().map(|entry| (entry.id, entry.message_id)).collect()
}

/// The file has everything; the groups say what shall change in it.
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

#[async_trait]
impl Broker for Embedded {
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
        Capabilities::new(
            &[
                Capability::Durable,
                Capability::DurableAck,
                Capability::Order,
                Capability::DeliveryCount,
                Capability::DeadLetter,
                Capability::Expiry,
                Capability::Takeover,
                Capability::AtomicBatch,
            ],
            self.shared.config.max_message,
        )
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
        // The sender is dropped when the file is closed.
        while done.changed().await.is_ok() {}
    }
}
