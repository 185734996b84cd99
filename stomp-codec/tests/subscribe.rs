//! SUBSCRIBE, UNSUBSCRIBE and MESSAGE: the server's side

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use stomp_codec::server::{CloseReason, Config, DeliverError, OpenError};
use stomp_codec::{Command, Frame, Limits, Mode, SharedMessage, Version};
use support::broker::Broker;
use support::{ServerEvent, Wire, message};

fn strict(version: Version) -> Wire {
    Wire::open(version, Config::default().mode(Mode::Strict))
}

/// S10-SUB-01, S11-SUB-02, S11-HX-05, S10-HX-16: what is missing or empty is refused
#[test]
fn subscribe_needs_destination_and_id() {
    for version in Version::ALL {
        strict(version).refused("SUBSCRIBE\nid:0\n\n\0");
        strict(version).refused("SUBSCRIBE\nid:0\ndestination:\n\n\0");
        strict(version).refused("SUBSCRIBE\nid:\ndestination:/q\n\n\0");
    }
    for version in [Version::V1_1, Version::V1_2] {
        strict(version).refused("SUBSCRIBE\ndestination:/q\n\n\0");
    }
}

/// S10-SUB-03, S10-SUB-04, S10-HX-06, S10-MSG-16
#[test]
fn a_1_0_subscription_may_have_no_id() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_0);
    broker.say(session, "SUBSCRIBE\ndestination:/topic/a\nreceipt:1\n\n\0");
    assert_eq!(broker.trace(session), ["RECEIPT:1"]);
    broker.say(session, "SEND\ndestination:/topic/a\n\nx\0");
    let frame = broker.frames(session).remove(0);
    assert_eq!(frame.command(), Command::Message);
    assert!(!frame.has_header("subscription"));
    broker.say(
        session,
        "SUBSCRIBE\ndestination:/topic/b\nid:7\n\n\0SEND\ndestination:/topic/b\n\nx\0",
    );
    assert_eq!(broker.frames(session).remove(0).header("subscription").as_deref(), Some("7"));
}

/// S12-SUB-05, S10-SUB-19: one live subscription per id, and in 1.0 per destination without one
#[test]
fn an_id_in_use_is_refused() {
    for version in Version::ALL {
        let mut broker = Broker::new();
        let session = broker.open(version);
        broker.say(session, "SUBSCRIBE\nid:0\ndestination:/q\n\n\0");
        broker.refused(session, "SUBSCRIBE\nid:0\ndestination:/other\n\n\0");
    }
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_0);
    broker.say(session, "SUBSCRIBE\ndestination:/q\n\n\0");
    broker.refused(session, "SUBSCRIBE\ndestination:/q\n\n\0");
}

/// S11-SUB-06, S11-UNS-06
#[test]
fn the_same_id_in_two_sessions_is_independent() {
    let mut broker = Broker::new();
    let sessions = [Version::V1_1, Version::V1_2].map(|version| broker.open(version));
    for session in sessions {
        broker.say(session, "SUBSCRIBE\nid:0\ndestination:/topic/a\n\n\0");
    }
    broker.say(sessions[0], "SEND\ndestination:/topic/a\n\n1\0UNSUBSCRIBE\nid:0\n\n\0");
    broker.say(sessions[0], "SEND\ndestination:/topic/a\n\n2\0");
    assert_eq!(broker.bodies(sessions[0]), ["1"]);
    assert_eq!(broker.bodies(sessions[1]), ["1", "2"]);
}

/// S11-SUB-07
#[test]
fn an_id_may_be_used_again_after_unsubscribe() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    broker.say(
        session,
        "SUBSCRIBE\nid:0\ndestination:/topic/a\n\n\0UNSUBSCRIBE\nid:0\n\n\0\
         SUBSCRIBE\nid:0\ndestination:/topic/b\nreceipt:1\n\n\0\
         SEND\ndestination:/topic/a\n\na\0SEND\ndestination:/topic/b\n\nb\0",
    );
    assert_eq!(broker.trace(session), ["RECEIPT:1", "MESSAGE:b"]);
}

