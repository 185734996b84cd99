//! The thread that owns the storage.
//!
//! It takes all that waits in the queue, has it written at once, and then applies the effects to the
//! groups and completes the confirmations (group commit: the longer a write takes, the more the next
//! one carries). When a write fails nothing of it has happened: its publishes fail, and so do those
//! that wait behind them, so that none overtakes; everything else is kept and tried again.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::local::{Counters, Group, Retention, Settings, Wakers, read, write};
use crate::{BrokerError, DeclarationKind, EndReason, Health};

use super::Storage;
use super::batch::{Batch, Effect};
use super::broker::Shared;
use super::op::{Op, Routed};

/// The most operations, and octets of publishes, of one write. Large enough that its cost is spread
/// thin; small enough that the first of them does not wait for long.
const MAX_OPS: usize = 1024;
const MAX_BYTES: usize = 8 << 20;
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// So long after a failure the storage is trusted again, whatever was written meanwhile.
const SETTLED: Duration = Duration::from_secs(5);
/// How long to wait where nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

pub(super) struct Writer<S> {
    shared: Arc<Shared>,
    storage: S,
    next_group: u64,
    next_entry: u64,
    /// What a failed write left to be done, in order.
    deferred: Vec<Op>,
    retry_after: Option<Duration>,
    failed_at: Option<Instant>,
}

impl<S: Storage> Writer<S> {
    /// Fills the tables from the storage.
    pub(super) fn new(shared: Arc<Shared>, mut storage: S) -> Result<Self, S::Error> {
        let kept = storage.load()?;
        let mut tables = write(&shared.tables);
        let mut next_group = 0;
        for (declaration, depth) in kept.sources {
            next_group += 1;
            let settings = Settings::of(&declaration);
            let source = declaration.source();
            let group = Group::new(next_group, source.clone(), Retention::Elsewhere, settings);
            group.set_behind(depth);
            tables.insert_group(Arc::new(group));
            if let DeclarationKind::Durable { patterns } = &declaration.kind {
                tables.bind(source.name(), patterns);
            }
        }
        drop(tables);
        Ok(Self {
            shared,
            storage,
            next_group,
            next_entry: kept.last_id + 1,
            deferred: Vec::new(),
            retry_after: None,
            failed_at: None,
        })
    }

    /// Works until it is told to shut down. `done` closes when the storage has been let go.
    pub(super) fn run(mut self, done: watch::Sender<()>) {
        let mut shut_down = false;
        loop {
            let patience = match (self.retry_after, self.storage.due()) {
                (Some(retry), _) => retry,
                _ if shut_down => Duration::ZERO,
                (None, Some(due)) => due.saturating_duration_since(Instant::now()),
                (None, None) => IDLE,
            };
            let mut waiting = self.shared.queue.take(patience).into_iter().peekable();
            if self.shared.is_killed() {
                break;
            }
            if waiting.peek().is_none() {
                if shut_down && (self.deferred.is_empty() || self.retry_after.is_some()) {
                    break;
                }
                // What was deferred and what is due; a failure is tried again.
                let _ = self.commit(Vec::new());
            }
            while waiting.peek().is_some() {
                let mut chunk = Vec::new();
                let mut bytes = 0;
                while chunk.len() < MAX_OPS && bytes < MAX_BYTES {
                    match waiting.next() {
                        Some(Op::Shutdown) => shut_down = true,
                        Some(op) => {
                            bytes += if let Op::Publish { cost, .. } = &op { *cost } else { 0 };
                            chunk.push(op);
                        }
                        None => break,
                    }
                }
                if self.commit(chunk).is_err() {
                    let (publishes, others): (Vec<_>, Vec<_>) =
                        waiting.by_ref().partition(|op| matches!(op, Op::Publish { .. }));
                    shut_down |= others.iter().any(|op| matches!(op, Op::Shutdown));
                    self.deferred
                        .extend(others.into_iter().filter(|op| !matches!(op, Op::Shutdown)));
                    self.fail_publishes(publishes);
                }
            }
            if shut_down {
                // What the groups have left to write comes through the queue.
                self.shared.end_all(&EndReason::ShutDown);
            }
        }
        drop(self);
        drop(done);
    }

    /// One write of what was deferred and `ops`.
    fn commit(&mut self, ops: Vec<Op>) -> Result<(), ()> {
        let mut chunk = std::mem::take(&mut self.deferred);
        chunk.extend(ops);
        match self.transact(&chunk) {
            Ok(batch) => {
                self.succeed(chunk, batch);
                Ok(())
            }
            Err(error) => {
                let reason: Arc<str> = error.to_string().into();
                if self.failed_at.replace(Instant::now()).is_none() {
                    tracing::warn!(%reason, "the message queue cannot write; trying again");
                }
                self.shared.set_health(Health::Degraded { reason });
                let (publishes, others): (Vec<_>, Vec<_>) =
                    chunk.into_iter().partition(|op| matches!(op, Op::Publish { .. }));
                let stored = !publishes.is_empty();
                self.fail_publishes(publishes);
                self.deferred = others;
                let retry = self.retry_after.map_or(RETRY_MIN, |last| (last * 2).min(RETRY_MAX));
                self.retry_after = Some(if stored { RETRY_MIN } else { retry });
                if stored && !self.deferred.is_empty() {
                    // Acknowledgements free the space that the publishes lack.
                    let _ = self.commit(Vec::new());
                }
                Err(())
            }
        }
    }

