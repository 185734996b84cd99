//! SEND, RECEIPT, ERROR and DISCONNECT: the server's side

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use stomp_codec::server::{CloseReason, Config, ErrorReply};
use stomp_codec::{Command, Frame, Version};
use support::broker::Broker;
use support::{ServerEvent, Wire};

fn open(version: Version) -> Wire {
    Wire::open(version, Config::default())
}

/// S10-SND-01, S10-HX-04, S10-HX-16, S10-RCP-15
#[test]
fn send_needs_a_destination() {
    for version in Version::ALL {
        let error = open(version).refused("SEND\nreceipt:1\n\nx\0");
        assert_eq!(error.header("receipt-id").as_deref(), Some("1"));
        open(version).refused("SEND\ndestination:\n\nx\0");
    }
}

/// S10-SND-02
#[test]
fn destinations_are_compared_octet_by_octet() {
    let destinations =
        ["/queue/a", "/queue/A", "/queue//a", "/queue/%61", "queue a", "é", "e\u{301}"];
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    for (id, destination) in destinations.iter().enumerate() {
        broker.say(session, &format!("SUBSCRIBE\nid:{id}\ndestination:{destination}\n\n\0"));
    }
    for (id, destination) in destinations.iter().enumerate() {
        broker.say(session, &format!("SEND\ndestination:{destination}\n\n{id}\0"));
        let frames = broker.frames(session);
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].header("subscription").unwrap(), id.to_string());
    }
}

/// S11-SND-09, S10-DIS-08, S10-ERR-06: nothing behind a frame that failed is processed
#[test]
fn a_send_that_fails_ends_the_session() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    let error = broker
        .refused(session, "SEND\ndestination:/denied\nreceipt:1\n\nx\0SEND\ndestination:/q\n\nx\0");
    assert_eq!(error.header("receipt-id").as_deref(), Some("1"));
    assert!(broker.published.is_empty());
}

/// S10-SND-10
#[test]
fn a_send_to_nobody_is_receipted() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    broker.say(session, "SEND\ndestination:/topic/none\nreceipt:1\n\nx\0");
    assert_eq!(broker.trace(session), ["RECEIPT:1"]);
}

/// S10-SND-13, S10-RCP-17, S10-DIS-07
#[test]
fn messages_and_receipts_keep_the_order_of_the_frames() {
    let frames: String =
        (0..1000).map(|n| format!("SEND\ndestination:/q\nreceipt:{n}\n\n{n}\0")).collect();
    let expected: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
    for is_whole in [true, false] {
        let mut broker = Broker::with(Config::default().max_pending_receipts(7));
        let (reader, sender) = (broker.open(Version::V1_2), broker.open(Version::V1_2));
        broker.say(reader, "SUBSCRIBE\nid:0\ndestination:/q\n\n\0");
        let all = format!("{frames}DISCONNECT\nreceipt:end\n\n\0");
        if is_whole {
            broker.say(sender, &all);
        } else {
            broker.dribble(sender, &all);
        }
        assert_eq!(broker.bodies(reader), expected);
        let receipts = broker.trace(sender);
        assert_eq!(receipts.len(), 1001);
        assert!(
            receipts.iter().zip(&expected).all(|(receipt, n)| *receipt == format!("RECEIPT:{n}"))
        );
        assert!(broker.is_gone(sender));
    }
}

