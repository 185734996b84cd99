//! What is promised of a message store, one function for each promise.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::changes::{
    a_recall_leaves_nothing_of_what_was_said, a_user_has_one_reaction_to_a_message,
    an_edit_shows_its_body_and_the_original_is_kept, only_what_may_be_changed_is_changed,
    search_follows_edits_and_recalls, what_is_recalled_or_has_expired_is_not_unread,
};
use super::import::{an_import_over_other_messages_is_refused, what_is_imported_is_as_it_was};
use super::keep::{
    changes_follow_what_is_stored_of_them, of_metadata_only_no_content_is_stored,
    position_tells_the_last_gap, the_outbox_has_all_of_what_is_not_stored,
    what_is_not_stored_has_a_number_only,
};
use super::retention::{
    survey_says_what_there_is_page_by_page, the_oldest_are_forgotten_as_far_as_the_cut_goes,
    what_is_forgotten_is_not_unread, what_waits_in_the_outbox_is_not_forgotten,
};
use super::search::{
    search_finds_after_a_restart, search_finds_parts_of_texts_without_spaces,
    search_finds_texts_of_plain_messages_only, search_finds_words_and_phrases,
    search_gives_the_newest_first_page_by_page, search_is_bounded_in_octets,
    search_looks_only_where_it_is_told,
};
use super::{Check, Harness, START, clock, conversation, holds, same, table, text, user};
use crate::names::{ConversationId, DeviceName};
use crate::store::{
    Appended, ConversationCursor, DEDUPE_MILLIS, MAX_KEY_OCTETS, Marker, MessageKind, MessageStore,
    NewMessage, Page, StoreError, StoredMessage,
};

pub(super) type Outcome = Result<(), String>;
pub(super) type Any<'a> = &'a mut dyn Harness<dyn MessageStore>;
pub(super) type Store = Arc<dyn MessageStore>;

#[doc(hidden)]
#[macro_export]
macro_rules! __message_store_checks {
    ([$($callback:tt)+] [$($arguments:tt)*]) => {
        $($callback)+! {
            [$($arguments)*]
            seqs_start_at_one_and_have_no_gaps
            concurrent_appends_leave_no_gaps_and_no_doubles
            a_message_is_kept_as_it_was_given
            timestamps_do_not_go_back
            a_refused_message_leaves_the_rest_of_its_batch_alone
            a_repeated_key_gives_the_first_answer_and_no_second_message
            the_same_key_of_another_sender_is_another_key
            concurrent_uses_of_a_key_store_one_message
            a_key_is_forgotten_after_24_hours
            a_key_is_remembered_over_a_restart
            a_repeated_key_says_whether_the_first_message_waits_in_the_outbox
            history_gives_the_page_that_was_asked_for
            history_is_bounded_in_octets
            position_says_from_where_to_where
            markers_move_forward_only
            markers_end_at_the_last_message
            reading_is_delivering
            sending_moves_the_markers_of_the_sender
            unread_counts_what_others_said_after_the_marker
            conversations_are_those_of_the_user_latest_first
            conversations_come_in_pages
            unread_ranges_are_what_a_new_device_needs
            search_finds_words_and_phrases
            search_finds_parts_of_texts_without_spaces
            search_looks_only_where_it_is_told
            search_gives_the_newest_first_page_by_page
            search_finds_texts_of_plain_messages_only
            search_is_bounded_in_octets
            search_finds_after_a_restart
            survey_says_what_there_is_page_by_page
            the_oldest_are_forgotten_as_far_as_the_cut_goes
            what_waits_in_the_outbox_is_not_forgotten
            what_is_forgotten_is_not_unread
            the_outbox_keeps_the_order_of_storing
            what_is_published_leaves_the_outbox
            outbox_ids_are_never_used_twice
            what_was_answered_survives_a_restart
            an_edit_shows_its_body_and_the_original_is_kept
            a_recall_leaves_nothing_of_what_was_said
            only_what_may_be_changed_is_changed
            a_user_has_one_reaction_to_a_message
            what_is_recalled_or_has_expired_is_not_unread
            search_follows_edits_and_recalls
            of_metadata_only_no_content_is_stored
            what_is_not_stored_has_a_number_only
            the_outbox_has_all_of_what_is_not_stored
            position_tells_the_last_gap
            changes_follow_what_is_stored_of_them
            what_is_imported_is_as_it_was
            an_import_over_other_messages_is_refused
            health_is_good
        }
    };
}

