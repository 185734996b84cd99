//! The promises P1 to P8 of the server, each seen from outside: over STOMP, through crashes. (P9 is in
//! `bad_input.rs`; the kill test, which is P2 under load, in `kill.rs`.)

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;

use common::server::{Server, USERS, password};
use common::wire::{Frame, Wire};
use serde_json::json;

/// The bodies of a conversation's stored messages, with their `seq`.
fn history(server: &Server, user: &str, conversation: &str) -> Vec<(u64, String)> {
    let token = server.token(user);
    let path = format!("/conversations/{}/messages?limit=200", conversation.replace(':', "%3A"));
    let (status, answer) = server.api(&token, "GET", &path, None);
    assert_eq!(status, 200, "{answer}");
    let messages = answer["messages"].as_array().expect("messages");
    messages
        .iter()
        .map(|message| {
            let body = message["body"].as_str().expect("a body").to_owned();
            (message["seq"].as_u64().expect("a seq"), body)
        })
        .collect()
}

/// P1: what a RECEIPT names is stored, and is in every recipient's inbox, whatever happens next.
#[test]
fn p1_a_receipt_means_stored_and_confirmed_for_every_recipient() {
    let mut server = Server::start(&[]);
    server.create_group("alice", "ops", &["bob", "carol"]);
    let mut alice = Wire::sign_in(&server, "alice", "laptop");
    // The devices of the recipients exist and are away.
    for user in ["bob", "carol"] {
        drop(Wire::inbox(&server, user, "phone"));
    }

    let receipt = alice.send("/group/ops", "the building is on fire", &[]);
    server.kill();
    assert_eq!(receipt.header("conversation"), "group:ops");
    let seq = receipt.seq();
    assert!(receipt.header("timestamp").parse::<u64>().expect("ms") > 1_600_000_000_000);
    server.start_again();

    let stored = history(&server, "bob", "group:ops");
    assert!(stored.contains(&(seq, "the building is on fire".to_owned())), "{stored:?}");
    for user in ["bob", "carol"] {
        let message = Wire::inbox(&server, user, "phone").chat_message();
        assert_eq!(message.text(), "the building is on fire");
        assert_eq!(message.header("message-id"), receipt.header("message-id"));
        assert_eq!(message.header("from"), "alice");
        assert_eq!(message.header("conversation"), "group:ops");
        assert_eq!(message.header("destination"), "/group/ops");
        assert_eq!(message.header("kind"), "message");
        assert_eq!(message.seq(), seq);
    }
}

/// P2: each device has its own copy until that device acknowledges it: through lost connections and
/// kill -9.
#[test]
fn p2_each_device_keeps_a_message_until_it_acknowledges_it() {
    let mut server = Server::start(&[]);
    drop((Wire::inbox(&server, "bob", "phone"), Wire::inbox(&server, "bob", "laptop")));
    let mut alice = Wire::sign_in(&server, "alice", "desk");
    let sent = alice.send("/user/bob", "hello", &[]);

    // The phone reads without ACK and loses its connection.
    let mut phone = Wire::inbox(&server, "bob", "phone");
    let first = phone.message();
    assert_eq!(first.text(), "hello");
    assert_eq!(first.find("redelivered"), None);
    drop(phone);
    let mut phone = Wire::inbox(&server, "bob", "phone");
    assert_redelivery_of(&first, &phone.message());
    drop(phone);

    // The laptop acknowledges its own copy only.
    let mut laptop = Wire::inbox(&server, "bob", "laptop");
    let copy = laptop.message();
    assert_eq!(copy.header("message-id"), sent.header("message-id"));
    laptop.ack(&copy);

    drop(alice);
    server.kill();
    server.start_again();

    let mut phone = Wire::inbox(&server, "bob", "phone");
    let again = phone.message();
    assert_redelivery_of(&first, &again);
    phone.ack(&again);

    // Acknowledged is gone for good: the next message is the first thing that either sees.
    let mut alice = Wire::sign_in(&server, "alice", "desk");
    alice.send("/user/bob", "next", &[]);
    for device in ["phone", "laptop"] {
        let message = Wire::inbox(&server, "bob", device).message();
        assert_eq!(message.text(), "next", "on the {device}");
    }
}

fn assert_redelivery_of(first: &Frame, again: &Frame) {
    assert_eq!(again.header("redelivered"), "true");
    assert_eq!(again.header("message-id"), first.header("message-id"));
    assert_eq!(again.seq(), first.seq());
    assert_eq!(again.body, first.body);
}

