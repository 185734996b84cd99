//! Full disks, locks, foreign files, shared transactions.

use std::future::Future as _;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use futures::future::join_all;
use tempfile::TempDir;

use super::*;

fn conversation() -> ConversationId {
    ConversationId::new("group:ops").unwrap()
}

fn message(octets: usize) -> NewMessage {
    NewMessage::new(conversation(), UserName::new("alice").unwrap(), vec![b'x'; octets])
        .with_targets(["t"])
}

async fn append(store: &SqliteStore, octets: usize) -> Result<Appended, StoreError> {
    store.append(vec![message(octets)]).await.remove(0)
}

async fn seqs(store: &SqliteStore) -> Vec<u64> {
    let kept = store.history(&conversation(), Page::after(0, 100_000)).await.unwrap();
    kept.iter().map(|message| message.seq).collect()
}

/// Lets the file grow by so many pages and no more
pub(in crate::store) async fn room(store: &SqliteStore, pages: i64) {
    let limit = move |tx: &Connection| {
        let now: i64 = tx.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        tx.query_row(&format!("PRAGMA max_page_count = {}", now + pages), [], |_| Ok(()))
    };
    store.write(0, limit).await.unwrap();
}

/// Keeps the writing thread busy until the answer is dropped, so that what comes meanwhile shares a transaction
async fn hold(store: &Arc<SqliteStore>) -> std::sync::mpsc::Sender<()> {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (busy, is_busy) = tokio::sync::oneshot::channel();
    let (held, mut busy) = (std::sync::Mutex::new(held), Some(busy));
    let holding = Arc::clone(store);
    tokio::spawn(async move {
        let wait = move |_: &Connection| {
            busy.take().map(|busy| busy.send(()));
            let _ = held.lock().unwrap().recv();
            Ok(())
        };
        holding.write(0, wait).await
    });
    is_busy.await.unwrap();
    release
}

/// P1, P2: with a full disk nothing is answered that is not stored, nothing stored is lost, and it goes on with room.
#[tokio::test]
async fn a_full_disk_fails_appends_for_now_and_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.db");
    let store = SqliteStore::open(&path).unwrap();
    let mut last = append(&store, 10).await.unwrap().seq;
    for round in 1..=3 {
        room(&store, 40).await;
        let error = loop {
            match append(&store, 3000).await {
                Ok(appended) => {
                    assert_eq!(appended.seq, last + 1);
                    last = appended.seq;
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert!(error.is_retryable());
        assert!(last > round * 10, "the disk was full at once");
        assert!(append(&store, 3000).await.is_err());
        assert_eq!(seqs(&store).await, (1..=last).collect::<Vec<_>>(), "while full");
        assert_eq!(store.unpublished(None, 10_000).await.unwrap().len() as u64, last);
    }
    room(&store, 1_000_000).await;
    assert_eq!(append(&store, 3000).await.unwrap().seq, last + 1, "with room again");
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(seqs(&store).await, (1..=last + 1).collect::<Vec<_>>(), "after a restart");
}

#[tokio::test]
async fn a_write_that_cannot_be_done_does_not_fail_those_beside_it() {
    let folder = TempDir::new().unwrap();
    let store = Arc::new(SqliteStore::open(folder.path().join("store.db")).unwrap());
    append(&store, 10).await.unwrap();
    room(&store, 40).await;
    let release = hold(&store).await;
    let sizes = [10, 10, 1_000_000, 10];
    let appends = sizes.map(|octets| {
        let store = Arc::clone(&store);
        async move { append(&store, octets).await }
    });
    let mut appends = pin!(join_all(appends));
    let mut context = Context::from_waker(Waker::noop());
    assert!(appends.as_mut().poll(&mut context).is_pending());
    drop(release);
    let stored: Vec<_> =
        appends.await.iter().map(|answer| answer.as_ref().ok().map(|a| a.seq)).collect();
    assert_eq!(stored, [Some(2), Some(3), None, Some(4)]);
    assert_eq!(seqs(&store).await, [1, 2, 3, 4]);
}

/// P7: what waits is bounded in octets, and those who wait for room are served in the end.
#[tokio::test]
async fn writers_wait_while_the_queue_is_full() {
    let folder = TempDir::new().unwrap();
    let options = SqliteOptions::new(folder.path().join("store.db"));
    let store = Arc::new(options.with_max_waiting_octets(10_000).open().unwrap());
    let release = hold(&store).await;
    let big = 8000;
    let (mut first, mut second) = (pin!(append(&store, big)), pin!(append(&store, big)));
    let mut huge = pin!(append(&store, 100_000));
    let mut context = Context::from_waker(Waker::noop());
    for waiting in [first.as_mut(), second.as_mut(), huge.as_mut()] {
        let mut waiting = waiting;
        assert!(waiting.as_mut().poll(&mut context).is_pending());
    }
    let waiting = store.writer.waiting_octets();
    assert!((big..=10_000).contains(&waiting), "{waiting} octets wait");
    drop(release);
    let (first, second, huge) = tokio::join!(first, second, huge);
    assert_eq!([first, second, huge].map(|answer| answer.unwrap().seq), [1, 2, 3]);
    assert_eq!(store.writer.waiting_octets(), 0);
}

#[tokio::test]
async fn an_append_whose_caller_went_away_is_stored_all_the_same() {
    let folder = TempDir::new().unwrap();
    let store = Arc::new(SqliteStore::open(folder.path().join("store.db")).unwrap());
    let release = hold(&store).await;
    {
        let mut abandoned = pin!(append(&store, 10));
        let polled = abandoned.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending));
    }
    drop(release);
    assert_eq!(append(&store, 10).await.unwrap().seq, 2);
    assert_eq!(seqs(&store).await, [1, 2]);
}

