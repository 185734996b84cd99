//! The thread that owns the file.
//!
//! It takes all that waits in the queue, does it in one transaction, and when that is on the disk
//! applies the effects to the groups and completes the confirmations (group commit: the longer a
//! commit takes, the more the next one carries). When a transaction fails nothing of it has
//! happened: its publishes fail, and so do those that wait behind them, so that none overtakes;
//! everything else is kept and tried again.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::Connection;
use tokio::sync::watch;

use crate::local::{
    Counters, Entry, FetchWindow, Group, Promise, Retention, Settings, Stored, Wakers, read, write,
};
use crate::{
    BrokerError, DeadLetterReason, Declaration, DeclarationKind, Derived, EndReason, Health, Source,
};

use super::Shared;
use super::op::{Op, Routed};
use super::store::{self, NewEntry, Released};

/// The most operations, and octets of publishes, of one transaction. Large enough that the cost of
/// a commit is spread thin; small enough that the first of them does not wait for long.
const MAX_OPS: usize = 1024;
const MAX_BYTES: usize = 8 << 20;
/// Rows removed per transaction by the work that nobody waits for.
const SWEEP_ROWS: u32 = 500;
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

pub(super) struct Writer {
    shared: Arc<Shared>,
    connection: Connection,
    next_message: u64,
    next_entry: u64,
    /// What a failed transaction left to be done, in order.
    deferred: Vec<Op>,
    retry_after: Option<Duration>,
    failed_at: Option<Instant>,
    orphans: Vec<u64>,
    next_sweep: Instant,
}

/// What a transaction does to the groups once it is committed.
enum Effect {
    Stored { group: Arc<Group>, entry: Option<Entry>, cost: usize },
    Shrunk { group: Arc<Group>, count: u64 },
    Fetched { group: Arc<Group>, window: FetchWindow, entries: Vec<Entry>, more: bool },
    Declared { source: Source, id: u64, settings: Option<Settings>, patterns: Vec<Arc<str>> },
    Deleted { source: Source, id: u64 },
}

/// A transaction in the making.
#[derive(Default)]
struct Batch {
    effects: Vec<Effect>,
    released: Released,
    deleted: HashSet<u64>,
    expired: u64,
    next_message: u64,
    next_entry: u64,
}

impl Writer {
    /// Fills the tables from the file.
    pub(super) fn new(shared: Arc<Shared>, connection: Connection) -> rusqlite::Result<Self> {
        let loaded = store::load(&connection)?;
        let mut tables = write(&shared.tables);
        for one in loaded.sources {
            let group = Group::new(one.id, one.source, Retention::Elsewhere, one.settings);
            group.set_behind(one.depth);
            let source = group.source.clone();
            tables.insert_group(Arc::new(group));
            tables.bind(source.name(), &one.patterns);
        }
        drop(tables);
        Ok(Self {
            shared,
            connection,
            next_message: loaded.last_message + 1,
            next_entry: loaded.last_entry + 1,
            deferred: Vec::new(),
            retry_after: None,
            failed_at: None,
            orphans: loaded.orphans,
            next_sweep: Instant::now(),
        })
    }

