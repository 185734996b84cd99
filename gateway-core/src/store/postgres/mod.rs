//! Messages and people in a PostgreSQL database, which several nodes share.

mod append;
mod change;
mod error;
mod import;
mod nodes;
mod query;
mod retention;
mod schema;
mod search;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod value;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::{
    Client, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts, Transaction,
};
use futures::future::BoxFuture;
use tokio_postgres::NoTls;
use tokio_postgres::config::{Config, Host};

pub(crate) use self::error::Failure;
use self::nodes::Node;
use super::{
    Appended, ConversationCursor, ConversationSummary, Cut, Epoch, Extent, Imported, Marker, Marks,
    MessageId, MessageStore, NewMessage, OutboxId, Page, Position, Search, SharedOutbox,
    StoreError, StoredMessage, Unpublished, UnreadRange,
};
use crate::clock::Clock;
use crate::names::{ConversationId, UserName};

/// How often a transaction is tried that met others
const ATTEMPTS: u32 = 8;
/// How many connections a node has, unless set otherwise
const CONNECTIONS: usize = 8;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call waits for a connection that is free
const WAIT_TIMEOUT: Duration = Duration::from_secs(10);

/// How a [`PostgresStore`] is opened
#[derive(Clone)]
pub struct PostgresOptions {
    url: String,
    clock: Clock,
    connections: usize,
    node: Option<String>,
    lease: Duration,
}

impl PostgresOptions {
    /// The database at `url`: `postgres://user:password@host:port/database`, or `key=value` pairs as libpq knows them
    ///
    /// `options=-c search_path=chat` in the URL puts the tables into a schema of their own. Connections are not
    /// encrypted: reach the server over a trusted network, its Unix socket, or a tunnel.
    pub fn new(url: impl Into<String>) -> Self {
        let (clock, lease) = (Clock::system(), nodes::LEASE);
        Self { url: url.into(), clock, connections: CONNECTIONS, node: None, lease }
    }

    /// Takes the time from `clock`
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how many connections are opened at most (default 8, at least 1); further callers wait for up to 10 seconds
    #[must_use]
    pub const fn with_connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Names this node (default: a random name)
    ///
    /// A node that is started again under its name goes on at once where it was killed; under another name, once the lease
    /// of the first has run out. Two that run at the same time must not have the same name.
    #[must_use]
    pub fn with_node(mut self, name: impl Into<String>) -> Self {
        self.node = Some(name.into());
        self
    }

    /// Sets for how long a node counts as alive that no longer says so (default 10 seconds, at least 1)
    ///
    /// Then others take over what it has stored and not published, and its users count as offline. A node that cannot
    /// reach the database publishes for no longer than two thirds of this.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(nodes::SHORTEST_LEASE);
        self
    }

    /// Connects, and makes or updates the tables
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] where the server cannot be reached or lets nobody in,
    /// [`StoreError::Unusable`] for a URL that is none, tables of a newer version, and a server that confirms before
    /// the disk has it (`fsync` or `synchronous_commit` off).
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready the tables may or may not have been made; opening again goes on from there.
    pub async fn open(self) -> Result<PostgresStore, StoreError> {
        let mut config: Config = self.url.parse().map_err(|error: tokio_postgres::Error| {
            // The text of the URL, which may hold a password, is not in it.
            StoreError::Unusable(format!("not a PostgreSQL URL: {error}"))
        })?;
        let place = place_of(&config);
        config.connect_timeout(CONNECT_TIMEOUT).application_name("im-gateway");
        let pool = pool(config.clone(), self.connections.max(1))?;
        let epoch = prepare(&pool, &self.clock).await.map_err(|failure| match failure.into() {
            StoreError::Unavailable(text) => StoreError::Unavailable(format!("{place}: {text}")),
            error => error,
        })?;
        let name = self.node.clone();
        let name = name.unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
        let node = Node::new(name, self.lease, self::pool(config, 1)?);
        Ok(PostgresStore { options: self, pool, epoch, node })
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("PostgresOptions")
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

fn pool(config: Config, connections: usize) -> Result<Pool, StoreError> {
    let recycling_method = RecyclingMethod::Fast;
    let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method });
    Pool::builder(manager)
        .max_size(connections)
        .runtime(Runtime::Tokio1)
        .timeouts(Timeouts {
            wait: Some(WAIT_TIMEOUT),
            create: Some(CONNECT_TIMEOUT),
            recycle: Some(CONNECT_TIMEOUT),
        })
        .build()
        .map_err(|error| StoreError::Unusable(error.to_string()))
}