/// S11-SUB-08, S11-MSG-02
#[test]
fn ids_are_opaque_and_escaped() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    broker.say(session, "SUBSCRIBE\nid:a\\cb\\n \ndestination:/topic/a\n\n\0");
    broker.say(session, "SEND\ndestination:/topic/a\n\nx\0");
    let text = broker.wire(session).read_text();
    assert!(text.starts_with("MESSAGE\nsubscription:a\\cb\\n \n"), "{text}");
}

/// S11-SUB-09, S10-SUB-18, S12-ACK-24
#[test]
fn each_subscription_of_a_destination_gets_its_own_copy() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    for id in 0..2 {
        broker.say(
            session,
            &format!("SUBSCRIBE\nid:{id}\ndestination:/topic/a\nack:client-individual\n\n\0"),
        );
    }
    broker.say(session, "SEND\ndestination:/topic/a\n\nx\0");
    let frames = broker.frames(session);
    let of = |name: &str| frames.iter().map(|it| it.header(name).unwrap()).collect::<Vec<_>>();
    assert_eq!(of("subscription"), ["0", "1"]);
    assert_ne!(of("ack")[0], of("ack")[1]);
    let first = of("ack")[0].clone();
    broker.say(session, &format!("ACK\nid:{first}\nreceipt:1\n\n\0"));
    assert_eq!(broker.trace(session), ["RECEIPT:1"]);
    broker.refused(session, &format!("ACK\nid:{first}\n\n\0"));
}

/// S10-SUB-10, S10-SUB-14: auto by default, consumed once written
#[test]
fn without_ack_header_messages_need_no_acknowledgement() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    broker.say(session, "SUBSCRIBE\nid:0\ndestination:/q\n\n\0SEND\ndestination:/q\n\nA\0");
    assert!(!broker.frames(session).remove(0).has_header("ack"));
    broker.drop(session);
    assert!(broker.waiting("/q").is_empty());
}

/// S10-SUB-15, S10-DIS-12
#[test]
fn an_unacknowledged_message_comes_back() {
    for version in Version::ALL {
        let mut broker = Broker::new();
        let session = broker.open(version);
        broker.say(session, "SUBSCRIBE\nid:0\ndestination:/q\nack:client\n\n\0");
        broker.say(session, "SEND\ndestination:/q\n\nA\0");
        assert_eq!(broker.bodies(session), ["A"]);
        broker.drop(session);
        let other = broker.open(version);
        broker.say(other, "SUBSCRIBE\nid:9\ndestination:/q\n\n\0");
        let frame = broker.frames(other).remove(0);
        assert_eq!(frame.header("redelivered").as_deref(), Some("true"));
    }
}

/// S11-SUB-11, S10-SUB-12
#[test]
fn an_unknown_ack_mode_is_refused() {
    for version in Version::ALL {
        for ack in ["Client", "foo", "", "auto "] {
            if version == Version::V1_0 && ack == "auto " {
                continue;
            }
            strict(version).refused(&format!("SUBSCRIBE\nid:0\ndestination:/q\nack:{ack}\n\n\0"));
        }
    }
    let individual = "SUBSCRIBE\nid:0\ndestination:/q\nack:client-individual\n\n\0";
    strict(Version::V1_0).refused(individual);
    let mut lenient = Wire::open(Version::V1_0, Config::default());
    lenient.say(individual);
    assert!(matches!(lenient.event(), Some(ServerEvent::Subscribe { .. })));
}

/// S11-SUB-13, S10-SND-14, S11-ERR-03
#[test]
fn a_subscription_that_is_not_allowed_is_refused_with_its_receipt() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    let error =
        broker.refused(session, "SUBSCRIBE\nid:0\ndestination:/denied\nreceipt:x\\cy\n\n\0");
    assert_eq!(error.header("receipt-id").as_deref(), Some("x:y"));
    let session = broker.open(Version::V1_2);
    broker.say(session, "SUBSCRIBE\nid:0\ndestination:/read\nreceipt:1\n\n\0");
    assert_eq!(broker.trace(session), ["RECEIPT:1"]);
    broker.refused(session, "SEND\ndestination:/read\n\nx\0");
    let session = broker.open(Version::V1_2);
    broker.say(session, "SEND\ndestination:/write\nreceipt:1\n\nx\0");
    assert_eq!(broker.trace(session), ["RECEIPT:1"]);
    broker.refused(session, "SUBSCRIBE\nid:0\ndestination:/write\n\n\0");
}