    /// Works until it is told to shut down. `done` closes when the file is closed.
    pub(super) fn run(mut self, done: watch::Sender<()>) {
        let mut shut_down = false;
        loop {
            let patience = match self.retry_after {
                Some(retry) => retry,
                None if shut_down || !self.orphans.is_empty() => Duration::ZERO,
                None => self.next_sweep.saturating_duration_since(Instant::now()),
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

    /// One transaction of what was deferred and `ops`.
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

    fn transact(&mut self, ops: &[Op]) -> rusqlite::Result<Batch> {
        let now = SystemTime::now();
        let sweep = self.next_sweep <= Instant::now();
        let mut batch = Batch {
            next_message: self.next_message,
            next_entry: self.next_entry,
            ..Batch::default()
        };
        let writes = sweep || !self.orphans.is_empty() || ops.iter().any(Op::writes);
        if !writes {
            return Ok(batch);
        }
        let outcome = self.write(ops, now, sweep, &mut batch);
        match outcome {
            Ok(()) => {
                self.next_message = batch.next_message;
                self.next_entry = batch.next_entry;
                if sweep && batch.expired < u64::from(SWEEP_ROWS) {
                    self.next_sweep = Instant::now() + SWEEP_INTERVAL;
                }
                Ok(batch)
            }
            Err(error) => {
                // Some errors have ended the transaction already.
                if !self.connection.is_autocommit() {
                    let _ = self.connection.execute_batch("ROLLBACK");
                }
                batch.undo();
                Err(error)
            }
        }
    }

    fn write(
        &mut self,
        ops: &[Op],
        now: SystemTime,
        sweep: bool,
        batch: &mut Batch,
    ) -> rusqlite::Result<()> {
        let connection = &self.connection;
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for op in ops {
            batch.apply(connection, &self.shared, op)?;
        }
        if sweep {
            let expired = store::expire(connection, now, SWEEP_ROWS, &mut batch.released)?;
            for (source, count) in expired {
                batch.expired += count;
                let group =
                    read(&self.shared.tables).groups().find(|one| one.id == source).cloned();
                batch.effects.extend(group.map(|group| Effect::Shrunk { group, count }));
            }
        }
        let emptied = match self.orphans.last() {
            Some(orphan) => store::purge(connection, *orphan, SWEEP_ROWS, &mut batch.released)?,
            None => false,
        };
        std::mem::take(&mut batch.released).apply(connection)?;
        self.shared.check_fault()?;
        connection.prepare_cached("COMMIT")?.execute([])?;
        if emptied {
            self.orphans.pop();
        }
        Ok(())
    }

    fn succeed(&mut self, ops: Vec<Op>, batch: Batch) {
        self.retry_after = None;
        let counters = &self.shared.counters;
        counters.expired.fetch_add(batch.expired, Relaxed);
        // An acknowledgement that fits says little about the next publish.
        if self.failed_at.is_some_and(|failed_at| {
            failed_at.elapsed() > SWEEP_INTERVAL
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
            Effect::Declared { source, id, settings, patterns } => {
                let mut tables = write(&self.shared.tables);
                match tables.group(&source) {
                    Ok(group) => {
                        if let Some(settings) = settings {
                            group.set_settings(settings);
                        }
                    }
                    Err(_) => {
                        let settings = settings.unwrap_or_default();
                        let group = Group::new(id, source.clone(), Retention::Elsewhere, settings);
                        tables.insert_group(Arc::new(group));
                    }
                }
                tables.bind(source.name(), &patterns);
            }
            Effect::Deleted { source, id } => {
                self.orphans.push(id);
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
impl Drop for Writer {
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

impl Op {
    /// Whether it changes or reads the file.
    fn writes(&self) -> bool {
        match self {
            Self::Publish { routed, .. } => routed.iter().any(Routed::is_stored),
            Self::Shutdown => false,
            _ => true,
        }
    }
}

impl Batch {
    fn apply(&mut self, connection: &Connection, shared: &Shared, op: &Op) -> rusqlite::Result<()> {
        match op {
            Op::Publish { routed, .. } => {
                routed.iter().try_for_each(|routed| self.publish(connection, routed))
            }
            Op::Settle { group, ids, .. } => self.remove(connection, group, ids).map(drop),
            Op::Expire { group, ids } => {
                self.expired += self.remove(connection, group, ids)?;
                Ok(())
            }
            Op::DeadLetter { group, entries, why, .. } => {
                self.dead_letter(connection, shared, group, entries, *why)
            }
            Op::Recount { group, counts } => counts.iter().try_for_each(|(entry, count)| {
                store::recount(connection, group.id, *entry, *count)
            }),
            Op::Fetch { group, generation } => self.fetch(connection, group, *generation),
            Op::Declare { declaration, .. } => self.declare(connection, declaration),
            Op::Delete { source, .. } => {
                if let Some(id) = store::delete(connection, source)? {
                    self.deleted.insert(id);
                    self.effects.push(Effect::Deleted { source: source.clone(), id });
                }
                Ok(())
            }
            Op::Shutdown => Ok(()),
        }
    }

    fn publish(&mut self, connection: &Connection, routed: &Routed) -> rusqlite::Result<()> {
        let publish = &routed.publish;
        let message = &publish.message;
        let cost = message.cost();
        let stored = Arc::new(Stored {
            message: message.clone(),
            redelivered: publish.redelivered,
            derived: Derived::new(),
            _charge: None,
        });
        let message_id = self.next_message;
        let mut rows = Vec::with_capacity(routed.matched.groups.len());
        for (group, index) in &routed.matched.groups {
            let Some(target) = publish.targets.get(*index) else { continue };
            // A group that was deleted since the call takes nothing.
            if self.deleted.contains(&group.id) {
                continue;
            }
            let promised = match group.promise(cost) {
                Promise::Gone => continue,
                promise => promise == Promise::Made,
            };
            let id = self.next_entry;
            self.next_entry += 1;
            let entry = promised.then(|| Entry {
                id,
                message_id,
                stored: Arc::clone(&stored),
                target: target.clone(),
                deliveries: 0,
                written: 1,
                dead_letter: None,
            });
            // Before anything can fail: the promise is undone with the effect.
            self.effects.push(Effect::Stored { group: Arc::clone(group), entry, cost });
            rows.push(NewEntry {
                source: group.id,
                id,
                message: message_id,
                target: *index,
                deliveries: u32::from(promised),
                expires: message.expires,
            });
        }
        if rows.is_empty() {
            return Ok(());
        }
        self.next_message += 1;
        store::insert_message(connection, message_id, &stored, &publish.targets, rows.len())?;
        rows.iter().try_for_each(|row| store::insert_entry(connection, row))
    }

    fn remove(
        &mut self,
        connection: &Connection,
        group: &Arc<Group>,
        ids: &[(u64, u64)],
    ) -> rusqlite::Result<u64> {
        let mut count = 0;
        for (entry, message) in ids {
            if store::delete_entry(connection, group.id, *entry)? {
                self.released.add(*message);
                count += 1;
            }
        }
        self.effects.push(Effect::Shrunk { group: Arc::clone(group), count });
        Ok(count)
    }

    fn dead_letter(
        &mut self,
        connection: &Connection,
        shared: &Shared,
        group: &Arc<Group>,
        entries: &[Entry],
        why: DeadLetterReason,
    ) -> rusqlite::Result<()> {
        let queue = group
            .settings()
            .dead_letter
            .and_then(|name| read(&shared.tables).group(&Source::Queue(name)).ok().map(Arc::clone));
        let Some(queue) = queue.filter(|queue| !self.deleted.contains(&queue.id)) else {
            let ids: Vec<_> = entries.iter().map(|one| (one.id, one.message_id)).collect();
            return self.remove(connection, group, &ids).map(drop);
        };
        let mut count = 0;
        for entry in entries {
            let id = self.next_entry;
            let from = (group.id, entry.id);
            // As delivered, for the case that it will be at once.
            if !store::move_entry(connection, from, (queue.id, id), 1, why)? {
                continue;
            }
            self.next_entry += 1;
            count += 1;
            let cost = entry.stored.message.cost();
            let promised = queue.promise(cost) == Promise::Made;
            let moved = promised.then(|| Entry {
                id,
                message_id: entry.message_id,
                stored: Arc::clone(&entry.stored),
                target: entry.target.clone(),
                deliveries: 0,
                written: 1,
                dead_letter: Some(why),
            });
            self.effects.push(Effect::Stored { group: Arc::clone(&queue), entry: moved, cost });
            if !promised {
                store::recount(connection, queue.id, id, 0)?;
            }
        }
        self.effects.push(Effect::Shrunk { group: Arc::clone(group), count });
        Ok(())
    }

    fn fetch(
        &mut self,
        connection: &Connection,
        group: &Arc<Group>,
        generation: u64,
    ) -> rusqlite::Result<()> {
        if let Some(window) = group.fetch_window(generation) {
            let (entries, more) = store::fetch(connection, group.id, &window)?;
            self.effects.push(Effect::Fetched { group: Arc::clone(group), window, entries, more });
        }
        Ok(())
    }

    fn declare(
        &mut self,
        connection: &Connection,
        declaration: &Declaration,
    ) -> rusqlite::Result<()> {
        if let Some(name) = &declaration.dead_letter {
            let id = store::ensure_queue(connection, name)?;
            self.effects.push(Effect::Declared {
                source: Source::Queue(Arc::clone(name)),
                id,
                settings: None,
                patterns: Vec::new(),
            });
        }
        let id = store::declare(connection, declaration)?;
        let name = Arc::clone(&declaration.name);
        let (source, patterns) = match &declaration.kind {
            DeclarationKind::Queue => (Source::Queue(name), Vec::new()),
            DeclarationKind::Durable { patterns } => (Source::Durable(name), patterns.clone()),
        };
        let settings = Some(Settings::of(declaration));
        self.effects.push(Effect::Declared { source, id, settings, patterns });
        Ok(())
    }

    /// The transaction did not happen.
    fn undo(self) {
        for effect in self.effects {
            if let Effect::Stored { group, entry: Some(_), cost } = effect {
                group.not_stored(cost);
            }
        }
    }
}