/// S10-RCP-01 to S10-RCP-07, S11-RCP-08, S10-RCP-09, S10-RCP-14, S10-HX-12, S10-HX-14
#[test]
fn every_frame_but_connect_is_receipted() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    broker.say(session, "SUBSCRIBE\nid:0\ndestination:/queue/a\nack:client-individual\n\n\0");
    broker.say(session, "SEND\ndestination:/queue/a\n\n1\0SEND\ndestination:/queue/a\n\n2\0");
    let acks: Vec<_> = broker
        .frames(session)
        .iter()
        .map(|frame| frame.header("ack").unwrap().into_owned())
        .collect();
    for frame in [
        "SEND\ndestination:/q\nreceipt:r1\n\nx\0",
        "SUBSCRIBE\nid:9\ndestination:/queue/b\nreceipt:r1\n\n\0",
        "UNSUBSCRIBE\nid:9\nreceipt:r1\n\n\0",
        "BEGIN\ntransaction:t\nreceipt:r1\n\n\0",
        "COMMIT\ntransaction:t\nreceipt:r1\n\n\0",
        "BEGIN\ntransaction:t2\nreceipt:r1\n\n\0",
        "ABORT\ntransaction:t2\nreceipt:r1\n\n\0",
        &format!("ACK\nid:{}\nreceipt:r1\n\n\0", acks[0]),
        &format!("NACK\nid:{}\nreceipt:r1\n\n\0", acks[1]),
        "DISCONNECT\nreceipt:r1\n\n\0",
    ] {
        broker.say(session, frame);
        let text = broker.wire(session).read_text();
        assert!(text.starts_with("RECEIPT\nreceipt-id:r1\n\n\0"), "{frame:?}: {text:?}");
    }
}

/// S10-RCP-10, S10-RCP-16
#[test]
fn receipt_ids_are_echoed_exactly() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    broker.say(session, "SEND\ndestination:/q\nreceipt:a\\cb\\\\ ü\n\nx\0");
    assert_eq!(broker.wire(session).read_text(), "RECEIPT\nreceipt-id:a\\cb\\\\ ü\n\n\0");
    broker.say(session, "SEND\ndestination:/q\nreceipt:\n\nx\0");
    broker.say(session, &"SEND\ndestination:/q\nreceipt:1\n\nx\0".repeat(2));
    assert_eq!(
        broker.wire(session).read_text(),
        "RECEIPT\nreceipt-id:\n\n\0RECEIPT\nreceipt-id:1\n\n\0RECEIPT\nreceipt-id:1\n\n\0"
    );
}

/// S10-RCP-11
#[test]
fn without_receipt_header_there_is_no_receipt() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_2);
    broker.say(session, "SEND\ndestination:/q\n\nx\0BEGIN\ntransaction:t\n\n\0");
    broker.pass(Duration::from_secs(1));
    assert!(broker.frames(session).is_empty());
}

/// S12-RCP-12, S12-RCP-13, S10-RCP-17: a RECEIPT leaves when it is answered, and not before earlier ones
#[test]
fn receipts_wait_for_earlier_ones() {
    let mut wire = open(Version::V1_2);
    for n in 0..3 {
        wire.say(&format!("SEND\ndestination:/q\nreceipt:{n}\n\nx\0"));
    }
    wire.say("BEGIN\ntransaction:t\nreceipt:3\n\n\0");
    let mut tokens: Vec<_> =
        wire.events().iter_mut().map(|event| support::receipt_of(event).unwrap()).collect();
    assert!(wire.read().is_empty());
    wire.server.receipt(tokens.remove(1), &[("seq", "2")]);
    wire.server.receipt(tokens.remove(1), &[]);
    assert!(wire.read().is_empty());
    wire.server.receipt(tokens.remove(0), &[("seq", "1"), ("bad\n", "left out"), ("k:", "a:b")]);
    assert_eq!(
        wire.read_text(),
        "RECEIPT\nreceipt-id:0\nseq:1\nbad\\n:left out\nk\\c:a\\cb\n\n\0\
         RECEIPT\nreceipt-id:1\nseq:2\n\n\0RECEIPT\nreceipt-id:2\n\n\0RECEIPT\nreceipt-id:3\n\n\0"
    );
}

/// Receipts that the application owes are bounded: no further frame is read until it answers
#[test]
fn frames_wait_while_too_many_receipts_are_owed() {
    let mut wire = Wire::open(Version::V1_2, Config::default().max_pending_receipts(2));
    wire.say(&"SEND\ndestination:/q\nreceipt:1\n\nx\0".repeat(3));
    let mut events = wire.events();
    assert_eq!(events.len(), 2);
    assert!(!wire.server.wants_input());
    wire.server.receipt(support::receipt_of(&mut events[0]).unwrap(), &[]);
    assert!(matches!(wire.event(), Some(ServerEvent::Send { .. })));

    let mut wire = open(Version::V1_2);
    let long = "r".repeat(16_000);
    wire.say(&format!("SEND\ndestination:/q\nreceipt:{long}\n\nx\0").repeat(40));
    assert_eq!(wire.events().len(), 17);
}