/// P2: a sender's other devices get the copy; the device that sent it does not.
#[test]
fn p2_my_own_messages_reach_my_other_devices_only() {
    let server = Server::start(&[]);
    let mut desk = Wire::inbox(&server, "alice", "desk");
    let mut phone = Wire::inbox(&server, "alice", "phone");
    let mut bob = Wire::sign_in(&server, "bob", "laptop");

    desk.send("/user/bob", "from the desk", &[]);
    bob.send("/user/alice", "answer", &[]);

    let copy = phone.message();
    assert_eq!((copy.header("from"), copy.text()), ("alice", "from the desk"));
    assert_eq!(copy.header("destination"), "/user/bob");
    assert_eq!(phone.message().text(), "answer");
    assert_eq!(desk.message().text(), "answer", "the desk must not get its own message");
}

/// P2: a new device starts with what its user has not read.
#[test]
fn p2_a_new_device_starts_with_what_its_user_has_not_read() {
    let server = Server::start(&[]);
    let mut alice = Wire::sign_in(&server, "alice", "desk");
    for text in ["one", "two", "three"] {
        alice.send("/user/bob", text, &[]);
    }
    let mut phone = Wire::inbox(&server, "bob", "phone");
    for text in ["one", "two"] {
        let message = phone.message();
        assert_eq!(message.text(), text);
        phone.ack(&message);
    }
    phone.send("/user/alice", "", &[("kind", "read"), ("up-to", "2")]);

    let mut tablet = Wire::inbox(&server, "bob", "tablet");
    assert_eq!(tablet.message().text(), "three");
}

/// P3: whoever writes at the same time, each device sees a conversation in the order of `seq`.
#[test]
fn p3_every_device_sees_a_conversation_in_the_order_of_seq() {
    const EACH: u64 = 100;
    let server = Server::start(&[]);
    server.create_group("alice", "ops", &["bob", "carol", "mallory"]);
    let mut readers: Vec<Wire> =
        ["phone", "laptop"].iter().map(|device| Wire::inbox(&server, "carol", device)).collect();

    std::thread::scope(|scope| {
        for writer in ["alice", "bob", "mallory"] {
            let server = &server;
            scope.spawn(move || {
                let mut wire = Wire::sign_in(server, writer, "desk");
                let receipts: Vec<String> = (0..EACH)
                    .map(|number| {
                        let body = format!("{writer} {number}");
                        wire.start_call("SEND", &[("destination", "/group/ops")], body)
                    })
                    .collect();
                let mut last = 0;
                for receipt in receipts {
                    let seq = wire.receipt(&receipt).seq();
                    assert!(seq > last, "a sender's messages keep his order");
                    last = seq;
                }
            });
        }
    });

    for reader in &mut readers {
        let mut seen = Vec::new();
        let mut last = 0;
        while (seen.len() as u64) < 3 * EACH {
            let message = reader.message();
            assert!(message.seq() > last, "{} after {last}", message.seq());
            last = message.seq();
            if message.header("kind") == "message" {
                seen.push(message.text().to_owned());
            }
            reader.frame("ACK", &[("id", message.header("ack"))], "");
        }
        for writer in ["alice", "bob", "mallory"] {
            let expected: Vec<String> = (0..EACH).map(|n| format!("{writer} {n}")).collect();
            let theirs: Vec<&String> =
                seen.iter().filter(|body| body.starts_with(writer)).collect();
            assert_eq!(theirs, expected.iter().collect::<Vec<_>>());
        }
    }
}

/// P4: the same key gives the same receipt and no second message, over every door and through a crash.
#[test]
fn p4_an_idempotency_key_makes_a_repeat_harmless() {
    let mut server = Server::start(&[]);
    let mut alice = Wire::sign_in(&server, "alice", "desk");
    let key = [("idempotency-key", "order-66")];
    let first = alice.send("/user/bob", "once", &key);
    assert_eq!(first.find("duplicate"), None);
    let second = alice.send("/user/bob", "once", &key);
    assert_same_receipt(&first, &second);

    server.kill();
    server.start_again();
    let mut alice = Wire::sign_in(&server, "alice", "phone");
    assert_same_receipt(&first, &alice.send("/user/bob", "once", &key));
    let (status, answer) = server.api(
        &server.token("alice"),
        "POST",
        "/messages",
        Some(&json!({"to": "/user/bob", "body": "once", "idempotency_key": "order-66"})),
    );
    assert_eq!(status, 201, "{answer}");
    assert_eq!(answer["message_id"], json!(first.header("message-id")));
    assert_eq!((&answer["seq"], &answer["duplicate"]), (&json!(first.seq()), &json!(true)));

    // The key belongs to its sender.
    let mut carol = Wire::sign_in(&server, "carol", "desk");
    let other = carol.send("/user/bob", "another", &key);
    assert_ne!(other.header("message-id"), first.header("message-id"));

    let mut bob = Wire::inbox(&server, "bob", "phone");
    let bodies: BTreeSet<String> =
        [bob.message(), bob.message()].iter().map(|message| message.text().to_owned()).collect();
    assert_eq!(bodies, BTreeSet::from(["another".to_owned(), "once".to_owned()]));
    assert_eq!(history(&server, "bob", "direct:alice:bob").len(), 1);
}

