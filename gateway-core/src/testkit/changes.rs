//! What is promised of edits, recalls, reactions and of what expires.

use std::time::Duration;

use super::message_store::{Any, Outcome, Store, append, message, say};
use super::{START, clock, conversation, same, text, user};
use crate::store::{
    Change, ChangeError, MAX_REACTIONS, MessageId, MessageKind, NewMessage, Page, Search,
    SearchScope, SearchTerms, StoreError, StoredMessage,
};

const GROUP: &str = "group:a";

fn change(kind: MessageKind, from: &str, of: MessageId, body: &str) -> Result<NewMessage, String> {
    Ok(message(GROUP, from, body)?
        .with_kind(kind)
        .with_header("in-reply-to", of.to_string())
        .with_change(Change::of(of)))
}

async fn found(store: &Store, id: MessageId, original: bool) -> Result<StoredMessage, String> {
    let found = store.find(&conversation(GROUP)?, id, original).await.map_err(text)?;
    found.ok_or_else(|| format!("{id} is not found"))
}

async fn refused(store: &Store, message: NewMessage) -> Result<Option<ChangeError>, String> {
    match store.append(vec![message]).await.pop() {
        Some(Err(StoreError::Change(fault))) => Ok(Some(fault)),
        Some(Ok(_)) => Ok(None),
        other => Err(format!("found {other:?}")),
    }
}

async fn unread(store: &Store, of: &str) -> Result<u64, String> {
    let groups = [conversation("group:a")?];
    let list = store.conversations(&user(of)?, &groups, None, 10).await.map_err(text)?;
    Ok(list.first().map_or(0, |line| line.unread))
}

pub(super) async fn an_edit_shows_its_body_and_the_original_is_kept(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let first = message(GROUP, "alice", "frist")?
        .with_header("content-type", "text/plain")
        .with_header("x-mood", "good");
    let first = append(&store, first).await?.message_id;
    for (seq, body) in [(2, "first"), (3, "First!")] {
        let edit = change(MessageKind::Edit, "alice", first, body)?
            .with_header("content-type", "text/markdown");
        same!(append(&store, edit).await?.seq, seq, "seq of the edit");
        let now = found(&store, first, false).await?;
        same!(now.body, body, "the body after the edit");
        same!((now.seq, now.edited), (1, Some(seq)), "which edit was the last");
        let headers: Vec<_> = now.headers.iter().map(|(_, value)| value.as_str()).collect();
        same!(headers, ["good", "text/markdown"], "the headers after the edit");
    }
    let original = found(&store, first, true).await?;
    same!(original.body, "frist", "the original");
    same!(original.edited, None, "that the original is no edit");
    let history = store.history(&conversation(GROUP)?, Page::latest(10)).await.map_err(text)?;
    let bodies: Vec<_> = history.iter().map(|message| message.body.clone()).collect();
    same!(bodies, ["First!", "first", "First!"], "the history");
    let unknown = store.find(&conversation(GROUP)?, MessageId::generate(), false).await;
    same!(unknown, Ok(None), "an id that nobody has");
    let elsewhere = store.find(&conversation("group:b")?, first, false).await;
    same!(elsewhere, Ok(None), "the id in another conversation");
    Ok(())
}

pub(super) async fn a_recall_leaves_nothing_of_what_was_said(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let secret = message(GROUP, "alice", "secret")?.with_header("x-secret", "secret");
    let secret = append(&store, secret.with_targets(["inbox.bob"])).await?.message_id;
    let batch = vec![
        change(MessageKind::Reaction, "bob", secret, "secret?")?,
        change(MessageKind::Edit, "alice", secret, "secret!")?.with_header("x-secret", "secret"),
        change(MessageKind::Recall, "alice", secret, "")?,
    ];
    for answer in store.append(batch).await {
        answer.map_err(text)?;
    }
    let history = store.history(&conversation(GROUP)?, Page::latest(10)).await.map_err(text)?;
    let waiting = store.unpublished(None, 10).await.map_err(text)?;
    let waiting = waiting.into_iter().map(|entry| entry.message);
    let both = [found(&store, secret, false).await?, found(&store, secret, true).await?];
    // What bob said himself stays.
    let others = |message: &StoredMessage| message.sender.as_str() == "alice";
    for message in history.iter().cloned().chain(waiting).chain(both).filter(others) {
        same!(message.body, "", "the body of seq {}", message.seq);
        same!(message.reactions, [], "the reactions to seq {}", message.seq);
        let kept = message.headers.iter().find(|(name, _)| name != "in-reply-to");
        same!(kept, None, "the headers of seq {}", message.seq);
    }
    let seqs: Vec<_> = history.iter().map(|message| message.seq).collect();
    same!(seqs, [1, 2, 3, 4], "seqs: nothing is missing");
    same!(history.first().and_then(|first| first.recalled), Some(4), "the recall that did it");
    Ok(())
}

