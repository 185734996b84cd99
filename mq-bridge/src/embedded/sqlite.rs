//! The file as the storage of a broker.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::Connection;

use crate::storage::{Change, Kept, Page, Storage, Written};
use crate::{Declaration, Source, Target};

use super::store::{self, Inserts, NewEntry, Released};
use super::{EmbeddedConfig, schema};

/// Rows removed per transaction by the work that nobody waits for.
const SWEEP_ROWS: u32 = 500;
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

pub(super) struct Sqlite {
    connection: Connection,
    /// The keys of what is declared.
    keys: HashMap<Source, u64>,
    next_message: u64,
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
        let mut sources = Vec::with_capacity(loaded.sources.len());
        for one in loaded.sources {
            self.keys.insert(one.declaration.source(), one.key);
            sources.push((one.declaration, one.depth));
        }
        Ok(Kept::new(sources, loaded.last_entry))
    }

    fn write(&mut self, changes: &[Change]) -> Result<Written, SqliteFailure> {
        match self.transact(changes) {
            Ok(Transaction { keys, next_message, purged, deleted, swept, written, .. }) => {
                self.next_message = next_message;
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
        match self.keys.get(source) {
            Some(key) => Ok(store::read(&self.connection, *key, after, page)?),
            None => Ok(()),
        }
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
                    self.deleted.push(key);
                }
                self.keys.insert(source.clone(), None);
                Ok(())
            }
            Change::Store { message, redelivered, places } => {
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
                    None => inserts.insert(Inserts::new(connection)?),
                };
                let places = entries.len();
                inserts.message(self.next_message, message, *redelivered, &targets, places)?;
                self.next_message += 1;
                entries.iter().try_for_each(|entry| inserts.entry(entry, message.expires))
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
                counts
                    .iter()
                    .try_for_each(|(id, count)| store::recount(connection, key, *id, *count))
            }
        }
    }

    fn declare(&mut self, declaration: &Declaration) -> rusqlite::Result<()> {
        let key = store::declare(&self.file.connection, declaration)?;
        self.keys.insert(declaration.source(), Some(key));
        Ok(())
    }

    fn remove(&mut self) -> rusqlite::Result<()> {
        for (key, (source, ids)) in std::mem::take(&mut self.removed) {
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
