//! ACK and NACK: the server's side

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use stomp_codec::server::Config;
use stomp_codec::{Frame, Mode, Version};
use support::broker::Broker;
use support::{ServerEvent, Wire, message};

/// A session that was delivered `A`, `B` and `C` of `/q`, and the frames
fn delivered(broker: &mut Broker, version: Version, ack: &str) -> (usize, Vec<Frame>) {
    let (session, sender) = (broker.open(version), broker.open(Version::V1_2));
    broker.say(session, &format!("SUBSCRIBE\nid:0\ndestination:/q\nack:{ack}\n\n\0"));
    for body in ["A", "B", "C"] {
        broker.say(sender, &format!("SEND\ndestination:/q\n\n{body}\0"));
    }
    let frames = broker.frames(session);
    assert_eq!(frames.len(), 3);
    (session, frames)
}

/// The frame that acknowledges `message` in `version`
fn ack(command: &str, version: Version, message: &Frame, more: &str) -> String {
    let header = |name: &str| escape(&message.header(name).unwrap(), version);
    let keys = match version {
        Version::V1_0 => format!("message-id:{}\n", header("message-id")),
        Version::V1_1 => {
            format!(
                "message-id:{}\nsubscription:{}\n",
                header("message-id"),
                header("subscription")
            )
        }
        Version::V1_2 => format!("id:{}\n", header("ack")),
    };
    format!("{command}\n{keys}{more}\n\0")
}

fn escape(value: &str, version: Version) -> String {
    if version == Version::V1_0 { value.to_owned() } else { value.replace(':', "\\c") }
}

/// S10-ACK-01, S11-ACK-02, S12-ACK-03, S11-ACK-09, S10-ACK-10: `client` covers all up to the named message
#[test]
fn client_mode_is_cumulative_in_every_version() {
    for version in Version::ALL {
        let mut broker = Broker::new();
        let (session, frames) = delivered(&mut broker, version, "client");
        broker.say(session, &ack("ACK", version, &frames[1], ""));
        broker.drop(session);
        assert_eq!(broker.waiting("/q"), ["C"]);
    }
}

/// S11-ACK-11
#[test]
fn client_individual_mode_covers_one_message() {
    for version in [Version::V1_1, Version::V1_2] {
        let mut broker = Broker::new();
        let (session, frames) = delivered(&mut broker, version, "client-individual");
        broker.say(session, &ack("ACK", version, &frames[1], ""));
        broker.drop(session);
        assert_eq!(broker.waiting("/q"), ["A", "C"]);
    }
}

/// S11-ACK-12
#[test]
fn a_cumulative_ack_stays_inside_its_subscription() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    for (id, queue) in [(0, "/queue/a"), (1, "/queue/b")] {
        broker.say(session, &format!("SUBSCRIBE\nid:{id}\ndestination:{queue}\nack:client\n\n\0"));
        broker.say(session, &format!("SEND\ndestination:{queue}\n\nx\0"));
    }
    let frames = broker.frames(session);
    broker.say(session, &ack("ACK", Version::V1_2, &frames[1], ""));
    broker.drop(session);
    assert_eq!(broker.waiting("/queue/a"), ["x"]);
    assert!(broker.waiting("/queue/b").is_empty());
}

/// S12-ACK-13, S11-ACK-08: NACK covers what ACK would
#[test]
fn nack_covers_what_ack_would() {
    for (mode, expected) in [("client", vec!["A", "B"]), ("client-individual", vec!["B"])] {
        for version in [Version::V1_1, Version::V1_2] {
            let mut wire = Wire::open(version, Config::default());
            wire.say(&format!("SUBSCRIBE\nid:0\ndestination:/q\nack:{mode}\n\n\0"));
            let Some(ServerEvent::Subscribe { id, .. }) = wire.event() else { panic!() };
            for (token, body) in ["A", "B", "C"].into_iter().enumerate() {
                let token = u32::try_from(token).unwrap();
                wire.server.deliver(&id, &message(body, body), token, false).unwrap();
            }
            let frames = wire.frames();
            wire.say(&ack("NACK", version, &frames[1], ""));
            let Some(ServerEvent::Nack { tokens, subscription, .. }) = wire.event() else {
                panic!()
            };
            assert_eq!(subscription, id);
            let bodies: Vec<_> = tokens.iter().map(|it| ["A", "B", "C"][*it as usize]).collect();
            assert_eq!(bodies, expected);
            assert_eq!(wire.server.unacked(&id), 3 - expected.len());
        }
    }
}