/// The suite for message stores
#[must_use]
pub fn message_store_checks() -> Vec<Check<dyn MessageStore>> {
    __message_store_checks!([table] [])
}

pub(super) fn message(to: &str, from: &str, body: &str) -> Result<NewMessage, String> {
    Ok(NewMessage::new(conversation(to)?, user(from)?, body.to_owned()))
}

pub(super) async fn append(store: &Store, message: NewMessage) -> Result<Appended, String> {
    let mut outcome = store.append(vec![message]).await;
    holds!(outcome.len() == 1, "one message, {} answers", outcome.len());
    outcome.remove(0).map_err(text)
}

pub(super) async fn say(
    store: &Store,
    to: &str,
    from: &str,
    body: &str,
) -> Result<Appended, String> {
    append(store, message(to, from, body)?).await
}

async fn all(store: &Store, of: &str) -> Result<Vec<StoredMessage>, String> {
    let mut messages: Vec<StoredMessage> = Vec::new();
    loop {
        let last = messages.last().map_or(0, |message| message.seq);
        let page = store.history(&conversation(of)?, Page::after(last, 100)).await.map_err(text)?;
        if page.is_empty() {
            return Ok(messages);
        }
        messages.extend(page);
    }
}

fn seqs(messages: &[StoredMessage]) -> Vec<u64> {
    messages.iter().map(|message| message.seq).collect()
}

async fn seqs_start_at_one_and_have_no_gaps(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    for seq in 1..=3 {
        same!(
            say(&store, "group:a", "alice", "hi").await?.seq,
            seq,
            "seq in the first conversation"
        );
        same!(say(&store, "direct:alice:bob", "bob", "hi").await?.seq, seq, "seq in the second");
    }
    let batch = vec![
        message("group:a", "alice", "four")?,
        message("group:b", "alice", "one")?,
        message("group:a", "bob", "five")?,
    ];
    let answers: Result<Vec<_>, _> = store.append(batch).await.into_iter().collect();
    let given: Vec<_> = answers.map_err(text)?.iter().map(|appended| appended.seq).collect();
    same!(given, [4, 1, 5], "seqs of a batch");
    same!(seqs(&all(&store, "group:a").await?), [1, 2, 3, 4, 5], "seqs in the history");
    Ok(())
}

async fn concurrent_appends_leave_no_gaps_and_no_doubles(harness: Any<'_>) -> Outcome {
    const SENDERS: u64 = 16;
    const EACH: u64 = 20;
    let store = harness.create(clock()).await;
    let sending = (0..SENDERS).map(|number| {
        let store = Arc::clone(&store);
        async move {
            let mut answers = Vec::new();
            for _ in 0..EACH {
                let own = format!("s{number}");
                let batch = vec![message("group:a", &own, "x")?, message("group:b", &own, "y")?];
                for answer in store.append(batch).await {
                    answers.push(answer.map_err(text)?);
                }
                tokio::task::yield_now().await;
            }
            Ok::<_, String>(answers)
        }
    });
    let mut answers = Vec::new();
    for task in join_all(sending.map(tokio::spawn)).await {
        answers.extend(task.map_err(text)??);
    }
    for name in ["group:a", "group:b"] {
        let wanted: Vec<u64> = (1..=SENDERS * EACH).collect();
        let kept = all(&store, name).await?;
        same!(seqs(&kept), wanted, "seqs in the history of {name}");
        let id = conversation(name)?;
        let mut answered: Vec<_> = answers
            .iter()
            .filter(|appended| appended.conversation == id)
            .map(|appended| (appended.seq, appended.message_id))
            .collect();
        answered.sort_unstable();
        let kept: Vec<_> = kept.iter().map(|message| (message.seq, message.message_id)).collect();
        same!(answered, kept, "what was answered and what is in the history of {name}");
    }
    let ids: HashSet<_> = answers.iter().map(|appended| appended.message_id).collect();
    same!(ids.len(), answers.len(), "distinct message ids");
    Ok(())
}

