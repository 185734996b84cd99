//! What each destination does, beside the promises.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::*;
use gateway_core::{Gateway, Presence};
use mq_bridge::Source;
use stomp_codec::server::AckMode;

async fn open_gateway() -> Gateway {
    populated(builder().open(true)).await
}

/// SUB-15, ACK-11: unacknowledged messages of a queue come back to another consumer.
#[tokio::test]
async fn consumers_of_a_queue_share_its_messages_and_get_back_what_was_not_acknowledged() {
    let gateway = open_gateway().await;
    let (alice, bob) = (connect(&gateway, "alice").await, connect(&gateway, "bob").await);
    for number in 0..4 {
        send(&alice, "/queue/work", &number.to_string()).await;
    }
    let request = || bob.subscribe("/queue/work").ack(AckMode::ClientIndividual);
    let (mut first, _) = request().header("prefetch-count", "2").confirmed().await.unwrap();
    let one = first.recv().await.unwrap();
    let two = first.recv().await.unwrap();
    assert_eq!((body(&one), body(&two)), ("0", "1"));
    assert!(first.try_recv().is_none(), "the prefetch is kept");
    bob.ack(&one).confirmed().await.unwrap();
    assert_eq!(body(&first.recv().await.unwrap()), "2");
    bob.disconnect().await;

    let carol = connect(&gateway, "carol").await;
    let (mut rest, _) =
        carol.subscribe("/queue/work").ack(AckMode::Client).confirmed().await.unwrap();
    for (text, redelivered) in [("1", "true"), ("2", "true"), ("3", "")] {
        let message = rest.recv().await.unwrap();
        assert_eq!((body(&message), header(&message, "redelivered").as_str()), (text, redelivered));
        if text == "3" {
            carol.ack(&message).confirmed().await.unwrap();
        }
    }
    let depth = gateway.broker().stats(&Source::queue("queue.work")).await.unwrap().depth;
    assert_eq!(depth, 0, "ACK in mode `client` is cumulative");
}

/// A session that has sent to a queue before makes it again where somebody has deleted it.
#[tokio::test]
async fn a_queue_that_was_deleted_meanwhile_is_made_again() {
    let gateway = open_gateway().await;
    let alice = connect(&gateway, "alice").await;
    send(&alice, "/queue/work", "gone").await;
    gateway.broker().delete(&Source::queue("queue.work")).await.unwrap();
    send(&alice, "/queue/work", "kept").await;
    let depth = gateway.broker().stats(&Source::queue("queue.work")).await.unwrap().depth;
    assert_eq!(depth, 1);
}

/// SND-12: each header travels once, and what the server says comes first.
#[tokio::test]
async fn what_a_sender_may_not_say_does_not_travel() {
    let gateway = open_gateway().await;
    let (alice, bob) = (connect(&gateway, "alice").await, connect(&gateway, "bob").await);
    let (mut topic, _) = bob.subscribe("/topic/t").confirmed().await.unwrap();
    let request = alice.send("/topic/t", "x").header("from", "mallory").header("x-a", "1");
    let request = request.header("x-a", "2").header("idempotency-key", "k").header("im.x", "y");
    request.confirmed().await.unwrap();
    let message = topic.recv().await.unwrap();
    let names: Vec<_> = message.frame().headers().map(|(name, _)| name.into_owned()).collect();
    assert_eq!((header(&message, "from"), header(&message, "x-a")), ("alice".into(), "1".into()));
    assert_eq!(names.iter().filter(|name| *name == "x-a").count(), 1);
    assert!(!names.iter().any(|name| name == "idempotency-key" || name.starts_with("im.")));
}

/// SUB-14: with `auto` a message counts as delivered once it was written.
#[tokio::test]
async fn auto_consumes_what_was_written() {
    let gateway = open_gateway().await;
    let (alice, bob) = (connect(&gateway, "alice").await, connect(&gateway, "bob").await);
    let (mut queue, _) = bob.subscribe("/queue/work").confirmed().await.unwrap();
    send(&alice, "/queue/work", "x").await;
    assert_eq!(body(&queue.recv().await.unwrap()), "x");
    let source = Source::queue("queue.work");
    wait(async || gateway.broker().stats(&source).await.unwrap().depth == 0).await;
}