fn assert_same_receipt(first: &Frame, second: &Frame) {
    for header in ["message-id", "conversation", "seq", "timestamp"] {
        assert_eq!(first.header(header), second.header(header));
    }
    assert_eq!(second.header("duplicate"), "true");
}

/// P5: the RECEIPT of a SUBSCRIBE means live: what is published after it arrives.
#[test]
fn p5_nothing_published_after_the_receipt_of_a_subscribe_is_missed() {
    let server = Server::start(&["--open"]);
    server.create_group("alice", "ops", &["bob"]);
    let mut alice = Wire::sign_in(&server, "alice", "desk");
    for round in 0..20 {
        let device = format!("device-{round}");
        let mut bob = Wire::sign_in(&server, "bob", &device);
        for (id, destination) in [
            ("topic", "/topic/news.*"),
            ("queue", "/queue/jobs"),
            ("group", "/group/ops"),
            ("person", "/user/alice"),
            ("own", "/user/queue/mine"),
        ] {
            bob.subscribe(id, destination, &[]);
        }
        let body = round.to_string();
        for (id, destination) in [
            ("topic", "/topic/news.today"),
            ("queue", "/queue/jobs"),
            ("group", "/group/ops"),
            ("person", "/user/bob"),
            ("own", "/user/bob/queue/mine"),
        ] {
            alice.send(destination, &body, &[]);
            assert_eq!(bob.message_of(id).text(), body, "{destination}");
        }
        bob.call("DISCONNECT", &[], "");
    }
}

/// P6: a timeline resumed with `after-seq` has no hole and no repeat, also while messages flow.
#[test]
fn p6_a_resumed_timeline_has_no_hole_and_no_repeat() {
    const COUNT: u64 = 400;
    let server = Server::start(&[]);
    server.create_group("alice", "ops", &["bob"]);
    let mut alice = Wire::sign_in(&server, "alice", "desk");
    let first = alice.send("/group/ops", "first", &[]).seq();

    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = Wire::sign_in(&server, "alice", "phone");
            for number in 0..COUNT {
                writer.send("/group/ops", &number.to_string(), &[]);
            }
        });
        // Readers come while the writer writes, each resuming from another place.
        for reader in 0..4_u64 {
            let server = &server;
            scope.spawn(move || {
                let after = first.saturating_sub(reader);
                let mut bob = Wire::sign_in(server, "bob", &format!("device-{reader}"));
                let receipt =
                    bob.subscribe("t", "/group/ops", &[("after-seq", &after.to_string())]);
                assert_eq!(receipt.header("recovered"), "true");
                assert!(!receipt.header("epoch").is_empty());
                let last: u64 = receipt.header("last-seq").parse().expect("a number");
                assert!(last >= first);
                for expected in after + 1..=first + COUNT {
                    assert_eq!(bob.message().seq(), expected, "resumed after {after}");
                }
            });
        }
    });
}

/// P6: a resume that cannot be complete says so.
#[test]
fn p6_a_place_that_the_store_does_not_know_is_not_called_recovered() {
    let server = Server::start(&[]);
    let mut alice = Wire::sign_in(&server, "alice", "desk");
    let sent = alice.send("/user/bob", "hello", &[]);
    let mut bob = Wire::sign_in(&server, "bob", "phone");
    let receipt = bob.subscribe("t", "/user/alice", &[("after-seq", "1000000")]);
    assert_eq!(receipt.header("recovered"), "false");
    assert_eq!(receipt.header("first-seq"), "1");
    assert_eq!(receipt.header("last-seq"), sent.header("seq"));
    // Another epoch is another history: the same number means another message there.
    let epoch = [("after-seq", "1"), ("epoch", "of-another-store")];
    let receipt = bob.subscribe("u", "/user/alice", &epoch);
    assert_eq!(receipt.header("recovered"), "false");
}