/// S11-ACK-14: a message that is always refused is not delivered for ever
#[test]
fn a_nack_loop_ends() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    broker.say(session, "SUBSCRIBE\nid:0\ndestination:/q\nack:client-individual\n\n\0");
    broker.say(session, "SEND\ndestination:/q\n\nA\0");
    let mut deliveries = 0;
    while let Some(frame) = broker.frames(session).pop() {
        deliveries += 1;
        broker.say(session, &ack("NACK", Version::V1_2, &frame, ""));
    }
    assert_eq!(deliveries, 4);
}

/// S10-ACK-01, S11-ACK-02, S12-ACK-04, S11-ACK-08, S10-HX-08, S11-HX-09, S12-HX-10: each version's keys are required
#[test]
fn a_missing_key_is_refused() {
    for (version, headers) in [
        (Version::V1_0, ""),
        (Version::V1_1, "message-id:M\n"),
        (Version::V1_1, "subscription:0\n"),
        (Version::V1_1, ""),
        (Version::V1_2, "message-id:M\nsubscription:0\n"),
        (Version::V1_2, "id:\n"),
        (Version::V1_2, ""),
    ] {
        for command in ["ACK", "NACK"] {
            let mut broker = Broker::new();
            let (session, frames) = delivered(&mut broker, version, "client");
            let id = escape(&frames[0].header("message-id").unwrap(), version);
            broker.refused(session, &format!("{command}\n{}\n\0", headers.replace('M', &id)));
            assert_eq!(broker.waiting("/q"), ["A", "B", "C"]);
        }
    }
}

/// S12-ACK-05: keys of older versions beside the one that counts change nothing
#[test]
fn further_keys_are_ignored_in_1_2() {
    let mut broker = Broker::new();
    let (session, frames) = delivered(&mut broker, Version::V1_2, "client-individual");
    let frame = ack("ACK", Version::V1_2, &frames[0], "subscription:0\nmessage-id:x\n");
    broker.say(session, &frame);
    broker.drop(session);
    assert_eq!(broker.waiting("/q"), ["B", "C"]);
}

/// S12-ACK-06, S10-ACK-15: a `message-id` is no `ack` value; unknown and settled ids are refused
#[test]
fn an_id_that_names_no_unsettled_delivery_is_refused() {
    for version in Version::ALL {
        let mut broker = Broker::new();
        let (session, frames) = delivered(&mut broker, version, "client");
        let first = ack("ACK", version, &frames[0], "");
        broker.say(session, &first);
        broker.refused(session, &first);
    }
    for id in [
        "nope",
        "m\\c0",
        "0",
        "0-",
        "-0",
        "0-99",
        "99-0",
        "+0-0",
        "0-0-0",
        "18446744073709551616-0",
    ] {
        let mut broker = Broker::new();
        let (session, _) = delivered(&mut broker, Version::V1_2, "client");
        broker.refused(session, &format!("ACK\nid:{id}\n\n\0"));
    }
    let mut broker = Broker::new();
    let (session, frames) = delivered(&mut broker, Version::V1_2, "client");
    let id = escape(&frames[0].header("message-id").unwrap(), Version::V1_2);
    broker.refused(session, &format!("ACK\nid:{id}\n\n\0"));
}

/// S10-ACK-07
#[test]
fn a_1_0_session_has_no_nack() {
    let mut broker = Broker::new();
    let (session, frames) = delivered(&mut broker, Version::V1_0, "client");
    broker.refused(session, &ack("NACK", Version::V1_0, &frames[0], ""));
}

/// S10-ACK-16: an id of another session settles nothing there
#[test]
fn an_id_of_another_session_has_no_effect() {
    let mut broker = Broker::new();
    let (first, frames) = delivered(&mut broker, Version::V1_2, "client");
    let other = broker.open(Version::V1_2);
    let frame = ack("ACK", Version::V1_2, &frames[0], "receipt:1\n");
    broker.refused(other, &frame);
    broker.say(first, &frame);
    assert_eq!(broker.trace(first), ["RECEIPT:1"]);
}