/// S10-SUB-16, S11-HX-17, S10-TX-12: further headers change nothing
#[test]
fn unknown_headers_are_ignored() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    broker.say(
        session,
        "SUBSCRIBE\nid:0\ndestination:/topic/a\nx-unknown:1\nselector:x = 1\ntransaction:zzz\n\
         receipt:1\n\n\0",
    );
    broker.say(session, "BEGIN\ntransaction:t\nx-zz:1\nreceipt:2\n\n\0");
    broker.say(session, "ABORT\ntransaction:t\nx-zz:1\nreceipt:3\n\n\0");
    broker.say(session, "UNSUBSCRIBE\nid:0\nx-zz:1\ntransaction:zzz\nreceipt:4\n\n\0");
    broker.say(session, "DISCONNECT\nx-zz:1\ntransaction:zzz\nreceipt:5\n\n\0");
    assert_eq!(
        broker.trace(session),
        ["RECEIPT:1", "RECEIPT:2", "RECEIPT:3", "RECEIPT:4", "RECEIPT:5"]
    );
}

/// S10-SUB-17: the RECEIPT leaves before the first message, however late it is answered
#[test]
fn messages_wait_for_the_receipt_of_their_subscribe() {
    let mut wire = Wire::open(Version::V1_2, Config::default());
    wire.say(
        "SEND\ndestination:/q\nreceipt:1\n\nx\0SUBSCRIBE\nid:0\ndestination:/q\nreceipt:2\n\n\0",
    );
    let Some(ServerEvent::Send { receipt: Some(send), .. }) = wire.event() else { panic!() };
    let Some(ServerEvent::Subscribe { id, receipt: Some(subscribe), .. }) = wire.event() else {
        panic!()
    };
    wire.server.deliver(&id, &message("m", "hi"), 1, false).unwrap();
    assert!(wire.server.queued() > 0);
    wire.server.receipt(subscribe, &[]);
    assert!(wire.read().is_empty());
    wire.server.receipt(send, &[]);
    let commands: Vec<_> = wire.frames().iter().map(Frame::command).collect();
    assert_eq!(commands, [Command::Receipt, Command::Receipt, Command::Message]);
    assert_eq!(wire.server.queued(), 0);
}

/// S10-SUB-20
#[test]
fn a_body_of_a_1_0_subscribe_is_ignored() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_0);
    broker.say(session, "SUBSCRIBE\ndestination:/q\nreceipt:1\n\njunk\0");
    assert_eq!(broker.trace(session), ["RECEIPT:1"]);
}

/// S10-LIM-11
#[test]
fn subscriptions_are_bounded() {
    let mut wire = Wire::open(Version::V1_2, Config::default().max_subscriptions(100));
    for id in 0..100 {
        wire.say(&format!("SUBSCRIBE\nid:{id}\ndestination:/q\n\n\0"));
    }
    assert_eq!(wire.events().len(), 100);
    assert_eq!(
        wire.server.open_subscription("more", stomp_codec::server::AckMode::Auto),
        Err(OpenError::TooMany)
    );
    wire.refused("SUBSCRIBE\nid:100\ndestination:/q\n\n\0");
    let long = "x".repeat(1025);
    Wire::open(Version::V1_2, Config::default())
        .refused(&format!("SUBSCRIBE\nid:{long}\ndestination:/q\n\n\0"));
}

/// A subscription that the application opens is like one of the client's
#[test]
fn the_application_may_open_a_subscription() {
    let mut wire = Wire::open(Version::V1_2, Config::default());
    let auto = stomp_codec::server::AckMode::Auto;
    let id = wire.server.open_subscription("/temp-queue/x", auto).unwrap();
    assert_eq!(wire.server.open_subscription("/temp-queue/x", auto), Err(OpenError::DuplicateId));
    wire.server.deliver(&id, &message("m", "hi"), 1, false).unwrap();
    let frame = wire.frame().unwrap();
    assert_eq!(frame.header("subscription").as_deref(), Some("/temp-queue/x"));
    wire.say("UNSUBSCRIBE\nid:/temp-queue/x\n\n\0");
    assert!(matches!(wire.event(), Some(ServerEvent::Unsubscribe { .. })));
    assert_eq!(
        wire.server.deliver(&id, &message("m", "hi"), 1, false),
        Err(DeliverError::NoSubscription)
    );
}