/// P8: what is not allowed is refused, by whatever spelling, and the refusal tells nothing.
#[test]
fn p8_what_is_not_allowed_is_refused_by_any_spelling() {
    let server = Server::start(&[]);
    server.create_group("alice", "ops", &["bob"]);
    let mut alice = Wire::sign_in(&server, "alice", "desk");
    alice.send("/group/ops", "secret", &[]);
    alice.send("/user/bob", "secret", &[]);

    let refused = [
        ("SUBSCRIBE", "/group/ops"),
        ("SUBSCRIBE", "/group/OPS"),
        ("SUBSCRIBE", "/group/o%70s"),
        ("SUBSCRIBE", "/group/ops/"),
        ("SUBSCRIBE", "/group//ops"),
        ("SUBSCRIBE", "/group/../group/ops"),
        ("SUBSCRIBE", "/group/*"),
        ("SUBSCRIBE", "/group/#"),
        ("SUBSCRIBE", "/group/no-such-group"),
        ("SUBSCRIBE", "/inbox/bob"),
        ("SUBSCRIBE", "/inbox/"),
        ("SUBSCRIBE", "/INBOX"),
        ("SUBSCRIBE", "/user/bob/inbox"),
        ("SUBSCRIBE", "/user/bob/queue/private"),
        ("SUBSCRIBE", "/user/bob,alice"),
        ("SUBSCRIBE", "/user/*"),
        ("SUBSCRIBE", "/presence/bob"),
        ("SUBSCRIBE", "/presence/*"),
        ("SUBSCRIBE", "/topic/inbox.bob"),
        ("SUBSCRIBE", "/topic/#"),
        ("SUBSCRIBE", "/topic/conv.group:ops"),
        ("SUBSCRIBE", "/queue/inbox.bob.phone"),
        ("SUBSCRIBE", "/temp-queue/x"),
        ("SUBSCRIBE", "/reply-queue/x"),
        ("SUBSCRIBE", "inbox"),
        ("SUBSCRIBE", "$SYS/#"),
        ("SEND", "/group/ops"),
        ("SEND", "/group/no-such-group"),
        ("SEND", "/inbox"),
        ("SEND", "/presence/mallory"),
        ("SEND", "/queue/jobs"),
        ("SEND", "/topic/news"),
        ("SEND", "/user/bob/queue/private"),
        ("SEND", "/user/no-such-user"),
        ("SEND", "/user/queue/mine"),
    ];
    for (command, destination) in refused {
        let mut mallory = Wire::sign_in(&server, "mallory", "desk");
        mallory.start_call(command, &[("destination", destination), ("id", "1")], "");
        let error = mallory.error_and_close();
        assert_eq!(error.header("receipt-id"), "receipt-1", "{command} {destination}");
        assert!(!error.header("message").is_empty());
        assert!(!error.text().contains("secret"));
    }
    // Whether a group exists cannot be told from the answer.
    let messages: BTreeSet<String> = ["/group/ops", "/group/no-such-group"]
        .iter()
        .map(|destination| {
            let mut mallory = Wire::sign_in(&server, "mallory", "desk");
            mallory.frame("SUBSCRIBE", &[("destination", destination), ("id", "1")], "");
            mallory.error_and_close().header("message").to_owned()
        })
        .collect();
    assert_eq!(messages.len(), 1, "{messages:?}");
}

/// P8: REST keeps the same doors closed; for who is no member a conversation does not exist.
#[test]
fn p8_rest_gives_nothing_to_who_is_not_a_member() {
    let server = Server::start(&[]);
    server.create_group("alice", "ops", &["bob"]);
    let mut alice = Wire::sign_in(&server, "alice", "desk");
    alice.send("/user/bob", "secret", &[]);
    let mallory = server.token("mallory");
    let get = |path: &str| server.api(&mallory, "GET", path, None);

    let (status, answer) = get("/conversations");
    assert_eq!((status, &answer["conversations"]), (200, &json!([])));
    let absent = get("/conversations/group%3Anone/messages");
    assert_eq!(absent.0, 404, "{absent:?}");
    for path in [
        "/conversations/group%3Aops/messages",
        "/conversations/direct%3Aalice%3Abob/messages",
        "/groups/ops",
        "/groups/none",
    ] {
        assert_eq!(get(path).0, 404, "{path}");
    }
    let add = server.api(&mallory, "PUT", "/groups/ops/members/mallory", None);
    assert_eq!(add.0, 404, "{add:?}");
    let remove = server.api(&mallory, "DELETE", "/groups/ops/members/bob", None);
    assert_eq!(remove.0, 404, "{remove:?}");
    let send = json!({"to": "/group/ops", "body": "hi"});
    let (status, answer) = server.api(&mallory, "POST", "/messages", Some(&send));
    assert!(status == 403 || status == 404, "{status} {answer}");
    for path in ["/me", "/users?q=a", "/conversations", "/groups/ops"] {
        assert_eq!(server.api("", "GET", path, None).0, 401, "{path}");
        assert_eq!(server.api("made.up.token", "GET", path, None).0, 401, "{path}");
    }
}

