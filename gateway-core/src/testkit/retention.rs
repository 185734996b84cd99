//! What is promised of forgetting old messages.

use std::time::Duration;

use super::message_store::{Any, Outcome, Store, append, message, say};
use super::{START, clock, conversation, holds, same, text, user};
use crate::store::{Cut, Extent, Marker, Page, Search, SearchScope, UnreadRange};

async fn kept(store: &Store, of: &str) -> Result<Vec<u64>, String> {
    let page = store.history(&conversation(of)?, Page::after(0, 1000)).await.map_err(text)?;
    Ok(page.iter().map(|message| message.seq).collect())
}

async fn forget(store: &Store, of: &str, cut: Cut, limit: usize) -> Result<u64, String> {
    store.forget(&conversation(of)?, cut, limit).await.map_err(text)
}

pub(super) async fn survey_says_what_there_is_page_by_page(harness: Any<'_>) -> Outcome {
    let clock = clock();
    let store = harness.create(clock.clone()).await;
    same!(store.survey(None, 10).await.map_err(text)?, [], "what there is in the beginning");
    for name in ["group:c", "direct:alice:bob", "group:a", "group:c"] {
        say(&store, name, "alice", "hi").await?;
        clock.advance(Duration::from_millis(1));
    }
    forget(&store, "group:a", Cut::new(0, 9), 9).await?;
    let wanted = [
        Extent::new(conversation("direct:alice:bob")?, 1, START + 1, 1),
        Extent::new(conversation("group:c")?, 1, START, 2),
    ];
    same!(store.survey(None, 10).await.map_err(text)?, wanted, "what there is");
    let first = store.survey(None, 1).await.map_err(text)?;
    same!(first.as_slice(), wanted.get(..1).unwrap_or_default(), "the first page");
    let rest = store.survey(first.first().map(|one| &one.conversation), 1).await.map_err(text)?;
    same!(rest.as_slice(), wanted.get(1..).unwrap_or_default(), "the second page");
    Ok(())
}

pub(super) async fn the_oldest_are_forgotten_as_far_as_the_cut_goes(harness: Any<'_>) -> Outcome {
    let clock = clock();
    let store = harness.create(clock.clone()).await;
    for _ in 0..10 {
        say(&store, "group:a", "alice", "word").await?;
        say(&store, "group:b", "alice", "word").await?;
        clock.advance(Duration::from_millis(10));
    }
    same!(forget(&store, "group:a", Cut::new(0, 0), 100).await?, 0, "forgotten by an empty cut");
    same!(forget(&store, "group:none", Cut::new(0, 9), 100).await?, 0, "forgotten of nothing");
    same!(forget(&store, "group:a", Cut::new(0, 4), 100).await?, 3, "forgotten by number");
    same!(kept(&store, "group:a").await?, (4..=10).collect::<Vec<_>>(), "what is left");
    same!(forget(&store, "group:a", Cut::new(START + 50, 0), 100).await?, 2, "forgotten by age");
    same!(forget(&store, "group:a", Cut::new(0, 99), 3).await?, 3, "forgotten, at most 3");
    same!(kept(&store, "group:a").await?, [9, 10], "what is left");
    same!(kept(&store, "group:b").await?.len(), 10, "what is left of the other conversation");
    let at = store.position(&conversation("group:a")?).await.map_err(text)?;
    same!((at.first_seq, at.last_seq), (9, 10), "the position");
    let all = Search::new("word".parse().map_err(text)?, 100)
        .with_scopes([SearchScope::new(conversation("group:a")?)]);
    let found = store.search(all).await.map_err(text)?;
    same!(found.len(), 2, "what a search finds");
    same!(forget(&store, "group:a", Cut::new(0, 99), 100).await?, 2, "forgotten, the rest");
    let at = store.position(&conversation("group:a")?).await.map_err(text)?;
    same!((at.first_seq, at.last_seq), (11, 10), "the position of nothing");
    same!(say(&store, "group:a", "alice", "next").await?.seq, 11, "the next seq");
    let Some(store) = harness.restart(store).await else { return Ok(()) };
    same!(kept(&store, "group:a").await?, [11], "what is left after a restart");
    Ok(())
}

pub(super) async fn what_waits_in_the_outbox_is_not_forgotten(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    say(&store, "group:a", "alice", "published").await?;
    let waits = message("group:a", "alice", "waits")?.with_targets(["t"]);
    let waits = append(&store, waits.with_idempotency_key("k")).await?;
    say(&store, "group:a", "alice", "after it").await?;
    same!(forget(&store, "group:a", Cut::new(u64::MAX, 99), 100).await?, 1, "forgotten");
    same!(kept(&store, "group:a").await?, [2, 3], "what is left");
    let entries = store.unpublished(None, 10).await.map_err(text)?;
    let bodies: Vec<_> = entries.iter().map(|entry| &entry.message.body[..]).collect();
    same!(bodies, [b"waits"], "the outbox");
    store.mark_published(waits.outbox.as_slice()).await.map_err(text)?;
    same!(forget(&store, "group:a", Cut::new(u64::MAX, 99), 100).await?, 2, "forgotten then");
    let again = append(&store, message("group:a", "alice", "x")?.with_idempotency_key("k")).await?;
    same!((again.seq, again.duplicate), (2, true), "the answer to its key");
    Ok(())
}

pub(super) async fn what_is_forgotten_is_not_unread(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let (bob, groups) = (user("bob")?, [conversation("group:a")?]);
    for _ in 0..10 {
        say(&store, "group:a", "alice", "hi").await?;
    }
    let unread = async |store: &Store| {
        let list = store.conversations(&bob, &groups, None, 9).await.map_err(text)?;
        list.first().map(|line| line.unread).ok_or_else(|| "no conversation".to_owned())
    };
    let id = conversation("group:a")?;
    let read = async |seq| store.mark(&id, &bob, Marker::Read, seq).await.map_err(text);
    read(2).await?;
    same!(unread(&store).await?, 8, "unread before");
    forget(&store, "group:a", Cut::new(0, 6), 100).await?;
    same!(unread(&store).await?, 5, "unread once 5 are forgotten");
    read(4).await?;
    same!(unread(&store).await?, 5, "unread after reading what is forgotten");
    read(7).await?;
    same!(unread(&store).await?, 3, "unread after reading two more");
    forget(&store, "group:a", Cut::new(0, 99), 100).await?;
    same!(unread(&store).await?, 0, "unread once all are forgotten");
    say(&store, "group:a", "alice", "new").await?;
    same!(unread(&store).await?, 1, "unread with a new one");
    let ranges = store.unread(&bob, &groups).await.map_err(text)?;
    holds!(ranges == [UnreadRange::new(id.clone(), 7, 11)], "{ranges:?}");
    Ok(())
}
