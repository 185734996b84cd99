//! Mallory, who is signed in, tries to read and write what is alice's and bob's: over STOMP and over REST, by every
//! spelling that has worked somewhere. V-19, V-22 to V-28.
#![cfg(feature = "rest")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use common::*;
use gateway_core::{Gateway, JwtOptions, RestApi, TokenKey};
use stomp_codec::server::AckMode;
use stomp_ws::client::{Client, ClientError};
use tower::ServiceExt as _;

/// The text of the ERROR that refused something; names what was not.
async fn refused(destination: &str, client: &Client, outcome: Result<(), ClientError>) -> String {
    let text = tokio::time::timeout(Duration::from_secs(20), refusal(client, outcome));
    text.await.unwrap_or_else(|_| panic!("{destination:?} was answered otherwise"))
}

async fn with_mallory(builder: gateway_core::GatewayBuilder) -> Gateway {
    let gateway = populated(builder).await;
    for name in ["mallory", "al", "alice.b"] {
        gateway.create_user(&user(name), None).await.unwrap();
    }
    gateway
}

/// V-19, V-27, V-28: what is not mallory's to subscribe to.
#[tokio::test]
async fn p8_no_spelling_of_a_destination_gives_what_is_anothers() {
    let gateway = with_mallory(builder()).await;
    for destination in [
        "/group/ops",
        "/group/ops/",
        "/group//ops",
        "//group/ops",
        "/group/OPS",
        "/group/%6fps",
        "/group/../ops",
        "/group/./ops",
        "/group/ops,/group/x",
        "/group/*",
        "/group/#",
        "/group/>",
        "/group/o*",
        "/group/ops ",
        "/group/ops\\",
        "/group/ops?x",
        "/group/ops#x",
        "/group/",
        "/inbox/alice",
        "/inbox/",
        "//inbox",
        "/Inbox",
        "/inbox?user=alice",
        "/inbox/../alice",
        "/user/alice/inbox",
        "/user/alice/queue/x",
        "/user/alice/topic/x",
        "/user/alice/",
        "/user/*",
        "/user/",
        "/user",
        "/presence/alice",
        "/presence/*",
        "/presence/#",
        "/presence/",
        "/queue/x",
        "/queue/inbox.alice.alice",
        "/topic/x",
        "/topic/#",
        "/topic/*",
        "/topic/>",
        "/topic/conv.#",
        "/topic/inbox.alice",
        "/topic/live.alice",
        "/topic/presence.alice",
        "/temp-queue/x",
        "/reply-queue/x",
        "/amq/queue/inbox.alice",
        "/exchange/amq.topic/#",
        "/dsub/x",
        "$SYS/#",
        "$SYS.>",
        ">",
        "#",
        "*",
        "/",
        "/session/renew",
        "inbox",
        "group/ops",
        "conv.group:ops",
        "direct:alice:bob",
        "/direct/alice/bob",
    ] {
        let mallory = connect(&gateway, "mallory").await;
        let subscribed = mallory.subscribe(destination).confirmed().await.map(|_| ());
        let text = refused(destination, &mallory, subscribed).await;
        assert!(!text.contains("alice") && !text.contains("bob"), "{destination}: {text}");
        let durable = connect(&gateway, "mallory").await;
        let request = durable.subscribe(destination).header("durable", "true").header("id", "1");
        let subscribed = request.header("auto-delete", "false").confirmed().await.map(|_| ());
        refused(destination, &durable, subscribed).await;
    }
}

/// V-27: nor may mallory write there, in a transaction or without.
#[tokio::test]
async fn p8_no_spelling_of_a_destination_lets_write_what_is_anothers() {
    let gateway = with_mallory(builder()).await;
    for destination in [
        "/group/ops",
        "/group/ops/",
        "/group/%6fps",
        "/group/ops,/user/alice",
        "/inbox",
        "/inbox/alice",
        "/user/alice/queue/x",
        "/user/alice/topic/x",
        "/user/nobody",
        "/queue/x",
        "/topic/x",
        "/topic/conv.group:ops",
        "/topic/inbox.alice",
        "/presence/alice",
        "/temp-queue/x",
        "/amq/queue/inbox.alice",
        "$SYS/x",
    ] {
        let mallory = connect(&gateway, "mallory").await;
        let sent = mallory.send(destination, "x").confirmed().await.map(|_| ());
        refused(destination, &mallory, sent).await;
    }
    let alice = connect(&gateway, "alice").await;
    let (_, receipt) = alice.subscribe("/group/ops").confirmed().await.unwrap();
    let last = receipt.frame().header("last-seq").unwrap_or_default().into_owned();
    assert_eq!(last, "1", "nothing but that the group was made");
}