async fn a_message_is_kept_as_it_was_given(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let full =
        NewMessage::new(conversation("direct:alice:李雷")?, user("李雷")?, vec![0, 255, 10, 13])
            .with_device(DeviceName::new("tel").map_err(text)?)
            .with_kind(MessageKind::Edit)
            .with_idempotency_key("k\u{0}\n")
            .with_header("x-b", "")
            .with_header("x-a", "ü:\n")
            .with_header("x-a", "again")
            .with_targets(["inbox.alice"]);
    let plain = message("direct:alice:李雷", "alice", "")?;
    for given in [full, plain] {
        let place = append(&store, given.clone()).await?;
        let wanted = StoredMessage::new(given, place.seq, place.message_id, place.timestamp);
        let page = Page::after(place.seq - 1, 10);
        let kept = store.history(&place.conversation, page).await.map_err(text)?;
        same!(kept, [wanted], "the message from the history");
        same!(place.timestamp, START, "its timestamp");
        holds!(!place.duplicate, "a first message is no duplicate");
    }
    Ok(())
}

async fn timestamps_do_not_go_back(harness: Any<'_>) -> Outcome {
    let clock = clock();
    let store = harness.create(clock.clone()).await;
    let first = say(&store, "group:a", "alice", "one").await?;
    clock.set(START - 5000);
    let second = say(&store, "group:a", "alice", "two").await?;
    holds!(second.timestamp >= first.timestamp, "{second:?} is before {first:?}");
    clock.set(START + 7);
    same!(say(&store, "group:a", "bob", "three").await?.timestamp, START + 7, "timestamp");
    Ok(())
}

async fn a_refused_message_leaves_the_rest_of_its_batch_alone(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let long = "k".repeat(MAX_KEY_OCTETS);
    let batch = vec![
        message("group:a", "alice", "one")?.with_idempotency_key(long.clone()),
        message("group:a", "alice", "never")?.with_idempotency_key(format!("{long}k")),
        message("group:a", "alice", "nor this")?.with_idempotency_key(""),
        message("group:a", "alice", "two")?,
    ];
    let answers = store.append(batch).await;
    let given: Vec<_> = answers.iter().map(|answer| answer.as_ref().ok().map(|a| a.seq)).collect();
    same!(given, [Some(1), None, None, Some(2)], "seqs");
    let refused = answers.iter().filter_map(|answer| answer.as_ref().err());
    for error in refused {
        holds!(matches!(error, StoreError::Refused(_)), "{error:?} is no refusal");
        holds!(!error.is_retryable(), "a refusal must not ask to try again");
    }
    same!(seqs(&all(&store, "group:a").await?), [1, 2], "seqs in the history");
    Ok(())
}

async fn a_repeated_key_gives_the_first_answer_and_no_second_message(harness: Any<'_>) -> Outcome {
    let clock = clock();
    let store = harness.create(clock.clone()).await;
    let keyed = |to, body| message(to, "alice", body).map(|m| m.with_idempotency_key("k"));
    let batch = vec![keyed("group:a", "one")?, keyed("group:a", "again")?];
    let answers: Result<Vec<_>, _> = store.append(batch).await.into_iter().collect();
    let answers = answers.map_err(text)?;
    let Some(first) = answers.first() else { return Err("no answer".to_owned()) };
    let wanted = first.clone().as_duplicate();
    same!(answers.get(1), Some(&wanted), "the answer in the same batch");
    clock.advance(Duration::from_secs(60));
    same!(append(&store, keyed("group:a", "other text")?).await?, wanted, "a later answer");
    let elsewhere = append(&store, keyed("group:b", "one")?).await?;
    same!(elsewhere, wanted, "the answer for another conversation");
    same!(seqs(&all(&store, "group:a").await?), [1], "seqs in the history");
    same!(seqs(&all(&store, "group:b").await?), [0; 0], "seqs in the other conversation");
    same!(say(&store, "group:a", "alice", "next").await?.seq, 2, "the next seq");
    Ok(())
}

async fn the_same_key_of_another_sender_is_another_key(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    for (sender, key, seq) in [("alice", "k", 1), ("bob", "k", 2), ("alice", "K", 3)] {
        let sent = message("group:a", sender, "hi")?.with_idempotency_key(key);
        let place = append(&store, sent).await?;
        same!((place.seq, place.duplicate), (seq, false), "place of {sender}'s {key}");
    }
    Ok(())
}