#[tokio::test]
async fn keys_are_forgotten_a_few_with_every_batch() {
    let folder = TempDir::new().unwrap();
    let clock = Clock::manual(1_767_225_600_000);
    let options = SqliteOptions::new(folder.path().join("store.db"));
    let store = options.with_clock(clock.clone()).open().unwrap();
    for key in ["a", "b", "c"] {
        store.append(vec![message(10).with_idempotency_key(key)]).await.remove(0).unwrap();
    }
    clock.advance(std::time::Duration::from_millis(crate::store::DEDUPE_MILLIS));
    let keys = || {
        store.read(|tx| tx.query_row("SELECT count(*) FROM dedupe", [], |row| row.get::<_, i64>(0)))
    };
    append(&store, 10).await.unwrap();
    assert_eq!(keys().await, Ok(1));
    append(&store, 10).await.unwrap();
    assert_eq!(keys().await, Ok(0));
}

#[test]
fn a_file_has_one_store_at_a_time() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.db");
    let first = SqliteStore::open(&path).unwrap();
    let second = SqliteStore::open(&path).unwrap_err();
    assert!(
        matches!(&second, StoreError::Unavailable(text) if text.contains("in use")),
        "{second}"
    );
    drop(first);
    SqliteStore::open(&path).unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_reads_the_files() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path().join("store.db")).unwrap();
    append(&store, 10).await.unwrap();
    let mut files = 0;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
        files += 1;
    }
    assert_eq!(files, 4, "the database, its log, its index, the lock");
}

