//! Mallory speaks before being let in, or with the names that belong to another session: in octets, as no client
//! would. V-22, V-25.
#![cfg(feature = "rest")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use common::*;
use gateway_core::{
    AuthError, Authenticator, Credentials, Gateway, JwtOptions, Principal, RestApi, TokenKey,
};
use mq_bridge::Source;
use stomp_ws::{Transport, TransportConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

const GOOD: &str = "CONNECT\naccept-version:1.2\nhost:h\nlogin:mallory\npasscode:right\n\n\0";
const BAD: &str = "CONNECT\naccept-version:1.2\nhost:h\nlogin:mallory\npasscode:wrong\n\n\0";
/// What mallory may do once signed in.
const WORK: &str = "SUBSCRIBE\nid:1\ndestination:/topic/spied\nreceipt:s\n\n\0\
    SEND\ndestination:/topic/news\n\nfrom mallory\0\
    SEND\ndestination:/user/bob\nreceipt:w\n\nfrom mallory\0";

/// A connection without a client.
struct Raw {
    stream: DuplexStream,
    arrived: Vec<u8>,
}

impl Raw {
    fn new(gateway: &Gateway) -> Self {
        let (near, far) = tokio::io::duplex(64 * 1024);
        gateway.spawn(Transport::stream(far, TransportConfig::DEFAULT), None);
        Self { stream: near, arrived: Vec::new() }
    }

    async fn connect(gateway: &Gateway, user: &str, version: &str, device: &str) -> Self {
        let mut raw = Self::new(gateway);
        raw.say(&format!(
            "CONNECT\naccept-version:{version}\nhost:h\nlogin:{user}\npasscode:right\ndevice:{device}\n\n\0"
        ))
        .await;
        let answer = raw.hear().await;
        assert!(answer.starts_with("CONNECTED\n"), "{answer}");
        raw
    }

    async fn say(&mut self, frames: &str) {
        self.stream.write_all(frames.as_bytes()).await.unwrap();
    }

    /// The next frame; empty at the end.
    async fn hear(&mut self) -> String {
        let frame = tokio::time::timeout(Duration::from_secs(30), async {
            loop {
                if let Some(end) = self.arrived.iter().position(|octet| *octet == 0) {
                    let frame: Vec<u8> = self.arrived.drain(..=end).collect();
                    let frame = String::from_utf8(frame).unwrap();
                    return frame.trim_matches(['\0', '\n']).to_owned();
                }
                if self.stream.read_buf(&mut self.arrived).await.unwrap_or(0) == 0 {
                    return String::new();
                }
            }
        });
        frame.await.expect("a frame, or the end")
    }

    async fn expect_refusal(mut self, why: &str) {
        let answer = self.hear().await;
        assert!(answer.starts_with("ERROR\n"), "{why:?}: {answer}");
        assert_eq!(self.hear().await, "", "{why:?}: the connection goes on");
    }
}

fn header_of(frame: &str, name: &str) -> String {
    let value = frame.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {name} in {frame:?}")).to_owned()
}

async fn with_mallory(builder: gateway_core::GatewayBuilder) -> Gateway {
    let gateway = populated(builder.open(true)).await;
    gateway.create_user(&user("mallory"), None).await.unwrap();
    gateway
}

async fn spies(gateway: &Gateway) -> u64 {
    gateway.broker().stats(&Source::topic("topic.spied")).await.unwrap().consumers
}

/// V-22: nothing before a good CONNECT is done, and nothing behind a bad one.
#[tokio::test]
async fn p8_what_comes_before_or_behind_a_refused_connect_is_not_done() {
    let gateway = with_mallory(builder()).await;
    let (alice, bob) = (connect(&gateway, "alice").await, connect(&gateway, "bob").await);
    let (mut news, _) = alice.subscribe("/topic/news").confirmed().await.unwrap();
    let mut told = inbox(&bob).await;
    take(&bob, &mut told).await; // that there is the group
    for beginning in [
        BAD.to_owned(),
        format!("{BAD}{GOOD}"),
        String::new(),
        "BEGIN\ntransaction:t\n\n\0".to_owned(),
        "SEND\ndestination:/session/renew\n\nx\0".to_owned(),
        "DISCONNECT\nreceipt:d\n\n\0".to_owned(),
        "NONSENSE\n\n\0".to_owned(),
    ] {
        let mut mallory = Raw::new(&gateway);
        mallory.say(&format!("{beginning}{WORK}{GOOD}{WORK}")).await;
        mallory.expect_refusal(&beginning).await;
        assert_eq!(spies(&gateway).await, 0, "{beginning:?}");
    }
    // The same is done behind a good CONNECT, or the above says nothing.
    send(&alice, "/topic/news", "end").await;
    send(&alice, "/user/bob", "end").await;
    let mut mallory = Raw::new(&gateway);
    mallory.say(&format!("{GOOD}{WORK}")).await;
    let answers = [mallory.hear().await, mallory.hear().await, mallory.hear().await];
    assert!(answers[2].starts_with("RECEIPT\n"), "{answers:?}");
    assert_eq!(spies(&gateway).await, 1);
    for wanted in ["end", "from mallory"] {
        assert_eq!(body(&news.recv().await.unwrap()), wanted);
        assert_eq!(body(&take(&bob, &mut told).await), wanted);
    }
}

/// Takes its time for mallory.
#[derive(Debug)]
struct Slow {
    asked: Semaphore,
    answer: Semaphore,
}

#[async_trait]
impl Authenticator for Slow {
    async fn authenticate(
        &self,
        credentials: &Credentials,
    ) -> Result<Option<Principal>, AuthError> {
        if credentials.login.as_deref() == Some("mallory") {
            self.asked.add_permits(1);
            self.answer.acquire().await.unwrap().forget();
        }
        Trusting.authenticate(credentials).await
    }
}

/// V-22: what comes while the authenticator still thinks waits for its answer.
#[tokio::test]
async fn p8_nothing_is_done_while_the_authenticator_thinks() {
    let slow = Arc::new(Slow { asked: Semaphore::new(0), answer: Semaphore::new(0) });
    let builder = Gateway::builder().authenticator(Arc::clone(&slow) as Arc<dyn Authenticator>);
    let gateway = with_mallory(builder).await;
    let alice = connect(&gateway, "alice").await;
    let (mut news, _) = alice.subscribe("/topic/news").confirmed().await.unwrap();
    for (connect, is_good) in [(BAD, false), (GOOD, true)] {
        let mut mallory = Raw::new(&gateway);
        mallory.say(connect).await;
        slow.asked.acquire().await.unwrap().forget();
        mallory.say(WORK).await;
        send(&alice, "/topic/news", "meanwhile").await;
        assert_eq!(body(&news.recv().await.unwrap()), "meanwhile");
        assert_eq!(spies(&gateway).await, 0);
        slow.answer.add_permits(1);
        if is_good {
            assert!(mallory.hear().await.starts_with("CONNECTED\n"));
            assert_eq!(body(&news.recv().await.unwrap()), "from mallory");
        } else {
            mallory.expect_refusal("a bad CONNECT").await;
        }
    }
}

/// V-22: the same over REST, where each call brings its own credentials.
#[tokio::test]
async fn p8_a_call_without_good_credentials_does_nothing() {
    let gateway = with_mallory(builder()).await;
    let tokens = JwtOptions::new(TokenKey::new([7; 32]).unwrap(), "t", "t").build();
    let router = RestApi::new(gateway.clone(), tokens).admins([user("mallory")]).router();
    let call = async |authorization: Option<&str>, method: &str, path: &str, json: &str| {
        let request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        let mut request = request.header("content-type", "application/json");
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let request = request.body(Body::from(json.to_owned())).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    let calls = [
        ("POST", "/messages", r#"{"to":"/user/bob","body":"x"}"#),
        ("POST", "/groups", r#"{"name":"mine"}"#),
        ("POST", "/keys", r#"{"service":"billing","scopes":["read"]}"#),
        ("PUT", "/users/dave", "{}"),
        ("PUT", "/blocks/alice", ""),
        ("GET", "/conversations", ""),
        ("GET", "/users", ""),
    ];
    // mallory:wrong, nobody:right, mallory:
    let basic = ["bWFsbG9yeTp3cm9uZw==", "bm9ib2R5L3g6cmlnaHQ=", "bWFsbG9yeTo="];
    let basic = basic.map(|pair| format!("Basic {pair}"));
    let bad = [None, Some(""), Some("Bearer mallory"), Some("Bearer imk_x"), Some("Negotiate x")];
    for authorization in bad.into_iter().chain(basic.iter().map(|value| Some(value.as_str()))) {
        for (method, path, json) in calls {
            let (status, body) = call(authorization, method, path, json).await;
            assert_eq!(
                status,
                StatusCode::UNAUTHORIZED,
                "{authorization:?} {method} {path}: {body}"
            );
        }
    }
    // mallory:right
    let good = Some("Basic bWFsbG9yeTpyaWdodA==");
    assert_eq!(
        call(good, "GET", "/conversations", "").await.1,
        r#"{"conversations":[],"next":null}"#
    );
    for (method, path, json) in calls {
        let (status, body) = call(good, method, path, json).await;
        assert!(status.is_success(), "{method} {path}: {body}");
    }
}

/// V-25: what is delivered to one session is settled by no other, not even by another of the same user.
#[tokio::test]
async fn p8_a_message_is_acknowledged_by_its_own_session_only() {
    let gateway = with_mallory(builder()).await;
    let alice = connect(&gateway, "alice").await;
    let subscribe = "SUBSCRIBE\nid:i\ndestination:/inbox\nack:client-individual\nreceipt:s\n\n\0";
    let mut bob = Raw::connect(&gateway, "bob", "1.2", "phone").await;
    bob.say(subscribe).await;
    assert!(bob.hear().await.starts_with("RECEIPT\n"));
    send(&alice, "/user/bob", "for bob").await;
    let mut message = bob.hear().await;
    while !message.ends_with("for bob") {
        message = bob.hear().await;
    }
    let (ack, id) = (header_of(&message, "ack"), header_of(&message, "message-id"));
    for command in ["ACK", "NACK"] {
        for (version, names) in [
            ("1.2", format!("id:{ack}")),
            ("1.2", format!("id:{id}")),
            ("1.1", format!("subscription:i\nmessage-id:{id}")),
            ("1.1", format!("subscription:i\nmessage-id:{ack}")),
        ] {
            for (name, device, own) in
                [("mallory", "x", ""), ("mallory", "x", subscribe), ("bob", "laptop", "")]
            {
                let mut other = Raw::connect(&gateway, name, version, device).await;
                other.say(own).await;
                if !own.is_empty() {
                    assert!(other.hear().await.starts_with("RECEIPT\n"));
                }
                other.say(&format!("{command}\n{names}\nreceipt:a\n\n\0")).await;
                other.expect_refusal(&format!("{name} {command} {names}")).await;
            }
        }
    }
    bob.say("DISCONNECT\nreceipt:d\n\n\0").await;
    while !bob.hear().await.is_empty() {}
    let bob = connect_device(&gateway, "bob", "phone").await;
    let mut inbox = inbox(&bob).await;
    take(&bob, &mut inbox).await; // that there is the group
    let again = take(&bob, &mut inbox).await;
    assert_eq!((body(&again), &*header(&again, "redelivered")), ("for bob", "true"));
}

/// V-25: nor does another session end a subscription or a transaction.
#[tokio::test]
async fn p8_subscriptions_and_transactions_belong_to_their_session() {
    let gateway = with_mallory(builder()).await;
    let alice = connect(&gateway, "alice").await;
    let (mut news, _) = alice.subscribe("/topic/news").confirmed().await.unwrap();
    let mut bob = Raw::connect(&gateway, "bob", "1.2", "phone").await;
    bob.say(
        "SUBSCRIBE\nid:s\ndestination:/topic/for-bob\nreceipt:s\n\n\0\
         BEGIN\ntransaction:t\n\n\0\
         SEND\ndestination:/topic/news\ntransaction:t\nreceipt:r\n\nfrom bob\0",
    )
    .await;
    assert!(bob.hear().await.starts_with("RECEIPT\n") && bob.hear().await.starts_with("RECEIPT\n"));
    for frame in [
        "UNSUBSCRIBE\nid:s\nreceipt:x\n\n\0",
        "UNSUBSCRIBE\nid:s\ndurable:true\nreceipt:x\n\n\0",
        "COMMIT\ntransaction:t\nreceipt:x\n\n\0",
        "ABORT\ntransaction:t\nreceipt:x\n\n\0",
        "SEND\ndestination:/topic/news\ntransaction:t\nreceipt:x\n\nfrom mallory\0",
    ] {
        for name in ["mallory", "bob"] {
            let mut other = Raw::connect(&gateway, name, "1.2", "other").await;
            other.say(frame).await;
            other.expect_refusal(frame).await;
        }
    }
    // With names of its own that are the same, a session reaches its own.
    let mut mallory = Raw::connect(&gateway, "mallory", "1.2", "x").await;
    mallory
        .say(
            "SUBSCRIBE\nid:s\ndestination:/topic/other\n\n\0UNSUBSCRIBE\nid:s\n\n\0\
             BEGIN\ntransaction:t\n\n\0COMMIT\ntransaction:t\nreceipt:x\n\n\0",
        )
        .await;
    assert_eq!(header_of(&mallory.hear().await, "receipt-id"), "x");
    send(&alice, "/topic/news", "first").await;
    bob.say("COMMIT\ntransaction:t\nreceipt:c\n\n\0").await;
    assert_eq!(header_of(&bob.hear().await, "receipt-id"), "c");
    for wanted in ["first", "from bob"] {
        assert_eq!(body(&news.recv().await.unwrap()), wanted);
    }
    send(&alice, "/topic/for-bob", "heard").await;
    assert!(bob.hear().await.ends_with("heard"));
}

/// V-25: a message is changed where it is, by who may: its `id` opens no other conversation.
#[tokio::test]
async fn p8_the_id_of_a_message_of_others_is_good_for_nothing() {
    let gateway = with_mallory(builder()).await;
    let (alice, mallory) = (connect(&gateway, "alice").await, connect(&gateway, "mallory").await);
    let sent = send(&alice, "/group/ops", "as alice said it").await;
    let id = sent.frame().header("message-id").unwrap().into_owned();
    send(&mallory, "/user/carol", "a conversation of my own").await;
    let tokens = JwtOptions::new(TokenKey::new([7; 32]).unwrap(), "t", "t").build();
    let router = RestApi::new(gateway.clone(), tokens).router();
    let call = async |method: &str, path: &str, json: String| {
        let request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        let request = request.header("content-type", "application/json");
        // mallory:right
        let request = request.header("authorization", "Basic bWFsbG9yeTpyaWdodA==");
        router.clone().oneshot(request.body(Body::from(json)).unwrap()).await.unwrap().status()
    };
    for (to, conversation) in [("/group/ops", "group:ops"), ("/user/carol", "direct:carol:mallory")]
    {
        for kind in ["edit", "recall", "reaction"] {
            let client = connect(&gateway, "mallory").await;
            let request = client.send(to, "+x").header("kind", kind).header("in-reply-to", &id);
            let outcome = request.confirmed().await.map(drop);
            refusal(&client, outcome).await;
            let json =
                format!(r#"{{"to":"{to}","kind":"{kind}","body":"+x","in_reply_to":"{id}"}}"#);
            assert!(call("POST", "/messages", json).await.is_client_error(), "{to} {kind}");
        }
        let path = format!("/conversations/{conversation}/messages/{id}");
        assert_eq!(call("GET", &path, String::new()).await, StatusCode::NOT_FOUND, "{path}");
    }
    let ops = gateway_core::ConversationId::new("group:ops").unwrap();
    let page = gateway_core::Page::between(None, None, 9);
    let history = gateway.history(&user("alice"), &ops, page).await.unwrap();
    let last = history.messages.last().unwrap();
    assert_eq!((last.message_id.to_string(), &last.body[..]), (id, &b"as alice said it"[..]));
}
