//! Messages and people in one SQLite file.

mod append;
mod change;
mod import;
mod index;
mod outbox;
mod place;
mod pool;
mod query;
mod retention;
mod schema;
mod search;
#[cfg(test)]
pub(in crate::store) mod tests;
pub(crate) mod value;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, Transaction};

use self::pool::Pool;
use self::writer::Writer;
use super::limits::octets_of;
use super::{
    Appended, ConversationCursor, ConversationSummary, Cut, Epoch, Extent, Imported, Marker, Marks,
    MessageId, MessageStore, NewMessage, OutboxId, Page, Position, Search, StoreError,
    StoredMessage, Unpublished, UnreadRange,
};
use crate::clock::Clock;
use crate::names::{ConversationId, UserName};

/// How a [`SqliteStore`] is opened
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    path: PathBuf,
    clock: Clock,
    readers: usize,
    max_waiting_octets: u32,
}

impl SqliteOptions {
    /// The store in the file at `path`, which is made if it is missing
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            clock: Clock::system(),
            readers: 4,
            max_waiting_octets: 32 * 1024 * 1024,
        }
    }

    /// Takes the time from `clock`
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how many calls may read at the same time (default 4, at least 1)
    #[must_use]
    pub const fn with_readers(mut self, readers: usize) -> Self {
        self.readers = readers;
        self
    }

    /// Sets how many octets of messages may wait to be written (default 32 MiB); further callers wait
    #[must_use]
    pub const fn with_max_waiting_octets(mut self, octets: u32) -> Self {
        self.max_waiting_octets = if octets == 0 { 1 } else { octets };
        self
    }

    /// Opens the file, makes or updates its tables, and starts the thread that writes
    ///
    /// Blocks while it does so; meant for start-up.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] where the file cannot be opened or another store has it open,
    /// [`StoreError::Unusable`] where it is not one of ours, or of a newer version.
    pub fn open(self) -> Result<SqliteStore, StoreError> {
        let sql = |error: rusqlite::Error| value::store_error(&error);
        let lock = schema::lock(&self.path)?;
        let mut connection = schema::open_writer(&self.path).map_err(sql)?;
        let epoch = schema::migrate(&mut connection, self.clock.now_millis())?;
        let writer = Writer::start(connection, lock, self.max_waiting_octets)?;
        let readers = Arc::new(Pool::new(self.path.clone(), self.readers));
        Ok(SqliteStore { options: self, epoch, writer, readers })
    }
}

/// A message store and directory in one SQLite file
///
/// Writes of all callers that come while another is being synced to disk share the next transaction and the next sync
/// (`synchronous=FULL`, write-ahead log). What was answered with `Ok` survives `kill -9` and loss of power.
///
/// When the disk is full, writes fail with [`StoreError::Unavailable`] and nothing stored before is lost; they go on once
/// there is room again.
///
/// The file is readable by its owner only. A second store on the same file is refused as long as this one lives.
/// Dropping the store waits until what was handed over is written: some milliseconds.
pub struct SqliteStore {
    options: SqliteOptions,
    epoch: Epoch,
    writer: Writer,
    readers: Arc<Pool>,
}

impl SqliteStore {
    /// Opens the file at `path` with the default options
    ///
    /// # Errors
    ///
    /// As [`SqliteOptions::open`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        SqliteOptions::new(path).open()
    }

    pub(crate) fn now(&self) -> u64 {
        self.options.clock.now_millis()
    }

    pub(crate) async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.readers.read(read).await
    }

    pub(crate) async fn write<T, F>(&self, octets: usize, run: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.writer.write(octets, run).await
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.options.path).finish_non_exhaustive()
    }
}

/// What a write holds that has no body
const SMALL: usize = 256;

#[async_trait]
impl MessageStore for SqliteStore {
    async fn append(&self, batch: Vec<NewMessage>) -> Vec<Result<Appended, StoreError>> {
        let messages = batch.len();
        let octets = batch.iter().map(octets_of).sum();
        let clock = self.options.clock.clone();
        let append = move |tx: &Connection| append::append(tx, &batch, clock.now_millis());
        match self.write(octets, append).await {
            Ok(outcome) => outcome,
            Err(error) => vec![Err(error); messages],
        }
    }