/// S11-UNS-01, S12-UNS-02, S11-HX-07, S10-UNS-08
#[test]
fn unsubscribe_names_a_live_subscription() {
    for version in [Version::V1_1, Version::V1_2] {
        let mut broker = Broker::new();
        let session = broker.open(version);
        broker.say(session, "SUBSCRIBE\nid:0\ndestination:/q\n\n\0");
        broker.refused(session, "UNSUBSCRIBE\ndestination:/q\n\n\0");
        for unsubscribe in [
            "UNSUBSCRIBE\nid:nope\n\n\0",
            "UNSUBSCRIBE\n\n\0",
            "UNSUBSCRIBE\nid:\n\n\0",
            "UNSUBSCRIBE\nid:nope\nx-queue-name:/q\ndurable:true\n\n\0",
        ] {
            let session = broker.open(version);
            broker.refused(session, unsubscribe);
        }
    }
}

/// S10-UNS-03, S10-UNS-04
#[test]
fn a_1_0_subscription_ends_by_what_it_was_made_with() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_0);
    broker.say(
        session,
        "SUBSCRIBE\ndestination:/topic/a\n\n\0UNSUBSCRIBE\ndestination:/topic/a\n\n\0\
         SEND\ndestination:/topic/a\n\nx\0",
    );
    assert!(broker.frames(session).is_empty());
    broker.refused(session, "UNSUBSCRIBE\n\n\0");

    let session = broker.open(Version::V1_0);
    broker.say(session, "SUBSCRIBE\nid:7\ndestination:/q\n\n\0");
    broker.say(session, "UNSUBSCRIBE\nid:7\ndestination:/other\nreceipt:1\n\n\0");
    assert_eq!(broker.trace(session), ["RECEIPT:1"]);
    broker.say(session, "SUBSCRIBE\nid:7\ndestination:/q\n\n\0");
    broker.refused(session, "UNSUBSCRIBE\ndestination:/q\n\n\0");
}

/// S10-UNS-05
#[test]
fn nothing_is_delivered_after_unsubscribe() {
    let mut wire = Wire::open(Version::V1_2, Config::default());
    wire.say("SUBSCRIBE\nid:0\ndestination:/q\n\n\0");
    let Some(ServerEvent::Subscribe { id, .. }) = wire.event() else { panic!() };
    wire.server.deliver(&id, &message("1", "before"), 1, false).unwrap();
    wire.say("UNSUBSCRIBE\nid:0\nreceipt:1\n\n\0");
    wire.answer_all();
    assert_eq!(
        wire.server.deliver(&id, &message("2", "after"), 2, false),
        Err(DeliverError::NoSubscription)
    );
    let commands: Vec<_> = wire.frames().iter().map(Frame::command).collect();
    assert_eq!(commands, [Command::Message, Command::Receipt]);
}

/// S10-UNS-07
#[test]
fn unacknowledged_messages_go_back_at_unsubscribe() {
    let mut broker = Broker::new();
    let (first, second) = (broker.open(Version::V1_2), broker.open(Version::V1_2));
    broker.say(first, "SUBSCRIBE\nid:0\ndestination:/q\nack:client-individual\n\n\0");
    broker.say(second, "SEND\ndestination:/q\n\nA\0");
    let ack = broker.frames(first).remove(0).header("ack").unwrap().into_owned();
    broker.say(first, "UNSUBSCRIBE\nid:0\n\n\0");
    broker.say(second, "SUBSCRIBE\nid:0\ndestination:/q\n\n\0");
    assert_eq!(broker.bodies(second), ["A"]);
    broker.refused(first, &format!("ACK\nid:{ack}\n\n\0"));
}

/// S10-LIM-13
#[test]
fn delivery_pauses_while_the_window_is_full() {
    let mut broker = Broker::with(Config::default().window(4));
    let (session, sender) = (broker.open(Version::V1_2), broker.open(Version::V1_2));
    broker.say(session, "SUBSCRIBE\nid:0\ndestination:/q\nack:client-individual\n\n\0");
    for body in 0..10 {
        broker.say(sender, &format!("SEND\ndestination:/q\n\n{body}\0"));
    }
    let frames = broker.frames(session);
    assert_eq!(frames.len(), 4);
    broker.say(session, &format!("ACK\nid:{}\n\n\0", frames[2].header("ack").unwrap()));
    assert_eq!(broker.bodies(session), ["4"]);
}