/// S11-ACK-17
#[test]
fn a_1_1_ack_must_name_the_subscription_that_got_the_message() {
    let mut broker = Broker::new();
    let (session, frames) = delivered(&mut broker, Version::V1_1, "client");
    broker.say(session, "SUBSCRIBE\nid:1\ndestination:/queue/other\nack:client\n\n\0");
    let frame = ack("ACK", Version::V1_1, &frames[0], "");
    broker.refused(session, &frame.replace("subscription:0", "subscription:1"));
    assert_eq!(broker.waiting("/q"), ["A", "B", "C"]);
}

/// S10-ACK-18: refused in strict mode, ignored in lenient mode
#[test]
fn an_ack_in_an_auto_subscription_is_met_by_mode() {
    let subscribe = "SUBSCRIBE\nid:0\ndestination:/q\n\n\0";
    for (version, ack) in [
        (Version::V1_2, "ACK\nid:undefined\nsubscription:0\nmessage-id:1\nreceipt:1\n\n\0"),
        (Version::V1_1, "ACK\nsubscription:0\nmessage-id:1\nreceipt:1\n\n\0"),
    ] {
        let mut lenient = Wire::open(version, Config::default());
        lenient.say(subscribe);
        lenient.say(ack);
        assert!(matches!(lenient.answer_all().as_slice(), [ServerEvent::Subscribe { .. }]));
        assert_eq!(lenient.frame().unwrap().header("receipt-id").as_deref(), Some("1"));
        let mut strict = Wire::open(version, Config::default().mode(Mode::Strict));
        strict.say(subscribe);
        strict.answer_all();
        strict.refused(ack);
    }
}

/// S10-ACK-19, S10-RCP-07, S11-RCP-08
#[test]
fn acks_and_nacks_are_receipted() {
    let mut broker = Broker::new();
    let (session, frames) = delivered(&mut broker, Version::V1_2, "client-individual");
    broker.say(session, &ack("ACK", Version::V1_2, &frames[0], "receipt:9\n"));
    assert_eq!(broker.trace(session), ["RECEIPT:9"]);
    broker.say(session, &ack("NACK", Version::V1_2, &frames[1], "receipt:10\n"));
    assert_eq!(broker.trace(session), ["RECEIPT:10", "MESSAGE:B"]);
}

/// S10-ACK-20
#[test]
fn acks_in_a_transaction_take_effect_at_commit() {
    for (commit, waiting) in
        [("", vec!["A", "B", "C"]), ("COMMIT\ntransaction:t\n\n\0", vec!["B", "C"])]
    {
        let mut broker = Broker::new();
        let (session, frames) = delivered(&mut broker, Version::V1_2, "client-individual");
        broker.say(session, "BEGIN\ntransaction:t\n\n\0");
        broker.say(session, &ack("ACK", Version::V1_2, &frames[0], "transaction:t\n"));
        broker.say(session, commit);
        broker.drop(session);
        assert_eq!(broker.waiting("/q"), waiting);
    }
}

/// S10-ACK-21
#[test]
fn abort_gives_the_message_back_to_the_session() {
    for command in ["ACK", "NACK"] {
        let mut broker = Broker::new();
        let (session, frames) = delivered(&mut broker, Version::V1_2, "client");
        broker.say(session, "BEGIN\ntransaction:t\n\n\0");
        let staged = ack(command, Version::V1_2, &frames[2], "transaction:t\n");
        broker.say(session, &staged);
        broker.say(session, "ABORT\ntransaction:t\n\n\0");
        broker.say(session, &ack("ACK", Version::V1_2, &frames[0], "receipt:1\n"));
        assert_eq!(broker.trace(session), ["RECEIPT:1"]);
        broker.drop(session);
        assert_eq!(broker.waiting("/q"), ["B", "C"]);
    }
}

/// What an open transaction holds cannot be acknowledged a second time
#[test]
fn a_staged_message_cannot_be_acknowledged_again() {
    let mut broker = Broker::new();
    let (session, frames) = delivered(&mut broker, Version::V1_2, "client-individual");
    broker.say(session, "BEGIN\ntransaction:t\n\n\0");
    broker.say(session, &ack("ACK", Version::V1_2, &frames[0], "transaction:t\n"));
    broker.refused(session, &ack("ACK", Version::V1_2, &frames[0], ""));
    assert_eq!(broker.waiting("/q"), ["A", "B", "C"]);
}