    async fn history(
        &self,
        conversation: &ConversationId,
        page: Page,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let conversation = conversation.clone();
        self.read(move |tx| query::history(tx, &conversation, page)).await
    }

    async fn find(
        &self,
        conversation: &ConversationId,
        message: MessageId,
        original: bool,
    ) -> Result<Option<StoredMessage>, StoreError> {
        let conversation = conversation.clone();
        self.read(move |tx| query::find(tx, &conversation, message, original)).await
    }

    async fn position(&self, conversation: &ConversationId) -> Result<Position, StoreError> {
        let (conversation, epoch) = (conversation.clone(), self.epoch.clone());
        self.read(move |tx| query::position(tx, &conversation, epoch)).await
    }

    async fn mark(
        &self,
        conversation: &ConversationId,
        user: &UserName,
        marker: Marker,
        up_to: u64,
    ) -> Result<Marks, StoreError> {
        let (conversation, user) = (conversation.clone(), user.clone());
        self.write(SMALL, move |tx| append::mark(tx, &conversation, &user, marker, up_to)).await
    }

    async fn markers(&self, conversation: &ConversationId) -> Result<Vec<Marks>, StoreError> {
        let conversation = conversation.clone();
        self.read(move |tx| query::markers(tx, &conversation)).await
    }

    async fn conversations(
        &self,
        user: &UserName,
        others: &[ConversationId],
        after: Option<&ConversationCursor>,
        limit: usize,
    ) -> Result<Vec<ConversationSummary>, StoreError> {
        let (user, others, after) = (user.clone(), others.to_vec(), after.cloned());
        let now = self.now();
        self.read(move |tx| query::conversations(tx, &user, &others, after.as_ref(), limit, now))
            .await
    }

    async fn unread(
        &self,
        user: &UserName,
        others: &[ConversationId],
    ) -> Result<Vec<UnreadRange>, StoreError> {
        let (user, others) = (user.clone(), others.to_vec());
        self.read(move |tx| query::unread(tx, &user, &others)).await
    }

    async fn search(&self, search: Search) -> Result<Vec<StoredMessage>, StoreError> {
        self.read(move |tx| search::search(tx, &search)).await
    }

    async fn unpublished(
        &self,
        after: Option<OutboxId>,
        limit: usize,
    ) -> Result<Vec<Unpublished>, StoreError> {
        self.read(move |tx| outbox::unpublished(tx, after, limit)).await
    }

    async fn mark_published(&self, ids: &[OutboxId]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let ids = ids.to_vec();
        let octets = SMALL + ids.len() * size_of::<OutboxId>();
        self.write(octets, move |tx| outbox::remove(tx, &ids)).await
    }

    async fn survey(
        &self,
        after: Option<&ConversationId>,
        limit: usize,
    ) -> Result<Vec<Extent>, StoreError> {
        let after = after.cloned();
        self.read(move |tx| retention::survey(tx, after.as_ref(), limit)).await
    }

    async fn forget(
        &self,
        conversation: &ConversationId,
        cut: Cut,
        limit: usize,
    ) -> Result<u64, StoreError> {
        let conversation = conversation.clone();
        self.write(SMALL, move |tx| retention::forget(tx, &conversation, cut, limit)).await
    }

    async fn import(
        &self,
        conversation: &ConversationId,
        batch: Vec<Imported>,
    ) -> Result<u64, StoreError> {
        let octets = batch.iter().map(Imported::octets).sum();
        let conversation = conversation.clone();
        self.write(octets, move |tx| import::import(tx, &conversation, &batch)).await?
    }

    async fn health(&self) -> Result<(), StoreError> {
        // Writes a page, so that a full or read-only disk shows.
        let write = |tx: &Connection| {
            tx.prepare_cached("UPDATE meta SET value = value WHERE key = 'epoch'")?.execute([])
        };
        self.write(SMALL, write).await?;
        self.read(|tx| tx.query_row("SELECT 1", [], |_| Ok(()))).await
    }
}
