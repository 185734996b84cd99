//! The file as the storage of a broker.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::Connection;

use crate::storage::{Change, Kept, Page, Place, Storage, Written};
use crate::{Declaration, Message, Source, Target};

use super::journal::{self, Edit, Journal};
use super::store::{self, Inserts, NewEntry, Released, StoredSource};
use super::{EmbeddedConfig, schema};

/// Rows removed per transaction by the work that nobody waits for.
const SWEEP_ROWS: u32 = 500;
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

pub(super) struct Sqlite {
    connection: Connection,
    /// The keys of what is declared.
    keys: HashMap<Source, u64>,
    next_message: u64,
    journal: Journal,
    /// The keys of what was deleted but not yet emptied.
    orphans: Vec<u64>,
    next_sweep: Instant,
    /// Lets writes fail, for tests.
    failing: Arc<AtomicBool>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SqliteFailure {
    #[error("cannot open {path}: {failure}")]
    Open { path: PathBuf, failure: schema::OpenFailure },
    #[error(transparent)]
    Statement(#[from] rusqlite::Error),
}

impl Sqlite {
    pub(super) fn open(
        config: &EmbeddedConfig,
        failing: Arc<AtomicBool>,
    ) -> Result<Self, SqliteFailure> {
        let connection = schema::open(config)
            .map_err(|failure| SqliteFailure::Open { path: config.path.clone(), failure })?;
        Ok(Self {
            connection,
            keys: HashMap::new(),
            next_message: 1,
            journal: Journal::default(),
            orphans: Vec::new(),
            next_sweep: Instant::now(),
            failing,
        })
    }

    /// Within a transaction; gives what is known after it.
    fn transact(&self, changes: &[Change]) -> rusqlite::Result<Transaction<'_>> {
        let mut transaction = Transaction::new(self);
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut inserts = None;
        changes.iter().try_for_each(|change| transaction.apply(change, &mut inserts))?;
        transaction.remove()?;
        // Only where something is stored: in a full file acknowledgements still need no room.
        if changes.iter().any(|change| matches!(change, Change::Store { .. })) {
            transaction.shorten_journal(&mut inserts)?;
        }
        transaction.journal.store(&self.connection)?;
        transaction.sweep()?;
        std::mem::take(&mut transaction.released).apply(&self.connection)?;
        if self.failing.load(Relaxed) {
            let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
            return Err(rusqlite::Error::SqliteFailure(full, None));
        }
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(transaction)
    }
}

impl Storage for Sqlite {
    type Error = SqliteFailure;

    fn load(&mut self) -> Result<Kept, SqliteFailure> {
        let loaded = store::load(&self.connection)?;
        self.next_message = loaded.last_message + 1;
        self.orphans = loaded.orphans;
        self.keys = loaded.sources.iter().map(|one| (one.declaration.source(), one.key)).collect();
        let key_of = |place: &Place| self.keys.get(&place.source).copied();
        self.journal = Journal::load(&self.connection, key_of)?;
        let (mut depths, mut last) = (HashMap::new(), loaded.last_entry);
        for (key, id) in self.journal.waiting() {
            *depths.entry(key).or_insert(0) += 1;
            last = last.max(id);
        }
        let depth = |one: &StoredSource| one.depth + depths.get(&one.key).copied().unwrap_or(0);
        let sources = loaded.sources.into_iter().map(|one| {
            let depth = depth(&one);
            (one.declaration, depth)
        });
        Ok(Kept::new(sources.collect(), last))
    }

    fn write(&mut self, changes: &[Change]) -> Result<Written, SqliteFailure> {
        match self.transact(changes) {
            Ok(Transaction {
                keys,
                next_message,
                journal,
                purged,
                deleted,
                swept,
                written,
                ..
            }) => {
                self.next_message = next_message;
                self.journal.apply(journal);
                if purged {
                    self.orphans.pop();
                }
                self.orphans.extend(deleted);
                if swept {
                    self.next_sweep = Instant::now() + SWEEP_INTERVAL;
                }
                for (source, key) in keys {
                    match key {
                        Some(key) => self.keys.insert(source, key),
                        None => self.keys.remove(&source),
                    };
                }
                Ok(written)
            }
            Err(error) => {
                // Some errors have ended the transaction already.
                if !self.connection.is_autocommit() {
                    let _ = self.connection.execute_batch("ROLLBACK");
                }
                Err(error.into())
            }
        }
    }

    fn read(&mut self, source: &Source, after: u64, page: &mut Page) -> Result<(), SqliteFailure> {
        let Some(key) = self.keys.get(source) else { return Ok(()) };
        let kept = self.journal.read(&self.connection, *key, after)?;
        Ok(store::read(&self.connection, *key, after, kept, page)?)
    }

    fn due(&self) -> Option<Instant> {
        Some(if self.orphans.is_empty() { self.next_sweep } else { Instant::now() })
    }
}

/// A transaction in the making.
struct Transaction<'a> {
    file: &'a Sqlite,
    /// What differs from the keys that are known; `None` is deleted.
    keys: HashMap<Source, Option<u64>>,
    next_message: u64,
    journal: Edit,
    /// What is done with, by the key of its source: acknowledgements of many calls go together.
    removed: HashMap<u64, (Source, Vec<u64>)>,
    released: Released,
    /// Keys that will be orphans.
    deleted: Vec<u64>,
    /// Whether the last orphan is empty.
    purged: bool,
    /// Whether all that has expired is gone.
    swept: bool,
    written: Written,
}

