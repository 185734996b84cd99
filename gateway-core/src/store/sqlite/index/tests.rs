use tempfile::TempDir;

use super::*;
use crate::names::{ConversationId, UserName};
use crate::store::{
    Change, Cut, MessageId, MessageKind, MessageStore as _, NewMessage, Search, SearchScope,
    SqliteStore,
};

fn message(text: impl Into<String>) -> NewMessage {
    let conversation = ConversationId::new("group:ops").unwrap();
    NewMessage::new(conversation, UserName::new("alice").unwrap(), text.into())
}

async fn append(store: &SqliteStore, message: NewMessage) -> MessageId {
    store.append(vec![message]).await.remove(0).unwrap().message_id
}

async fn change(store: &SqliteStore, kind: MessageKind, target: MessageId, text: &str) {
    let mut message = message(text);
    message.kind = kind;
    append(store, message.with_change(Change::of(target))).await;
}

async fn found(store: &SqliteStore, terms: &str) -> Vec<u64> {
    let scope = SearchScope::new(message("").conversation);
    let search = Search::new(terms.parse().unwrap(), 10_000).with_scopes([scope]);
    store.search(search).await.unwrap().iter().map(|message| message.seq).collect()
}

/// How many texts are noted, and how many are in the index
async fn noted_and_in(store: &SqliteStore) -> (usize, u32) {
    let counts = |tx: &rusqlite::Transaction<'_>| {
        let within: u32 =
            tx.query_row("SELECT count(*) FROM word_docsize", [], |row| row.get(0))?;
        Ok((noted(tx)?.len(), within))
    };
    store.read(counts).await.unwrap()
}

/// Stores texts until all are in the index
async fn fill(store: &SqliteStore) {
    for _ in 0..500 {
        if noted_and_in(store).await.0 == 0 {
            return;
        }
        let batch = (0..50).map(|number| message(format!("filler {number}")));
        store.append(batch.collect()).await.into_iter().for_each(|stored| drop(stored.unwrap()));
    }
    panic!("the index takes nothing");
}

#[tokio::test]
async fn a_text_is_found_before_the_index_has_it_and_after() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.db");
    let store = SqliteStore::open(&path).unwrap();
    for text in ["The first of them", "明天的会议", "", "long after"] {
        append(&store, message(text)).await;
    }
    assert_eq!(noted_and_in(&store).await, (3, 0));
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    for is_in in [false, true] {
        if is_in {
            fill(&store).await;
        }
        let (noted, within) = noted_and_in(&store).await;
        assert_eq!((noted == 0, within > 3), (is_in, is_in));
        for (terms, seq) in [("them first", 1), ("fir*", 1), ("会议", 2), ("long", 4)] {
            assert_eq!(found(&store, terms).await, [seq], "{terms}, {is_in}");
        }
        assert_eq!(found(&store, "second").await, [0; 0]);
    }
}

/// What was changed is changed for the search at once, whether the index had it or not, and stays so.
#[tokio::test]
async fn changes_are_found_whether_the_index_has_the_text_or_not() {
    for in_index in [false, true] {
        let folder = TempDir::new().unwrap();
        let store = SqliteStore::open(folder.path().join("store.db")).unwrap();
        let mut ids = Vec::new();
        for text in ["old wine", "old bread", "old cheese", "old fish"] {
            ids.push(append(&store, message(text)).await);
        }
        if in_index {
            fill(&store).await;
        }
        store.forget(&message("").conversation, Cut::new(0, 2), 1).await.unwrap();
        change(&store, MessageKind::Edit, ids[1], "new bread").await;
        change(&store, MessageKind::Edit, ids[1], "newer bread").await;
        change(&store, MessageKind::Edit, ids[3], "new fish").await;
        change(&store, MessageKind::Recall, ids[2], "").await;
        for _ in 0..2 {
            let of = |terms| found(&store, terms);
            assert_eq!(of("wine").await, [0; 0]);
            assert_eq!(of("cheese").await, [0; 0]);
            assert_eq!(of("old").await, [0; 0]);
            assert_eq!((of("new").await, of("new*").await), (vec![4], vec![4, 2]));
            assert_eq!((of("bread").await, of("fish").await), (vec![2], vec![4]));
            fill(&store).await;
        }
    }
}

#[tokio::test]
async fn texts_of_many_conversations_are_found_in_each() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path().join("store.db")).unwrap();
    for round in 0..300 {
        let batch = (0..20).rev().map(|number| {
            let mut message = message(format!("round {round}"));
            message.conversation = ConversationId::new(&format!("group:g{number}")).unwrap();
            message
        });
        store.append(batch.collect()).await.into_iter().for_each(|stored| drop(stored.unwrap()));
    }
    let (noted, within) = noted_and_in(&store).await;
    assert!(noted > 0 && within > 0, "{noted} {within}");
    assert_eq!(noted + within as usize, 6000);
    for round in [0, 17, 299] {
        let scopes = (0..20).map(|n| ConversationId::new(&format!("group:g{n}")).unwrap());
        let search = Search::new(format!("\"round {round}\"").parse().unwrap(), 100);
        let found = store.search(search.with_scopes(scopes.map(SearchScope::new))).await.unwrap();
        assert_eq!(found.len(), 20, "round {round}");
    }
}