/// SND-04, SND-06, SND-11, SND-12, V-20, V-33: user headers and any octets travel; what belongs to
/// the server or to the SEND does not.
#[tokio::test]
async fn a_message_carries_user_headers_and_any_octets_and_nothing_forged() {
    let gateway = open_gateway().await;
    let (alice, bob) = (connect(&gateway, "alice").await, connect(&gateway, "bob").await);
    let (mut topic, _) = bob.subscribe("/topic/a.*").confirmed().await.unwrap();
    let octets: Vec<u8> = (0..=255).collect();
    alice
        .send("/topic/a.b", octets.clone())
        .header("foo", "bar")
        .header("x-é", "a\nb:c\\")
        .header("from", "bob")
        .header("message-id", "evil")
        .header("subscription", "9")
        .header("redelivered", "true")
        .header("passcode", "p")
        .header("im.device", "x")
        .confirmed()
        .await
        .unwrap();
    let message = topic.recv().await.unwrap();
    assert_eq!(message.body(), octets);
    assert_eq!(header(&message, "foo"), "bar");
    assert_eq!(header(&message, "x-é"), "a\nb:c\\");
    assert_eq!(header(&message, "from"), "alice");
    assert_eq!(header(&message, "destination"), "/topic/a.b");
    assert_ne!(header(&message, "message-id"), "evil");
    for name in ["redelivered", "passcode", "receipt", "im.device"] {
        assert_eq!(message.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn a_durable_topic_subscription_keeps_what_its_user_misses_until_it_is_deleted() {
    let gateway = open_gateway().await;
    let alice = connect(&gateway, "alice").await;
    let connect_bob = async || {
        let bob = connect(&gateway, "bob").await;
        let (news, _) = bob
            .subscribe("/topic/news.#")
            .ack(AckMode::ClientIndividual)
            .header("id", "reader")
            .header("durable", "true")
            .header("auto-delete", "false")
            .confirmed()
            .await
            .unwrap();
        (bob, news)
    };
    let (bob, _news) = connect_bob().await;
    bob.disconnect().await;
    send(&alice, "/topic/news.world.today", "missed").await;
    let (bob, mut news) = connect_bob().await;
    let message = news.recv().await.unwrap();
    assert_eq!(body(&message), "missed");
    bob.ack(&message).confirmed().await.unwrap();
    // V-25: the id belongs to its user; another's UNSUBSCRIBE deletes another subscription.
    let carol = connect(&gateway, "carol").await;
    let (other, _) = carol
        .subscribe("/topic/news.#")
        .header("id", "reader")
        .header("durable", "true")
        .confirmed()
        .await
        .unwrap();
    other.unsubscribe(&[("durable", "true")]).await.unwrap();
    let durable = Source::durable("durable.bob.reader");
    assert!(gateway.broker().stats(&durable).await.is_ok());
    news.unsubscribe(&[("durable", "true")]).await.unwrap();
    assert!(gateway.broker().stats(&durable).await.is_err(), "deleted");
}

#[tokio::test]
async fn a_reply_to_a_temporary_queue_comes_back_to_its_connection() {
    let gateway = open_gateway().await;
    let (alice, bob) = (connect(&gateway, "alice").await, connect(&gateway, "bob").await);
    let (mut work, _) = bob.subscribe("/queue/rpc").confirmed().await.unwrap();
    alice
        .send("/queue/rpc", "2+2")
        .header("reply-to", "/temp-queue/answers")
        .confirmed()
        .await
        .unwrap();
    let question = work.recv().await.unwrap();
    let reply_to = header(&question, "reply-to");
    assert!(reply_to.starts_with("/reply-queue/") && reply_to.len() > 40, "{reply_to}");
    send(&bob, &reply_to, "4").await;
    // The MESSAGE names a subscription that this client did not make, as RabbitMQ's does; the raw
    // frames of it are tested where a stock client reads them.
    assert!(alice.is_connected());
}

/// TX-05, TX-06, TX-07, TX-16.
#[tokio::test]
async fn a_transaction_sends_and_acknowledges_as_a_whole_or_not_at_all() {
    let gateway = open_gateway().await;
    let (alice, bob) = (connect(&gateway, "alice").await, connect(&gateway, "bob").await);
    send(&alice, "/queue/in", "job").await;
    let (mut input, _) =
        bob.subscribe("/queue/in").ack(AckMode::ClientIndividual).confirmed().await.unwrap();
    let job = input.recv().await.unwrap();
    let (mut output, _) = alice.subscribe("/queue/out").confirmed().await.unwrap();
    let (queued, waiting) = (Source::queue("queue.in"), Source::queue("queue.out"));

    let aborted = bob.begin().await.unwrap();
    bob.send("/queue/out", "never").in_transaction(&aborted).confirmed().await.unwrap();
    bob.ack(&job).in_transaction(&aborted).confirmed().await.unwrap();
    aborted.abort().await.unwrap();
    let committed = bob.begin().await.unwrap();
    for text in ["one", "two"] {
        bob.send("/queue/out", text).in_transaction(&committed).confirmed().await.unwrap();
    }
    bob.ack(&job).in_transaction(&committed).confirmed().await.unwrap();
    assert_eq!(gateway.broker().stats(&waiting).await.unwrap().depth, 0);
    assert_eq!(gateway.broker().stats(&queued).await.unwrap().depth, 1);
    committed.commit().await.unwrap();
    assert_eq!(gateway.broker().stats(&queued).await.unwrap().depth, 0);
    assert_eq!(body(&output.recv().await.unwrap()), "one");
    assert_eq!(body(&output.recv().await.unwrap()), "two");
}

#[tokio::test]
async fn signals_reach_the_connected_devices_and_move_markers_forward_only() {
    let gateway = gateway().await;
    let (alice, bob) = (connect(&gateway, "alice").await, connect(&gateway, "bob").await);
    let mut on_alice = inbox(&alice).await;
    for text in ["one", "two"] {
        send(&alice, "/user/bob", text).await;
    }
    let signal = |kind: &'static str, up_to: &'static str| {
        bob.send("/user/alice", "").header("kind", kind).header("up-to", up_to).confirmed()
    };
    signal("typing", "").await.unwrap();
    signal("delivered", "2").await.unwrap();
    signal("read", "1").await.unwrap();
    signal("read", "1").await.unwrap();
    signal("read", "7").await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let message = on_alice.recv().await.unwrap();
        alice.ack(&message).await.unwrap();
        if message.header("seq").is_some() {
            continue;
        }
        assert_eq!(header(&message, "from"), "bob");
        assert_eq!(header(&message, "conversation"), "direct:alice:bob");
        seen.push((header(&message, "kind"), header(&message, "up-to")));
    }
    let expected = [("typing", ""), ("delivered", "2"), ("read", "1"), ("read", "2")];
    assert_eq!(seen, expected.map(|(kind, up_to)| (kind.to_owned(), up_to.to_owned())));
    let list = gateway.conversations(&user("bob"), None, 10).await.unwrap();
    assert_eq!(list.first().map(|first| first.unread), Some(0));
}

#[tokio::test]
async fn presence_is_told_first_and_then_at_each_change() {
    let gateway = gateway().await;
    let alice = connect(&gateway, "alice").await;
    let (mut presence, _) = alice.subscribe("/presence/bob").confirmed().await.unwrap();
    assert_eq!(header(&presence.recv().await.unwrap(), "presence"), "offline");
    let bob = connect(&gateway, "bob").await;
    assert_eq!(header(&presence.recv().await.unwrap(), "presence"), "online");
    assert_eq!(gateway.presence(&[user("bob")]).await.unwrap(), [Presence::Online]);
    let desk = connect_device(&gateway, "bob", "desk").await;
    tokio::time::pause();
    // Away is who is so on each device; a while later, as when going.
    for device in [&bob, &desk] {
        device.send("/session/presence", "away").confirmed().await.unwrap();
    }
    assert_eq!(header(&presence.recv().await.unwrap(), "presence"), "away");
    assert_eq!(gateway.presence(&[user("bob")]).await.unwrap(), [Presence::Away]);
    // That something was delivered is said by a device alone; whatever else it says, says that somebody is there.
    send(&alice, "/user/bob", "are you there?").await;
    bob.send("/user/alice", "")
        .header("kind", "delivered")
        .header("up-to", "1")
        .confirmed()
        .await
        .unwrap();
    assert_eq!(gateway.presence(&[user("bob")]).await.unwrap(), [Presence::Away]);
    send(&bob, "/user/alice", "yes").await;
    assert_eq!(header(&presence.recv().await.unwrap(), "presence"), "online");
    // The one that is not away goes, and comes back.
    bob.disconnect().await;
    assert_eq!(header(&presence.recv().await.unwrap(), "presence"), "away");
    desk.send("/session/presence", "online").confirmed().await.unwrap();
    assert_eq!(header(&presence.recv().await.unwrap(), "presence"), "online");
    desk.disconnect().await;
    let gone = presence.recv().await.unwrap();
    assert_eq!(header(&gone, "presence"), "offline");
    assert!(gone.header("last-seen").is_some());
    // P8: carol shares no conversation with bob.
    let carol = connect(&gateway, "carol").await;
    let outcome = carol.subscribe("/presence/bob").confirmed().await.map(|_| ());
    refusal(&carol, outcome).await;
}

#[tokio::test]
async fn a_kicked_user_hears_why() {
    let gateway = gateway().await;
    let (alice, bob) = (connect(&gateway, "alice").await, connect(&gateway, "bob").await);
    assert_eq!(gateway.kick(&user("bob"), "signed out by an administrator").await, Ok(1));
    assert_eq!(bob.closed().await.error.unwrap().message(), "signed out by an administrator");
    assert!(alice.is_connected());
    assert_eq!(gateway.kick(&user("bob"), "again").await, Ok(0));
}

#[tokio::test]
async fn ten_gateways_live_in_one_process_and_shut_down() {
    let mut gateways = Vec::new();
    for _ in 0..10 {
        let gateway = gateway().await;
        let alice = connect(&gateway, "alice").await;
        send(&alice, "/user/bob", "x").await;
        gateways.push((gateway, alice));
    }
    for (gateway, alice) in gateways {
        gateway.shutdown().await;
        alice.closed().await;
    }
}

/// Waits for a condition.
async fn wait(mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "the condition never came true");
        tokio::task::yield_now().await;
    }
}