/// P8: a wrong password and an unknown user get the same answer, and nothing else.
#[test]
fn p8_a_refused_sign_in_tells_nothing() {
    let server = Server::start(&[]);
    let answers: BTreeSet<Vec<u8>> = [("bob", "wrong"), ("nobody", "wrong"), ("", ""), ("bob", "")]
        .iter()
        .map(|(login, passcode)| {
            let mut wire = Wire::open(server.stomp);
            let headers = [("accept-version", "1.2"), ("login", login), ("passcode", passcode)];
            wire.frame("CONNECT", &headers, "");
            let error = wire.error_and_close();
            assert_eq!(error.header("message"), "authentication failed");
            error.body
        })
        .collect();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(!server.log().contains(&password("bob")), "a password is in the log");
    for user in USERS {
        assert!(!server.log().contains(&password(user)), "a password is in the log");
    }
}

/// P8: a member who was removed reads no further message.
#[test]
fn p8_a_removed_member_is_out() {
    let server = Server::start(&[]);
    server.create_group("alice", "ops", &["bob"]);
    let mut bob = Wire::inbox(&server, "bob", "phone");
    let mut timeline = Wire::sign_in(&server, "bob", "laptop");
    timeline.subscribe("t", "/group/ops", &[]);
    let mut alice = Wire::sign_in(&server, "alice", "desk");
    alice.send("/group/ops", "before", &[]);
    let token = server.token("alice");
    let (status, answer) = server.api(&token, "DELETE", "/groups/ops/members/bob", None);
    assert!(status < 300, "{status} {answer}");
    alice.send("/group/ops", "after", &[]);
    alice.send("/user/bob", "bye", &[]);

    loop {
        let message = bob.message();
        let kind = message.header("kind").to_owned();
        assert_ne!(message.text(), "after");
        bob.ack(&message);
        if kind == "message" && message.text() == "bye" {
            break;
        }
    }
    // The live timeline ends, or stays silent; it never shows what came after.
    let seen = timeline.try_messages();
    assert!(seen.iter().all(|message| message.text() != "after"), "{seen:?}");
    let status =
        server.api(&server.token("bob"), "GET", "/conversations/group%3Aops/messages", None).0;
    assert_eq!(status, 404);
}

#[test]
fn a_users_signals_reach_the_other_side_and_are_not_kept() {
    let server = Server::start(&[]);
    let mut alice = Wire::inbox(&server, "alice", "desk");
    let mut bob = Wire::inbox(&server, "bob", "phone");
    let sent = alice.send("/user/bob", "hello", &[]);
    let message = bob.message();
    bob.ack(&message);
    bob.send("/user/alice", "", &[("kind", "typing")]);
    let typing = alice.message();
    assert_eq!((typing.header("kind"), typing.header("from")), ("typing", "bob"));
    assert_eq!(typing.find("seq"), None);

    bob.send("/user/alice", "", &[("kind", "read"), ("up-to", sent.header("seq"))]);
    let read = alice.message();
    assert_eq!((read.header("kind"), read.header("up-to")), ("read", sent.header("seq")));
    assert_eq!(read.header("conversation"), "direct:alice:bob");
    assert_eq!(history(&server, "alice", "direct:alice:bob").len(), 1);

    let (_, answer) = server.api(&server.token("alice"), "GET", "/conversations", None);
    let members = answer["conversations"][0]["members"].as_array().cloned().unwrap_or_default();
    let bob_read = members.iter().find(|member| member["user"] == "bob").map(|m| &m["read"]);
    assert_eq!(bob_read, Some(&json!(sent.seq())), "{answer}");
}
