//! What operators tell everybody, or the members of a group; and sessions that end on all nodes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::{body, builder, connect, header, inbox, populated, refusal, send, take, user};
use gateway_core::{ConversationId, Gateway, Page};
use mq_bridge::{Broker, Memory};

async fn gateway() -> Gateway {
    let gateway = populated(builder().broadcasters([user("root")])).await;
    gateway.create_user(&user("root"), None).await.unwrap();
    gateway
}

/// What `who` has of broadcasts: conversation and unread.
async fn told(gateway: &Gateway, who: &str) -> Vec<(String, u64, usize)> {
    let list = gateway.conversations(&user(who), None, 99).await.unwrap();
    let told = list.into_iter().filter(|line| line.conversation.is_broadcast());
    told.map(|line| (line.conversation.to_string(), line.unread, line.markers.len())).collect()
}

#[tokio::test]
async fn everybody_gets_a_broadcast_who_was_there_when_it_was_sent() {
    let gateway = gateway().await;
    let root = connect(&gateway, "root").await;
    assert_eq!(told(&gateway, "bob").await, []);
    send(&root, "/broadcast/all", "one").await;
    gateway.create_user(&user("dave"), None).await.unwrap();
    let receipt = send(&root, "/broadcast/all", "two").await;
    assert_eq!(receipt.header("conversation").as_deref(), Some("broadcast:all"));

    assert_eq!(told(&gateway, "bob").await, [("broadcast:all".to_owned(), 2, 0)]);
    assert_eq!(told(&gateway, "dave").await, [("broadcast:all".to_owned(), 1, 1)]);
    let bob = connect(&gateway, "bob").await;
    let mut waiting = inbox(&bob).await;
    take(&bob, &mut waiting).await;
    for (seq, text) in [("1", "one"), ("2", "two")] {
        let message = take(&bob, &mut waiting).await;
        assert_eq!(body(&message), text);
        assert_eq!(header(&message, "destination"), "/broadcast/all");
        assert_eq!(
            (header(&message, "seq").as_str(), header(&message, "from").as_str()),
            (seq, "root")
        );
    }
    let dave = connect(&gateway, "dave").await;
    let mut waiting = inbox(&dave).await;
    assert_eq!(
        body(&take(&dave, &mut waiting).await),
        "two",
        "who came later is told what came later"
    );
    let second = common::connect_device(&gateway, "bob", "second").await;
    let mut other = inbox(&second).await;
    for text in ["one", "two"] {
        let message = loop {
            let message = take(&second, &mut other).await;
            if header(&message, "kind") == "message" {
                break message;
            }
        };
        assert_eq!(body(&message), text, "a new device starts with what is unread");
    }

    bob.send("/broadcast/all", "")
        .header("kind", "read")
        .header("up-to", "2")
        .confirmed()
        .await
        .unwrap();
    assert_eq!(told(&gateway, "bob").await, [("broadcast:all".to_owned(), 0, 1)]);
    assert_eq!(told(&gateway, "carol").await, [("broadcast:all".to_owned(), 2, 0)]);
    let (mut timeline, receipt) =
        bob.subscribe("/broadcast/all").header("after-seq", "1").confirmed().await.unwrap();
    assert_eq!(receipt.header("recovered").as_deref(), Some("true"));
    assert_eq!(body(&timeline.recv().await.unwrap()), "two");
    let all = ConversationId::new("broadcast:all").unwrap();
    let history = gateway.history(&user("carol"), &all, Page::latest(9)).await.unwrap();
    assert_eq!(history.messages.len(), 2);
    gateway.shutdown().await;
}

#[tokio::test]
async fn a_broadcast_to_a_group_is_for_its_members() {
    let gateway = gateway().await;
    let root = connect(&gateway, "root").await;
    send(&root, "/broadcast/ops", "for ops").await;
    let bob = connect(&gateway, "bob").await;
    let mut waiting = inbox(&bob).await;
    take(&bob, &mut waiting).await;
    assert_eq!(body(&take(&bob, &mut waiting).await), "for ops");
    assert_eq!(told(&gateway, "bob").await, [("broadcast:ops".to_owned(), 1, 0)]);
    assert_eq!(told(&gateway, "carol").await, []);
    let ops = ConversationId::new("broadcast:ops").unwrap();
    assert!(gateway.history(&user("carol"), &ops, Page::latest(9)).await.is_err());
    gateway.add_member(&user("alice"), &"ops".parse().unwrap(), &user("carol")).await.unwrap();
    assert_eq!(
        told(&gateway, "carol").await,
        [("broadcast:ops".to_owned(), 0, 1)],
        "no news to her"
    );
    assert!(root.send("/broadcast/none", "nobody").confirmed().await.is_err());
    gateway.shutdown().await;
}

/// P8: only those who may speak to everybody.
#[tokio::test]
async fn p8_only_operators_broadcast() {
    let gateway = gateway().await;
    let root = connect(&gateway, "root").await;
    let first =
        send(&root, "/broadcast/all", "one").await.header("message-id").unwrap().into_owned();
    for (kind, of) in [("message", None), ("reaction", Some(&first)), ("recall", Some(&first))] {
        let alice = connect(&gateway, "alice").await;
        let mut send = alice.send("/broadcast/all", "").header("kind", kind);
        if let Some(of) = of {
            send = send.header("in-reply-to", of.as_str());
        }
        let outcome = send.confirmed().await.map(drop);
        let text = refusal(&alice, outcome).await;
        assert!(text.contains("only operators broadcast"), "{kind}: {text}");
    }
    assert!(
        !gateway
            .may_send(&user("alice"), &ConversationId::new("broadcast:all").unwrap())
            .await
            .unwrap()
    );
    gateway.shutdown().await;
}

/// Gateways that share a broker end each other's sessions.
#[tokio::test]
async fn a_kick_ends_the_sessions_of_a_user_on_every_node() {
    let broker: Arc<dyn Broker> = Arc::new(Memory::default());
    let one = populated(builder().broker(Arc::clone(&broker))).await;
    let two = populated(builder().broker(broker)).await;
    let bob = connect(&two, "bob").await;
    let carol = connect(&two, "carol").await;
    // The other node listens once it has had time to.
    let closed = loop {
        assert_eq!(one.kick(&user("bob"), "go").await, Ok(0));
        let soon = std::time::Duration::from_millis(50);
        if let Ok(closed) = tokio::time::timeout(soon, bob.closed()).await {
            break closed;
        }
    };
    assert_eq!(closed.error.map(|error| error.message()).as_deref(), Some("go"));
    send(&carol, "/user/carol", "still here").await;
    one.shutdown().await;
    two.shutdown().await;
}
