//! The suites over a real server, and what is particular to one that is shared and may be away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use futures::future::join_all;
use mq_bridge::testkit::servers::{Postgres, TestServer};
use tokio::sync::OnceCell;

use super::*;
use crate::directory::Directory;
use crate::testkit::Harness;

/// One server for all tests of this process; each has databases of its own.
static SERVER: OnceCell<Postgres> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// The URL of a database with nothing in it
pub(crate) async fn fresh_database() -> String {
    let server = SERVER.get_or_init(|| async { Postgres::start().await.unwrap() }).await;
    fresh_in(server).await
}

async fn fresh_in(server: &Postgres) -> String {
    let name = format!("test_{}", DATABASES.fetch_add(1, Relaxed));
    execute(&server.url(), &format!("CREATE DATABASE {name}")).await;
    let (place, _) =
        server.url().rsplit_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    format!("{place}/{name}")
}

async fn execute(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
}

async fn open(url: &str, clock: Clock) -> Arc<PostgresStore> {
    Arc::new(PostgresOptions::new(url).with_clock(clock).open().await.unwrap())
}

/// The store of now, and where its data are
#[derive(Default)]
struct Databases(Option<(String, Clock)>);

impl Databases {
    async fn create(&mut self, clock: Clock) -> Arc<PostgresStore> {
        let url = fresh_database().await;
        let store = open(&url, clock.clone()).await;
        self.0 = Some((url, clock));
        store
    }

    async fn restart(&mut self) -> Option<Arc<PostgresStore>> {
        let (url, clock) = self.0.clone()?;
        Some(open(&url, clock).await)
    }
}

#[async_trait]
impl Harness<dyn MessageStore> for Databases {
    async fn create(&mut self, clock: Clock) -> Arc<dyn MessageStore> {
        Self::create(self, clock).await
    }

    async fn restart(&mut self, _: Arc<dyn MessageStore>) -> Option<Arc<dyn MessageStore>> {
        Self::restart(self).await.map(|store| store as _)
    }
}

#[async_trait]
impl Harness<dyn Directory> for Databases {
    async fn create(&mut self, clock: Clock) -> Arc<dyn Directory> {
        Self::create(self, clock).await
    }

    async fn restart(&mut self, _: Arc<dyn Directory>) -> Option<Arc<dyn Directory>> {
        Self::restart(self).await.map(|store| store as _)
    }
}

mod message_store {
    crate::message_store_tests!(ignore = "needs postgresql", super::Databases::default());
}

mod directory {
    crate::directory_tests!(ignore = "needs postgresql", super::Databases::default());
}

fn message(text: &'static str) -> NewMessage {
    let conversation = ConversationId::new("group:ops").unwrap();
    NewMessage::new(conversation, UserName::new("alice").unwrap(), text).with_targets(["t"])
}

/// P3, P4: nodes share a conversation's numbers and a sender's keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs postgresql"]
async fn p4_a_key_counts_once_over_several_nodes() {
    let url = fresh_database().await;
    let nodes = join_all((0..4).map(|_| open(&url, Clock::system()))).await;
    for round in 0..20 {
        let same = message("same").with_idempotency_key(format!("key {round}"));
        let appends = nodes.iter().map(|node| node.append(vec![same.clone(), message("other")]));
        let answers: Vec<_> = join_all(appends).await.into_iter().flatten().collect();
        let answers: Vec<Appended> = answers.into_iter().map(Result::unwrap).collect();
        let keyed: Vec<_> = answers.iter().step_by(2).collect();
        assert_eq!(keyed.iter().filter(|one| !one.duplicate).count(), 1, "{keyed:?}");
        assert!(keyed.iter().all(|one| one.message_id == keyed[0].message_id));
        let mut seqs: Vec<u64> =
            answers.iter().filter(|one| !one.duplicate).map(|one| one.seq).collect();
        seqs.sort_unstable();
        assert!(seqs.iter().copied().eq(round * 5 + 1..=round * 5 + 5), "{seqs:?}");
    }
}