impl<'a> Transaction<'a> {
    fn new(file: &'a Sqlite) -> Self {
        Self {
            file,
            keys: HashMap::new(),
            next_message: file.next_message,
            journal: Edit::default(),
            removed: HashMap::new(),
            released: Released::default(),
            deleted: Vec::new(),
            purged: false,
            swept: false,
            written: Written::default(),
        }
    }

    fn key(&self, source: &Source) -> Option<u64> {
        // Most transactions declare nothing.
        let changed = if self.keys.is_empty() { None } else { self.keys.get(source) };
        match changed {
            Some(key) => *key,
            None => self.file.keys.get(source).copied(),
        }
    }

    /// `inserts` are made with the first message.
    fn apply(
        &mut self,
        change: &Change,
        inserts: &mut Option<Inserts<'a>>,
    ) -> rusqlite::Result<()> {
        let connection = &self.file.connection;
        match change {
            Change::Declare(declaration) => self.declare(declaration),
            Change::Delete(source) => {
                if let Some(key) = store::delete(connection, source)? {
                    self.journal.forget(&self.file.journal, key);
                    self.deleted.push(key);
                }
                self.keys.insert(source.clone(), None);
                Ok(())
            }
            Change::Store { message, redelivered, places } => {
                if journal::takes(message, places) {
                    let keys: Option<Vec<u64>> =
                        places.iter().map(|place| self.key(&place.source)).collect();
                    if let Some(keys) = keys {
                        self.journal.add(change, places, &keys);
                        return Ok(());
                    }
                }
                self.store(message, *redelivered, places, inserts)
            }
            Change::Remove { source, ids } => {
                let Some(key) = self.key(source) else { return Ok(()) };
                let (_, removed) =
                    self.removed.entry(key).or_insert_with(|| (source.clone(), Vec::new()));
                removed.extend(ids);
                Ok(())
            }
            Change::Count { source, counts } => {
                let Some(key) = self.key(source) else { return Ok(()) };
                for (id, count) in counts {
                    if !self.journal.count(&self.file.journal, key, *id, *count) {
                        store::recount(connection, key, *id, *count)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Stores a message in the tables.
    fn store(
        &mut self,
        message: &Message,
        redelivered: bool,
        places: &[Place],
        inserts: &mut Option<Inserts<'a>>,
    ) -> rusqlite::Result<()> {
        let mut targets: Vec<&Target> = Vec::new();
        let mut entries = Vec::with_capacity(places.len());
        for place in places {
            let Some(source) = self.key(&place.source) else { continue };
            if targets.last() != Some(&&place.target) {
                targets.push(&place.target);
            }
            let target = targets.len() - 1;
            entries.push(NewEntry { source, message: self.next_message, target, place });
        }
        if entries.is_empty() {
            return Ok(());
        }
        let inserts = match inserts {
            Some(inserts) => inserts,
            None => inserts.insert(Inserts::new(&self.file.connection)?),
        };
        inserts.message(self.next_message, message, redelivered, &targets, entries.len())?;
        self.next_message += 1;
        entries.iter().try_for_each(|entry| inserts.entry(entry, message.expires))
    }

    /// Moves what waits in the journal for long to the tables.
    fn shorten_journal(&mut self, inserts: &mut Option<Inserts<'a>>) -> rusqlite::Result<()> {
        let Sqlite { journal, connection, .. } = self.file;
        for (message, redelivered, places) in self.journal.take_oldest(journal, connection)? {
            self.store(&message, redelivered, &places, inserts)?;
        }
        Ok(())
    }

    fn declare(&mut self, declaration: &Declaration) -> rusqlite::Result<()> {
        let key = store::declare(&self.file.connection, declaration)?;
        self.keys.insert(declaration.source(), Some(key));
        Ok(())
    }

    fn remove(&mut self) -> rusqlite::Result<()> {
        for (key, (source, mut ids)) in std::mem::take(&mut self.removed) {
            ids.retain(|id| !self.journal.remove(&self.file.journal, key, *id));
            if ids.is_empty() {
                continue;
            }
            let missing = store::remove(&self.file.connection, key, ids, &mut self.released)?;
            if missing > 0 {
                self.written.missing.push((source, missing));
            }
        }
        Ok(())
    }

    /// Removes some of what nobody wants any more.
    fn sweep(&mut self) -> rusqlite::Result<()> {
        let connection = &self.file.connection;
        if self.file.next_sweep <= Instant::now() {
            let now = SystemTime::now();
            let expired = store::expire(connection, now, SWEEP_ROWS, &mut self.released)?;
            let count: u64 = expired.iter().map(|(_, count)| count).sum();
            self.swept = count < u64::from(SWEEP_ROWS);
            self.written.expired = expired;
        }
        if let Some(orphan) = self.file.orphans.last() {
            self.purged = store::purge(connection, *orphan, SWEEP_ROWS, &mut self.released)?;
        }
        Ok(())
    }
}
