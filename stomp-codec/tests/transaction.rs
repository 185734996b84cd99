//! BEGIN, COMMIT and ABORT: the server's side

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use stomp_codec::Version;
use stomp_codec::server::{Action, CloseReason, Config};
use support::broker::Broker;
use support::{ServerEvent, Wire};

fn sent(broker: &Broker) -> Vec<String> {
    broker.published.iter().map(|(_, body)| String::from_utf8(body.clone()).unwrap()).collect()
}

fn send(transaction: &str, body: &str) -> String {
    match transaction {
        "" => format!("SEND\ndestination:/q\n\n{body}\0"),
        _ => format!("SEND\ndestination:/q\ntransaction:{transaction}\n\n{body}\0"),
    }
}

/// S10-TX-01, S10-HX-11, S10-HX-16
#[test]
fn a_transaction_has_a_name() {
    for version in Version::ALL {
        for command in ["BEGIN", "COMMIT", "ABORT"] {
            for header in ["", "transaction:\n"] {
                Wire::open(version, Config::default()).refused(&format!("{command}\n{header}\n\0"));
            }
        }
    }
    Wire::open(Version::V1_2, Config::default())
        .refused("SEND\ndestination:/q\ntransaction:\n\nx\0");
}

/// S12-TX-02
#[test]
fn an_open_transaction_cannot_be_begun_again() {
    for version in Version::ALL {
        let mut broker = Broker::new();
        let session = broker.open(version);
        broker.say(session, "BEGIN\ntransaction:t\n\n\0");
        broker.say(session, &send("t", "x"));
        broker.refused(session, "BEGIN\ntransaction:t\n\n\0");
        assert!(broker.published.is_empty());
    }
}

/// S11-TX-03
#[test]
fn the_same_name_in_two_sessions_is_independent() {
    let mut broker = Broker::new();
    let sessions = [broker.open(Version::V1_2), broker.open(Version::V1_2)];
    for (session, body) in sessions.into_iter().zip(["1", "2"]) {
        broker.say(session, "BEGIN\ntransaction:t\n\n\0");
        broker.say(session, &send("t", body));
    }
    broker.say(sessions[1], "COMMIT\ntransaction:t\n\n\0");
    assert_eq!(sent(&broker), ["2"]);
}

/// S10-TX-04, S10-RCP-04, S10-RCP-05, S10-RCP-06
#[test]
fn a_name_may_be_used_again() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    for (index, end) in ["COMMIT", "ABORT", "COMMIT"].into_iter().enumerate() {
        broker.say(session, &format!("BEGIN\ntransaction:t\nreceipt:b{index}\n\n\0"));
        broker.say(session, &format!("{end}\ntransaction:t\nreceipt:e{index}\n\n\0"));
    }
    assert_eq!(
        broker.trace(session),
        ["RECEIPT:b0", "RECEIPT:e0", "RECEIPT:b1", "RECEIPT:e1", "RECEIPT:b2", "RECEIPT:e2"]
    );
}

/// S10-TX-05, S10-TX-06, S10-SND-08, S10-TX-15
#[test]
fn sends_are_applied_at_commit_together_and_in_order() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    broker.say(session, "SUBSCRIBE\nid:0\ndestination:/q\n\n\0BEGIN\ntransaction:t\n\n\0");
    for body in ["1", "2", "3"] {
        broker.say(session, &send("t", body));
    }
    broker.pass(Duration::from_millis(500));
    assert!(broker.frames(session).is_empty());
    broker.say(session, "COMMIT\ntransaction:t\n\n\0");
    let frames = broker.frames(session);
    assert!(frames.iter().all(|frame| !frame.has_header("transaction")));
    assert_eq!(sent(&broker), ["1", "2", "3"]);
    assert_eq!(frames.len(), 3);
}

/// S10-TX-07
#[test]
fn abort_discards_all() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    broker.say(session, "BEGIN\ntransaction:t\n\n\0");
    for body in ["1", "2", "3"] {
        broker.say(session, &send("t", body));
    }
    broker.say(session, "ABORT\ntransaction:t\nreceipt:1\n\n\0");
    assert_eq!(broker.trace(session), ["RECEIPT:1"]);
    assert!(broker.published.is_empty());
}

/// S10-TX-08, S10-TX-09
#[test]
fn an_unknown_transaction_is_refused() {
    for frame in [
        "COMMIT\ntransaction:x\n\n\0",
        "ABORT\ntransaction:x\n\n\0",
        "BEGIN\ntransaction:x\n\n\0COMMIT\ntransaction:x\n\n\0COMMIT\ntransaction:x\n\n\0",
        "SEND\ndestination:/q\ntransaction:x\n\nx\0",
        "ACK\nid:0-0\ntransaction:x\n\n\0",
        "NACK\nid:0-0\ntransaction:x\n\n\0",
    ] {
        let mut broker = Broker::new();
        let session = broker.open(Version::V1_2);
        broker.refused(session, frame);
        assert!(broker.published.is_empty());
    }
}

/// S11-TX-10, S10-TX-16: the end of the session aborts what is open, however it comes
#[test]
fn the_end_of_the_session_aborts() {
    for version in Version::ALL {
        for end in ["DISCONNECT\nreceipt:1\n\n\0", "FOO\n\n\0", ""] {
            let mut broker = Broker::new();
            let session = broker.open(version);
            broker.say(session, "BEGIN\ntransaction:t\n\n\0");
            broker.say(session, &send("t", "x"));
            broker.say(session, end);
            if end.is_empty() {
                broker.drop(session);
            }
            assert!(broker.is_gone(session));
            assert!(broker.published.is_empty());
        }
    }
}