/// P1, P2: what was answered survives the death of the server, and the store goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgresql"]
async fn what_was_answered_survives_a_kill_of_the_server() {
    let mut server = Postgres::start().await.unwrap();
    let store = open(&fresh_in(&server).await, Clock::system()).await;
    let mut answered = Vec::new();
    for _ in 0..3 {
        for _ in 0..20 {
            let appended = store.append(vec![message("kept")]).await.remove(0).unwrap();
            answered.push((appended.seq, appended.message_id));
        }
        server.kill().await.unwrap();
        let error = store.append(vec![message("lost")]).await.remove(0).unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        assert!(store.health().await.is_err());
        TestServer::start(&mut server).await.unwrap();
        store.health().await.unwrap();
    }
    let kept = store
        .history(&ConversationId::new("group:ops").unwrap(), Page::after(0, 1000))
        .await
        .unwrap();
    let kept: Vec<_> = kept.iter().map(|one| (one.seq, one.message_id)).collect();
    assert_eq!(kept, answered);
}

#[tokio::test]
#[ignore = "needs postgresql"]
async fn a_server_that_confirms_too_early_is_refused() {
    let url = fresh_database().await;
    let name = url.rsplit_once('/').unwrap().1;
    execute(&url, &format!("ALTER DATABASE {name} SET synchronous_commit = off")).await;
    let error = PostgresStore::open(&*url).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unusable(text) if text.contains("synchronous_commit")));
}

#[tokio::test]
#[ignore = "needs postgresql"]
async fn tables_of_a_newer_version_are_refused() {
    let url = fresh_database().await;
    drop(PostgresStore::open(&*url).await.unwrap());
    let newer = "INSERT INTO schema_migration VALUES (999, 'newer', '', 0)";
    execute(&url, newer).await;
    let error = PostgresStore::open(&*url).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unusable(text) if text.contains("newer")), "{error}");
}

/// A database as the version left it whose last migration was number `last`, with a message in it
async fn older(url: &str, last: i64) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client
        .batch_execute(
            "CREATE TABLE schema_migration (
                number BIGINT PRIMARY KEY, name TEXT NOT NULL, sql TEXT NOT NULL, applied BIGINT NOT NULL
            )",
        )
        .await
        .unwrap();
    for (number, name, sql) in schema::MIGRATIONS.iter().filter(|(number, ..)| *number <= last) {
        client.batch_execute(sql).await.unwrap();
        let applied = "INSERT INTO schema_migration VALUES ($1, $2, $3, 0)";
        client.execute(applied, &[number, name, sql]).await.unwrap();
    }
    // In columns that the first version had.
    client
        .batch_execute(
            "INSERT INTO meta VALUES ('epoch', 'old');
             INSERT INTO conversation (name, last_seq, last_time, counted) VALUES ('group:ops', 2, 5, 2);
             INSERT INTO message (conversation, seq, id, time, sender, kind, counted, headers, body)
             SELECT id, seq, decode(repeat('0' || seq, 16), 'hex'), seq, 'alice', 'message', seq, '', body
             FROM conversation, (VALUES (1, 'well met'), (2, '会议 at two')) AS m (seq, text),
                convert_to(text, 'UTF8') AS body;
             INSERT INTO outbox (conversation, seq, targets) SELECT id, 2, '\\x0100000074' FROM conversation",
        )
        .await
        .unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
}

#[tokio::test]
#[ignore = "needs postgresql"]
async fn a_database_of_every_older_version_is_brought_up_to_date() {
    for (last, ..) in schema::MIGRATIONS {
        let url = fresh_database().await;
        older(&url, *last).await;
        let store = open(&url, Clock::system()).await;
        let ops = ConversationId::new("group:ops").unwrap();
        assert_eq!(store.position(&ops).await.unwrap().epoch.as_str(), "old");
        assert_eq!(store.history(&ops, Page::after(0, 9)).await.unwrap().len(), 2);
        assert_eq!(store.unpublished(None, 9).await.unwrap()[0].message.body, "会议 at two");
        assert_eq!(store.append(vec![message("more")]).await.remove(0).unwrap().seq, 3);
        if *last < search::MIGRATION {
            let scope = crate::store::SearchScope::new(ops.clone());
            let word = Search::new("会议".parse().unwrap(), 9).with_scopes([scope]);
            assert_eq!(store.search(word).await.unwrap()[0].seq, 2, "what was stored is found");
        }
        open(&url, Clock::system()).await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_and_a_url_that_is_none_are_told_without_the_password() {
    let nobody = "postgres://im:hunter2@127.0.0.1:1/im";
    let error = PostgresStore::open(nobody).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(!error.to_string().contains("hunter2"));
    let error = PostgresStore::open("postgres://im:hunter2@[").await.unwrap_err();
    assert!(matches!(error, StoreError::Unusable(_)), "{error:?}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    assert!(!format!("{:?}", PostgresOptions::new(nobody)).contains("hunter2"));
}