pub(super) async fn only_what_may_be_changed_is_changed(harness: Any<'_>) -> Outcome {
    let clock = clock();
    let store = harness.create(clock.clone()).await;
    let first = say(&store, GROUP, "alice", "one").await?.message_id;
    let other = say(&store, "group:b", "alice", "elsewhere").await?.message_id;
    clock.advance(Duration::from_secs(60));
    let edit = |of| change(MessageKind::Edit, "bob", of, "changed");
    same!(refused(&store, edit(other)?).await?, Some(ChangeError::NoTarget), "of elsewhere");
    let nothing = MessageId::generate();
    same!(refused(&store, edit(nothing)?).await?, Some(ChangeError::NoTarget), "of nothing");
    let by_author = edit(first)?.with_change(Change::of(first).by_author_only());
    same!(refused(&store, by_author).await?, Some(ChangeError::NotAuthor), "by another");
    let late = edit(first)?.with_change(Change::of(first).not_before(START + 1));
    same!(refused(&store, late).await?, Some(ChangeError::TooLate), "too late");
    let nowhere = message("group:none", "bob", "")?.with_change(Change::of(first));
    same!(refused(&store, nowhere).await?, Some(ChangeError::NoTarget), "where nobody spoke");
    let untouched = found(&store, first, false).await?;
    same!((untouched.body.as_ref(), untouched.edited), (&b"one"[..], None), "what was refused");

    let in_time = change(MessageKind::Recall, "alice", first, "")?
        .with_change(Change::of(first).by_author_only().not_before(START))
        .with_idempotency_key("recall");
    let recall = append(&store, in_time.clone()).await?;
    same!(recall.seq, 2, "seq of the recall: what was refused has none");
    same!(refused(&store, edit(first)?).await?, Some(ChangeError::Recalled), "an edit after it");
    let again = change(MessageKind::Recall, "alice", first, "")?;
    same!(refused(&store, again).await?, Some(ChangeError::Recalled), "a second recall");
    let repeated = append(&store, in_time).await?;
    same!((repeated.seq, repeated.duplicate), (2, true), "the same recall again");
    let of_recall = change(MessageKind::Recall, "alice", recall.message_id, "")?;
    same!(refused(&store, of_recall).await?, Some(ChangeError::NoTarget), "a recall's recall");
    Ok(())
}

pub(super) async fn a_user_has_one_reaction_to_a_message(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let first = say(&store, GROUP, "alice", "one").await?.message_id;
    let reactions = async || {
        let found = found(&store, first, false).await?;
        let shown = found.reactions.iter().map(|one| format!("{}:{}", one.user, one.text));
        Ok::<_, String>(shown.collect::<Vec<_>>())
    };
    for (from, body, wanted) in [
        ("bob", "+", vec!["bob:+"]),
        ("alice", "✓", vec!["bob:+", "alice:✓"]),
        ("bob", "-", vec!["alice:✓", "bob:-"]),
        ("alice", "", vec!["bob:-"]),
        ("alice", "", vec!["bob:-"]),
    ] {
        append(&store, change(MessageKind::Reaction, from, first, body)?).await?;
        same!(reactions().await?, wanted, "reactions after {from} said {body:?}");
    }
    let many: Result<Vec<_>, String> = (1..MAX_REACTIONS)
        .map(|number| change(MessageKind::Reaction, &format!("user{number}"), first, "+"))
        .collect();
    for answer in store.append(many?).await {
        answer.map_err(text)?;
    }
    let one_more = change(MessageKind::Reaction, "carol", first, "+")?;
    same!(refused(&store, one_more).await?, Some(ChangeError::TooManyReactions), "one too many");
    append(&store, change(MessageKind::Reaction, "bob", first, "!")?).await?;
    Ok(())
}

pub(super) async fn what_is_recalled_or_has_expired_is_not_unread(harness: Any<'_>) -> Outcome {
    let clock = clock();
    let store = harness.create(clock.clone()).await;
    let expiring = (START + 1000).to_string();
    let first = say(&store, GROUP, "alice", "one").await?.message_id;
    append(&store, message(GROUP, "alice", "two")?.with_header("expires", expiring)).await?;
    say(&store, GROUP, "alice", "three").await?;
    same!(unread(&store, "bob").await?, 3, "unread at first");
    append(&store, change(MessageKind::Recall, "alice", first, "")?).await?;
    same!(unread(&store, "bob").await?, 2, "unread after a recall");
    clock.advance(Duration::from_millis(999));
    same!(unread(&store, "bob").await?, 2, "unread just before the end");
    clock.advance(Duration::from_millis(1));
    same!(unread(&store, "bob").await?, 1, "unread after the end");
    let group = conversation(GROUP)?;
    for (up_to, left) in [(1, 1), (2, 1), (3, 0), (4, 0)] {
        let read = crate::store::Marker::Read;
        store.mark(&group, &user("bob")?, read, up_to).await.map_err(text)?;
        same!(unread(&store, "bob").await?, left, "unread after reading up to {up_to}");
    }
    same!(unread(&store, "carol").await?, 1, "unread of who has read nothing");
    Ok(())
}

pub(super) async fn search_follows_edits_and_recalls(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let first = say(&store, GROUP, "alice", "lunch at twelfe").await?.message_id;
    let finds = async |word: &str| {
        let terms = word.parse::<SearchTerms>().map_err(text)?;
        let search = Search::new(terms, 10).with_scopes([SearchScope::new(conversation(GROUP)?)]);
        let found = store.search(search).await.map_err(text)?;
        Ok::<_, String>(found.iter().map(|message| message.seq).collect::<Vec<_>>())
    };
    same!(finds("twelfe").await?, [1], "what was said");
    append(&store, change(MessageKind::Edit, "alice", first, "lunch at twelve")?).await?;
    same!(finds("twelve").await?, [1], "what the edit says");
    same!(finds("twelfe").await?, [0_u64; 0], "what was said before the edit");
    append(&store, change(MessageKind::Recall, "alice", first, "")?).await?;
    same!(finds("lunch").await?, [0_u64; 0], "what was recalled");
    Ok(())
}
