//! What is promised of messages that another store had.

use super::message_store::{Any, Outcome, Store, append, message};
use super::{clock, conversation, same, text, user};
use crate::store::{
    Change, Imported, Marker, MessageId, MessageKind, NewMessage, Page, Position, Search,
    SearchScope, StoreError, StoredMessage,
};

const GROUP: &str = "group:a";

fn about(kind: MessageKind, of: MessageId, body: &str) -> Result<NewMessage, String> {
    let about = message(GROUP, "alice", body)?.with_kind(kind).with_change(Change::of(of));
    Ok(about.with_header("in-reply-to", of.to_string()))
}

/// A conversation with a bit of everything, from 3 on
async fn filled(harness: Any<'_>) -> Result<Store, String> {
    let store = harness.create(clock()).await;
    let mut ids = Vec::new();
    for body in ["old", "old", "frist", "secret", "word", "fading"] {
        let mut new =
            message(GROUP, "alice", body)?.with_idempotency_key(format!("key {}", ids.len()));
        if body == "fading" {
            new = new.with_header("expires", "1");
        }
        ids.push(append(&store, new).await?.message_id);
    }
    let id = |place: usize| ids.get(place).copied().ok_or("there is no such message");
    append(&store, about(MessageKind::Edit, id(2)?, "first")?).await?;
    append(&store, about(MessageKind::Reaction, id(4)?, "+1")?).await?;
    append(&store, about(MessageKind::Recall, id(3)?, "")?).await?;
    let cut = crate::store::Cut::new(0, 3);
    store.forget(&conversation(GROUP)?, cut, 9).await.map_err(text)?;
    Ok(store)
}

async fn history(store: &Store) -> Result<Vec<StoredMessage>, String> {
    store.history(&conversation(GROUP)?, Page::after(0, 100)).await.map_err(text)
}

async fn position(store: &Store) -> Result<Position, String> {
    store.position(&conversation(GROUP)?).await.map_err(text)
}

async fn archive(store: &Store) -> Result<Vec<Imported>, String> {
    let mut archive = Vec::new();
    for message in history(store).await? {
        let (of, id) = (&message.conversation, message.message_id);
        let original = match message.edited {
            Some(_) => store.find(of, id, true).await.map_err(text)?,
            None => None,
        };
        archive.push(Imported::new(message).with_original(original));
    }
    Ok(archive)
}

async fn unread(store: &Store) -> Result<u64, String> {
    let list = store
        .conversations(&user("bob")?, &[conversation("group:a")?], None, 9)
        .await
        .map_err(text)?;
    Ok(list.first().map_or(0, |line| line.unread))
}

pub(super) async fn what_is_imported_is_as_it_was(harness: Any<'_>) -> Outcome {
    let from = filled(harness).await?;
    let archive = archive(&from).await?;
    let wanted = history(&from).await?;
    let mut store = harness.create(clock()).await;
    let of = conversation(GROUP)?;
    let (first, rest) = archive.split_at(2);
    same!(store.import(&of, first.to_vec()).await, Ok(2), "how many are new");
    same!(store.import(&of, archive.clone()).await, Ok(rest.len() as u64), "how many are new then");
    same!(store.import(&of, archive).await, Ok(0), "how many are new when all is there");
    if let Some(restarted) = harness.restart(store.clone()).await {
        store = restarted;
    }
    same!(history(&store).await?, wanted, "the history");
    let (at, was) = (position(&store).await?, position(&from).await?);
    same!((at.first_seq, at.last_seq, at.gap), (was.first_seq, was.last_seq, 0), "the position");
    same!(unread(&store).await?, 2, "what is unread: neither recalled nor expired");
    same!(unread(&from).await?, 2, "what was unread");
    let edited = wanted.first().ok_or("nothing was stored")?;
    let original = store.find(&of, edited.message_id, true).await.map_err(text)?;
    same!(original.map(|original| original.body), Some("frist".into()), "the original");
    for (word, count) in [("first", 1), ("word", 1), ("frist", 0), ("secret", 0)] {
        let search =
            Search::new(word.parse().map_err(text)?, 9).with_scopes([SearchScope::new(of.clone())]);
        same!(store.search(search).await.map_err(text)?.len(), count, "what is found of {word}");
    }
    same!(store.unpublished(None, 9).await.map_err(text)?.len(), 0, "what is in the outbox");
    store.mark(&of, &user("bob")?, Marker::Read, 3).await.map_err(text)?;
    same!(unread(&store).await?, 1, "what is unread after reading up to 3");
    let recall = about(MessageKind::Recall, edited.message_id, "")?;
    same!(append(&store, recall).await?.seq, was.last_seq + 1, "the next seq");
    let left = history(&store).await?.into_iter().filter(|one| one.body == "first").count();
    same!(left, 0, "how often a text is there that is recalled, with its edit");
    Ok(())
}

pub(super) async fn an_import_over_other_messages_is_refused(harness: Any<'_>) -> Outcome {
    let archive = archive(&filled(harness).await?).await?;
    let store = harness.create(clock()).await;
    for _ in 0..4 {
        append(&store, message(GROUP, "bob", "mine")?).await?;
    }
    let outcome = store.import(&conversation(GROUP)?, archive).await;
    same!(matches!(outcome, Err(StoreError::Refused(_))), true, "that it is refused");
    same!(history(&store).await?.len(), 4, "how many messages are there");
    Ok(())
}