async fn concurrent_uses_of_a_key_store_one_message(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let sending = (0..200).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let key = format!("k{}", number % 10);
            append(&store, message("group:a", "alice", &key)?.with_idempotency_key(key)).await
        })
    });
    let mut places = HashSet::new();
    let mut firsts = 0;
    for task in join_all(sending).await {
        let place = task.map_err(text)??;
        firsts += usize::from(!place.duplicate);
        places.insert((place.seq, place.message_id));
    }
    same!((firsts, places.len()), (10, 10), "first uses and distinct places");
    let wanted: Vec<u64> = (1..=10).collect();
    same!(seqs(&all(&store, "group:a").await?), wanted, "seqs in the history");
    Ok(())
}

async fn a_key_is_forgotten_after_24_hours(harness: Any<'_>) -> Outcome {
    let clock = clock();
    let store = harness.create(clock.clone()).await;
    let keyed = || message("group:a", "alice", "hi").map(|m| m.with_idempotency_key("k"));
    append(&store, keyed()?).await?;
    clock.advance(Duration::from_millis(DEDUPE_MILLIS - 1));
    holds!(append(&store, keyed()?).await?.duplicate, "forgotten before 24 hours");
    clock.advance(Duration::from_millis(1));
    let second = append(&store, keyed()?).await?;
    same!((second.seq, second.duplicate), (2, false), "the place after 24 hours");
    let third = append(&store, keyed()?).await?;
    same!((third.seq, third.duplicate), (2, true), "the place after its second use");
    Ok(())
}

async fn a_key_is_remembered_over_a_restart(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let keyed = || message("group:a", "alice", "hi").map(|m| m.with_idempotency_key("k"));
    let first = append(&store, keyed()?).await?;
    let Some(store) = harness.restart(store).await else { return Ok(()) };
    same!(append(&store, keyed()?).await?, first.as_duplicate(), "the answer after a restart");
    Ok(())
}

async fn a_repeated_key_says_whether_the_first_message_waits_in_the_outbox(
    harness: Any<'_>,
) -> Outcome {
    let store = harness.create(clock()).await;
    let keyed = || {
        let plain = message("group:a", "alice", "hi")?;
        Ok::<_, String>(plain.with_idempotency_key("k").with_targets(["t"]))
    };
    let first = append(&store, keyed()?).await?;
    let Some(outbox) = first.outbox else { return Err("not in the outbox".to_owned()) };
    same!(append(&store, keyed()?).await?.outbox, Some(outbox), "its place while it waits");
    store.mark_published(&[outbox]).await.map_err(text)?;
    append(&store, message("group:b", "bob", "other")?.with_targets(["t"])).await?;
    same!(append(&store, keyed()?).await?.outbox, None, "its place once it is published");
    Ok(())
}

