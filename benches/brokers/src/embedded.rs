//! The embedded broker beside the same SQLite driven by hand: a table, a transaction for each message, and the same
//! `synchronous=FULL`.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use mq_bridge::{Embedded, EmbeddedConfig};
use rusqlite::{Connection, params};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::bridge::Bridge;
use crate::contender::{Consumer, Contender, Outcome, Pair};

pub(crate) async fn start() -> Outcome<Pair> {
    let folder = TempDir::new()?;
    let bridge = Embedded::open(EmbeddedConfig::new(folder.path().join("bridge.db"))).await?;
    let connection = Connection::open(folder.path().join("bare.db"))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE message (id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, body BLOB NOT NULL);
         CREATE INDEX by_queue ON message (queue, id);",
    )?;
    let bare = Bare { connection: Arc::new(Mutex::new(connection)), arrived: Arc::default() };
    Ok(Pair {
        bridge: Box::new(Bridge(Arc::new(bridge))),
        bare: Box::new(bare),
        _server: Box::new(folder),
    })
}

#[derive(Clone)]
struct Bare {
    connection: Arc<Mutex<Connection>>,
    arrived: Arc<Notify>,
}

impl Bare {
    /// Runs one transaction where it may block.
    async fn transaction<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Outcome<T> {
        let connection = Arc::clone(&self.connection);
        let run = move || -> rusqlite::Result<T> {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = connection.transaction()?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        Ok(spawn_blocking(run).await??)
    }
}

#[async_trait]
impl Contender for Bare {
    async fn fresh_queue(&self, name: &str) -> Outcome {
        let name = name.to_owned();
        self.transaction(move |connection| {
            connection.execute("DELETE FROM message WHERE queue = ?1", [name])
        })
        .await?;
        Ok(())
    }

    async fn publish(&self, queue: &str, body: Bytes) -> Outcome {
        let queue = queue.to_owned();
        self.transaction(move |connection| {
            connection
                .prepare_cached("INSERT INTO message (queue, body) VALUES (?1, ?2)")?
                .execute(params![queue, &*body])
        })
        .await?;
        self.arrived.notify_one();
        Ok(())
    }

    async fn consume(&self, queue: &str, prefetch: usize) -> Outcome<Box<dyn Consumer>> {
        let (bare, queue) = (self.clone(), queue.to_owned());
        Ok(Box::new(BareConsumer {
            bare,
            queue,
            prefetch: i64::try_from(prefetch)?,
            last: 0,
            ack: None,
        }))
    }

    async fn subscriptions(&self, _: usize) -> Outcome {
        self.fresh_queue("topics").await
    }

    async fn publish_to_all(&self, count: usize, body: Bytes) -> Outcome {
        self.transaction(move |connection| {
            let mut insert = connection
                .prepare_cached("INSERT INTO message (queue, body) VALUES ('topics', ?1)")?;
            (0..count).try_for_each(|_| insert.execute([&*body]).map(drop))
        })
        .await
    }
}

struct BareConsumer {
    bare: Bare,
    queue: String,
    prefetch: i64,
    /// What was read last.
    last: i64,
    ack: Option<JoinHandle<Outcome>>,
}

#[async_trait]
impl Consumer for BareConsumer {
    async fn take(&mut self) -> Outcome<usize> {
        let ids = loop {
            let arrived = Arc::clone(&self.bare.arrived);
            let (queue, last, prefetch) = (self.queue.clone(), self.last, self.prefetch);
            let read = move |connection: &Connection| {
                let mut select = connection.prepare_cached(
                    "SELECT id, body FROM message WHERE queue = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
                )?;
                let rows = select.query_map(params![queue, last, prefetch], |row| {
                    row.get::<_, Vec<u8>>(1)?;
                    row.get::<_, i64>(0)
                })?;
                rows.collect::<rusqlite::Result<Vec<_>>>()
            };
            let ids = self.bare.transaction(read).await?;
            if !ids.is_empty() {
                break ids;
            }
            arrived.notified().await;
        };
        self.last = ids.last().copied().unwrap_or(self.last);
        self.finish().await?;
        let (bare, queue, count) = (self.bare.clone(), self.queue.clone(), ids.len());
        let last = self.last;
        self.ack = Some(tokio::spawn(async move {
            let delete = move |connection: &Connection| {
                connection
                    .prepare_cached("DELETE FROM message WHERE queue = ?1 AND id <= ?2")?
                    .execute(params![queue, last])
            };
            bare.transaction(delete).await.map(drop)
        }));
        Ok(count)
    }

    async fn finish(&mut self) -> Outcome {
        match self.ack.take() {
            Some(ack) => ack.await?,
            None => Ok(()),
        }
    }
}