/// S11-ACK-22
#[test]
fn a_staged_message_counts_as_unacknowledged_until_commit() {
    let mut broker = Broker::with(Config::default().window(1));
    let (session, sender) = (broker.open(Version::V1_2), broker.open(Version::V1_2));
    broker.say(
        session,
        "SUBSCRIBE\nid:0\ndestination:/q\nack:client\n\n\0BEGIN\ntransaction:t\n\n\0",
    );
    broker.say(sender, "SEND\ndestination:/q\n\nA\0SEND\ndestination:/q\n\nB\0");
    let first = broker.frames(session).remove(0);
    broker.say(session, &ack("ACK", Version::V1_2, &first, "transaction:t\n"));
    assert!(broker.frames(session).is_empty());
    broker.say(session, "COMMIT\ntransaction:t\n\n\0");
    assert_eq!(broker.bodies(session), ["B"]);
}

/// A subscription may end while a transaction holds its acknowledgements: they are applied, or the messages go back
#[test]
fn staged_acks_outlive_their_subscription() {
    for (end, waiting) in [
        ("COMMIT", vec!["B", "C"]),
        ("ABORT", vec!["A", "B", "C"]),
        ("DISCONNECT", vec!["A", "B", "C"]),
    ] {
        let mut broker = Broker::new();
        let (session, frames) = delivered(&mut broker, Version::V1_2, "client-individual");
        broker.say(session, "BEGIN\ntransaction:t\n\n\0");
        broker.say(session, &ack("ACK", Version::V1_2, &frames[0], "transaction:t\n"));
        broker.say(session, "UNSUBSCRIBE\nid:0\n\n\0");
        assert_eq!(broker.waiting("/q"), ["B", "C"]);
        broker.say(session, &format!("{end}\ntransaction:t\n\n\0"));
        let mut left = broker.waiting("/q");
        left.sort();
        assert_eq!(left, waiting, "{end}");
    }
}

/// S12-ACK-23: `ack` values are digits and a hyphen, which every escaping leaves alone; `id` is unescaped as any header
#[test]
fn ack_values_survive_escaping() {
    let mut broker = Broker::new();
    let (session, frames) = delivered(&mut broker, Version::V1_2, "client");
    for frame in &frames {
        let value = frame.header("ack").unwrap();
        assert!(value.bytes().all(|octet| octet.is_ascii_digit() || octet == b'-'), "{value}");
    }
    broker.say(session, &ack("ACK", Version::V1_2, &frames[2], "receipt:1\n"));
    assert_eq!(broker.trace(session), ["RECEIPT:1"]);
}

/// Many individual acknowledgements in any order cost no more memory than what is unacknowledged
#[test]
fn acknowledgements_in_any_order_are_found() {
    let mut wire = Wire::open(Version::V1_2, Config::default().window(1000));
    wire.say("SUBSCRIBE\nid:0\ndestination:/q\nack:client-individual\n\n\0");
    let Some(ServerEvent::Subscribe { id, .. }) = wire.event() else { panic!() };
    let message = message("1", "");
    let mut outstanding = Vec::new();
    for token in 0..5000_u32 {
        wire.server.deliver(&id, &message, token, false).unwrap();
        outstanding.push((token, wire.frame().unwrap().header("ack").unwrap().into_owned()));
        // The very first one is never acknowledged.
        if outstanding.len() > 7 {
            let (token, ack) = outstanding.remove(1 + token as usize % 6);
            wire.say(&format!("ACK\nid:{ack}\n\n\0"));
            let Some(ServerEvent::Ack { tokens, .. }) = wire.event() else { panic!() };
            assert_eq!(tokens, [token]);
        }
    }
    assert_eq!(wire.server.unacked(&id), outstanding.len());
    wire.server.handle_eof(wire.now);
    let Some(ServerEvent::Closed { returned, .. }) = wire.event() else { panic!() };
    let mut expected: Vec<_> = outstanding.into_iter().map(|(token, _)| token).collect();
    expected.sort_unstable();
    assert_eq!(returned, expected);
}
