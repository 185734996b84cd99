//! What is promised of messages of which not all is stored.

use super::message_store::{Any, Outcome, Store, append, message};
use super::{clock, conversation, same, text, user};
use crate::store::{
    Change, ChangeError, Keep, Marker, MessageKind, NewMessage, OutboxId, Page, Search,
    SearchScope, StoreError, StoredMessage,
};

const GROUP: &str = "group:a";

fn secret(keep: Keep) -> Result<NewMessage, String> {
    Ok(message(GROUP, "alice", "secret")?
        .with_idempotency_key("k")
        .with_header("content-type", "text/plain")
        .with_header("x-secret", "secret")
        .with_targets(["inbox.bob"])
        .with_keep(keep))
}

async fn history(store: &Store) -> Result<Vec<StoredMessage>, String> {
    store.history(&conversation(GROUP)?, Page::after(0, 100)).await.map_err(text)
}

async fn unread(store: &Store) -> Result<u64, String> {
    let list = store
        .conversations(&user("bob")?, &[conversation("group:a")?], None, 9)
        .await
        .map_err(text)?;
    Ok(list.first().map_or(0, |line| line.unread))
}

async fn waiting(store: &Store) -> Result<Vec<(OutboxId, StoredMessage)>, String> {
    let entries = store.unpublished(None, 100).await.map_err(text)?;
    Ok(entries.into_iter().map(|entry| (entry.id, entry.message)).collect())
}

async fn found(store: &Store) -> Result<usize, String> {
    let search = Search::new("secret".parse().map_err(text)?, 9)
        .with_scopes([SearchScope::new(conversation(GROUP)?)]);
    Ok(store.search(search).await.map_err(text)?.len())
}

pub(super) async fn of_metadata_only_no_content_is_stored(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let first = append(&store, secret(Keep::Metadata)?).await?;
    let kept = history(&store).await?;
    let Some(one) = kept.first() else { return Err("the message is not in the history".into()) };
    same!((one.seq, one.message_id), (1, first.message_id), "which it is");
    same!((one.sender.as_str(), one.timestamp), ("alice", first.timestamp), "who, and when");
    same!(one.body, "", "the body that is stored");
    let headers: Vec<_> =
        one.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let wanted = [("content-type", "text/plain"), ("stored", "metadata")];
    same!(headers, wanted, "the headers that are stored");
    same!(found(&store).await?, 0, "what a search finds");
    same!(unread(&store).await?, 1, "what is unread");
    let again = append(&store, secret(Keep::Metadata)?).await?;
    same!((again.duplicate, again.seq), (true, 1), "the answer to the key used again");
    Ok(())
}

pub(super) async fn what_is_not_stored_has_a_number_only(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    append(&store, message(GROUP, "alice", "plain")?).await?;
    let first = append(&store, secret(Keep::Nothing)?).await?;
    let last = append(&store, message(GROUP, "alice", "plain")?).await?;
    same!((first.seq, last.seq), (2, 3), "the numbers");
    let seqs: Vec<_> = history(&store).await?.iter().map(|message| message.seq).collect();
    same!(seqs, [1, 3], "what the history has");
    let page = store.history(&conversation(GROUP)?, Page::after(2, 9)).await.map_err(text)?;
    same!(page.len(), 1, "what is after it");
    let page = store.history(&conversation(GROUP)?, Page::before(3, 9)).await.map_err(text)?;
    same!(page.len(), 1, "what is before the last");
    same!(found(&store).await?, 0, "what a search finds");
    same!(unread(&store).await?, 2, "what is unread");
    store.mark(&conversation(GROUP)?, &user("bob")?, Marker::Read, 2).await.map_err(text)?;
    same!(unread(&store).await?, 1, "what is unread after reading up to it");
    let edit = message(GROUP, "alice", "new")?
        .with_kind(MessageKind::Edit)
        .with_change(Change::of(first.message_id));
    let refused = store.append(vec![edit]).await.pop();
    same!(refused, Some(Err(StoreError::Change(ChangeError::NoTarget))), "the answer to an edit");
    let again = append(&store, secret(Keep::Nothing)?).await?;
    same!((again.duplicate, again.seq), (true, 2), "the answer to the key used again");
    Ok(())
}

pub(super) async fn the_outbox_has_all_of_what_is_not_stored(harness: Any<'_>) -> Outcome {
    let mut store = harness.create(clock()).await;
    let mut wanted = Vec::new();
    for keep in [Keep::Metadata, Keep::Nothing] {
        let mut whole = secret(keep)?;
        whole.idempotency_key = None;
        let at = append(&store, whole.clone()).await?;
        wanted.push(StoredMessage::new(whole, at.seq, at.message_id, at.timestamp));
    }
    let found: Vec<_> = waiting(&store).await?.into_iter().map(|(_, message)| message).collect();
    same!(found, wanted, "the outbox");
    if let Some(restarted) = harness.restart(store.clone()).await {
        store = restarted;
        let found: Vec<_> =
            waiting(&store).await?.into_iter().map(|(_, message)| message).collect();
        same!(found, wanted, "the outbox after a restart");
    }
    let ids: Vec<_> = waiting(&store).await?.into_iter().map(|(id, _)| id).collect();
    store.mark_published(&ids).await.map_err(text)?;
    same!(waiting(&store).await?.len(), 0, "the outbox once it is published");
    same!(history(&store).await?.len(), 1, "the history then");
    Ok(())
}

pub(super) async fn position_tells_the_last_gap(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let keeps =
        [Keep::Everything, Keep::Nothing, Keep::Everything, Keep::Metadata, Keep::Everything];
    for (keep, gap) in keeps.into_iter().zip([0, 2, 2, 4, 4]) {
        append(&store, message(GROUP, "alice", "x")?.with_keep(keep)).await?;
        let at = store.position(&conversation(GROUP)?).await.map_err(text)?;
        same!(at.gap, gap, "the gap at {}", at.last_seq);
    }
    let at = store.position(&conversation(GROUP)?).await.map_err(text)?;
    same!((at.first_seq, at.complete_from(), at.last_seq), (1, 5, 5), "the position");
    Ok(())
}

pub(super) async fn changes_follow_what_is_stored_of_them(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let target = append(&store, message(GROUP, "alice", "first")?).await?.message_id;
    let change = |kind, body, keep| {
        let of = message(GROUP, "alice", body)?.with_kind(kind).with_keep(keep);
        Ok::<_, String>(
            of.with_header("in-reply-to", target.to_string()).with_change(Change::of(target)),
        )
    };
    let edit = change(MessageKind::Edit, "secret", Keep::Metadata)?.with_targets(["inbox.bob"]);
    append(&store, edit).await?;
    append(&store, change(MessageKind::Reaction, "secret", Keep::Metadata)?).await?;
    let of = conversation(GROUP)?;
    for original in [false, true] {
        let now =
            store.find(&of, target, original).await.map_err(text)?.ok_or("it is not found")?;
        same!((now.body.as_ref(), now.edited), (&b""[..], Some(2)), "the target of the edit");
        same!(now.reactions.len(), 0, "how many reactions are stored");
    }
    append(&store, change(MessageKind::Recall, "", Keep::Metadata)?).await?;
    let bodies: Vec<_> = waiting(&store).await?.into_iter().map(|(_, one)| one.body).collect();
    same!(bodies, [""], "what the outbox has of the edit of a message that was recalled");
    Ok(())
}
