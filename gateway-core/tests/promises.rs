//! The promises, each by its name, over the memory broker and store.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use common::*;
use gateway_core::{ConversationId, Page};
use mq_bridge::{
    Broker, BrokerError, Capabilities, Confirm, Declaration, Health, Memory, Metrics, Publish,
    Source, SourceStats, SubscribeOptions,
};
use stomp_codec::server::AckMode;
use stomp_ws::client::ConnectOptions;
use stomp_ws::{Transport, TransportConfig};

/// A broker that can be told to fail publishes to inboxes.
#[derive(Debug)]
struct Faulty {
    inner: Memory,
    broken: AtomicBool,
}

#[async_trait]
impl Broker for Faulty {
    fn publish(&self, publish: Publish) -> Confirm {
        let inbox = publish.targets.iter().any(|target| target.name().starts_with("inbox."));
        if inbox && self.broken.load(Ordering::SeqCst) {
            return Confirm::ready(Err(BrokerError::Storage { reason: "disk full".into() }));
        }
        self.inner.publish(publish)
    }

    async fn declare(&self, declaration: &Declaration) -> Result<(), BrokerError> {
        self.inner.declare(declaration).await
    }

    async fn delete(&self, source: &Source) -> Result<(), BrokerError> {
        self.inner.delete(source).await
    }

