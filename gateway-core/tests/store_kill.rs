//! P1, P2, P4: what a store has answered is there after `kill -9`.

#![cfg(all(feature = "sqlite", unix))]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use gateway_core::{
    ConversationId, MessageStore, NewMessage, Page, Search, SearchScope, SqliteStore, UserName,
};

/// Tells the child where to write, and which round it is
const FOLDER: &str = "STORE_KILL_FOLDER";
const ROUND: &str = "STORE_KILL_ROUND";

const CONVERSATIONS: [&str; 2] = ["direct:alice:bob", "group:ops"];

fn message(to: &str, key: &str) -> NewMessage {
    let to = ConversationId::new(to).unwrap();
    NewMessage::new(to, UserName::new("alice").unwrap(), format!("said {key}"))
        .with_idempotency_key(key)
        .with_targets(["t"])
}

/// Runs only as the child of the test below: appends from several tasks and tells what was answered, until killed.
#[test]
fn child_appends_until_killed() {
    let (Ok(folder), Ok(round)) = (std::env::var(FOLDER), std::env::var(ROUND)) else { return };
    let store = Arc::new(SqliteStore::open(Path::new(&folder).join("store.db")).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        for task in 0..8 {
            let (store, round) = (Arc::clone(&store), round.clone());
            tokio::spawn(async move {
                for number in 0.. {
                    let key = |to| format!("{round}-{task}-{number}-{to}");
                    let batch = CONVERSATIONS.map(|to| message(to, &key(to)));
                    for (to, answer) in CONVERSATIONS.iter().zip(store.append(batch.into()).await) {
                        let at = answer.unwrap();
                        let line =
                            format!("ANSWER {to} {} {} {}\n", at.seq, at.message_id, key(to));
                        std::io::stdout().write_all(line.as_bytes()).unwrap();
                    }
                }
            });
        }
        std::future::pending::<()>().await;
    });
}

/// What the child has answered: (conversation, seq) -> (message id, key)
type Answers = BTreeMap<(String, u64), (String, String)>;

fn run_and_kill(folder: &Path, round: usize, after: usize, answers: &mut Answers) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child_appends_until_killed", "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = 0;
    for line in lines {
        let Ok(line) = line else { break };
        // The name of the test may stand before the first answer.
        let Some((_, answer)) = line.split_once("ANSWER ") else { continue };
        let fields: Vec<_> = answer.split(' ').collect();
        // The last line may be cut off.
        let [to, seq, id, key] = fields[..] else { continue };
        if !key.ends_with(to) {
            continue;
        }
        let place = (to.to_owned(), seq.parse().unwrap());
        let earlier = answers.insert(place.clone(), (id.to_owned(), key.to_owned()));
        assert_eq!(earlier, None, "{place:?} was answered twice");
        seen += 1;
        if seen == after {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(seen >= after, "the child ended by itself after {seen} answers");
}

#[test]
fn what_was_answered_is_there_after_kill_9() {
    let folder = tempfile::TempDir::new().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut answers = Answers::new();
    for (round, after) in [1, 37, 150, 333, 80].into_iter().enumerate() {
        run_and_kill(folder.path(), round, after, &mut answers);
        let store = SqliteStore::open(folder.path().join("store.db")).unwrap();
        let mut stored = 0;
        for name in CONVERSATIONS {
            let id = ConversationId::new(name).unwrap();
            let mut last = 0;
            loop {
                let page = store.history(&id, Page::after(last, 500));
                let page = runtime.block_on(page).unwrap();
                if page.is_empty() {
                    break;
                }
                for message in page {
                    assert_eq!(message.seq, last + 1, "a gap in {name}");
                    last += 1;
                    stored += 1;
                    let Some((id, key)) = answers.get(&(name.to_owned(), last)) else { continue };
                    assert_eq!(message.message_id.to_string(), *id, "{name} {last}");
                    assert_eq!(message.idempotency_key.as_ref(), Some(key), "{name} {last}");
                }
            }
            let lost = answers.keys().rfind(|(to, seq)| to == name && *seq > last);
            assert_eq!(lost, None, "answered and lost in round {round}");
            let word = Search::new("said".parse().unwrap(), usize::MAX);
            let found = store.search(word.with_scopes([SearchScope::new(id)]));
            assert_eq!(runtime.block_on(found).unwrap().len() as u64, last, "found in {name}");
        }
        let outbox = runtime.block_on(store.unpublished(None, usize::MAX)).unwrap();
        assert_eq!(outbox.len(), stored, "what is stored and not published is in the outbox");
        for ((to, seq), (id, key)) in answers.iter().rev().take(20) {
            let again = runtime.block_on(store.append(vec![message(to, key)])).remove(0).unwrap();
            assert_eq!((again.seq, again.message_id.to_string()), (*seq, id.clone()));
            assert!(again.duplicate && again.outbox.is_some());
        }
    }
}
