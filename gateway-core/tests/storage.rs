//! Of some conversations not all is stored; what is sent there arrives all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::{body, builder, connect, header, inbox, populated, send, take, user};
use gateway_core::{ConversationId, Gateway, Keep, Page, StorageRules, StoredMessage};

async fn gateway() -> Gateway {
    let rules = StorageRules::new().rule("group:*", Keep::Nothing).rule("direct:*", Keep::Metadata);
    populated(builder().storage(Arc::new(rules))).await
}

async fn history(gateway: &Gateway, of: &str) -> Vec<StoredMessage> {
    let of = ConversationId::new(of).unwrap();
    gateway.history(&user("bob"), &of, Page::after(0, 99)).await.unwrap().messages
}

/// P2: the broker keeps what the store does not.
#[tokio::test]
async fn p2_what_is_not_stored_waits_for_a_device_that_is_away() {
    let gateway = gateway().await;
    let alice = connect(&gateway, "alice").await;
    send(&alice, "/group/ops", "in the group").await;
    send(&alice, "/user/bob", "to bob").await;
    assert!(gateway.store().unpublished(None, 9).await.unwrap().is_empty());

    let bob = connect(&gateway, "bob").await;
    let mut inbox = inbox(&bob).await;
    let first = take(&bob, &mut inbox).await;
    assert_eq!(header(&first, "kind"), "member", "what tells of members is always stored");
    for (seq, text) in [("2", "in the group"), ("1", "to bob")] {
        let message = take(&bob, &mut inbox).await;
        assert_eq!((header(&message, "seq").as_str(), body(&message)), (seq, text));
        assert_eq!(message.header("stored"), None);
    }
    assert_eq!(history(&gateway, "group:ops").await.len(), 1);
    let direct = history(&gateway, "direct:alice:bob").await;
    assert_eq!(direct.len(), 1);
    assert!(direct[0].body.is_empty() && direct[0].sender == user("alice"));
    gateway.shutdown().await;
}

/// P6: a timeline is complete, or says that it is not.
#[tokio::test]
async fn p6_a_timeline_says_that_something_is_not_stored() {
    let gateway = gateway().await;
    let alice = connect(&gateway, "alice").await;
    let bob = connect(&gateway, "bob").await;
    let resume = async |after: &str| {
        let subscribe = bob.subscribe("/group/ops").header("after-seq", after);
        let (timeline, receipt) = subscribe.confirmed().await.unwrap();
        let header = |name| receipt.header(name).map(|value| value.into_owned());
        (timeline, header("recovered").unwrap(), header("first-seq"))
    };
    let (mut timeline, recovered, _) = resume("0").await;
    assert_eq!(
        (recovered.as_str(), timeline.recv().await.unwrap().header("seq")),
        ("true", Some("1".into()))
    );
    for text in ["two", "three"] {
        send(&alice, "/group/ops", text).await;
        assert_eq!(body(&timeline.recv().await.unwrap()), text, "it comes live");
    }
    drop(timeline);
    let (_, recovered, first) = resume("1").await;
    assert_eq!((recovered.as_str(), first.as_deref()), ("false", Some("4")));
    let (mut timeline, recovered, first) = resume("3").await;
    assert_eq!((recovered.as_str(), first), ("true", None));
    send(&alice, "/group/ops", "four").await;
    assert_eq!(body(&timeline.recv().await.unwrap()), "four");
    gateway.shutdown().await;
}
