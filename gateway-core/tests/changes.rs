//! Edits, recalls, reactions and expiry, as a stock client sees them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::*;
use gateway_core::{Clock, ConversationId, Gateway, MemoryStore, Page, StoredMessage};
use stomp_ws::client::Client;

const START: u64 = 1_767_225_600_000;

/// A gateway whose clock stands still.
async fn with_clock() -> (Gateway, Clock) {
    let clock = Clock::manual(START);
    let store = std::sync::Arc::new(MemoryStore::new().with_clock(clock.clone()));
    (populated(builder().clock(clock.clone()).store(store)).await, clock)
}

async fn history(gateway: &Gateway, name: &str, id: &str) -> Vec<StoredMessage> {
    let id = ConversationId::new(id).unwrap();
    gateway.history(&user(name), &id, Page::latest(100)).await.unwrap().messages
}

/// Sends to the group as each kind wants it; gives the ERROR's text if it was refused.
async fn change(client: &Client, kind: &str, of: &str, body: &str) -> Result<(), String> {
    let send = client.send("/group/ops", body.to_owned());
    let sent = send.header("kind", kind).header("in-reply-to", of).confirmed().await;
    match sent {
        Ok(_) => Ok(()),
        Err(error) => Err(refusal(client, Err(error)).await),
    }
}

async fn said(client: &Client, body: &str) -> String {
    let receipt = send(client, "/group/ops", body).await;
    receipt.frame().header("message-id").unwrap().into_owned()
}

#[tokio::test]
async fn an_edit_a_reaction_and_a_recall_reach_everyone_and_change_the_history() {
    let gateway = gateway().await;
    let (alice, bob) = (connect(&gateway, "alice").await, connect(&gateway, "bob").await);
    let mut inbox = inbox(&bob).await;
    take(&bob, &mut inbox).await;
    let id = said(&alice, "helo").await;
    take(&bob, &mut inbox).await;
    for (kind, text) in [("edit", "hello"), ("reaction", "👋"), ("recall", "")] {
        change(&alice, kind, &id, text).await.unwrap();
        let event = take(&bob, &mut inbox).await;
        assert_eq!((header(&event, "kind").as_str(), body(&event)), (kind, text));
        assert_eq!(header(&event, "in-reply-to"), id);
        let history = history(&gateway, "bob", "group:ops").await;
        let first = history.iter().find(|message| message.message_id.to_string() == id).unwrap();
        match kind {
            "edit" => assert_eq!((&first.body[..], first.edited), (&b"hello"[..], Some(3))),
            "reaction" => assert_eq!(first.reactions[0].text, "👋"),
            _ => assert_eq!((first.body.len(), first.recalled), (0, Some(5))),
        }
    }
    // A device that replays the conversation is told the same.
    let replay = bob.subscribe("/group/ops").header("after-seq", "1").confirmed().await.unwrap();
    let mut timeline = replay.0;
    let first = peek(&mut timeline).await;
    assert_eq!((body(&first), header(&first, "recalled").as_str()), ("", "5"));
    assert_eq!(body(&peek(&mut timeline).await), "", "the edit is gone with what it edited");
}

#[tokio::test]
async fn p8_what_is_not_allowed_is_refused_and_changes_nothing() {
    let gateway = gateway().await;
    let alice = connect(&gateway, "alice").await;
    let id = said(&alice, "hello").await;
    for (kind, of, body, why) in [
        ("edit", id.as_str(), "mine now", "only its author may change a message"),
        ("recall", &id, "", "only its author may change a message"),
        ("recall", &id, "x", "body: a recall has none"),
        ("reaction", &id, &"x".repeat(65), "body: a reaction has at most 64 octets"),
        (
            "reaction",
            "0",
            "x",
            "in-reply-to: must be the message-id of the message that is changed",
        ),
        (
            "reaction",
            &"0".repeat(32),
            "x",
            "in-reply-to: there is no such message in this conversation",
        ),
    ] {
        let bob = connect(&gateway, "bob").await;
        assert_eq!(change(&bob, kind, of, body).await.unwrap_err(), why, "{kind}");
    }
    let carol = connect(&gateway, "carol").await;
    let stranger = change(&carol, "reaction", &id, "x").await.unwrap_err();
    assert_eq!(stranger, "refused: no such group, or you are not a member");
    let history = history(&gateway, "alice", "group:ops").await;
    assert_eq!(history.len(), 2, "the group's creation and the message");
    assert_eq!((&history[1].body[..], history[1].reactions.len()), (&b"hello"[..], 0));
}

#[tokio::test]
async fn an_author_recalls_for_two_minutes_and_an_owner_always() {
    let (gateway, clock) = with_clock().await;
    let bob = connect(&gateway, "bob").await;
    let (soon, late) = (said(&bob, "one").await, said(&bob, "two").await);
    clock.advance(Duration::from_secs(120));
    change(&bob, "recall", &soon, "").await.unwrap();
    clock.advance(Duration::from_millis(1));
    let refused = change(&bob, "recall", &late, "").await.unwrap_err();
    assert_eq!(refused, "the message is too old to be recalled");
    let alice = connect(&gateway, "alice").await;
    change(&alice, "recall", &late, "").await.unwrap();
    let bob = connect(&gateway, "bob").await;
    let refused = change(&bob, "edit", &late, "again").await.unwrap_err();
    assert_eq!(refused, "in-reply-to: the message was recalled");
}

#[tokio::test]
async fn an_expired_message_is_neither_delivered_nor_shown_nor_counted() {
    let (gateway, clock) = with_clock().await;
    let alice = connect(&gateway, "alice").await;
    let until = (START + 1000).to_string();
    let secret = alice.send("/user/bob", "burns").header("expires", &until);
    secret.confirmed().await.unwrap();
    send(&alice, "/user/bob", "stays").await;
    assert_eq!(gateway.conversations(&user("bob"), None, 9).await.unwrap()[0].unread, 2);
    clock.advance(Duration::from_secs(1));
    assert_eq!(gateway.conversations(&user("bob"), None, 9).await.unwrap()[0].unread, 1);
    for device in ["bob", "new"] {
        let bob = connect_device(&gateway, "bob", device).await;
        let mut inbox = inbox(&bob).await;
        let mut next = take(&bob, &mut inbox).await;
        if header(&next, "kind") == "member" {
            next = take(&bob, &mut inbox).await;
        }
        assert_eq!(body(&next), "stays", "{device}");
    }
    let history = history(&gateway, "bob", "direct:alice:bob").await;
    assert_eq!((history[0].body.len(), &history[1].body[..]), (0, &b"stays"[..]));
}