/// S12-ERR-01, S11-ERR-02, S11-ERR-08, S10-ERR-05, S10-ERR-07
#[test]
fn every_fault_gets_one_error_and_the_end() {
    for frame in [
        "FOO\n\n\0",
        "SEND\ndestination:/q\nk:a\\tb\n\nx\0",
        "SEND\nnocolon\n\nx\0",
        "SEND\ndestination:/q\ncontent-length:x\n\nx\0",
        "SEND\ndestination:/q\ncontent-length:1\n\nxy\0",
        "SUBSCRIBE\nid:0\ndestination:/q\n\nbody\0",
        "ACK\nid:nope\n\n\0",
        "CONNECT\n\n\0",
    ] {
        for version in [Version::V1_1, Version::V1_2] {
            let mut wire = open(version);
            wire.refused(&format!("{frame}SEND\ndestination:/q\n\nx\0"));
            wire.say("SEND\ndestination:/q\n\nx\0");
            wire.pass(Duration::from_secs(60));
            assert!(wire.event().is_none() && wire.read().is_empty());
        }
    }
}

/// S11-ERR-03
#[test]
fn an_error_names_the_receipt_of_its_frame() {
    let error = open(Version::V1_2).refused("SUBSCRIBE\nid:0\nreceipt:x\\cy\n\n\0");
    assert_eq!(error.header("receipt-id").as_deref(), Some("x:y"));
}

/// S11-ERR-04, S11-CT-10, S10-ERR-10, S11-ERR-02: what the application says is made safe for the version
#[test]
fn the_text_of_an_error_cannot_break_its_frame() {
    for version in Version::ALL {
        let mut wire = open(version);
        let reply = ErrorReply::new(format!("no such destination a\nb\r\0: {}", "ü".repeat(300)))
            .header("x", "a\nb")
            .body("details\n");
        wire.server.fail(wire.now, reply);
        let error = wire.refusal();
        let message = error.header("message").unwrap().into_owned();
        assert!(message.starts_with("no such destination a b  : üü"), "{message}");
        assert_eq!(error.header("content-type").as_deref(), Some("text/plain"));
        assert_eq!(error.header("content-length").as_deref(), Some("8"));
        assert_eq!(error.has_header("x"), version > Version::V1_0);
    }
}

/// S10-ERR-09
#[test]
fn errors_tell_nothing_about_the_server_and_echo_no_body() {
    for frame in [
        "SEND\ndestination:/q\nlogin:u\npasscode:hunter2\nk:a\\tb\n\nhunter2\0",
        "hunter2\n\n\0",
        "SEND\npasscode:hunter2\n\nhunter2\0",
        "SEND\ndestination:/q\ncontent-length:1\n\nhunter2\0",
    ] {
        let mut wire = open(Version::V1_2);
        wire.refused(frame);
        let text = String::from_utf8(wire.written.clone()).unwrap();
        assert!(!text.contains("hunter2") && !text.contains(".rs") && !text.contains(" at "));
    }
}

/// S10-DIS-05, S10-DIS-06, S10-HX-12
#[test]
fn disconnect_ends_the_session_with_its_receipt_if_asked_for() {
    for version in Version::ALL {
        let mut wire = open(version);
        wire.say("DISCONNECT\nreceipt:77\n\n\0");
        let events = wire.answer_all();
        let [ServerEvent::Disconnect { .. }, ServerEvent::Closed { reason, .. }] =
            events.as_slice()
        else {
            panic!("{events:?}")
        };
        assert_eq!((reason, reason.websocket_code()), (&CloseReason::Disconnect, 1000));
        assert_eq!(wire.read_text(), "RECEIPT\nreceipt-id:77\n\n\0");

        let mut wire = open(version);
        wire.say("DISCONNECT\n\n\0");
        assert_eq!(wire.events().len(), 2);
        assert!(wire.read().is_empty() && wire.server.is_closed());
    }
}

