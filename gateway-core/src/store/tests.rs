//! Any interleaving of appends keeps what the traits promise.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::future::join_all;
use proptest::prelude::*;

use super::*;

/// One append: to which conversation, by whom, with which key
type Step = (u8, u8, Option<u8>);

/// What several callers do at the same time, each his batches in turn
fn plans() -> impl Strategy<Value = Vec<Vec<Vec<Step>>>> {
    let step = (0..3_u8, 0..3_u8, prop::option::weighted(0.7, 0..6_u8));
    let batch = prop::collection::vec(step, 1..5);
    prop::collection::vec(prop::collection::vec(batch, 1..8), 1..8)
}

fn conversation(number: u8) -> ConversationId {
    ConversationId::new(&format!("group:g{number}")).unwrap()
}

fn message((to, from, key): Step) -> NewMessage {
    let sender = UserName::new(&format!("u{from}")).unwrap();
    let message = NewMessage::new(conversation(to), sender, "body").with_targets(["t"]);
    match key {
        Some(key) => message.with_idempotency_key(key.to_string()),
        None => message,
    }
}

/// P3, P4: no gaps, no doubles, one message per key, everything in the outbox once and in order.
fn appends_are_gapless_and_deduped(store: &Arc<dyn MessageStore>, plan: Vec<Vec<Vec<Step>>>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let callers = plan.into_iter().map(|batches| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut answers = Vec::new();
                for batch in batches {
                    let given = store.append(batch.iter().copied().map(message).collect()).await;
                    answers.extend(batch.into_iter().zip(given));
                }
                answers
            })
        });
        let mut places: HashMap<ConversationId, Vec<(u64, MessageId)>> = HashMap::new();
        let mut firsts: HashMap<(u8, u8), Appended> = HashMap::new();
        let mut repeats = Vec::new();
        for answers in join_all(callers).await {
            for ((_, from, key), answer) in answers.unwrap() {
                let answer = answer.unwrap();
                if answer.duplicate {
                    repeats.push(((from, key.unwrap()), answer));
                    continue;
                }
                let place = (answer.seq, answer.message_id);
                places.entry(answer.conversation.clone()).or_default().push(place);
                if let Some(key) = key {
                    assert_eq!(firsts.insert((from, key), answer), None, "a key was used twice");
                }
            }
        }
        for (key, answer) in repeats {
            assert_eq!(firsts.get(&key).cloned().map(Appended::as_duplicate), Some(answer));
        }
        let outbox = store.unpublished(None, 10_000).await.unwrap();
        let mut put_out: HashMap<ConversationId, Vec<(u64, MessageId)>> = HashMap::new();
        for entry in &outbox {
            let message = &entry.message;
            let place = (message.seq, message.message_id);
            put_out.entry(message.conversation.clone()).or_default().push(place);
        }
        let ids: HashSet<_> = outbox.iter().map(|entry| entry.message.message_id).collect();
        assert_eq!(ids.len(), outbox.len(), "a message is twice in the outbox");
        for number in 0..3 {
            let id = conversation(number);
            let kept = store.history(&id, Page::after(0, 10_000)).await.unwrap();
            let kept: Vec<_> = kept.iter().map(|m| (m.seq, m.message_id)).collect();
            let mut answered = places.remove(&id).unwrap_or_default();
            answered.sort_unstable();
            assert_eq!(kept, answered, "what was answered and what is in the history");
            assert!(kept.iter().map(|(seq, _)| *seq).eq(1..=kept.len() as u64), "gaps: {kept:?}");
            assert_eq!(put_out.remove(&id).unwrap_or_default(), kept, "the outbox and the history");
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn concurrent_appends_in_memory_are_gapless_and_deduped(plan in plans()) {
        let store: Arc<dyn MessageStore> = Arc::new(MemoryStore::new());
        appends_are_gapless_and_deduped(&store, plan);
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn concurrent_appends_in_sqlite_are_gapless_and_deduped(plan in plans()) {
        let folder = tempfile::TempDir::new().unwrap();
        let store = SqliteStore::open(folder.path().join("store.db")).unwrap();
        let store: Arc<dyn MessageStore> = Arc::new(store);
        appends_are_gapless_and_deduped(&store, plan);
    }

    #[cfg(feature = "postgres")]
    #[test]
    #[ignore = "needs postgresql"]
    fn concurrent_appends_in_postgres_are_gapless_and_deduped(plan in plans()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let store: Arc<dyn MessageStore> = Arc::new(runtime.block_on(async {
            PostgresStore::open(postgres::tests::fresh_database().await).await.unwrap()
        }));
        appends_are_gapless_and_deduped(&store, plan);
    }
}

fn long(from: &str, octets: usize) -> NewMessage {
    let sender = UserName::new(from).unwrap();
    NewMessage::new(conversation(0), sender, vec![b'x'; octets])
}

/// P6, P7: a memory store forgets the oldest and says so.
#[tokio::test]
async fn a_full_memory_store_forgets_the_oldest_messages_and_their_keys() {
    let store = MemoryStore::new().with_max_octets(10_000);
    for number in 0..20 {
        let message = long("alice", 1000).with_idempotency_key(number.to_string());
        store.append(vec![message]).await.remove(0).unwrap();
    }
    let position = store.position(&conversation(0)).await.unwrap();
    assert_eq!(position.last_seq, 20);
    assert!(position.first_seq > 10, "{position:?}");
    let kept = store.history(&conversation(0), Page::after(0, 100)).await.unwrap();
    let seqs: Vec<_> = kept.iter().map(|message| message.seq).collect();
    assert_eq!(seqs, (position.first_seq..=20).collect::<Vec<_>>());

    let bob = UserName::new("bob").unwrap();
    let groups = [ConversationId::new("group:g0").unwrap()];
    let unread = store.conversations(&bob, &groups, None, 1).await.unwrap().remove(0).unread;
    assert_eq!(unread, kept.len() as u64, "unread counts what can be read");
    store.mark(&conversation(0), &bob, Marker::Read, 3).await.unwrap();
    let unread = store.conversations(&bob, &groups, None, 1).await.unwrap().remove(0).unread;
    assert_eq!(unread, kept.len() as u64, "after reading what is forgotten");
    let again = long("alice", 10).with_idempotency_key("19");
    assert!(store.append(vec![again]).await.remove(0).unwrap().duplicate);
    let forgotten = long("alice", 10).with_idempotency_key("0");
    assert!(!store.append(vec![forgotten]).await.remove(0).unwrap().duplicate);
}

/// P2, P7: what the broker has yet to confirm is never forgotten.
#[tokio::test]
async fn a_memory_store_refuses_rather_than_forget_its_outbox() {
    let store = MemoryStore::new().with_max_octets(10_000);
    let mut stored = 0;
    loop {
        match store.append(vec![long("alice", 1000).with_targets(["t"])]).await.remove(0) {
            Ok(_) => stored += 1,
            Err(error) => {
                assert_eq!(error, StoreError::Overloaded);
                assert!(error.is_retryable());
                break;
            }
        }
    }
    let outbox = store.unpublished(None, 100).await.unwrap();
    assert_eq!(outbox.len(), stored);
    store.mark_published(&[outbox[0].id]).await.unwrap();
    assert!(store.append(vec![long("alice", 1000).with_targets(["t"])]).await[0].is_ok());
}

#[test]
fn message_ids_grow_and_none_is_given_twice() {
    let ids = std::thread::scope(|scope| {
        let many = || (0..10_000).map(|_| MessageId::generate()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(many)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for of_thread in &ids {
        assert!(of_thread.is_sorted(), "in the order in which they were made");
    }
    let mut all: Vec<_> = ids.concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 40_000);
    assert_eq!(all[0].to_octets()[6] >> 4, 7, "the version");
}
