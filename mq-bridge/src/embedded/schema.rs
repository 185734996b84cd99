//! The file: its settings and tables.

use std::fs::OpenOptions;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::EmbeddedConfig;

/// Says that the file is ours: "mqbr".
const APPLICATION_ID: i32 = 0x6d71_6272;
const VERSION: i32 = 2;

/// `message` has one row per stored message, `entry` one per message and place where it waits.
/// `refs` counts the entries of a message that has several, and perhaps of one that had; it is a table of its own
/// because an update rewrites a whole row, and bodies are large.
const TABLES: &str = "
CREATE TABLE source (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind INTEGER NOT NULL,
    name TEXT NOT NULL,
    max_deliveries INTEGER,
    dead_letter TEXT,
    UNIQUE (kind, name)
);
CREATE TABLE pattern (
    source INTEGER NOT NULL,
    pattern TEXT NOT NULL,
    PRIMARY KEY (source, pattern)
) WITHOUT ROWID;
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    redelivered INTEGER NOT NULL,
    persistent INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    expires INTEGER,
    targets BLOB NOT NULL,
    headers BLOB NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE refs (
    message INTEGER PRIMARY KEY,
    count INTEGER NOT NULL
);
CREATE TABLE entry (
    source INTEGER NOT NULL,
    id INTEGER NOT NULL,
    message INTEGER NOT NULL,
    target INTEGER NOT NULL,
    deliveries INTEGER NOT NULL,
    dead_letter INTEGER,
    expires INTEGER,
    PRIMARY KEY (source, id)
) WITHOUT ROWID;
CREATE INDEX entry_expires ON entry (expires) WHERE expires IS NOT NULL;
";

/// What [`journal`](super::journal) keeps; since version 2.
const JOURNAL: &str = "
CREATE TABLE journal (
    id INTEGER PRIMARY KEY,
    content BLOB NOT NULL
);
CREATE TABLE waiting (
    id INTEGER PRIMARY KEY,
    state BLOB NOT NULL
);
";

/// Makes the file, if it is new, one that only its owner may read: messages are in it. SQLite gives
/// its other files the permissions of this one.
fn private(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// Opens the file and makes its tables if it is new.
pub(super) fn open(config: &EmbeddedConfig) -> Result<Connection, OpenFailure> {
    private(&config.path)?;
    // Not the default flags: they would take a path that starts with `file:` for a URI.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&config.path, flags)?;
    connection.busy_timeout(config.open_timeout)?;
    // Else some statements are compiled anew with each value that they get.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // Exclusive, and before the journal mode: no other process may write, and the index of the
    // write-ahead log stays in memory.
    connection.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -16384;
         PRAGMA journal_size_limit = 67108864;",
    )?;
    let application: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let version: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match (application, version) {
        (APPLICATION_ID, VERSION) => {}
        (APPLICATION_ID, 1) => create(&connection, JOURNAL)?,
        (APPLICATION_ID, version) => return Err(OpenFailure::Version(version)),
        (0, 0) if is_empty(&connection)? => create(&connection, &format!("{TABLES}{JOURNAL}"))?,
        _ => return Err(OpenFailure::Foreign),
    }
    if let Some(max_bytes) = config.max_file_bytes {
        let page: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let pages = max_bytes.div_ceil(u64::from(page.max(1))).min(u64::from(u32::MAX - 1));
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
    }
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))
}

fn create(connection: &Connection, tables: &str) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN EXCLUSIVE;
         {tables}
         PRAGMA application_id = {APPLICATION_ID};
         PRAGMA user_version = {VERSION};
         COMMIT;"
    ))
}

#[derive(Debug, thiserror::Error)]
pub(super) enum OpenFailure {
    #[error("the file was written by another version: its format is {0}, this is {VERSION}")]
    Version(i32),
    #[error("the file is not a message queue of this crate")]
    Foreign,
    #[error("the file cannot be opened: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}
