use tempfile::TempDir;

use super::*;
use crate::names::{ConversationId, UserName};
use crate::store::{
    Change, Cut, Keep, MessageId, MessageKind, MessageStore as _, NewMessage, SqliteStore,
};

fn open(folder: &TempDir) -> SqliteStore {
    SqliteStore::open(folder.path().join("store.db")).unwrap()
}

fn message(text: impl Into<String>) -> NewMessage {
    let conversation = ConversationId::new("group:ops").unwrap();
    NewMessage::new(conversation, UserName::new("alice").unwrap(), text.into())
        .with_targets(["one", "other"])
}

async fn append(store: &SqliteStore, batch: Vec<NewMessage>) -> Vec<(OutboxId, MessageId)> {
    let stored = store.append(batch).await.into_iter().map(Result::unwrap);
    stored.map(|one| (one.outbox.unwrap(), one.message_id)).collect()
}

async fn waiting(store: &SqliteStore) -> Vec<(OutboxId, String)> {
    let all = store.unpublished(None, 10_000).await.unwrap();
    assert!(all.iter().all(|one| one.targets == ["one", "other"]));
    all.iter().map(|one| (one.id, String::from_utf8(one.message.body.to_vec()).unwrap())).collect()
}

async fn rows(store: &SqliteStore) -> i64 {
    let count = |tx: &rusqlite::Transaction<'_>| {
        tx.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))
    };
    store.read(count).await.unwrap()
}

#[tokio::test]
async fn exactly_what_is_published_leaves_its_row_and_no_number_comes_again() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder);
    let texts = |range: std::ops::Range<u32>| range.map(|number| message(number.to_string()));
    let mut ids = append(&store, texts(0..10).collect()).await;
    ids.extend(append(&store, texts(10..20).collect()).await);
    ids.extend(append(&store, texts(20..21).collect()).await);
    let ids: Vec<OutboxId> = ids.into_iter().map(|(id, _)| id).collect();
    assert!(ids.is_sorted_by(|one, next| one < next));
    assert_eq!(rows(&store).await, 3);
    // Of two rows, neither order nor once each; and one that never was.
    let published = [12, 3, 4, 15, 3, 19].map(|number: usize| ids[number]);
    store.mark_published(&published).await.unwrap();
    store.mark_published(&[OutboxId::new(900)]).await.unwrap();
    let left: Vec<_> = (0..21).filter(|number| ![12, 3, 4, 15, 19].contains(number)).collect();
    let expected: Vec<_> = left.iter().map(|number| (ids[*number], number.to_string())).collect();
    assert_eq!(waiting(&store).await, expected);
    let part = store.unpublished(Some(ids[8]), 3).await.unwrap();
    assert_eq!(part.iter().map(|one| one.id).collect::<Vec<_>>(), [ids[9], ids[10], ids[11]]);
    // As many as there are numbers in a row that has lost some; some are of the next.
    let published = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10].map(|number: usize| ids[number]);
    store.mark_published(&published).await.unwrap();
    assert_eq!(waiting(&store).await[0].0, ids[9]);
    store.mark_published(&ids).await.unwrap();
    assert_eq!(rows(&store).await, 0);
    drop(store);
    let store = open(&folder);
    let next = append(&store, texts(0..1).collect()).await;
    assert!(next[0].0 > ids[20], "{next:?}");
}

#[tokio::test]
async fn large_batches_are_several_rows_with_everything_in_order() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder);
    let texts: Vec<_> = (0..40).map(|number| format!("{number:0>5000}")).collect();
    let copied = |text: &String| message(text.clone()).with_keep(Keep::Nothing);
    let ids = append(&store, texts.iter().map(copied).collect()).await;
    assert!((2..6).contains(&rows(&store).await));
    let expected: Vec<_> = ids.iter().map(|(id, _)| *id).zip(texts).collect();
    assert_eq!(waiting(&store).await, expected);
}

#[tokio::test]
async fn a_repeated_key_is_waited_for_until_the_first_is_published() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder);
    let keyed = |key: &str| {
        let mut message = message("once");
        message.idempotency_key = Some(key.to_owned());
        message
    };
    // The second of them while the row of the first is not written yet.
    let ids = append(&store, vec![keyed("a"), keyed("a"), keyed("b")]).await;
    assert_eq!((ids[0].0, waiting(&store).await.len()), (ids[1].0, 2));
    store.mark_published(&[ids[0].0]).await.unwrap();
    let again = store.append(vec![keyed("a"), keyed("b")]).await;
    let again: Vec<_> = again.into_iter().map(|one| one.unwrap().outbox).collect();
    assert_eq!(again, [None, Some(ids[2].0)]);
}

/// A recall wipes what waits, in a row that is written and in one that is not.
#[tokio::test]
async fn a_recall_drops_the_copies_that_wait() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder);
    let secret = || message("secret").with_keep(Keep::Metadata);
    let recall = |of: MessageId| {
        let mut recall = message("").with_change(Change::of(of));
        recall.kind = MessageKind::Recall;
        recall
    };
    let ids = append(&store, vec![secret(), secret(), message("open")]).await;
    append(&store, vec![recall(ids[1].1)]).await;
    let texts: Vec<_> = waiting(&store).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["secret", "", "open", ""]);
}

#[tokio::test]
async fn nothing_that_waits_is_forgotten() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder);
    let batch = (0..6).map(|number| message(number.to_string())).collect();
    let ids = append(&store, batch).await;
    let conversation = message("").conversation;
    store.mark_published(&[ids[0].0, ids[1].0, ids[4].0]).await.unwrap();
    assert_eq!(store.forget(&conversation, Cut::new(0, 99), 100).await.unwrap(), 2);
    store.mark_published(&ids.iter().map(|(id, _)| *id).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(store.forget(&conversation, Cut::new(0, 99), 100).await.unwrap(), 4);
}