/// The window is read, set and kept by the session
#[test]
fn a_full_window_refuses_a_delivery() {
    let mut wire = Wire::open(Version::V1_1, Config::default().window(2));
    wire.say("SUBSCRIBE\nid:0\ndestination:/q\nack:client\n\n\0");
    let Some(ServerEvent::Subscribe { id, .. }) = wire.event() else { panic!() };
    assert_eq!((wire.server.window(&id), wire.server.unacked(&id)), (2, 0));
    wire.server.deliver(&id, &message("1", ""), 1, false).unwrap();
    wire.server.deliver(&id, &message("2", ""), 2, false).unwrap();
    assert_eq!((wire.server.window(&id), wire.server.unacked(&id)), (0, 2));
    assert_eq!(
        wire.server.deliver(&id, &message("3", ""), 3, false),
        Err(DeliverError::WindowFull)
    );
    wire.server.set_window(&id, 3);
    wire.server.deliver(&id, &message("3", ""), 3, false).unwrap();
    wire.say("ACK\nmessage-id:2\nsubscription:0\n\n\0");
    assert!(matches!(wire.event(), Some(ServerEvent::Ack { tokens, .. }) if tokens == [1, 2]));
    assert_eq!(wire.server.unacked(&id), 1);
}

/// S10-LIM-14
#[test]
fn what_waits_for_a_slow_reader_is_bounded() {
    let mut wire = Wire::open(Version::V1_2, Config::default().max_queued(10_000));
    wire.say("SUBSCRIBE\nid:0\ndestination:/q\n\n\0");
    let Some(ServerEvent::Subscribe { id, .. }) = wire.event() else { panic!() };
    let message = message("1", &"x".repeat(1000));
    let mut taken = 0;
    let refused = loop {
        match wire.server.deliver(&id, &message, 0, false) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((taken, refused), (9, DeliverError::QueueFull));
    assert!(wire.server.queued() <= 10_000);
    wire.server.poll_transmit().unwrap();
    wire.server.deliver(&id, &message, 0, false).unwrap();
    // One that is larger than the bound goes out alone.
    wire.read();
    let large = support::message("2", &"x".repeat(20_000));
    wire.server.deliver(&id, &large, 0, false).unwrap();
    assert_eq!(wire.server.deliver(&id, &message, 0, false), Err(DeliverError::QueueFull));
    // A client that makes the server talk is not listened to either.
    wire.say("BEGIN\ntransaction:t\nreceipt:1\n\n\0");
    assert!(wire.event().is_none() && !wire.server.wants_input());
    wire.server.poll_transmit().unwrap();
    assert!(wire.server.wants_input());
}

/// S10-MSG-01, S10-MSG-05, S10-MSG-06, S12-MSG-03, S11-MSG-04, S10-HX-13
#[test]
fn a_message_has_what_its_version_asks_for() {
    for version in Version::ALL {
        let mut broker = Broker::new();
        let session = broker.open(version);
        broker.say(session, "SUBSCRIBE\nid:abc\ndestination:/queue/é a\nack:client\n\n\0");
        for _ in 0..100 {
            broker.say(session, "SEND\ndestination:/queue/é a\n\nx\0");
        }
        let frames = broker.frames(session);
        let mut ids = std::collections::HashSet::new();
        for frame in &frames {
            assert_eq!(frame.header("destination").as_deref(), Some("/queue/é a"));
            assert_eq!(frame.header("subscription").as_deref(), Some("abc"));
            assert_eq!(frame.has_header("ack"), version == Version::V1_2);
            assert!(ids.insert(frame.header("message-id").unwrap()));
        }
        assert_eq!(ids.len(), 100);
    }
}

/// S11-MSG-07, S10-MSG-13, S11-CT-03, S11-CT-11, S11-CT-04, S10-SND-04, S10-SND-05
#[test]
fn body_and_content_type_arrive_as_they_were_sent() {
    for version in Version::ALL {
        let mut broker = Broker::new();
        let sender = broker.open(Version::V1_2);
        let session = broker.open(version);
        broker.say(session, "SUBSCRIBE\nid:0\ndestination:/q\n\n\0");
        let all: Vec<u8> = (0..=255).collect();
        let mut frame = b"SEND\ndestination:/q\ncontent-length:256\n\n".to_vec();
        frame.extend(&all);
        frame.push(0);
        broker.say_octets(sender, &frame);
        broker.say(sender, "SEND\ndestination:/q\ncontent-type:not a mime\n\nabc\0");
        broker.say(sender, "SEND\ndestination:/q\n\n\0");
        let frames = broker.frames(session);
        assert_eq!(frames[0].body(), all);
        assert_eq!(frames[0].header("content-length").as_deref(), Some("256"));
        assert!(!frames[0].has_header("content-type"));
        assert_eq!(frames[1].header("content-type").as_deref(), Some("not a mime"));
        assert_eq!(frames[1].header("content-length").as_deref(), Some("3"));
        assert!(frames[2].body().is_empty());
    }
}

/// S11-MSG-08, S11-SND-06, S11-SND-07
#[test]
fn user_headers_travel_and_the_first_of_repeats_is_the_value() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    broker.say(session, "SUBSCRIBE\nid:0\ndestination:/q\n\n\0");
    let headers: String = (0..20).map(|n| format!("user-{n}:value {n}\n")).collect();
    broker.say(session, &format!("SEND\ndestination:/q\nx-é:a\\nb\nk:1\nk:2\n{headers}\nx\0"));
    let frame = broker.frames(session).remove(0);
    assert_eq!(frame.header("x-é").as_deref(), Some("a\nb"));
    assert_eq!(frame.headers().filter(|(name, _)| name == "k").count(), 1);
    assert_eq!(frame.header("k").as_deref(), Some("1"));
    for n in 0..20 {
        assert_eq!(frame.header(&format!("user-{n}")).unwrap(), format!("value {n}"));
    }
}