/// V-19: where topics are open, they lead to topics and to nothing else.
#[tokio::test]
async fn p8_open_topics_do_not_show_what_the_gateway_keeps_beside_them() {
    let gateway = with_mallory(builder().open(true)).await;
    let (alice, mallory) = (connect(&gateway, "alice").await, connect(&gateway, "mallory").await);
    let mut heard = Vec::new();
    for pattern in ["/topic/#", "/topic/*.*", "/topic/*"] {
        heard.push(mallory.subscribe(pattern).confirmed().await.unwrap().0);
    }
    for queue in ["/queue/inbox.alice.alice", "/queue/inbox.bob.bob", "/queue/conv.group:ops"] {
        let request = mallory.subscribe(queue).ack(AckMode::ClientIndividual);
        heard.push(request.confirmed().await.unwrap().0);
    }
    send(&alice, "/group/ops", "secret").await;
    send(&alice, "/user/bob", "secret").await;
    send(&alice, "/topic/end", "end").await;
    send(&alice, "/topic/end.end", "end").await;
    for subscription in &mut heard[..3] {
        assert_eq!(body(&subscription.recv().await.unwrap()), "end");
    }
    for subscription in &mut heard[3..] {
        assert!(subscription.try_recv().is_none());
    }
}

/// V-28: names that begin alike, or hold a dot, are other names.
#[tokio::test]
async fn p8_a_user_destination_is_its_users_alone() {
    let gateway = with_mallory(builder().open(true)).await;
    let bob = connect(&gateway, "bob").await;
    let mut others = Vec::new();
    for name in ["al", "alice.b", "mallory"] {
        let client = connect(&gateway, name).await;
        let subscription = client.subscribe("/user/queue/x").confirmed().await.unwrap().0;
        others.push((client, subscription));
    }
    let alice = connect(&gateway, "alice").await;
    let (mut own, _) = alice.subscribe("/user/queue/x").confirmed().await.unwrap();
    send(&bob, "/user/alice/queue/x", "for alice").await;
    assert_eq!(body(&own.recv().await.unwrap()), "for alice");
    for (name, (_, subscription)) in ["al", "alice.b", "mallory"].into_iter().zip(&mut others) {
        send(&bob, &format!("/user/{name}/queue/x"), "end").await;
        assert_eq!(body(&subscription.recv().await.unwrap()), "end", "{name}");
    }
}