    fn transact(&mut self, ops: &[Op]) -> Result<Batch, S::Error> {
        let mut batch = Batch::new(self.next_entry);
        for op in ops {
            batch.apply(&self.shared, op);
        }
        match batch.fetch(&mut self.storage, ops).and_then(|()| self.write(&mut batch)) {
            Ok(()) => {
                self.next_entry = batch.next_entry;
                Ok(batch)
            }
            Err(error) => {
                batch.undo();
                Err(error)
            }
        }
    }

    fn write(&mut self, batch: &mut Batch) -> Result<(), S::Error> {
        let due = self.storage.due().is_some_and(|due| due <= Instant::now());
        if batch.changes.is_empty() && !due {
            return Ok(());
        }
        let written = self.storage.write(&batch.changes)?;
        let tables = read(&self.shared.tables);
        for (source, count) in written.expired {
            batch.expired += count;
            if let Ok(group) = tables.group(&source) {
                batch.effects.push(Effect::Shrunk { group: Arc::clone(group), count });
            }
        }
        for (source, count) in written.missing {
            if let Ok(group) = tables.group(&source) {
                group.add_depth(count);
            }
        }
        Ok(())
    }

    fn succeed(&mut self, ops: Vec<Op>, batch: Batch) {
        self.retry_after = None;
        let counters = &self.shared.counters;
        counters.expired.fetch_add(batch.expired, Relaxed);
        // An acknowledgement that fits says little about the next publish.
        if self.failed_at.is_some_and(|failed_at| {
            failed_at.elapsed() > SETTLED
                || ops.iter().any(|op| matches!(op, Op::Publish { .. }) && op.writes())
        }) {
            self.failed_at = None;
            tracing::info!("the message queue can write again");
            self.shared.set_health(Health::Up);
        }
        let mut wakers = Wakers::default();
        for effect in batch.effects {
            self.take_effect(effect, &mut wakers);
        }
        // Once all of it is there, so that a consumer finds it in one batch.
        wakers.wake();
        for op in ops {
            if let Op::Publish { routed, cost, .. } = &op {
                routed.iter().for_each(Routed::hand_to_live);
                Counters::add(&self.shared.counters.published, routed.len());
                self.shared.queue.release(*cost, has_live(routed));
            }
            op.complete(Ok(()));
        }
    }

    fn take_effect(&mut self, effect: Effect, wakers: &mut Wakers) {
        match effect {
            Effect::Stored { group, entry, .. } => {
                if let Some(unwanted) = group.stored(entry, wakers) {
                    let counts = vec![(unwanted.id, 0)];
                    self.deferred.push(Op::Recount { group, counts });
                }
            }
            Effect::Shrunk { group, count } => group.sub_depth(count),
            Effect::Fetched { group, window, entries, more } => {
                let counts = group.fetched(window, entries, more, wakers);
                if !counts.is_empty() {
                    self.deferred.push(Op::Recount { group, counts });
                }
            }
            Effect::Declared(declaration) => {
                let source = declaration.source();
                let settings = Settings::of(&declaration);
                let mut tables = write(&self.shared.tables);
                match tables.group(&source) {
                    Ok(group) => group.set_settings(settings),
                    Err(_) => {
                        self.next_group += 1;
                        let id = self.next_group;
                        let group = Group::new(id, source, Retention::Elsewhere, settings);
                        tables.insert_group(Arc::new(group));
                    }
                }
                if let DeclarationKind::Durable { patterns } = &declaration.kind {
                    tables.bind(&declaration.name, patterns);
                }
            }
            Effect::Deleted(source) => {
                let removed = write(&self.shared.tables).remove_group(&source);
                if let Some(group) = removed {
                    group.end(&EndReason::Deleted, &*self.shared);
                }
            }
        }
    }

    /// Fails what was to be stored; topic subscribers get what is only for them.
    fn fail_publishes(&self, publishes: Vec<Op>) {
        let Health::Degraded { reason } = self.shared.health() else { return };
        for op in publishes {
            let mut outcome = Ok(());
            if let Op::Publish { routed, cost, .. } = &op {
                if routed.iter().any(Routed::is_stored) {
                    Counters::add(&self.shared.counters.publish_failures, routed.len());
                    outcome = Err(BrokerError::Storage { reason: Arc::clone(&reason) });
                } else {
                    routed.iter().for_each(Routed::hand_to_live);
                }
                self.shared.queue.release(*cost, has_live(routed));
            }
            op.complete(outcome);
        }
    }
}

/// Also if the thread panics: nobody shall wait for a writer that is gone.
impl<S> Drop for Writer<S> {
    fn drop(&mut self) {
        let left = self.shared.queue.close().into_iter().chain(std::mem::take(&mut self.deferred));
        if self.shared.is_killed() || std::thread::panicking() {
            // Unanswered: the outcome is unknown.
            left.for_each(drop);
        } else {
            left.for_each(|op| op.complete(Err(BrokerError::ShutDown)));
        }
        self.shared.end_all(&EndReason::Broker("the broker stopped".into()));
    }
}

fn has_live(routed: &[Routed]) -> bool {
    routed.iter().any(|one| !one.matched.live.is_empty())
}