/// S10-SND-11, S10-SND-12, S10-MSG-09, S10-TX-15: the server's headers come first, once, and those of the sender's
/// connection stay behind
#[test]
fn headers_of_the_server_cannot_be_forged() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    broker.say(
        session,
        "SUBSCRIBE\nid:0\ndestination:/q\nack:client\n\n\0BEGIN\ntransaction:t\n\n\0",
    );
    broker.say(
        session,
        "SEND\ndestination:/q\nmessage-id:evil\nsubscription:9\nack:z\nredelivered:true\n\
         receipt:1\ntransaction:t\nlogin:u\npasscode:p\nhost:h\naccept-version:1.2\n\
         heart-beat:1,1\nmine:1\n\nx\0COMMIT\ntransaction:t\n\n\0",
    );
    let frame = broker.frames(session).pop().unwrap();
    let names: Vec<_> = frame.headers().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["subscription", "ack", "destination", "message-id", "mine", "content-length"]
    );
    assert_eq!(frame.header("subscription").as_deref(), Some("0"));
    assert_ne!(frame.header("message-id").as_deref(), Some("evil"));
}

/// S10-MSG-10, S10-MSG-12, S11-SND-03
#[test]
fn a_message_is_written_anew_for_each_version() {
    let mut broker = Broker::new();
    let sessions = Version::ALL.map(|version| broker.open(version));
    for session in sessions {
        let id = if session == sessions[0] { "" } else { "id:0\n" };
        let destination = if session == sessions[0] { "/topic:a" } else { "/topic\\ca" };
        broker.say(session, &format!("SUBSCRIBE\n{id}destination:{destination}\n\n\0"));
    }
    broker.say(sessions[0], "SEND\ndestination:/topic:a\nk:a\\nb\n\n\0");
    assert!(broker.wire(sessions[2]).read_text().contains("\nk:a\\\\nb\n"));
    assert!(broker.wire(sessions[0]).read_text().contains("\nk:a\\nb\n"));
    broker.say(sessions[2], "SEND\ndestination:/topic\\ca\nk:a\\cb\nl: v \n\n\0");
    let text = broker.wire(sessions[0]).read_text();
    assert!(text.contains("\nk:a:b\n") && text.contains("\nl: v \n"), "{text:?}");
}