/// S10-DIS-08
#[test]
fn frames_behind_disconnect_are_not_processed() {
    let mut wire = open(Version::V1_2);
    wire.say("DISCONNECT\nreceipt:1\n\n\0SEND\ndestination:/q\n\nx\0");
    assert!(matches!(
        wire.answer_all().as_slice(),
        [ServerEvent::Disconnect { .. }, ServerEvent::Closed { .. }]
    ));
    let mut slow = open(Version::V1_2);
    slow.say("DISCONNECT\nreceipt:1\n\n\0");
    assert!(matches!(slow.event(), Some(ServerEvent::Disconnect { .. })));
    slow.say("SEND\ndestination:/q\n\nx\0");
    assert!(slow.event().is_none() && !slow.server.wants_input());
    slow.server.handle_eof(slow.now);
    assert!(matches!(slow.event(), Some(ServerEvent::Closed { .. })));
}

/// S12-DIS-09, S10-DIS-10, S10-DIS-12
#[test]
fn complete_frames_before_a_loss_are_processed_and_a_cut_one_is_not() {
    let mut wire = Wire::open(Version::V1_2, Config::default().max_pending_receipts(1));
    wire.say(&"SEND\ndestination:/q\nreceipt:1\n\nx\0".repeat(100));
    wire.say("SEND\ndestination:/q\n\nhel");
    wire.server.handle_eof(wire.now);
    let events = wire.events();
    assert_eq!(events.len(), 101);
    assert!(events[..100].iter().all(|event| matches!(event, ServerEvent::Send { .. })));
    let ServerEvent::Closed { reason, .. } = &events[100] else { panic!() };
    assert_eq!(*reason, CloseReason::ConnectionLost);
    assert!(wire.read().is_empty());
}

/// S12-DIS-09: also behind a CONNECT that is answered late
#[test]
fn a_loss_while_the_client_is_signing_in_waits_for_the_answer() {
    let mut wire = Wire::new(Config::default());
    wire.say("CONNECT\naccept-version:1.2\nhost:h\n\n\0SEND\ndestination:/q\n\nx\0");
    assert!(matches!(wire.event(), Some(ServerEvent::Connect { .. })));
    wire.server.handle_eof(wire.now);
    assert!(wire.event().is_none());
    wire.accept();
    assert!(matches!(
        wire.events().as_slice(),
        [ServerEvent::Send { .. }, ServerEvent::Closed { .. }]
    ));
}

/// S11-DIS-11: what was queued before the end is still there to be written
#[test]
fn the_last_frame_can_be_written_after_the_end() {
    let mut wire = open(Version::V1_2);
    wire.say("SEND\ndestination:/q\nreceipt:1\n\nx\0FOO\n\n\0");
    wire.answer_all();
    assert!(wire.server.is_closed());
    let commands: Vec<_> = wire.frames().iter().map(Frame::command).collect();
    assert_eq!(commands, [Command::Receipt, Command::Error]);
}

/// S10-DIS-13
#[test]
fn disconnect_without_its_blank_line_is_malformed() {
    open(Version::V1_2).refused("DISCONNECT\nreceipt:77\n\0");
}

/// After the end commands do nothing
#[test]
fn a_session_ends_once() {
    let mut wire = open(Version::V1_2);
    wire.server.close(wire.now);
    wire.server.fail(wire.now, "late");
    wire.server.close(wire.now);
    wire.accept();
    wire.server.handle_eof(wire.now);
    let events = wire.events();
    assert!(matches!(events.as_slice(), [ServerEvent::Closed { reason: CloseReason::Closed, .. }]));
    assert!(wire.read().is_empty());
}

/// S10-LEN-21: content-length is honoured on any frame of 1.0
#[test]
fn a_1_0_ack_may_have_a_body_of_a_length() {
    let mut broker = Broker::new();
    let session = broker.open(Version::V1_0);
    broker.say(session, "SUBSCRIBE\ndestination:/q\nack:client\n\n\0SEND\ndestination:/q\n\nx\0");
    let id = broker.frames(session).remove(0).header("message-id").unwrap().into_owned();
    broker.say(
        session,
        &format!("ACK\nmessage-id:{id}\ncontent-length:3\n\na\0b\0DISCONNECT\nreceipt:1\n\n\0"),
    );
    assert_eq!(broker.trace(session), ["RECEIPT:1"]);
    assert!(broker.waiting("/q").is_empty());
}