/// The same over REST; and nobody signs in by an address.
#[tokio::test]
async fn p8_rest_gives_nothing_that_is_anothers() {
    let gateway = with_mallory(builder()).await;
    let alice = connect(&gateway, "alice").await;
    send(&alice, "/group/ops", "secret").await;
    send(&alice, "/user/bob", "secret").await;
    let tokens = JwtOptions::new(TokenKey::new([7; 32]).unwrap(), "t", "t").build();
    let router = RestApi::new(gateway.clone(), tokens).admins([user("alice")]).router();
    // mallory:right
    let basic = "Basic bWFsbG9yeTpyaWdodA==";
    let call = async |method: &str, path: &str, json: &str, headers: &[(&str, &str)]| {
        let mut request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let response = router
            .clone()
            .oneshot(request.body(Body::from(json.to_owned())).unwrap())
            .await
            .unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    for (method, path, json) in [
        ("GET", "/conversations/group:ops/messages", ""),
        ("GET", "/conversations/group%3Aops/messages", ""),
        ("GET", "/conversations/group:ops%00/messages", ""),
        ("GET", "/conversations/direct:alice:bob/messages", ""),
        ("GET", "/conversations/direct:bob:alice/messages", ""),
        ("GET", "/conversations/direct:alice:bob:mallory/messages", ""),
        ("GET", "/conversations/direct:alice:mallory/../direct:alice:bob/messages", ""),
        ("GET", "/groups/ops", ""),
        ("GET", "/groups/..%2Fgroups%2Fops", ""),
        ("PUT", "/groups/ops/members/mallory", ""),
        ("DELETE", "/groups/ops/members/bob", ""),
        ("POST", "/messages", r#"{"to":"/group/ops","body":"x"}"#),
        ("POST", "/messages", r#"{"to":"/inbox","body":"x"}"#),
        ("POST", "/messages", r#"{"to":"/topic/inbox.alice","body":"x"}"#),
        ("POST", "/messages", r#"{"to":"/user/alice/queue/x","body":"x"}"#),
        ("GET", "/keys", ""),
        ("POST", "/keys", r#"{"service":"mallory","scopes":["as","read"]}"#),
        ("PUT", "/users/alice", r#"{"password":"mine"}"#),
        ("GET", "/webhooks", ""),
        ("POST", "/webhooks", r#"{"url":"http://example.org","events":["message"]}"#),
    ] {
        let (status, body) = call(method, path, json, &[("authorization", basic)]).await;
        assert!(status.is_client_error(), "{method} {path}: {status}");
        assert!(!body.contains("secret"), "{method} {path}: {body}");
    }
    for act_as in ["alice", "ALICE", "bob", ""] {
        let headers = [("authorization", basic), ("act-as", act_as)];
        assert_eq!(call("GET", "/conversations", "", &headers).await.0, StatusCode::FORBIDDEN);
    }
    for path in ["/conversations", "/users?q=", "/me"] {
        let (_, body) = call("GET", path, "", &[("authorization", basic)]).await;
        assert!(!body.contains("secret") && !body.contains("ops"), "{path}: {body}");
    }
    for path in
        ["/me?authorization=Basic%20bWFsbG9yeTpyaWdodA==", "/me?access_token=x", "/me?token=x"]
    {
        assert_eq!(call("GET", path, "", &[]).await.0, StatusCode::UNAUTHORIZED, "{path}");
    }
}

/// V-19, V-28: rules open what they say, and no spelling on the wire more.
#[tokio::test]
async fn p8_rules_open_what_they_say_and_nothing_else() {
    let rules = ["send,subscribe /topic/u.{user}.#", "send /user/{user}/queue/x"];
    let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    let gateway = with_mallory(builder().rules(rules)).await;
    let dotted = connect(&gateway, "alice.b").await;
    let (mut own, _) = dotted.subscribe("/topic/u.alice%2Eb.#").confirmed().await.unwrap();
    send(&dotted, "/topic/u.alice%2Eb.x", "mine").await;
    let got = tokio::time::timeout(Duration::from_secs(30), own.recv()).await.unwrap().unwrap();
    assert_eq!(body(&got), "mine");

    for (name, destination) in [
        ("mallory", "/topic/u.#"),
        ("mallory", "/topic/u.*.#"),
        ("mallory", "/topic/#"),
        ("mallory", "/topic/u.alice.x"),
        ("mallory", "/topic/u.{user}.x"),
        ("mallory", "/topic/u.mallory:alice.x"),
        ("mallory", "/topic/u.mallory\\c.x"),
        ("mallory", "/topic/u.../alice"),
        ("mallory", "/queue/u.mallory.x"),
        // Under a rule without `%2E` these would read what is alice.b's, and the other way.
        ("alice", "/topic/u.alice%2Eb.#"),
        ("alice.b", "/topic/u.alice.b.#"),
    ] {
        let client = connect(&gateway, name).await;
        let outcome = client.subscribe(destination).confirmed().await.map(drop);
        let text = refused(destination, &client, outcome).await;
        assert!(!text.contains("secret"), "{destination}: {text}");
        let client = connect(&gateway, name).await;
        let outcome = client.send(destination, "x".to_owned()).confirmed().await.map(drop);
        refused(destination, &client, outcome).await;
    }
    let client = connect(&gateway, "mallory").await;
    send(&client, "/user/queue/x", "to myself").await;
    let outcome = client.send("/user/alice/queue/x", "x".to_owned()).confirmed().await.map(drop);
    refused("/user/alice/queue/x", &client, outcome).await;
}