/// S10-MSG-11
#[test]
fn a_header_that_a_version_cannot_carry_is_left_out_and_counted() {
    let mut broker = Broker::new();
    let sessions = Version::ALL.map(|version| broker.open(version));
    for session in sessions {
        broker.say(session, "SUBSCRIBE\nid:0\ndestination:/topic/a\n\n\0");
    }
    broker.say(sessions[2], "SEND\ndestination:/topic/a\nlf:a\\nb\ncr:a\\rb\nn\\cn:v\n\nx\0");
    let has = |frame: &Frame| ["lf", "cr", "n:n"].map(|name| frame.has_header(name));
    let frames = sessions.map(|session| broker.frames(session).remove(0));
    assert_eq!(has(&frames[0]), [false, false, false]);
    assert_eq!(has(&frames[1]), [true, false, true]);
    assert_eq!(has(&frames[2]), [true, true, true]);

    let shared = SharedMessage::new(
        &Frame::new(Command::Message)
            .with_header("destination", "/a")
            .with_header("message-id", "1")
            .with_header("lf", "\n")
            .with_header("cr", "\r")
            .with_header("n:n", ""),
    )
    .unwrap();
    assert_eq!(Version::ALL.map(|version| shared.omitted(version)), [3, 1, 0]);
}

/// What a MESSAGE must have is never left out: it is not delivered
#[test]
fn a_destination_that_a_version_cannot_carry_is_not_delivered() {
    let mut wire = Wire::open(Version::V1_0, Config::default());
    wire.say("SUBSCRIBE\nid:0\ndestination:/q\n\n\0");
    let Some(ServerEvent::Subscribe { id, .. }) = wire.event() else { panic!() };
    let shared = SharedMessage::new(
        &Frame::new(Command::Message)
            .with_header("destination", "a\nb")
            .with_header("message-id", "1"),
    );
    assert_eq!(
        wire.server.deliver(&id, &shared.unwrap(), 1, false),
        Err(DeliverError::Unencodable)
    );
    assert!(wire.read().is_empty());
}

/// S10-MSG-14
#[test]
fn a_session_without_a_subscription_gets_nothing() {
    let mut broker = Broker::new();
    let (silent, sender) = (broker.open(Version::V1_2), broker.open(Version::V1_2));
    broker.say(silent, "SUBSCRIBE\nid:0\ndestination:/topic/b\n\n\0");
    broker.say(sender, "SEND\ndestination:/topic/a\nreceipt:1\n\nx\0");
    assert_eq!(broker.trace(sender), ["RECEIPT:1"]);
    assert!(broker.frames(silent).is_empty());
}

/// S10-LIM-16: the defaults admit what known peers send
#[test]
fn the_default_limits_admit_known_peers() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    let destination = format!("/queue/{}", "d".repeat(255));
    broker.say(session, &format!("SUBSCRIBE\nid:0\ndestination:{destination}\n\n\0"));
    let headers: String = (0..60).map(|n| format!("h{n}:v\n")).collect();
    let (value, body) = ("t".repeat(8000), "b".repeat(1024 * 1024));
    broker.say(
        session,
        &format!("SEND\ndestination:{destination}\nlong:{value}\n{headers}\n{body}\0"),
    );
    let frame = broker.frames(session).remove(0);
    assert_eq!(frame.header("long").unwrap(), value);
    assert_eq!(frame.headers().count(), 65);
    assert_eq!(frame.body(), body.as_bytes());
}

/// S10-LIM-07, S10-LIM-08: what exceeds a limit gets one ERROR that names the limit
#[test]
fn an_exceeded_limit_is_named() {
    let limits = Limits::DEFAULT.with_headers(10);
    let mut wire = Wire::open(Version::V1_2, Config::default().limits(limits));
    let headers = "h:v\n".repeat(11);
    wire.say(&format!("SEND\n{headers}"));
    let Some(ServerEvent::Closed { reason: CloseReason::Malformed(error), .. }) = wire.event()
    else {
        panic!()
    };
    assert!(error.kind().is_limit());
    assert!(wire.frame().unwrap().header("message").unwrap().contains("10"));

    let line = format!("h:{}\n", "v".repeat(8 * 1024 - 3));
    let mut wire = Wire::open(Version::V1_2, Config::default());
    wire.refused(&format!("SEND\n{}", line.repeat(9)));
}