async fn history_gives_the_page_that_was_asked_for(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    for _ in 1..=10 {
        say(&store, "group:a", "alice", "hi").await?;
        say(&store, "group:b", "alice", "hi").await?;
    }
    let cases: [(Page, &[u64]); 15] = [
        (Page::latest(3), &[8, 9, 10]),
        (Page::latest(0), &[]),
        (Page::latest(100), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (Page::before(4, 2), &[2, 3]),
        (Page::before(1, 5), &[]),
        (Page::before(0, 5), &[]),
        (Page::before(u64::MAX, 1), &[10]),
        (Page::after(0, 2), &[1, 2]),
        (Page::after(8, 5), &[9, 10]),
        (Page::after(10, 5), &[]),
        (Page::after(u64::MAX, 5), &[]),
        (Page::between(Some(3), Some(7), 9), &[4, 5, 6]),
        (Page::between(Some(3), Some(7), 2), &[4, 5]),
        (Page::between(Some(7), Some(3), 9), &[]),
        (Page::between(None, None, 1), &[10]),
    ];
    let id = conversation("group:a")?;
    for (page, wanted) in cases {
        let found = store.history(&id, page).await.map_err(text)?;
        same!(seqs(&found), wanted, "{page:?}");
        holds!(found.iter().all(|message| message.conversation == id), "another conversation's");
    }
    let unknown = store.history(&conversation("group:z")?, Page::latest(5)).await.map_err(text)?;
    holds!(unknown.is_empty(), "an unknown conversation has messages");
    Ok(())
}

async fn history_is_bounded_in_octets(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    for _ in 1..=6 {
        say(&store, "group:a", "alice", &"x".repeat(10_000)).await?;
    }
    let id = conversation("group:a")?;
    let page = Page::after(0, 6).with_max_octets(25_000);
    let found = seqs(&store.history(&id, page).await.map_err(text)?);
    holds!(found.len() < 6 && found.starts_with(&[1]), "{found:?} for 25 kB of 60 from the start");
    let page = Page::latest(6).with_max_octets(25_000);
    let found = seqs(&store.history(&id, page).await.map_err(text)?);
    holds!(found.len() < 6 && found.ends_with(&[6]), "{found:?} for 25 kB of 60 to the end");
    let page = Page::after(2, 6).with_max_octets(1);
    same!(seqs(&store.history(&id, page).await.map_err(text)?), [3], "one message always fits");
    Ok(())
}

async fn position_says_from_where_to_where(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let (a, b) = (conversation("group:a")?, conversation("group:b")?);
    let empty = store.position(&a).await.map_err(text)?;
    same!((empty.first_seq, empty.last_seq), (1, 0), "position without messages");
    for _ in 0..3 {
        say(&store, "group:a", "alice", "hi").await?;
    }
    let three = store.position(&a).await.map_err(text)?;
    same!((three.first_seq, three.last_seq), (1, 3), "position with three messages");
    let other = store.position(&b).await.map_err(text)?;
    same!((other.first_seq, other.last_seq), (1, 0), "position of the other conversation");
    same!(three.epoch, empty.epoch, "epoch after messages");
    let other = harness.create(clock()).await;
    holds!(
        other.position(&a).await.map_err(text)?.epoch != three.epoch,
        "another store has the same epoch"
    );
    Ok(())
}

/// Moves a marker and gives (read, delivered, moved)
async fn mark(
    store: &Store,
    of: &ConversationId,
    who: &str,
    marker: Marker,
    up_to: u64,
) -> Result<(u64, u64, bool), String> {
    let marks = store.mark(of, &user(who)?, marker, up_to).await.map_err(text)?;
    same!(marks.user, user(who)?, "whose markers");
    Ok((marks.read, marks.delivered, marks.moved))
}

async fn ten_from_alice(harness: Any<'_>) -> Result<(Store, ConversationId), String> {
    let store = harness.create(clock()).await;
    for _ in 0..10 {
        say(&store, "direct:alice:bob", "alice", "hi").await?;
    }
    Ok((store, conversation("direct:alice:bob")?))
}

async fn markers_move_forward_only(harness: Any<'_>) -> Outcome {
    let (store, id) = ten_from_alice(harness).await?;
    let steps = [
        (Marker::Delivered, 7, (0, 7, true)),
        (Marker::Delivered, 7, (0, 7, false)),
        (Marker::Delivered, 3, (0, 7, false)),
        (Marker::Read, 5, (5, 7, true)),
        (Marker::Read, 4, (5, 7, false)),
        (Marker::Read, 0, (5, 7, false)),
        (Marker::Delivered, 8, (5, 8, true)),
    ];
    for (marker, up_to, wanted) in steps {
        same!(mark(&store, &id, "bob", marker, up_to).await?, wanted, "{marker:?} up to {up_to}");
    }
    let marks = store.markers(&id).await.map_err(text)?;
    let found: Vec<_> = marks.iter().map(|m| (m.user.as_str(), m.read, m.delivered)).collect();
    same!(found, [("alice", 10, 10), ("bob", 5, 8)], "markers of the conversation");
    Ok(())
}

async fn markers_end_at_the_last_message(harness: Any<'_>) -> Outcome {
    let (store, id) = ten_from_alice(harness).await?;
    let beyond = mark(&store, &id, "bob", Marker::Read, u64::MAX).await?;
    same!(beyond, (10, 10, true), "a marker set beyond the end");
    let unknown = conversation("group:nothing")?;
    same!(mark(&store, &unknown, "bob", Marker::Read, 9).await?, (0, 0, false), "without messages");
    say(&store, "group:nothing", "alice", "first").await?;
    let marks = store.markers(&unknown).await.map_err(text)?;
    let found: Vec<_> = marks.iter().map(|m| (m.user.as_str(), m.read)).collect();
    same!(found, [("alice", 1)], "markers after the first message");
    Ok(())
}

async fn reading_is_delivering(harness: Any<'_>) -> Outcome {
    let (store, id) = ten_from_alice(harness).await?;
    same!(mark(&store, &id, "bob", Marker::Read, 6).await?, (6, 6, true), "markers after reading");
    Ok(())
}

async fn sending_moves_the_markers_of_the_sender(harness: Any<'_>) -> Outcome {
    let (store, id) = ten_from_alice(harness).await?;
    say(&store, "direct:alice:bob", "bob", "hello").await?;
    let marks = store.markers(&id).await.map_err(text)?;
    let found: Vec<_> = marks.iter().map(|m| (m.user.as_str(), m.read, m.delivered)).collect();
    same!(found, [("alice", 10, 10), ("bob", 11, 11)], "markers");
    Ok(())
}

async fn unread_of(store: &Store, who: &str, of: &str) -> Result<u64, String> {
    let id = conversation(of)?;
    let groups: Vec<_> = id.as_group().iter().map(ConversationId::group).collect();
    let list = store.conversations(&user(who)?, &groups, None, 100).await.map_err(text)?;
    let line = list.into_iter().find(|line| line.conversation == id);
    Ok(line.ok_or_else(|| format!("{of} is not in {who}'s list"))?.unread)
}

async fn unread_counts_what_others_said_after_the_marker(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let id = conversation("group:a")?;
    say(&store, "group:a", "alice", "1").await?;
    for kind in [MessageKind::Edit, MessageKind::Reaction, MessageKind::Member, MessageKind::Recall]
    {
        append(&store, message("group:a", "alice", "2-5")?.with_kind(kind)).await?;
    }
    append(&store, message("group:a", "alice", "6")?.with_kind(MessageKind::System)).await?;
    say(&store, "group:a", "alice", "7").await?;
    same!(unread_of(&store, "bob", "group:a").await?, 3, "unread of who has read nothing");
    same!(unread_of(&store, "alice", "group:a").await?, 0, "unread of the sender");
    for (up_to, wanted) in [(1, 2), (3, 2), (6, 1), (2, 1)] {
        mark(&store, &id, "bob", Marker::Read, up_to).await?;
        same!(unread_of(&store, "bob", "group:a").await?, wanted, "unread after reading {up_to}");
    }
    mark(&store, &id, "bob", Marker::Delivered, 7).await?;
    same!(unread_of(&store, "bob", "group:a").await?, 1, "unread after delivery");
    say(&store, "group:a", "bob", "8").await?;
    same!(unread_of(&store, "bob", "group:a").await?, 0, "unread after an answer");
    say(&store, "group:a", "alice", "9").await?;
    same!(unread_of(&store, "bob", "group:a").await?, 1, "unread after another message");
    Ok(())
}

async fn conversations_are_those_of_the_user_latest_first(harness: Any<'_>) -> Outcome {
    let clock = clock();
    let store = harness.create(clock.clone()).await;
    for (to, from) in [
        ("direct:alice:bob", "bob"),
        ("direct:bob:carol", "carol"),
        ("group:a", "carol"),
        ("group:b", "carol"),
        ("direct:alice:alice", "alice"),
        ("direct:alice:bob", "alice"),
    ] {
        clock.advance(Duration::from_secs(1));
        say(&store, to, from, to).await?;
    }
    let told = conversation("broadcast:a")?;
    append(&store, message("broadcast:a", "root", "hear")?).await?;
    mark(&store, &told, "alice", Marker::Read, 1).await?;
    mark(&store, &told, "bob", Marker::Read, 1).await?;
    clock.advance(Duration::from_secs(1));
    say(&store, "broadcast:a", "root", "hear").await?;
    let groups = [
        conversation("group:quiet")?,
        conversation("group:a")?,
        conversation("broadcast:quiet")?,
        told,
    ];
    let list = store.conversations(&user("alice")?, &groups, None, 100).await.map_err(text)?;
    let found: Vec<_> = list
        .iter()
        .map(|line| (line.conversation.as_str(), line.last_seq, line.unread, line.markers.len()))
        .collect();
    let wanted = [
        ("broadcast:a", 2, 1, 1),
        ("direct:alice:bob", 2, 0, 2),
        ("direct:alice:alice", 1, 0, 1),
        ("group:a", 1, 1, 1),
        ("group:quiet", 0, 0, 0),
    ];
    same!(found, wanted, "alice's conversations");
    for line in &list {
        let last = line.last_message.as_ref().map_or(0, |message| message.seq);
        same!(last, line.last_seq, "the last message of {}", line.conversation);
    }
    let list = store.conversations(&user("bob")?, &[], None, 1).await.map_err(text)?;
    let found: Vec<_> = list.iter().map(|line| line.conversation.as_str()).collect();
    same!(found, ["direct:alice:bob"], "bob's latest conversation");
    let list = store.conversations(&user("al")?, &[], None, 100).await.map_err(text)?;
    holds!(list.is_empty(), "a stranger has {list:?}");
    Ok(())
}

async fn conversations_come_in_pages(harness: Any<'_>) -> Outcome {
    let clock = clock();
    let store = harness.create(clock.clone()).await;
    for (number, to) in ["group:a", "direct:alice:bob", "group:c", "group:b"].iter().enumerate() {
        // Two of one moment.
        if number != 1 {
            clock.advance(Duration::from_secs(1));
        }
        say(&store, to, "alice", "x").await?;
    }
    let groups = ["group:a", "group:b", "group:c", "group:quiet", "group:calm"];
    let groups = groups.into_iter().map(conversation).collect::<Result<Vec<_>, _>>()?;
    let alice = user("alice")?;
    let all = store.conversations(&alice, &groups, None, 100).await.map_err(text)?;
    let names: Vec<_> = all.iter().map(|line| line.conversation.as_str()).collect();
    let wanted = ["group:b", "group:c", "direct:alice:bob", "group:a", "group:calm", "group:quiet"];
    same!(names, wanted, "the whole list");
    for limit in 1..=all.len() {
        let mut found = Vec::new();
        let mut after = None;
        while found.len() < all.len() {
            let page = store.conversations(&alice, &groups, after.as_ref(), limit).await;
            let page = page.map_err(text)?;
            holds!(!page.is_empty(), "pages of {limit} end after {}", found.len());
            after = page.last().map(ConversationCursor::of);
            found.extend(page);
        }
        same!(found, all, "the list in pages of {limit}");
        let rest = store.conversations(&alice, &groups, after.as_ref(), limit).await;
        holds!(rest.map_err(text)?.is_empty(), "there is a page behind the last one");
    }
    Ok(())
}

async fn unread_ranges_are_what_a_new_device_needs(harness: Any<'_>) -> Outcome {
    let clock = clock();
    let store = harness.create(clock.clone()).await;
    for (to, from) in [
        ("group:a", "alice"),
        ("direct:alice:bob", "alice"),
        ("direct:alice:bob", "bob"),
        ("group:other", "alice"),
        ("direct:bob:carol", "carol"),
        ("group:a", "bob"),
        ("direct:bob:carol", "carol"),
        ("group:a", "carol"),
    ] {
        clock.advance(Duration::from_secs(1));
        say(&store, to, from, "hi").await?;
    }
    append(&store, message("direct:alice:bob", "alice", "ed")?.with_kind(MessageKind::Edit))
        .await?;
    mark(&store, &conversation("direct:bob:carol")?, "bob", Marker::Read, 1).await?;
    let groups = [conversation("group:quiet")?, conversation("group:a")?];
    let ranges = store.unread(&user("bob")?, &groups).await.map_err(text)?;
    let found: Vec<_> =
        ranges.iter().map(|r| (r.conversation.as_str(), r.after_seq, r.last_seq)).collect();
    let wanted = [("direct:bob:carol", 1, 2), ("direct:alice:bob", 2, 3), ("group:a", 2, 3)];
    same!(found, wanted, "what bob has not read");
    Ok(())
}

async fn the_outbox_keeps_the_order_of_storing(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let mut wanted = Vec::new();
    for (to, targets) in [
        ("group:b", vec!["x", "y.#%"]),
        ("group:a", vec![]),
        ("group:a", vec!["z"]),
        ("group:b", vec!["x"]),
    ] {
        let given = message(to, "alice", "hi")?.with_targets(targets.clone());
        let place = append(&store, given).await?;
        same!(place.outbox.is_some(), !targets.is_empty(), "whether it is in the outbox");
        if let Some(id) = place.outbox {
            wanted.push((id, place.message_id, targets));
        }
    }
    let entries = store.unpublished(None, 100).await.map_err(text)?;
    let found: Vec<_> = entries
        .iter()
        .map(|e| (e.id, e.message.message_id, e.targets.iter().map(String::as_str).collect()))
        .collect();
    same!(found, wanted, "the outbox");
    let kept = all(&store, "group:b").await?;
    same!(entries.first().map(|entry| &entry.message), kept.first(), "its first message");
    let first = store.unpublished(None, 1).await.map_err(text)?;
    same!(first.as_slice(), entries.get(..1).unwrap_or_default(), "its first entry");
    let rest = store.unpublished(first.first().map(|entry| entry.id), 100).await.map_err(text)?;
    same!(rest.as_slice(), entries.get(1..).unwrap_or_default(), "its other entries");
    Ok(())
}

async fn what_is_published_leaves_the_outbox(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let mut ids = Vec::new();
    for body in ["1", "2", "3"] {
        ids.extend(
            append(&store, message("group:a", "alice", body)?.with_targets(["t"])).await?.outbox,
        );
    }
    let [one, two, three] = ids[..] else { return Err(format!("places: {ids:?}")) };
    for published in [&[two][..], &[two, one], &[]] {
        store.mark_published(published).await.map_err(text)?;
    }
    let left: Vec<_> =
        store.unpublished(None, 100).await.map_err(text)?.iter().map(|entry| entry.id).collect();
    same!(left, [three], "the outbox");
    same!(seqs(&all(&store, "group:a").await?), [1, 2, 3], "seqs in the history");
    let Some(store) = harness.restart(store).await else { return Ok(()) };
    let left: Vec<_> =
        store.unpublished(None, 100).await.map_err(text)?.iter().map(|entry| entry.id).collect();
    same!(left, [three], "the outbox after a restart");
    Ok(())
}

async fn outbox_ids_are_never_used_twice(harness: Any<'_>) -> Outcome {
    let mut store = harness.create(clock()).await;
    let mut last = None;
    for round in 0..4 {
        let sent = message("group:a", "alice", "hi")?.with_targets(["t"]);
        let Some(id) = append(&store, sent).await?.outbox else {
            return Err("not in the outbox".to_owned());
        };
        holds!(Some(id) > last, "{id:?} after {last:?}");
        last = Some(id);
        store.mark_published(&[id]).await.map_err(text)?;
        if round == 1 {
            let Some(again) = harness.restart(store).await else { return Ok(()) };
            store = again;
        }
    }
    Ok(())
}

async fn what_was_answered_survives_a_restart(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    for number in 0..20 {
        let body = format!("body {number}");
        append(&store, message("direct:alice:bob", "alice", &body)?.with_targets(["t"])).await?;
    }
    let id = conversation("direct:alice:bob")?;
    mark(&store, &id, "bob", Marker::Read, 4).await?;
    let messages = all(&store, "direct:alice:bob").await?;
    let outbox = store.unpublished(None, 100).await.map_err(text)?;
    let position = store.position(&id).await.map_err(text)?;
    let markers = store.markers(&id).await.map_err(text)?;
    let list = store.conversations(&user("bob")?, &[], None, 9).await.map_err(text)?;

    let Some(store) = harness.restart(store).await else { return Ok(()) };
    same!(all(&store, "direct:alice:bob").await?, messages, "messages");
    same!(store.unpublished(None, 100).await.map_err(text)?, outbox, "the outbox");
    same!(store.position(&id).await.map_err(text)?, position, "the position");
    same!(store.markers(&id).await.map_err(text)?, markers, "markers");
    same!(
        store.conversations(&user("bob")?, &[], None, 9).await.map_err(text)?,
        list,
        "bob's list"
    );
    same!(say(&store, "direct:alice:bob", "bob", "next").await?.seq, 21, "the next seq");
    Ok(())
}

async fn health_is_good(harness: Any<'_>) -> Outcome {
    harness.create(clock()).await.health().await.map_err(text)
}