/// S10-TX-11
#[test]
fn transactions_interleave() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    broker.say(session, "BEGIN\ntransaction:a\n\n\0BEGIN\ntransaction:b\n\n\0");
    for transaction in ["a", "", "b"] {
        broker.say(session, &send(transaction, &format!("in {transaction}")));
    }
    broker.say(session, "COMMIT\ntransaction:b\n\n\0ABORT\ntransaction:a\n\n\0");
    assert_eq!(sent(&broker), ["in ", "in b"]);
}

/// S10-TX-13: accepted into the transaction, then applied
#[test]
fn a_receipt_within_a_transaction_comes_before_commit() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    broker.say(session, "BEGIN\ntransaction:t\n\n\0");
    broker.say(session, "SEND\ndestination:/q\ntransaction:t\nreceipt:1\n\nx\0");
    assert_eq!(broker.trace(session), ["RECEIPT:1"]);
    assert!(broker.published.is_empty());
    broker.say(session, "COMMIT\ntransaction:t\nreceipt:2\n\n\0");
    assert_eq!(broker.trace(session), ["RECEIPT:2"]);
    assert_eq!(broker.published.len(), 1);
}

/// S10-TX-14
#[test]
fn a_send_that_is_not_allowed_fails_when_it_is_received() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    broker.say(session, "BEGIN\ntransaction:t\n\n\0");
    broker.say(session, &send("t", "x"));
    broker.refused(session, "SEND\ndestination:/denied\ntransaction:t\n\nx\0");
    assert!(broker.published.is_empty());
}

/// S10-TX-16, S10-TX-06: the application gets one event with everything in order
#[test]
fn commit_hands_over_acks_and_sends_in_order() {
    let mut wire = Wire::open(Version::V1_2, Config::default());
    wire.say("SUBSCRIBE\nid:0\ndestination:/q\nack:client\n\n\0");
    let Some(ServerEvent::Subscribe { id, .. }) = wire.event() else { panic!() };
    for token in 1..=3 {
        wire.server.deliver(&id, &support::message("1", ""), token, false).unwrap();
    }
    let acks: Vec<_> =
        wire.frames().iter().map(|it| it.header("ack").unwrap().into_owned()).collect();
    wire.say(&format!(
        "BEGIN\ntransaction:t\n\n\0ACK\nid:{}\ntransaction:t\n\n\0\
         SEND\ndestination:/a\ntransaction:t\n\nx\0NACK\nid:{}\ntransaction:t\n\n\0\
         COMMIT\ntransaction:t\n\n\0",
        acks[1], acks[2]
    ));
    assert!(matches!(wire.event(), Some(ServerEvent::Staged { .. })));
    let Some(ServerEvent::Commit { actions, receipt: None }) = wire.event() else { panic!() };
    let [Action::Ack { tokens: acked }, Action::Send(send), Action::Nack { tokens: nacked }] =
        actions.as_slice()
    else {
        panic!("{actions:?}")
    };
    assert_eq!((acked, nacked), (&vec![1, 2], &vec![3]));
    assert_eq!(send.destination().as_deref(), Some("/a"));
    assert_eq!(wire.server.unacked(&id), 0);
}

/// S10-LIM-12: count, frames, octets and age are bounded
#[test]
fn transactions_are_bounded() {
    let config = || {
        Config::default().max_transactions(3).max_transaction_frames(4).max_transaction_octets(5000)
    };
    let begin = |names: std::ops::Range<u32>| -> String {
        names.map(|name| format!("BEGIN\ntransaction:t{name}\n\n\0")).collect()
    };
    let mut wire = Wire::open(Version::V1_2, config());
    wire.say(&begin(0..3));
    assert!(wire.event().is_none());
    wire.refused("BEGIN\ntransaction:t3\n\n\0");

    let mut wire = Wire::open(Version::V1_2, config());
    wire.say(&begin(0..1));
    wire.say(&send("t0", "x").repeat(4));
    assert_eq!(wire.events().len(), 4);
    let error = wire.refused(&send("t0", "x"));
    assert!(error.header("message").unwrap().contains("transaction"));

    let mut wire = Wire::open(Version::V1_2, config());
    wire.say(&begin(0..2));
    wire.say(&send("t0", &"x".repeat(2000)));
    wire.say(&send("t1", &"x".repeat(2000)));
    assert_eq!(wire.events().len(), 2);
    wire.refused(&send("t1", &"x".repeat(2000)));

    let timeout = Duration::from_secs(60);
    let mut wire = Wire::open(Version::V1_2, config().transaction_timeout(timeout));
    wire.say(&begin(0..1));
    assert!(wire.event().is_none());
    wire.pass(Duration::from_secs(30));
    wire.say(&begin(1..2));
    assert!(wire.event().is_none());
    wire.say("COMMIT\ntransaction:t0\n\n\0");
    wire.events();
    wire.pass(Duration::from_secs(59));
    assert!(!wire.server.is_closed());
    wire.pass(Duration::from_secs(1));
    assert!(matches!(
        wire.events().as_slice(),
        [ServerEvent::Closed { reason: CloseReason::Limit(_), .. }]
    ));
}
