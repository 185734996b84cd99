//! Opening the file and bringing its tables up to date.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, params};

use super::index;
use super::value::store_error;
use crate::store::{Epoch, StoreError};

/// Marks the file as ours: "STMP"
const APPLICATION_ID: i32 = 0x5354_4d50;

/// How long to wait for a lock that a backup tool holds on the file
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// More than we have, so that none is ever prepared twice
const STATEMENTS: usize = 96;

/// In the order of their numbers; a released one never changes
pub(super) const MIGRATIONS: &[(u32, &str, &str)] = &[
    (1, "initial", include_str!("migrations/0001_initial.sql")),
    (2, "record", include_str!("migrations/0002_record.sql")),
    (index::MIGRATION, "search", include_str!("migrations/0003_search.sql")),
    (4, "changes", include_str!("migrations/0004_changes.sql")),
    (5, "people", include_str!("migrations/0005_people.sql")),
    (6, "retention", include_str!("migrations/0006_retention.sql")),
    (7, "storage policy", include_str!("migrations/0007_storage_policy.sql")),
    (8, "unindexed", include_str!("migrations/0008_unindexed.sql")),
    (9, "outbox", include_str!("migrations/0009_outbox.sql")),
];

/// Holds the file against a second store, in this process or another; gone with the process however it ends
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code, reason = "held, not used")] File);

pub(super) fn lock(path: &Path) -> Result<Lock, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    let name = PathBuf::from(name);
    let file = private(&name)?;
    file.try_lock().map_err(|error| {
        StoreError::Unavailable(format!("{} is in use: {error}", path.display()))
    })?;
    // SQLite gives its other files the permissions of this one.
    private(path)?;
    Ok(Lock(file))
}

/// Opens or makes a file that only its owner may read
fn private(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(path)
        .map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))
}

pub(super) fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // In pages, so 16 MiB: a longer log means fewer stops to move it into the file, and a longer start after a crash.
    connection.pragma_update(None, "wal_autocheckpoint", 4000)?;
    // After a burst the log gives its space back.
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    Ok(connection)
}

pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    // Not the default flags: they would take a path that starts with `file:` for a URI.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Else statements with a limit are compiled anew with each.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Applies what is missing, all or nothing, and gives the epoch of the history in the file
pub(super) fn migrate(connection: &mut Connection, now: u64) -> Result<Epoch, StoreError> {
    let sql = |error: rusqlite::Error| store_error(&error);
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Exclusive).map_err(sql)?;
    check_owner(&transaction)?;
    transaction
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS schema_migration (
                number INTEGER PRIMARY KEY, name TEXT NOT NULL, sql TEXT NOT NULL, applied INTEGER NOT NULL
            ) STRICT",
        )
        .map_err(sql)?;
    check_history(&transaction)?;
    let mut add_texts = false;
    for (number, name, text) in MIGRATIONS {
        let done: Option<i64> = transaction
            .query_row("SELECT 1 FROM schema_migration WHERE number = ?1", [number], |row| {
                row.get(0)
            })
            .optional()
            .map_err(sql)?;
        if done.is_none() {
            transaction.execute_batch(text).map_err(sql)?;
            add_texts |= *number == index::MIGRATION;
            transaction
                .execute(
                    "INSERT INTO schema_migration (number, name, sql, applied) VALUES (?1, ?2, ?3, ?4)",
                    params![number, name, text, super::value::to_sql(now)],
                )
                .map_err(sql)?;
        }
    }
    // By code that knows the tables as they are now.
    if add_texts {
        index::put_stored(&transaction).map_err(sql)?;
    }
    transaction
        .execute(
            "INSERT OR IGNORE INTO meta (key, value) VALUES ('epoch', ?1)",
            [Epoch::generate().as_str()],
        )
        .map_err(sql)?;
    let epoch = transaction
        .query_row("SELECT value FROM meta WHERE key = 'epoch'", [], |row| {
            Ok(Epoch::from_stored(row.get_ref(0)?.as_str()?))
        })
        .map_err(sql)?;
    transaction.commit().map_err(sql)?;
    Ok(epoch)
}

/// Refuses a database that another program made
fn check_owner(connection: &Connection) -> Result<(), StoreError> {
    let sql = |error: rusqlite::Error| store_error(&error);
    let id: i32 =
        connection.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(sql)?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(sql)?;
    if id == APPLICATION_ID {
        return Ok(());
    }
    if id != 0 || tables != 0 {
        return Err(StoreError::Unusable("the file belongs to another program".to_owned()));
    }
    connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(sql)
}

/// Refuses tables that a newer version or other migrations made
fn check_history(connection: &Connection) -> Result<(), StoreError> {
    let applied: Vec<(u32, String)> = connection
        .prepare("SELECT number, sql FROM schema_migration ORDER BY number")
        .and_then(|mut statement| {
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .map_err(|error| store_error(&error))?;
    for (number, text) in applied {
        let Some((_, name, known)) = MIGRATIONS.iter().find(|(known, ..)| *known == number) else {
            return Err(StoreError::Unusable(format!(
                "the file has migration {number}: it was made by a newer version"
            )));
        };
        if text != *known {
            return Err(StoreError::Unusable(format!(
                "the file has another migration {number} than ours ({name})"
            )));
        }
    }
    Ok(())
}
