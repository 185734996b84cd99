//! Stock STOMP libraries, unmodified, get everything: inbox, offline delivery, resume, queues, topics.
//!
//! `.ci/install` installs the libraries; run with `--include-ignored`.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::server::Server;
use common::stock::{Library, Stock};
use serde_json::json;

/// The whole way of a message for one library and version: SEND with receipt, offline delivery,
/// redelivery of what was not acknowledged, ACK for good.
fn offline_delivery(library: Library, version: &str) {
    let server = Server::start(&[]);
    let mut bob = Stock::sign_in(library, version, &server, "bob", "phone");
    bob.subscribe("inbox", "/inbox", "client-individual", json!({}));
    bob.vanish();

    // Colon, backslash and line feed in header values exist in 1.2 only; the body may hold anything.
    let mut alice = Stock::sign_in(library, version, &server, "alice", "laptop");
    let body = "grüße\n€ 😀 : \\ \"quoted\"";
    let receipt = alice.send("/user/bob", body, json!({"x-mood": "fine"}));
    // In 1.1 stompjs neither escapes nor unescapes header values, though that version says to.
    let conversation = match (library, version) {
        (Library::JavaScript, "1.1") => "direct\\calice\\cbob",
        _ => "direct:alice:bob",
    };
    assert_eq!(receipt.header("conversation"), conversation);
    assert_eq!(receipt.header("seq"), "1");
    alice.send("/user/bob", "second", json!({}));
    alice.disconnect();

    let mut bob = Stock::sign_in(library, version, &server, "bob", "phone");
    bob.subscribe("inbox", "/inbox", "client-individual", json!({}));
    let (first, second) = (bob.message(), bob.message());
    assert_eq!((first.body.as_str(), second.body.as_str()), (body, "second"));
    assert_eq!(first.header("from"), "alice");
    assert_eq!(first.header("x-mood"), "fine");
    assert_eq!(first.header("conversation"), conversation);
    assert_eq!(first.header("message-id"), receipt.header("message-id"));
    assert_eq!(first.find("redelivered"), None);
    // STOMP 1.0 knows cumulative acknowledgement only by name; here each ACK names one message.
    bob.ack(&first);
    bob.vanish();

    let mut bob = Stock::sign_in(library, version, &server, "bob", "phone");
    bob.subscribe("inbox", "/inbox", "client-individual", json!({}));
    let again = bob.message();
    assert_eq!(again.body, "second");
    assert_eq!(again.header("redelivered"), "true");
    assert_eq!(again.header("message-id"), second.header("message-id"));
    assert_eq!(again.header("seq"), second.header("seq"));
    bob.ack(&again);
    bob.disconnect();
}

/// Queues, topics, durable subscriptions, transactions and replies, as RabbitMQ's clients use them.
fn broker_destinations(library: Library) {
    let server = Server::start(&["--open"]);
    let sign_in = |user: &str| Stock::sign_in(library, "1.2", &server, user, "desk");
    let mut alice = sign_in("alice");
    let mut bob = sign_in("bob");

    // A queue keeps a message until somebody takes it; NACK and loss give it to another consumer.
    alice.send("/queue/jobs", "job", json!({}));
    bob.subscribe("q", "/queue/jobs", "client-individual", json!({}));
    let job = bob.message();
    assert_eq!((job.body.as_str(), job.find("redelivered")), ("job", None));
    let mut carol = sign_in("carol");
    carol.subscribe("q", "/queue/jobs", "client-individual", json!({}));
    bob.nack(&job);
    // Either of the two may get it now: the one who refused it leaves.
    bob.disconnect();
    let job = carol.message();
    assert_eq!(job.header("redelivered"), "true");
    carol.ack(&job);

    // A topic goes to everyone who listens.
    let mut bob = sign_in("bob");
    bob.subscribe("t", "/topic/news.*", "auto", json!({}));
    carol.subscribe("t", "/topic/news.#", "auto", json!({}));
    alice.send("/topic/news.today", "extra", json!({}));
    for reader in [&mut bob, &mut carol] {
        let message = reader.message();
        assert_eq!(message.body, "extra");
        assert_eq!(message.header("destination"), "/topic/news.today");
    }

    // A durable subscription collects while its owner is away.
    let durable = json!({"durable": "true", "auto-delete": "false"});
    bob.subscribe("stable", "/topic/alerts", "client-individual", durable.clone());
    bob.disconnect();
    alice.send("/topic/alerts", "while away", json!({}));
    let mut bob = sign_in("bob");
    bob.subscribe("stable", "/topic/alerts", "client-individual", durable);
    let alert = bob.message();
    assert_eq!(alert.body, "while away");
    bob.ack(&alert);

    // A request with a reply target of its own.
    bob.subscribe("requests", "/queue/requests", "auto", json!({}));
    alice.send("/queue/requests", "ping", json!({"reply-to": "/temp-queue/answers"}));
    let request = bob.message();
    assert!(request.header("reply-to").starts_with("/reply-queue/"), "{request:?}");
    let reply_to = request.header("reply-to").to_owned();
    bob.send(&reply_to, "pong", json!({}));
    let answer = alice.message();
    assert_eq!(answer.body, "pong");
    assert_eq!(answer.header("subscription"), "/temp-queue/answers");

    // A transaction is all or nothing.
    for (transaction, end) in [("t1", "abort"), ("t2", "commit")] {
        alice.command(&json!({"op": "begin", "transaction": transaction}));
        alice.command(&json!({
            "op": "send", "destination": "/queue/requests", "body": end,
            "headers": {"transaction": transaction},
        }));
        alice.command(&json!({"op": end, "transaction": transaction}));
    }
    assert_eq!(bob.message().body, "commit");
}