fn unusable(path: &Path) -> String {
    match SqliteStore::open(path) {
        Err(StoreError::Unusable(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_of_another_program_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notes.db");
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE note (text TEXT)").unwrap();
    drop(other);
    assert!(unusable(&path).contains("another program"));
    let tables: i64 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 1);

    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "this is no database at all, and long enough to see that".repeat(9))
        .unwrap();
    unusable(&text);
}

#[test]
fn a_file_of_a_newer_version_or_with_other_tables_is_refused() {
    let folder = TempDir::new().unwrap();
    for (change, wanted) in [
        ("INSERT INTO schema_migration VALUES (900, 'later', '', 0)", "newer version"),
        (
            "UPDATE schema_migration SET sql = 'CREATE TABLE x' WHERE number = 1",
            "another migration",
        ),
    ] {
        let path = folder.path().join(format!("{}.db", wanted.len()));
        drop(SqliteStore::open(&path).unwrap());
        Connection::open(&path).unwrap().execute_batch(change).unwrap();
        assert!(unusable(&path).contains(wanted));
    }
}

#[test]
fn a_folder_that_is_missing_is_named() {
    let folder = TempDir::new().unwrap();
    let error = SqliteStore::open(folder.path().join("none/store.db")).unwrap_err();
    assert!(error.to_string().contains("none/store.db"), "{error}");
}

/// A file as the version left it whose last migration was number `last`, with a message in it
fn older(path: &Path, last: u32) {
    let file = Connection::open(path).unwrap();
    file.execute_batch(
        "PRAGMA application_id = 0x53544d50;
         CREATE TABLE schema_migration (
            number INTEGER PRIMARY KEY, name TEXT NOT NULL, sql TEXT NOT NULL, applied INTEGER NOT NULL
         ) STRICT",
    )
    .unwrap();
    for (number, name, sql) in schema::MIGRATIONS.iter().filter(|(number, ..)| *number <= last) {
        file.execute_batch(sql).unwrap();
        let applied = (number, name, sql, 0);
        file.execute("INSERT INTO schema_migration VALUES (?1, ?2, ?3, ?4)", applied).unwrap();
    }
    // In columns that the first version had.
    file.execute_batch(
        "INSERT INTO meta VALUES ('epoch', 'old');
         INSERT INTO conversation (id, name, last_seq, last_time, counted) VALUES (7, 'group:ops', 2, 5, 2);
         INSERT INTO message (place, id, time, sender, kind, key, counted, headers, body)
         VALUES (7 << 32 | 1, randomblob(16), 4, 'alice', 'message', NULL, 1, X'', CAST('well met' AS BLOB)),
                (7 << 32 | 2, randomblob(16), 5, 'bob', 'message', 'k', 2, X'', CAST('会议 at two' AS BLOB));
         INSERT INTO person (name, created) VALUES ('alice', 1)",
    )
    .unwrap();
    let outbox = if last < outbox::MIGRATION {
        "INSERT INTO outbox (place, targets) VALUES (7 << 32 | 2, X'0100000074')"
    } else {
        "INSERT INTO outbox (id, first, messages)
         VALUES (1, 1, X'000000000000000700000002000000050100000074ffffffff')"
    };
    file.execute_batch(outbox).unwrap();
}

#[tokio::test]
async fn a_file_of_every_older_version_is_brought_up_to_date() {
    let folder = TempDir::new().unwrap();
    for (last, ..) in schema::MIGRATIONS {
        let path = folder.path().join(format!("{last}.db"));
        older(&path, *last);
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(seqs(&store).await, [1, 2], "from version {last}");
        assert_eq!(store.position(&conversation()).await.unwrap().epoch.as_str(), "old");
        let waiting = store.unpublished(None, 9).await.unwrap();
        assert_eq!((waiting.len(), waiting[0].id.get()), (1, 1));
        assert_eq!(
            (&*waiting[0].message.body, &*waiting[0].targets),
            ("会议 at two".as_bytes(), &["t".to_owned()][..])
        );
        assert_eq!(append(&store, 10).await.unwrap().seq, 3);
        if *last < index::MIGRATION {
            let scope = crate::store::SearchScope::new(conversation());
            let word = Search::new("会议".parse().unwrap(), 9).with_scopes([scope]);
            assert_eq!(store.search(word).await.unwrap()[0].seq, 2, "what was stored is found");
        }
        drop(store);
        SqliteStore::open(&path).unwrap();
    }
}