/// Which database it is and where, without credentials
fn place_of(config: &Config) -> String {
    let ports = config.get_ports();
    let places = config.get_hosts().iter().enumerate().map(|(index, host)| {
        let port = ports.get(index).or_else(|| ports.first()).unwrap_or(&5432);
        match host {
            Host::Tcp(host) => format!("{host}:{port}"),
            Host::Unix(folder) => folder.display().to_string(),
        }
    });
    let places: Vec<_> = places.collect();
    let database = config.get_dbname().or_else(|| config.get_user()).unwrap_or_default();
    format!("database {database} at {}", places.join(", "))
}

async fn prepare(pool: &Pool, clock: &Clock) -> Result<Epoch, Failure> {
    let mut client = pool.get().await?;
    schema::check_durability(&**client).await?;
    let transaction = client.transaction().await?;
    let epoch = schema::migrate(&transaction, clock.now_millis()).await?;
    transaction.commit().await?;
    Ok(epoch)
}

/// A message store and directory in a PostgreSQL database (12 or newer)
///
/// Any number of gateways, in any number of processes, may use one database at the same time: a conversation's `seq`
/// has no gaps and an idempotency key counts once whoever stores. What was answered with `Ok` is as durable as the
/// server's `synchronous_commit` makes it; a server without any is refused.
///
/// While the server is away, calls fail with [`StoreError::Unavailable`], and go on when it is back. Where the connection
/// is lost while a transaction is committed, nobody knows whether that took place: an append that fails then may have
/// been stored, and is in the outbox if so.
///
/// Dropping the store closes its connections.
pub struct PostgresStore {
    options: PostgresOptions,
    pool: Pool,
    epoch: Epoch,
    node: Node,
}

impl PostgresStore {
    /// Opens the database at `url` with the default options
    ///
    /// # Errors
    ///
    /// As [`PostgresOptions::open`].
    pub async fn open(url: impl Into<String>) -> Result<Self, StoreError> {
        PostgresOptions::new(url).open().await
    }

    pub(crate) fn now(&self) -> u64 {
        self.options.clock.now_millis()
    }

    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        Ok(self.pool.get().await?)
    }

    /// Does some work in a transaction, again where it met another one
    pub(crate) async fn transact<A: Sync, T>(
        &self,
        about: &A,
        work: for<'a> fn(&'a Transaction<'_>, &'a A) -> Work<'a, T>,
    ) -> Result<T, StoreError> {
        let mut attempt = 1;
        loop {
            let outcome = async {
                let mut client = self.client().await?;
                let transaction = client.transaction().await?;
                let answer = work(&transaction, about).await?;
                transaction.commit().await?;
                Ok(answer)
            };
            match outcome.await {
                Err(Failure::Conflict(text)) if attempt < ATTEMPTS => {
                    tracing::debug!(attempt, text, "a transaction met another one");
                    attempt += 1;
                }
                outcome => {
                    return outcome.map_err(|failure: Failure| {
                        let error = StoreError::from(failure);
                        tracing::warn!(%error, "the store could not write");
                        error
                    });
                }
            }
        }
    }
}

/// What a transaction does
pub(crate) type Work<'a, T> = BoxFuture<'a, Result<T, Failure>>;

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("options", &self.options).finish_non_exhaustive()
    }
}

