//! Groups, blocks and devices, as a stock client and the in-process API see them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use gateway_core::{
    ConversationId, DeviceName, Gateway, GroupName, GroupSettings, HistoryFrom, Page, Role,
};
use mq_bridge::{BrokerError, Source};
use stomp_ws::client::Client;

fn ops() -> GroupName {
    GroupName::new("ops").unwrap()
}

async fn seqs(gateway: &Gateway, name: &str) -> Vec<u64> {
    let conversation = ConversationId::group(&ops());
    let history = gateway.history(&user(name), &conversation, Page::latest(100)).await.unwrap();
    history.messages.iter().map(|message| message.seq).collect()
}

async fn unread(gateway: &Gateway, name: &str) -> u64 {
    let list = gateway.conversations(&user(name), None, 10).await.unwrap();
    list.iter().map(|line| line.unread).sum()
}

async fn said_no(client: &Client, to: &str, kind: &str) -> String {
    let sent = client.send(to, "x").header("kind", kind).confirmed().await;
    refusal(client, sent.map(drop)).await
}

#[tokio::test]
async fn p8_a_member_who_is_removed_hears_no_more_on_any_way() {
    let gateway = gateway().await;
    let (alice, bob) = (connect(&gateway, "alice").await, connect(&gateway, "bob").await);
    let mut inbox = inbox(&bob).await;
    take(&bob, &mut inbox).await;
    let mut timeline = bob.subscribe("/group/ops").confirmed().await.unwrap().0;
    gateway.remove_member(&user("alice"), &ops(), &user("bob")).await.unwrap();
    send(&alice, "/group/ops", "secret").await;
    send(&alice, "/user/bob", "open").await;
    let gone = take(&bob, &mut inbox).await;
    assert_eq!(body(&gone), r#"{"action":"removed","user":"bob"}"#);
    assert_eq!(body(&take(&bob, &mut inbox).await), "open", "the inbox goes on without the group");
    assert_eq!(body(&peek(&mut timeline).await), body(&gone), "the timeline's last message");

    // Back again, he sees that he was away, and the timeline does not end with his old end.
    gateway.add_member(&user("alice"), &ops(), &user("bob")).await.unwrap();
    let replay = bob.subscribe("/group/ops").header("after-seq", "0").confirmed().await.unwrap();
    let mut timeline = replay.0;
    send(&alice, "/group/ops", "welcome").await;
    let mut bodies = Vec::new();
    while bodies.last().map(String::as_str) != Some("welcome") {
        bodies.push(body(&peek(&mut timeline).await).to_owned());
    }
    assert_eq!(bodies.len(), 5);
}

#[tokio::test]
async fn p8_who_joined_later_sees_only_what_the_group_shows_him() {
    let gateway = gateway().await;
    let alice = connect(&gateway, "alice").await;
    send(&alice, "/group/ops", "before").await;
    let joining = GroupSettings::default().with_history(HistoryFrom::Joining);
    gateway.change_group(&user("alice"), &ops(), joining).await.unwrap();
    gateway.add_member(&user("alice"), &ops(), &user("carol")).await.unwrap();
    let after = send(&alice, "/group/ops", "after").await;
    assert_eq!(after.frame().header("seq").as_deref(), Some("5"));

    assert_eq!(seqs(&gateway, "carol").await, [4, 5]);
    assert_eq!(seqs(&gateway, "bob").await, [1, 2, 3, 4, 5]);
    assert_eq!(unread(&gateway, "carol").await, 1);
    let history = ConversationId::group(&ops());
    let page = Page::after(0, 1);
    let first = gateway.history(&user("carol"), &history, page).await.unwrap();
    assert_eq!((first.messages[0].seq, first.position.first_seq), (4, 4));
    let carol = connect_device(&gateway, "carol", "new").await;
    let mut inbox = inbox(&carol).await;
    assert_eq!(header(&take(&carol, &mut inbox).await, "seq"), "4");
    assert_eq!(header(&take(&carol, &mut inbox).await, "seq"), "5");
    let subscribed = carol.subscribe("/group/ops").header("after-seq", "1").confirmed().await;
    let (mut timeline, receipt) = subscribed.unwrap();
    assert_eq!(receipt.frame().header("recovered").as_deref(), Some("false"));
    assert_eq!(receipt.frame().header("first-seq").as_deref(), Some("4"));
    assert_eq!(header(&peek(&mut timeline).await, "seq"), "4");

    gateway.change_group(&user("alice"), &ops(), GroupSettings::default()).await.unwrap();
    assert_eq!(seqs(&gateway, "carol").await, [1, 2, 3, 4, 5, 6], "now it shows everything");
}

#[tokio::test]
async fn roles_say_who_may_do_what_to_whom() {
    let gateway = gateway().await;
    let (alice, bob, carol) = (user("alice"), user("bob"), user("carol"));
    gateway.add_member(&alice, &ops(), &carol).await.unwrap();
    assert!(gateway.mute_member(&bob, &ops(), &carol, Some(u64::MAX)).await.is_err());
    assert!(gateway.remove_member(&bob, &ops(), &carol).await.is_err());
    assert!(gateway.set_role(&bob, &ops(), &bob, Role::Admin).await.is_err());
    gateway.set_role(&alice, &ops(), &bob, Role::Admin).await.unwrap();
    assert!(gateway.remove_member(&bob, &ops(), &alice).await.is_err());
    assert!(gateway.set_role(&bob, &ops(), &carol, Role::Admin).await.is_err());
    gateway.mute_member(&bob, &ops(), &carol, Some(u64::MAX)).await.unwrap();
    gateway.transfer_group(&alice, &ops(), &bob).await.unwrap();
    gateway.remove_member(&bob, &ops(), &alice).await.unwrap();
    let members = gateway.directory().members(&ops()).await.unwrap().unwrap();
    let roles: Vec<_> = members.iter().map(|one| (one.user.as_str(), one.role)).collect();
    assert_eq!(roles, [("bob", Role::Owner), ("carol", Role::Member)]);

    // Each change is told in the group's conversation.
    let conversation = ConversationId::group(&ops());
    let history = gateway.history(&bob, &conversation, Page::latest(20)).await.unwrap();
    let actions: Vec<_> = history
        .messages
        .iter()
        .map(|message| serde_json::from_slice::<serde_json::Value>(&message.body).unwrap())
        .map(|body| body["action"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(actions, ["created", "added", "role", "muted", "role", "removed"]);
}

#[tokio::test]
async fn a_muted_member_reads_but_does_not_speak() {
    let gateway = gateway().await;
    gateway.mute_member(&user("alice"), &ops(), &user("bob"), Some(u64::MAX)).await.unwrap();
    let bob = connect(&gateway, "bob").await;
    let read = bob.send("/group/ops", "").header("kind", "read").header("up-to", "2");
    read.confirmed().await.unwrap();
    let refused = said_no(&bob, "/group/ops", "message").await;
    assert_eq!(refused, "refused: you are muted in this group");
    gateway.mute_member(&user("alice"), &ops(), &user("bob"), None).await.unwrap();
    let bob = connect(&gateway, "bob").await;
    send(&bob, "/group/ops", "thanks").await;
}

#[tokio::test]
async fn an_open_group_is_joined_and_a_closed_one_is_not() {
    let gateway = gateway().await;
    let carol = user("carol");
    assert!(gateway.join_group(&carol, &ops()).await.is_err());
    let open = GroupSettings::default().with_open(true);
    gateway.change_group(&user("alice"), &ops(), open).await.unwrap();
    gateway.join_group(&carol, &ops()).await.unwrap();
    assert_eq!(unread(&gateway, "carol").await, 0);
    send(&connect(&gateway, "carol").await, "/group/ops", "hello").await;
    assert!(gateway.join_group(&carol, &GroupName::new("none").unwrap()).await.is_err());
}

#[tokio::test]
async fn p8_a_block_ends_messages_signals_and_presence() {
    let gateway = gateway().await;
    let (alice, bob) = (connect(&gateway, "alice").await, connect(&gateway, "bob").await);
    send(&bob, "/user/alice", "hi").await;
    let mut presence = bob.subscribe("/presence/alice").confirmed().await.unwrap().0;
    assert_eq!(header(&presence.recv().await.unwrap(), "presence"), "online");
    let mut inbox = inbox(&alice).await;
    take(&alice, &mut inbox).await;
    take(&alice, &mut inbox).await;
    gateway.block(&user("alice"), &user("bob")).await.unwrap();
    assert_eq!(header(&presence.recv().await.unwrap(), "presence"), "offline", "the last word");

    // Signals are passed over, so that clients which send them by themselves go on.
    let typing = bob.send("/user/alice", "").header("kind", "typing");
    typing.confirmed().await.unwrap();
    let refused = said_no(&bob, "/user/alice", "message").await;
    assert_eq!(refused, "refused: this person takes no messages from you");
    let refused = said_no(&connect(&gateway, "alice").await, "/user/bob", "message").await;
    assert_eq!(refused, "refused: you have blocked this person");
    let bob = connect(&gateway, "bob").await;
    let watched = bob.subscribe("/presence/alice").confirmed().await;
    refusal(&bob, watched.map(drop)).await;

    gateway.unblock(&user("alice"), &user("bob")).await.unwrap();
    let bob = connect(&gateway, "bob").await;
    send(&bob, "/user/alice", "friends again").await;
    let next = inbox.recv().await.unwrap();
    assert_eq!(body(&next), "friends again", "nothing came in between, and no signal");
}

#[tokio::test]
async fn a_removed_device_leaves_no_inbox() {
    let gateway = gateway().await;
    let phone = DeviceName::new("phone").unwrap();
    let bob = connect_device(&gateway, "bob", "phone").await;
    let _open = inbox(&bob).await;
    gateway.remove_device(&user("bob"), &phone).await.unwrap();
    bob.closed().await;
    let waiting = gateway.broker().stats(&Source::durable("inbox.bob.phone")).await;
    assert!(matches!(waiting, Err(BrokerError::NotDeclared { .. })), "{waiting:?}");
    let left = gateway.directory().devices(&user("bob")).await.unwrap();
    assert!(left.iter().all(|device| device.name != phone));
}