fn big_bodies(library: Library, fields: &serde_json::Value) {
    let server = Server::start(&[]);
    let mut alice = Stock::sign_in_with(library, "1.2", &server, "alice", "desk", fields);
    let mut bob = Stock::sign_in(library, "1.2", &server, "bob", "phone");
    bob.subscribe("inbox", "/inbox", "client-individual", json!({}));
    let body = "0123456789abcdé\n".repeat(1024 * 1024 / 17 + 1);
    assert!(body.len() >= 1024 * 1024);
    alice.send("/user/bob", &body, json!({}));
    let message = bob.message();
    assert_eq!(message.body.len(), body.len());
    assert!(message.body == body, "the body arrived changed");
}

/// Several intervals of silence: both sides beat, nobody closes.
fn heart_beats(library: Library) {
    let server = Server::start(&[]);
    let fields = json!({"heartBeat": [1000, 1000]});
    let mut bob = Stock::sign_in_with(library, "1.2", &server, "bob", "phone", &fields);
    bob.subscribe("inbox", "/inbox", "client-individual", json!({}));
    // The one place that has to let time pass: it is what the test is about.
    std::thread::sleep(std::time::Duration::from_secs(6));
    let mut alice = Stock::sign_in(library, "1.2", &server, "alice", "desk");
    alice.send("/user/bob", "still there?", json!({}));
    assert_eq!(bob.message().body, "still there?");
}

fn refused_sign_in(library: Library) {
    let server = Server::start(&[]);
    let mut client = Stock::start(library);
    let url = match library {
        Library::PythonTcp => server.tcp_url(),
        _ => server.ws_url(),
    };
    client.command(&json!({
        "op": "connect", "url": url, "version": "1.2", "login": "alice", "passcode": "wrong",
        "headers": {},
    }));
    let error = client.wait("error", |_| true);
    assert_eq!(error.header("message"), "authentication failed");
    client.wait("closed", |_| true);
}

macro_rules! with {
    ($reason:literal: $($name:ident => $call:expr;)*) => {
        $(
            #[test]
            #[ignore = $reason]
            fn $name() {
                $call;
            }
        )*
    };
}

with! { "needs node and @stomp/stompjs":
    stompjs_offline_delivery_1_2 => offline_delivery(Library::JavaScript, "1.2");
    stompjs_offline_delivery_1_1 => offline_delivery(Library::JavaScript, "1.1");
    stompjs_offline_delivery_1_0 => offline_delivery(Library::JavaScript, "1.0");
    stompjs_broker_destinations => broker_destinations(Library::JavaScript);
    stompjs_big_bodies => big_bodies(Library::JavaScript, &json!({}));
    stompjs_big_bodies_in_binary_messages => big_bodies(Library::JavaScript, &json!({"binary": true}));
    stompjs_heart_beats => heart_beats(Library::JavaScript);
    stompjs_refused_sign_in => refused_sign_in(Library::JavaScript);
}

with! { "needs python and stomp.py":
    stomp_py_ws_offline_delivery => offline_delivery(Library::PythonWs, "1.2");
    stomp_py_tcp_offline_delivery_1_2 => offline_delivery(Library::PythonTcp, "1.2");
    stomp_py_tcp_offline_delivery_1_1 => offline_delivery(Library::PythonTcp, "1.1");
    stomp_py_tcp_offline_delivery_1_0 => offline_delivery(Library::PythonTcp, "1.0");
    stomp_py_ws_broker_destinations => broker_destinations(Library::PythonWs);
    stomp_py_tcp_broker_destinations => broker_destinations(Library::PythonTcp);
    stomp_py_ws_big_bodies => big_bodies(Library::PythonWs, &json!({}));
    stomp_py_tcp_big_bodies => big_bodies(Library::PythonTcp, &json!({}));
    stomp_py_ws_heart_beats => heart_beats(Library::PythonWs);
    stomp_py_tcp_heart_beats => heart_beats(Library::PythonTcp);
    stomp_py_ws_refused_sign_in => refused_sign_in(Library::PythonWs);
    stomp_py_tcp_refused_sign_in => refused_sign_in(Library::PythonTcp);
}

/// The two libraries talk to each other.
#[test]
#[ignore = "needs node, python and their libraries"]
fn stompjs_and_stomp_py_talk_to_each_other() {
    let server = Server::start(&[]);
    let mut alice = Stock::sign_in(Library::JavaScript, "1.2", &server, "alice", "browser");
    let mut bob = Stock::sign_in(Library::PythonTcp, "1.1", &server, "bob", "script");
    alice.subscribe("inbox", "/inbox", "client-individual", json!({}));
    bob.subscribe("inbox", "/inbox", "client-individual", json!({}));
    alice.send("/user/bob", "ping", json!({}));
    let ping = bob.message();
    assert_eq!(ping.body, "ping");
    bob.ack(&ping);
    bob.send("/user/alice", "pong", json!({}));
    let pong = alice.message();
    assert_eq!(pong.body, "pong");
    alice.ack(&pong);
}