    async fn subscribe(
        &self,
        source: Source,
        options: SubscribeOptions,
    ) -> Result<mq_bridge::Subscription, BrokerError> {
        self.inner.subscribe(source, options).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn metrics(&self) -> Metrics {
        self.inner.metrics()
    }

    async fn stats(&self, source: &Source) -> Result<SourceStats, BrokerError> {
        self.inner.stats(source).await
    }

    async fn shutdown(&self) {
        self.inner.shutdown().await;
    }
}

#[tokio::test]
async fn p1_a_receipt_comes_after_store_and_broker_and_says_where_the_message_is() {
    let gateway = gateway().await;
    let alice = connect(&gateway, "alice").await;
    let receipt = send(&alice, "/user/bob", "hello").await;
    assert_eq!(receipt.frame().header("seq").as_deref(), Some("1"));
    assert_eq!(receipt.frame().header("conversation").as_deref(), Some("direct:alice:bob"));
    assert!(receipt.frame().header("message-id").is_some());
    assert!(receipt.frame().header("timestamp").is_some());

    // The receipt is here, so the message is in the store and in the broker.
    let conversation = ConversationId::new("direct:alice:bob").unwrap();
    let stored = gateway.history(&user("bob"), &conversation, Page::latest(10)).await.unwrap();
    assert_eq!(stored.messages.len(), 1);
    let waiting = gateway.broker().stats(&Source::durable("inbox.bob.bob")).await.unwrap();
    assert_eq!(waiting.depth, 2, "the group's creation and this message");
}

#[tokio::test]
async fn p1_no_receipt_but_a_retryable_error_where_the_broker_does_not_confirm() {
    let faulty = Arc::new(Faulty { inner: Memory::default(), broken: AtomicBool::new(false) });
    let gateway = populated(builder().broker(faulty.clone())).await;
    let alice = connect(&gateway, "alice").await;
    let bob = connect(&gateway, "bob").await;
    let mut inbox = inbox(&bob).await;
    take(&bob, &mut inbox).await;

    faulty.broken.store(true, Ordering::SeqCst);
    let sent = alice.send("/user/bob", "one").header("idempotency-key", "k1").confirmed().await;
    assert!(sent.is_err());
    let error = alice.closed().await.error.unwrap();
    assert_eq!(error.header("retry").as_deref(), Some("true"));
    assert!(error.header("receipt-id").is_some(), "the ERROR names the frame");

    // The repeat waits until the broker works again, and makes no second message (P4); what
    // comes after it stays after it (P3); nothing is lost (P2).
    faulty.broken.store(false, Ordering::SeqCst);
    let alice = connect(&gateway, "alice").await;
    let receipt =
        alice.send("/user/bob", "one").header("idempotency-key", "k1").confirmed().await.unwrap();
    assert_eq!(receipt.frame().header("duplicate").as_deref(), Some("true"));
    send(&alice, "/user/bob", "two").await;
    let first = take(&bob, &mut inbox).await;
    assert_eq!((body(&first), header(&first, "seq").as_str()), ("one", "1"));
    assert_eq!(header(&first, "redelivered"), "true", "it was published for the second time");
    assert_eq!(body(&take(&bob, &mut inbox).await), "two");
}

#[tokio::test]
async fn p2_what_a_device_has_not_acknowledged_comes_again_with_the_same_identity() {
    let gateway = gateway().await;
    let alice = connect(&gateway, "alice").await;
    for text in ["one", "two", "three"] {
        send(&alice, "/user/bob", text).await;
    }
    let bob = connect(&gateway, "bob").await;
    let mut first = inbox(&bob).await;
    assert_eq!(header(&take(&bob, &mut first).await, "kind"), "member");
    assert_eq!(body(&take(&bob, &mut first).await), "one");
    let unacked = peek(&mut first).await;
    assert_eq!(body(&unacked), "two");
    assert_eq!(header(&unacked, "redelivered"), "");
    bob.disconnect().await;

    let bob = connect(&gateway, "bob").await;
    let mut again = inbox(&bob).await;
    let repeat = take(&bob, &mut again).await;
    assert_eq!(body(&repeat), "two");
    assert_eq!(header(&repeat, "redelivered"), "true");
    assert_eq!(header(&repeat, "message-id"), header(&unacked, "message-id"));
    assert_eq!(header(&repeat, "seq"), header(&unacked, "seq"));
    assert_eq!(body(&take(&bob, &mut again).await), "three");
}

#[tokio::test]
async fn p2_every_device_has_its_own_place() {
    let gateway = gateway().await;
    let phone = connect_device(&gateway, "bob", "phone").await;
    let mut on_phone = inbox(&phone).await;
    let alice = connect(&gateway, "alice").await;
    send(&alice, "/user/bob", "hello").await;
    let mut seen = take(&phone, &mut on_phone).await;
    if header(&seen, "kind") == "member" {
        seen = take(&phone, &mut on_phone).await;
    }
    assert_eq!(body(&seen), "hello");

    let laptop = connect(&gateway, "bob").await;
    let mut on_laptop = inbox(&laptop).await;
    assert_eq!(header(&take(&laptop, &mut on_laptop).await, "kind"), "member");
    assert_eq!(body(&take(&laptop, &mut on_laptop).await), "hello");
}

#[tokio::test]
async fn p2_a_new_device_starts_with_what_the_user_has_not_read() {
    let gateway = gateway().await;
    let alice = connect(&gateway, "alice").await;
    for text in ["one", "two", "three"] {
        send(&alice, "/user/bob", text).await;
    }
    let bob = connect(&gateway, "bob").await;
    bob.send("/user/alice", "")
        .header("kind", "read")
        .header("up-to", "2")
        .confirmed()
        .await
        .unwrap();

    let tablet = connect_device(&gateway, "bob", "tablet").await;
    let mut inbox = inbox(&tablet).await;
    let mut unread = vec![take(&tablet, &mut inbox).await, take(&tablet, &mut inbox).await];
    unread.retain(|message| header(message, "kind") != "member");
    assert_eq!(unread.iter().map(body).collect::<Vec<_>>(), ["three"]);
    send(&alice, "/user/bob", "four").await;
    assert_eq!(body(&take(&tablet, &mut inbox).await), "four");
}

#[tokio::test]
async fn p3_every_device_sees_a_conversation_in_the_order_of_seq() {
    let gateway = gateway().await;
    let (alice, bob) = (connect(&gateway, "alice").await, connect(&gateway, "bob").await);
    let watcher = connect_device(&gateway, "alice", "watcher").await;
    let mut inbox = inbox(&watcher).await;
    let mut receipts = Vec::new();
    for number in 0..100 {
        let sender = if number % 2 == 0 { &alice } else { &bob };
        receipts.push(sender.send("/group/ops", number.to_string()).receipt().await.unwrap());
    }
    for receipt in receipts {
        receipt.await.unwrap();
    }
    // The first message, alice's own creation of the group, is no news on a new device of hers.
    let mut last = 1;
    for _ in 0..100 {
        let message = take(&watcher, &mut inbox).await;
        let seq: u64 = header(&message, "seq").parse().unwrap();
        assert_eq!(seq, last + 1);
        last = seq;
    }
}

#[tokio::test]
async fn p4_the_same_key_gives_the_same_receipt_and_no_second_message() {
    let gateway = gateway().await;
    let alice = connect(&gateway, "alice").await;
    let keyed = || alice.send("/user/bob", "once").header("idempotency-key", "k").confirmed();
    let (first, second) = (keyed().await.unwrap(), keyed().await.unwrap());
    for name in ["message-id", "seq", "conversation", "timestamp"] {
        assert_eq!(first.frame().header(name), second.frame().header(name), "{name}");
    }
    assert_eq!(first.frame().header("duplicate"), None);
    assert_eq!(second.frame().header("duplicate").as_deref(), Some("true"));
    send(&alice, "/user/bob", "after").await;

    let bob = connect(&gateway, "bob").await;
    let mut inbox = inbox(&bob).await;
    take(&bob, &mut inbox).await;
    assert_eq!(body(&take(&bob, &mut inbox).await), "once");
    assert_eq!(body(&take(&bob, &mut inbox).await), "after");

    // Another sender's key is another key.
    let receipt =
        bob.send("/user/alice", "mine").header("idempotency-key", "k").confirmed().await.unwrap();
    assert_eq!(receipt.frame().header("duplicate"), None);
}

#[tokio::test]
async fn p5_nothing_sent_after_the_receipt_of_a_subscribe_is_missed() {
    let gateway = populated(builder().open(true)).await;
    let (alice, bob) = (connect(&gateway, "alice").await, connect(&gateway, "bob").await);
    for round in 0..100 {
        let topic = format!("/topic/round.{}", round % 7);
        let (mut subscription, _) = bob.subscribe(&topic).confirmed().await.unwrap();
        send(&alice, &topic, &round.to_string()).await;
        assert_eq!(body(&subscription.recv().await.unwrap()), round.to_string());
        subscription.unsubscribe(&[]).await.unwrap();
    }
}

#[tokio::test]
async fn p6_a_timeline_replays_and_goes_live_without_a_hole() {
    let gateway = gateway().await;
    let alice = connect(&gateway, "alice").await;
    for number in 2..=250 {
        send(&alice, "/group/ops", &number.to_string()).await;
    }
    let bob = connect(&gateway, "bob").await;
    let writer = tokio::spawn(async move {
        for number in 251..=400 {
            send(&alice, "/group/ops", &number.to_string()).await;
        }
    });
    let (mut timeline, receipt) =
        bob.subscribe("/group/ops").header("after-seq", "41").confirmed().await.unwrap();
    assert_eq!(receipt.frame().header("recovered").as_deref(), Some("true"));
    assert!(receipt.frame().header("epoch").is_some());
    assert!(receipt.frame().header("last-seq").is_some());
    for seq in 42..=400 {
        let message = timeline.recv().await.unwrap();
        assert_eq!(header(&message, "seq"), seq.to_string());
        assert_eq!(body(&message), seq.to_string());
    }
    writer.await.unwrap();
}

#[tokio::test]
async fn p6_a_resume_that_cannot_be_complete_says_so() {
    let gateway = gateway().await;
    let alice = connect(&gateway, "alice").await;
    send(&alice, "/group/ops", "hello").await;
    let (_, receipt) =
        alice.subscribe("/group/ops").header("after-seq", "900").confirmed().await.unwrap();
    assert_eq!(receipt.frame().header("recovered").as_deref(), Some("false"));
    assert_eq!(receipt.frame().header("first-seq").as_deref(), Some("1"));
    let (mut timeline, receipt) = alice
        .subscribe("/group/ops")
        .header("after-seq", "1")
        .header("epoch", "another")
        .confirmed()
        .await
        .unwrap();
    assert_eq!(receipt.frame().header("recovered").as_deref(), Some("false"));
    assert_eq!(header(&timeline.recv().await.unwrap(), "seq"), "1", "from the first it can give");
}

/// V-19, V-25, V-27, V-28: what is not allowed is refused, under any spelling, to send and to
/// subscribe.
#[tokio::test]
async fn p8_what_is_not_allowed_is_refused() {
    let gateway = gateway().await;
    for destination in [
        "/group/ops",
        "/group/nope",
        "/queue/x",
        "/topic/x",
        "/topic/#",
        "/topic/inbox.bob",
        "/user/nobody",
        "/user/bob/queue/x",
        "/user/bob/inbox",
        "/inbox/bob",
        "/inbox.bob",
        "/presence/#",
        "/reply-queue/*",
        "/temp-queue/x",
        "/group/ops/",
        "/group/OPS",
        "/exchange/amq.topic",
    ] {
        let carol = connect(&gateway, "carol").await;
        if destination != "/reply-queue/*" {
            let outcome = carol.send(destination, "x").confirmed().await.map(|_| ());
            refusal(&carol, outcome).await;
        }
        if destination != "/user/bob/queue/x" {
            let carol = connect(&gateway, "carol").await;
            let outcome = carol.subscribe(destination).confirmed().await.map(|_| ());
            refusal(&carol, outcome).await;
        }
        // In a transaction the SEND fails when it is received, not at COMMIT.
        if destination == "/group/ops" {
            let carol = connect(&gateway, "carol").await;
            let transaction = carol.begin().await.unwrap();
            let outcome = carol
                .send(destination, "x")
                .in_transaction(&transaction)
                .confirmed()
                .await
                .map(|_| ());
            refusal(&carol, outcome).await;
        }
    }
    let conversation = ConversationId::new("group:ops").unwrap();
    assert!(gateway.history(&user("carol"), &conversation, Page::latest(1)).await.is_err());
    let direct = ConversationId::new("direct:alice:bob").unwrap();
    assert!(gateway.history(&user("carol"), &direct, Page::latest(1)).await.is_err());
}

/// V-30 in part, CON-12, CON-13: one text, whatever is wrong, and no session.
#[tokio::test]
async fn p8_a_wrong_sign_in_gets_one_text() {
    let gateway = gateway().await;
    for (name, passcode) in [("alice", "wrong"), ("nobody at all!", "right"), ("", "")] {
        let options = ConnectOptions::new().credentials(name, passcode);
        let error = try_connect(&gateway, options).await.unwrap_err();
        assert!(error.to_string().contains("authentication failed"), "{error}");
    }
}

/// P9: a fault ends its own session with one ERROR, and no other.
#[tokio::test]
async fn p9_a_bad_frame_ends_its_own_session_only() {
    let gateway = gateway().await;
    let alice = connect(&gateway, "alice").await;
    let bob = connect(&gateway, "bob").await;
    for (header, value) in [("kind", "member"), ("kind", "read"), ("idempotency-key", "")] {
        let carol = connect(&gateway, "carol").await;
        let sent = carol.send("/user/bob", "x").header(header, value).confirmed().await;
        let text = refusal(&carol, sent.map(|_| ())).await;
        assert!(text.contains(if value == "read" { "up-to" } else { header }), "{text}");
    }
    send(&alice, "/user/bob", "still here").await;
    assert!(bob.is_connected());
}

/// DIS-09: a client that says something and leaves at once has said it.
#[tokio::test]
async fn what_was_sent_before_the_connection_was_lost_counts() {
    use tokio::io::AsyncWriteExt;

    let gateway = gateway().await;
    for number in 0..20 {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        gateway.spawn(Transport::stream(far, TransportConfig::DEFAULT), None);
        let frames = format!(
            "CONNECT\naccept-version:1.2\nlogin:alice\npasscode:right\n\n\0\
             SEND\ndestination:/user/bob\n\n{number}\0{}",
            if number % 2 == 0 { "" } else { "DISCONNECT\n\n\0" }
        );
        near.write_all(frames.as_bytes()).await.unwrap();
        near.shutdown().await.unwrap();
    }
    let bob = connect(&gateway, "bob").await;
    let mut inbox = inbox(&bob).await;
    take(&bob, &mut inbox).await;
    let mut seen = Vec::new();
    for _ in 0..20 {
        seen.push(body(&take(&bob, &mut inbox).await).parse::<u32>().unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
}

/// A device has one inbox session: the newer one takes over.
#[tokio::test]
async fn a_newer_session_of_a_device_takes_its_inbox_over() {
    let gateway = gateway().await;
    let alice = connect(&gateway, "alice").await;
    let old = connect(&gateway, "bob").await;
    let mut on_old = inbox(&old).await;
    take(&old, &mut on_old).await;
    send(&alice, "/user/bob", "one").await;
    let unacked = peek(&mut on_old).await;
    let new = connect(&gateway, "bob").await;
    let mut on_new = inbox(&new).await;
    assert_eq!(old.closed().await.error.unwrap().message(), "device taken over");
    let message = take(&new, &mut on_new).await;
    assert_eq!(header(&message, "message-id"), header(&unacked, "message-id"));
    assert_eq!(header(&message, "redelivered"), "true");
    assert!(new.is_connected());
}

/// The same again and again, on several threads and over the embedded broker: no takeover is missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_takeover_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let config = mq_bridge::EmbeddedConfig::new(folder.path().join("queue.db"));
    let broker = Arc::new(mq_bridge::Embedded::open(config).await.unwrap());
    let gateway = populated(builder().broker(broker)).await;
    let mut current = connect(&gateway, "bob").await;
    let mut subscription = inbox(&current).await;
    for round in 0..200 {
        let next = connect(&gateway, "bob").await;
        let newer = inbox(&next).await;
        let closed =
            tokio::time::timeout(std::time::Duration::from_secs(20), current.closed()).await;
        let closed = closed.unwrap_or_else(|_| panic!("round {round}: the old session stays"));
        assert_eq!(closed.error.unwrap().message(), "device taken over");
        drop(subscription);
        (current, subscription) = (next, newer);
    }
}

#[tokio::test]
async fn an_own_message_comes_to_the_other_devices_and_not_to_the_one_that_sent_it() {
    let gateway = gateway().await;
    let phone = connect_device(&gateway, "carol", "phone").await;
    let laptop = connect_device(&gateway, "carol", "laptop").await;
    let (mut on_phone, mut on_laptop) = (inbox(&phone).await, inbox(&laptop).await);
    send(&phone, "/user/alice", "from the phone").await;
    let alice = connect(&gateway, "alice").await;
    send(&alice, "/user/carol", "answer").await;
    let copy = take(&laptop, &mut on_laptop).await;
    assert_eq!(
        (body(&copy), header(&copy, "destination").as_str()),
        ("from the phone", "/user/alice")
    );
    assert_eq!(body(&take(&laptop, &mut on_laptop).await), "answer");
    assert_eq!(body(&take(&phone, &mut on_phone).await), "answer");
}

/// MSG-14: after the revocation nothing comes any more.
#[tokio::test]
async fn p8_a_removed_member_hears_of_it_and_then_nothing() {
    let gateway = gateway().await;
    let (alice, bob) = (connect(&gateway, "alice").await, connect(&gateway, "bob").await);
    let (mut timeline, _) = bob.subscribe("/group/ops").confirmed().await.unwrap();
    let ops = gateway_core::GroupName::new("ops").unwrap();
    gateway.remove_member(&user("alice"), &ops, &user("bob")).await.unwrap();
    assert!(body(&timeline.recv().await.unwrap()).contains("removed"));
    send(&alice, "/group/ops", "secret").await;
    send(&alice, "/user/bob", "marker").await;
    let mut inbox = inbox(&bob).await;
    let mut bodies = Vec::new();
    for _ in 0..3 {
        bodies.push(body(&take(&bob, &mut inbox).await).to_owned());
    }
    assert!(bodies.iter().all(|text| text != "secret"), "{bodies:?}");
    assert_eq!(bodies.last().map(String::as_str), Some("marker"));
    assert!(timeline.try_recv().is_none());
    let outcome = bob.subscribe("/group/ops").ack(AckMode::Auto).confirmed().await.map(|_| ());
    refusal(&bob, outcome).await;
}