#[async_trait]
impl MessageStore for PostgresStore {
    async fn append(&self, batch: Vec<NewMessage>) -> Vec<Result<Appended, StoreError>> {
        let count = batch.len();
        let outcome = async {
            let about = (batch, self.node.to_store()?, self.now());
            self.transact(&about, |transaction, (batch, node, now)| {
                Box::pin(append::append(transaction, batch, *node, *now))
            })
            .await
        };
        let outcome = outcome.await;
        outcome.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn history(
        &self,
        conversation: &ConversationId,
        page: Page,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        Ok(query::history(&self.client().await?, conversation, page).await?)
    }

    async fn find(
        &self,
        conversation: &ConversationId,
        message: MessageId,
        original: bool,
    ) -> Result<Option<StoredMessage>, StoreError> {
        Ok(query::find(&self.client().await?, conversation, message, original).await?)
    }

    async fn position(&self, conversation: &ConversationId) -> Result<Position, StoreError> {
        Ok(query::position(&self.client().await?, conversation, self.epoch.clone()).await?)
    }

    async fn mark(
        &self,
        conversation: &ConversationId,
        user: &UserName,
        marker: Marker,
        up_to: u64,
    ) -> Result<Marks, StoreError> {
        let about = (conversation.clone(), user.clone(), marker, up_to);
        self.transact(&about, |transaction, (conversation, user, marker, up_to)| {
            Box::pin(append::mark(transaction, conversation, user, *marker, *up_to))
        })
        .await
    }

    async fn markers(&self, conversation: &ConversationId) -> Result<Vec<Marks>, StoreError> {
        Ok(query::markers(&self.client().await?, conversation).await?)
    }

    async fn conversations(
        &self,
        user: &UserName,
        others: &[ConversationId],
        after: Option<&ConversationCursor>,
        limit: usize,
    ) -> Result<Vec<ConversationSummary>, StoreError> {
        let client = self.client().await?;
        Ok(query::conversations(&client, user, others, after, limit, self.now()).await?)
    }

    async fn unread(
        &self,
        user: &UserName,
        others: &[ConversationId],
    ) -> Result<Vec<UnreadRange>, StoreError> {
        Ok(query::unread(&self.client().await?, user, others).await?)
    }

    async fn search(&self, search: Search) -> Result<Vec<StoredMessage>, StoreError> {
        Ok(search::search(&self.client().await?, &search).await?)
    }

    async fn unpublished(
        &self,
        after: Option<OutboxId>,
        limit: usize,
    ) -> Result<Vec<Unpublished>, StoreError> {
        Ok(query::unpublished(&self.client().await?, self.node.id(), after, limit).await?)
    }

    async fn mark_published(&self, ids: &[OutboxId]) -> Result<(), StoreError> {
        let ids: Vec<i64> = ids.iter().map(|id| value::to_sql(id.get())).collect();
        self.transact(&ids, |transaction, ids| Box::pin(append::mark_published(transaction, ids)))
            .await
    }

    fn shared(&self) -> Option<&dyn SharedOutbox> {
        Some(self)
    }

    async fn survey(
        &self,
        after: Option<&ConversationId>,
        limit: usize,
    ) -> Result<Vec<Extent>, StoreError> {
        Ok(retention::survey(&self.client().await?, after, limit).await?)
    }

    async fn forget(
        &self,
        conversation: &ConversationId,
        cut: Cut,
        limit: usize,
    ) -> Result<u64, StoreError> {
        let about = (conversation.clone(), cut, limit);
        self.transact(&about, |transaction, (conversation, cut, limit)| {
            Box::pin(retention::forget(transaction, conversation, *cut, *limit))
        })
        .await
    }

    async fn import(
        &self,
        conversation: &ConversationId,
        batch: Vec<Imported>,
    ) -> Result<u64, StoreError> {
        let about = (conversation.clone(), batch);
        self.transact(&about, |transaction, (conversation, batch)| {
            Box::pin(import::import(transaction, conversation, batch))
        })
        .await
    }

    async fn health(&self) -> Result<(), StoreError> {
        // Writes, so that a full disk or a server that only reads shows.
        self.transact(&(), |transaction, ()| {
            Box::pin(async move {
                let touch = "UPDATE meta SET value = value WHERE key = 'epoch'";
                transaction.execute(touch, &[]).await?;
                Ok(())
            })
        })
        .await
    }
}