/// V-29: a session ends with the token it was opened with.
#[tokio::test(start_paused = true)]
async fn a_session_ends_when_its_credentials_do() {
    use std::sync::Arc;

    use gateway_core::{AuthError, Authenticator, Clock, Credentials, Principal};

    #[derive(Debug)]
    struct Expiring(Clock);

    #[async_trait::async_trait]
    impl Authenticator for Expiring {
        async fn authenticate(&self, _: &Credentials) -> Result<Option<Principal>, AuthError> {
            Ok(Some(Principal::new(user("alice")).with_expires(self.0.now_millis() + 60_000)))
        }
    }

    let clock = Clock::manual(1);
    let builder = Gateway::builder().clock(clock.clone()).authenticator(Arc::new(Expiring(clock)));
    let gateway = populated(builder).await;
    let alice = connect(&gateway, "alice").await;
    assert!(alice.is_connected());
    assert_eq!(alice.closed().await.error.unwrap().message(), "token expired");

    // With a new token, sent in time, it goes on.
    let alice = connect(&gateway, "alice").await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(40)).await;
        alice.send("/session/renew", "a.new.token").confirmed().await.unwrap();
    }
    assert!(alice.is_connected());
    let begun = tokio::time::Instant::now();
    assert_eq!(alice.closed().await.error.unwrap().message(), "token expired");
    assert!(begun.elapsed() >= Duration::from_secs(59), "the last token counts");
}

/// V-23: nobody becomes somebody else in a session.
#[tokio::test]
async fn a_session_is_not_renewed_with_what_is_no_token_of_its_user() {
    use std::sync::Arc;

    use gateway_core::{AuthError, Authenticator, Credentials, Principal};

    /// A token is the name of its user.
    #[derive(Debug)]
    struct Named;

    #[async_trait::async_trait]
    impl Authenticator for Named {
        async fn authenticate(
            &self,
            credentials: &Credentials,
        ) -> Result<Option<Principal>, AuthError> {
            match credentials.secret.expose() {
                "wrong" => Err(AuthError::Failed),
                name => Ok(Some(Principal::new(user(name)))),
            }
        }
    }

    let gateway = populated(Gateway::builder().authenticator(Arc::new(Named))).await;
    for token in ["bob", "wrong", ""] {
        let options = stomp_ws::client::ConnectOptions::new().credentials("alice", "alice");
        let alice = try_connect(&gateway, options).await.unwrap();
        let outcome = alice.send("/session/renew", token).confirmed().await.map(|_| ());
        let text = refusal(&alice, outcome).await;
        assert!(text.contains("token is not valid"), "{token}: {text}");
    }
}

/// P6, P7: a client that acknowledges late gets a timeline and a topic all the same, in order and
/// without a hole, and holds up nobody.
#[tokio::test]
async fn what_is_not_acknowledged_makes_live_messages_wait() {
    let gateway = populated(builder().open(true)).await;
    let (alice, bob) = (connect(&gateway, "alice").await, connect(&gateway, "bob").await);
    let subscribe =
        |destination| bob.subscribe(destination).ack(AckMode::ClientIndividual).confirmed();
    let (mut topic, _) = subscribe("/topic/t").await.unwrap();
    let (mut timeline, _) = subscribe("/group/ops").await.unwrap();
    for number in 0..600 {
        send(&alice, "/topic/t", &number.to_string()).await;
        send(&alice, "/group/ops", &number.to_string()).await;
    }
    for subscription in [&mut topic, &mut timeline] {
        let mut unacked = Vec::new();
        for number in 0..600 {
            let message = subscription.recv().await.unwrap();
            assert_eq!(body(&message), number.to_string());
            unacked.push(message);
            if unacked.len() == 200 {
                for message in unacked.drain(..) {
                    bob.ack(&message).confirmed().await.unwrap();
                }
            }
        }
    }
    assert_eq!(gateway.dropped(), 0);
}
