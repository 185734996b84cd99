//! The client's session against a server that the test plays

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stomp_codec::client::{ClientError, CloseReason, Config, Event, Session};
use stomp_codec::server::{self, AckMode};
use stomp_codec::{Command, Frame, Limits, Version, Versions};
use support::Pair;

/// A client, and the server that a test plays
struct Play {
    now: Instant,
    client: Session,
}

impl Play {
    fn new(config: Config) -> Self {
        let now = Instant::now();
        Self { now, client: Session::new(config, now).unwrap() }
    }

    /// A session of `version` that is open
    fn open(version: Version) -> Self {
        Self::open_with(Config::new("h").versions(Versions::NONE.with(version)))
    }

    fn open_with(config: Config) -> Self {
        let version = config.versions.iter().next_back().unwrap();
        let mut play = Self::new(config);
        play.written();
        play.say(&format!("CONNECTED\nversion:{version}\n\n\0"));
        assert!(matches!(play.event(), Some(Event::Connected { .. })));
        play
    }

    fn say(&mut self, text: &str) {
        self.client.handle_bytes(self.now, Bytes::copy_from_slice(text.as_bytes()));
    }

    fn event(&mut self) -> Option<Event> {
        self.client.poll_event()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.event()).collect()
    }

    fn written(&mut self) -> String {
        let mut text = String::new();
        while let Some(transmit) = self.client.poll_transmit() {
            text += std::str::from_utf8(&transmit.into_bytes()).unwrap();
        }
        text
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.client.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.client.handle_timeout(self.now);
        }
        self.now = end;
    }

    /// What is said fails the connection
    #[track_caller]
    fn fails(&mut self, text: &str) -> CloseReason {
        self.say(text);
        let mut events = self.events();
        let Some(Event::Closed { reason, .. }) = events.pop() else { panic!("{text:?}") };
        assert!(events.is_empty(), "{events:?}");
        assert!(self.written().is_empty());
        assert_eq!(self.client.poll_timeout(), None);
        reason
    }
}

fn send(body: &str) -> Frame {
    Frame::new(Command::Send).with_header("destination", "/q").with_body(body.to_owned())
}

/// S11-CON-06, S11-CON-07, S11-CON-08, S11-VER-22, S11-HX-02
#[test]
fn connect_says_what_is_required() {
    let mut play =
        Play::new(Config::new("example.org").credentials("u", "p:\\").header("device", "d"));
    assert_eq!(
        play.written(),
        "CONNECT\naccept-version:1.0,1.1,1.2\nhost:example.org\nheart-beat:10000,10000\nlogin:u\n\
         passcode:p:\\\ndevice:d\n\n\0"
    );
    let versions = [Version::V1_2, Version::V1_1].into_iter().collect();
    let mut play = Play::new(Config::new("h").versions(versions).stomp_command(true));
    assert!(play.written().starts_with("STOMP\naccept-version:1.1,1.2\nhost:h\n"));
}

/// S11-ENC-08: what would inject a header is refused
#[test]
fn credentials_that_would_break_connect_are_refused() {
    for passcode in ["x\nlogin:admin", "x\r", "x\0"] {
        let config = Config::new("h").credentials("u", passcode);
        assert!(matches!(
            Session::new(config, Instant::now()),
            Err(ClientError::Encode(stomp_codec::EncodeError::Unencodable { index: 4 }))
        ));
    }
}

/// S10-CON-18
#[test]
fn commands_of_a_client_fail_the_connection() {
    for frame in
        ["SEND\ndestination:/q\n\nx\0", "SUBSCRIBE\nid:0\ndestination:/q\n\n\0", "ACK\nid:0\n\n\0"]
    {
        let reason = Play::open(Version::V1_2).fails(frame);
        assert!(matches!(reason, CloseReason::Protocol(_)));
    }
    assert!(matches!(
        Play::open(Version::V1_2).fails("CONNECTED\nversion:1.2\n\n\0"),
        CloseReason::Protocol(_)
    ));
}

/// S10-CON-19
#[test]
fn the_first_frame_is_connected_or_error() {
    let mut play = Play::new(Config::new("h"));
    play.written();
    let reason = play.fails("MESSAGE\ndestination:/q\nmessage-id:1\nsubscription:0\n\nx\0");
    assert!(matches!(reason, CloseReason::Protocol(_)));
    let mut play = Play::new(Config::new("h"));
    play.say("\n\nCONNECTED\nversion:1.2\n\n\0");
    assert!(matches!(play.event(), Some(Event::Connected { version: Version::V1_2, .. })));
}

/// S10-CON-20, S11-ERR-14, S10-ERR-13, S10-HX-15
#[test]
fn an_error_instead_of_connected_is_handed_over() {
    let mut play = Play::new(Config::new("h"));
    play.say("ERROR\nmessage:denied\ncontent-length:3\n\na\0b\0");
    let Some(Event::Error { error, receipt: None }) = play.event() else { panic!() };
    assert_eq!(error.message().as_deref(), Some("denied"));
    assert_eq!(error.body(), b"a\0b");
    assert!(matches!(play.event(), Some(Event::Closed { reason: CloseReason::Error, .. })));

    let mut play = Play::open(Version::V1_2);
    play.say("ERROR\n\n\0");
    let Some(Event::Error { error, .. }) = play.event() else { panic!() };
    assert_eq!(error.message(), None);
}

/// S10-CON-21
#[test]
fn connecting_has_a_deadline() {
    let mut play = Play::new(Config::new("h").connect_timeout(Duration::from_secs(3)));
    play.pass(Duration::from_millis(2999));
    assert!(play.event().is_none());
    play.pass(Duration::from_millis(1));
    assert!(matches!(
        play.event(),
        Some(Event::Closed { reason: CloseReason::ConnectTimeout, .. })
    ));
}

/// S11-CON-29, S10-CON-30, S10-CON-31
#[test]
fn connected_is_taken_raw_and_needs_little() {
    let mut play = Play::new(Config::new("h"));
    play.say("CONNECTED\nversion:1.2\nsession:a\\cb\nserver:x:y\nuser-name:u\n\n\0");
    let Some(Event::Connected { connected, .. }) = play.event() else { panic!() };
    assert_eq!(connected.session().as_deref(), Some("a\\cb"));
    assert_eq!(connected.server().as_deref(), Some("x:y"));
    assert_eq!(connected.header("user-name").as_deref(), Some("u"));

    let mut play = Play::new(Config::new("h"));
    play.written();
    play.say("CONNECTED\nversion:1.2\n\n\0");
    assert!(matches!(play.event(), Some(Event::Connected { .. })));
    assert_eq!(play.client.poll_timeout(), None);
}

/// S11-VER-23, S11-VER-24
#[test]
fn a_version_that_was_not_offered_fails_the_connection() {
    let only_1_2 = || Config::new("h").versions(Versions::NONE.with(Version::V1_2));
    for connected in ["session:s", "version:1.1", "version:2.0", "version:"] {
        let mut play = Play::new(only_1_2());
        play.written();
        let reason = play.fails(&format!("CONNECTED\n{connected}\n\n\0"));
        assert!(matches!(reason, CloseReason::Protocol(_)));
    }
    let mut play = Play::new(Config::new("h"));
    play.say("CONNECTED\nsession:s\n\n\0");
    assert!(matches!(play.event(), Some(Event::Connected { version: Version::V1_0, .. })));
}

/// S11-VER-25: both directions follow the negotiated version
#[test]
fn the_negotiated_version_rules_both_directions() {
    for (version, read, written) in [
        (Version::V1_0, "a\\cb", "k:a:b\n"),
        (Version::V1_1, "a:b", "k:a\\cb\n"),
        (Version::V1_2, "a:b", "k:a\\cb\n"),
    ] {
        let mut play = Play::open(version);
        play.client.subscribe("/q", AckMode::Auto, &[("id", "0")], false).unwrap();
        play.client.send(send("").with_header("k", "a:b"), None, false).unwrap();
        assert!(play.written().contains(written));
        play.say("MESSAGE\ndestination:/q\nmessage-id:1\nsubscription:0\nk:a\\cb\n\nx\0");
        let Some(Event::Message { message, .. }) = play.event() else { panic!() };
        assert_eq!(message.header("k").as_deref(), Some(read));
    }
}

/// S10-LIM-15
#[test]
fn limits_hold_for_servers_too() {
    let limits = Limits::DEFAULT.with_headers(5);
    let mut play = Play::open_with(Config::new("h").limits(limits));
    let reason = play.fails(&format!("MESSAGE\n{}", "h:v\n".repeat(6)));
    assert!(matches!(reason, CloseReason::Malformed(error) if error.kind().is_limit()));
}

/// S10-SND-15, S10-HX-04
#[test]
fn send_has_destination_and_content_length() {
    let mut play = Play::open(Version::V1_2);
    play.client.send(send("a\0b"), None, false).unwrap();
    assert_eq!(play.written(), "SEND\ndestination:/q\ncontent-length:3\n\na\0b\0");
    for frame in
        [Frame::new(Command::Send), Frame::new(Command::Send).with_header("destination", "")]
    {
        assert_eq!(play.client.send(frame, None, true), Err(ClientError::NoDestination));
    }
    assert_eq!(play.client.send(Frame::new(Command::Ack), None, false), Err(ClientError::NotSend));
    assert!(play.client.subscribe("", AckMode::Auto, &[], false).is_err());
    assert!(play.written().is_empty());
}

/// S12-CT-02, S11-CT-10
#[test]
fn a_content_type_must_be_a_mime_type_in_1_2() {
    let mut play = Play::open(Version::V1_2);
    let plain = send("x").with_header("content-type", "plain");
    assert_eq!(play.client.send(plain.clone(), None, false), Err(ClientError::ContentType));
    let typed = send("x").with_header("content-type", "text/plain;charset=utf-8");
    play.client.send(typed, None, false).unwrap();
    assert!(play.written().contains("\ncontent-type:text/plain;charset=utf-8\n"));
    let text = Frame::new(Command::Send).with_header("destination", "/q").with_text("é");
    play.client.send(text, None, false).unwrap();
    assert!(play.written().contains("\ncontent-type:text/plain;charset=utf-8\n"));
    Play::open(Version::V1_0).client.send(plain, None, false).unwrap();
}

/// S10-SND-16, S11-DIS-02
#[test]
fn commands_outside_of_a_session_are_errors() {
    let mut play = Play::new(Config::new("h"));
    play.written();
    let tries = |play: &mut Play| {
        assert_eq!(play.client.send(send("x"), None, true), Err(ClientError::NotConnected));
        assert_eq!(play.client.begin(), Err(ClientError::NotConnected));
        let subscribed = play.client.subscribe("/q", AckMode::Auto, &[], true);
        assert_eq!(subscribed, Err(ClientError::NotConnected));
        assert!(play.written().is_empty());
    };
    tries(&mut play);
    let mut play = Play::open(Version::V1_2);
    play.client.disconnect(play.now);
    assert!(play.written().starts_with("DISCONNECT\nreceipt:"));
    tries(&mut play);
    play.client.handle_eof(play.now);
    play.events();
    tries(&mut play);
}

/// S11-SUB-21, S10-HX-06
#[test]
fn every_subscription_has_an_id_of_its_own() {
    for version in Version::ALL {
        let mut play = Play::open(version);
        play.client.subscribe("/q", AckMode::Auto, &[("id", "sub-5")], false).unwrap();
        for _ in 0..100 {
            play.client.subscribe("/q", AckMode::Auto, &[], false).unwrap();
        }
        let written = play.written();
        let ids: HashSet<_> = written.lines().filter(|line| line.starts_with("id:")).collect();
        assert_eq!(ids.len(), 101);
        let again = play.client.subscribe("/q", AckMode::Auto, &[("id", "sub-5")], false);
        assert_eq!(again, Err(ClientError::DuplicateId));
        assert!(play.written().is_empty());
    }
}

/// S10-SUB-22, S11-MSG-15
#[test]
fn a_message_that_fits_nowhere_is_dropped_and_counted() {
    let mut play = Play::open(Version::V1_2);
    play.client.subscribe("/q", AckMode::Auto, &[("id", "0")], false).unwrap();
    for message in [
        "MESSAGE\nsubscription:99\nmessage-id:1\ndestination:/q\n\nx\0",
        "MESSAGE\n\nx\0",
        "MESSAGE\nsubscription:0\ndestination:/q\n\nx\0",
        "MESSAGE\nsubscription:0\nmessage-id:1\n\nx\0",
        "MESSAGE\nmessage-id:1\ndestination:/q\n\nx\0",
    ] {
        play.say(message);
    }
    play.say("MESSAGE\nsubscription:0\nmessage-id:1\ndestination:/q\n\nx\0");
    assert_eq!(play.events().len(), 1);
    assert_eq!(play.client.dropped(), 5);
}

/// S10-UNS-09
#[test]
fn messages_under_way_at_unsubscribe_are_dropped() {
    let mut play = Play::open(Version::V1_2);
    let (subscription, _) =
        play.client.subscribe("/q", AckMode::Auto, &[("id", "0")], false).unwrap();
    let receipt = play.client.unsubscribe(subscription, &[], true).unwrap();
    play.say(
        "MESSAGE\nsubscription:0\nmessage-id:1\ndestination:/q\n\nx\0RECEIPT\nreceipt-id:r-0\n\n\0",
    );
    let events = play.events();
    assert!(
        matches!(events.as_slice(), [Event::Receipt { receipt: got, .. }] if Some(*got) == receipt)
    );
    assert_eq!(play.client.unsubscribe(subscription, &[], false), Err(ClientError::NoSubscription));
    play.client.subscribe("/q", AckMode::Auto, &[("id", "0")], false).unwrap();
}

/// A message as a server of `version` sends it
fn message(play: &mut Play, headers: &str) -> stomp_codec::view::Message {
    let mode = match play.client.version() {
        Some(Version::V1_0) => AckMode::Client,
        _ => AckMode::ClientIndividual,
    };
    play.client.subscribe("/q", mode, &[("id", "0")], false).unwrap();
    play.written();
    play.say(&format!("MESSAGE\ndestination:/q\nmessage-id:m\nsubscription:0\n{headers}\nx\0"));
    let Some(Event::Message { message, .. }) = play.event() else { panic!() };
    message
}

/// S11-ACK-25, S12-ACK-28, S11-ACK-29, S10-HX-08, S11-HX-09, S12-HX-10
#[test]
fn acks_name_what_the_version_asks_for() {
    for (version, headers) in [
        (Version::V1_0, "message-id:m\n"),
        (Version::V1_1, "message-id:m\nsubscription:0\n"),
        (Version::V1_2, "id:a\\cb\n"),
    ] {
        let mut play = Play::open(version);
        let message = message(&mut play, "ack:a\\cb\n");
        play.client.ack(&message, None, false).unwrap();
        assert_eq!(play.written(), format!("ACK\n{headers}\n\0"));
        if version > Version::V1_0 {
            play.client.nack(&message, None, false).unwrap();
            assert_eq!(play.written(), format!("NACK\n{headers}\n\0"));
        }
    }
}

/// S12-ACK-26
#[test]
fn a_1_2_message_without_ack_cannot_be_acknowledged() {
    let mut play = Play::open(Version::V1_2);
    let message = message(&mut play, "");
    assert_eq!(play.client.ack(&message, None, false), Err(ClientError::NoAckId));
    assert!(play.written().is_empty());
}

/// S10-ACK-27
#[test]
fn a_1_0_session_has_no_nack_and_no_individual_mode() {
    let mut play = Play::open(Version::V1_0);
    let message = message(&mut play, "");
    assert_eq!(play.client.nack(&message, None, false), Err(ClientError::Unsupported));
    assert!(play.client.subscribe("/a", AckMode::ClientIndividual, &[], false).is_err());
    assert!(play.written().is_empty());
}

/// S10-TX-17
#[test]
fn transactions_are_named_apart_and_end_once() {
    let mut play = Play::open(Version::V1_2);
    let first = play.client.begin().unwrap();
    let second = play.client.begin().unwrap();
    assert_ne!(first, second);
    play.client.send(send("x"), Some(&first), false).unwrap();
    assert!(play.written().contains("\ntransaction:tx-0\n"));
    // A transaction that has ended is gone: its handle was given away.
    play.client.commit(first, false).unwrap();
    play.client.abort(second, false).unwrap();
    assert_eq!(play.written(), "COMMIT\ntransaction:tx-0\n\n\0ABORT\ntransaction:tx-1\n\n\0");
    // One of another session means nothing here.
    let mut other = Play::open(Version::V1_2);
    let foreign = play.client.begin().unwrap();
    assert_eq!(
        other.client.send(send("x"), Some(&foreign), false),
        Err(ClientError::NoTransaction)
    );
}

/// S10-DIS-01, S10-DIS-04
#[test]
fn leaving_waits_for_the_receipt_and_tolerates_what_comes_before_it() {
    let mut play = Play::open(Version::V1_2);
    play.client.subscribe("/q", AckMode::Auto, &[("id", "0")], false).unwrap();
    let pending = play.client.send(send("x"), None, true).unwrap();
    play.written();
    play.client.disconnect(play.now);
    assert_eq!(play.written(), "DISCONNECT\nreceipt:r-1\n\n\0");
    play.say("MESSAGE\nsubscription:0\nmessage-id:1\ndestination:/q\n\nx\0");
    play.say("RECEIPT\nreceipt-id:r-0\n\n\0RECEIPT\nreceipt-id:r-1\n\n\0");
    let events = play.events();
    let [
        Event::Message { .. },
        Event::Receipt { receipt, .. },
        Event::Closed { reason: CloseReason::Disconnect { confirmed: true }, lost },
    ] = events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert_eq!((Some(*receipt), lost.len()), (pending, 0));
}

/// S10-DIS-03
#[test]
fn leaving_does_not_wait_for_ever() {
    let mut play = Play::open(Version::V1_2);
    play.client.disconnect(play.now);
    play.pass(Duration::from_secs(5));
    assert!(matches!(
        play.event(),
        Some(Event::Closed { reason: CloseReason::Disconnect { confirmed: false }, .. })
    ));
}

/// S10-DIS-14: the receipts that were waited for are named
#[test]
fn a_lost_connection_fails_what_was_waited_for() {
    let mut play = Play::open(Version::V1_2);
    let receipt = play.client.send(send("x"), None, true).unwrap().unwrap();
    play.client.handle_eof(play.now);
    let Some(Event::Closed { reason: CloseReason::ConnectionLost, lost }) = play.event() else {
        panic!()
    };
    assert_eq!(lost, [receipt]);
    assert!(play.event().is_none());
}

/// S10-MSG-16
#[test]
fn a_1_0_message_without_subscription_goes_by_destination() {
    let mut play = Play::open(Version::V1_0);
    let (wanted, _) = play.client.subscribe("/q", AckMode::Auto, &[], false).unwrap();
    play.say("MESSAGE\ndestination:/q\nmessage-id:1\n\nx\0");
    assert!(
        matches!(play.event(), Some(Event::Message { subscription, .. }) if subscription == wanted)
    );
}

/// S10-MSG-17
#[test]
fn unknown_headers_of_a_message_are_there_to_be_read() {
    let mut play = Play::open(Version::V1_2);
    let message = message(&mut play, "x-broker:1\n");
    assert_eq!(message.header("x-broker").as_deref(), Some("1"));
}

/// S10-RCP-18, S10-HX-14
#[test]
fn receipts_are_matched_in_any_order_and_in_bounded_time() {
    let mut play = Play::open(Version::V1_2);
    // The clock was last told long before.
    play.now += Duration::from_secs(3600);
    let receipts: Vec<_> =
        (0..3).map(|_| play.client.send(send("x"), None, true).unwrap().unwrap()).collect();
    play.say(
        "RECEIPT\nreceipt-id:r-1\n\n\0RECEIPT\nreceipt-id:zz\n\n\0RECEIPT\n\n\0\
         RECEIPT\nreceipt-id:r-0\n\n\0RECEIPT\nreceipt-id:r-0\n\n\0",
    );
    let got: Vec<_> = play
        .events()
        .into_iter()
        .map(|event| match event {
            Event::Receipt { receipt, .. } => receipt,
            event => panic!("{event:?}"),
        })
        .collect();
    assert_eq!(got, [receipts[1], receipts[0]]);
    play.pass(Duration::from_secs(29));
    assert!(play.event().is_none());
    play.pass(Duration::from_secs(1));
    assert!(
        matches!(play.event(), Some(Event::ReceiptTimeout { receipt }) if receipt == receipts[2])
    );
    play.say("RECEIPT\nreceipt-id:r-2\n\n\0");
    assert!(play.event().is_none());
}

/// S10-RCP-19
#[test]
fn receipt_ids_are_unique() {
    let mut play = Play::open_with(Config::new("h").max_queued(usize::MAX));
    let mut ids = HashSet::new();
    for _ in 0..100_000 {
        assert!(ids.insert(play.client.send(send(""), None, true).unwrap().unwrap()));
    }
    let written = play.written();
    let ids: HashSet<_> = written.lines().filter(|line| line.starts_with("receipt:")).collect();
    assert_eq!(ids.len(), 100_000);
}

/// S10-ERR-11, S10-ERR-12: the session ends with ERROR, whether the server closes the connection or not
#[test]
fn an_error_fails_what_was_waited_for() {
    let mut play = Play::open(Version::V1_2);
    let first = play.client.send(send("x"), None, true).unwrap().unwrap();
    let second = play.client.send(send("x"), None, true).unwrap().unwrap();
    play.written();
    play.say("ERROR\nmessage:m\nreceipt-id:r-0\n\nb\0MESSAGE\n\n\0");
    let events = play.events();
    let [Event::Error { error, receipt }, Event::Closed { reason: CloseReason::Error, lost }] =
        events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert_eq!((error.message().as_deref(), error.body()), (Some("m"), &b"b"[..]));
    assert_eq!((*receipt, lost.as_slice()), (Some(first), &[second][..]));
    assert!(play.written().is_empty() && play.client.poll_timeout().is_none());
}

/// What waits to be written is bounded
#[test]
fn a_full_queue_refuses_commands() {
    let mut play = Play::open_with(Config::new("h").max_queued(1000));
    play.client.send(send(&"x".repeat(900)), None, false).unwrap();
    assert_eq!(play.client.send(send(&"x".repeat(900)), None, true), Err(ClientError::QueueFull));
    play.written();
    play.client.send(send(&"x".repeat(900)), None, true).unwrap();
}

/// S11-HX-02, S11-HX-03, S11-HX-05, S11-HX-07, S10-HX-11, S10-HX-12, S10-HX-13: what the client writes is what the
/// server demands, in strict mode, in every version
#[test]
fn a_strict_server_accepts_every_frame_of_the_client() {
    for version in Version::ALL {
        let config = server::Config::default().mode(stomp_codec::Mode::Strict).require_host(true);
        let versions = Versions::NONE.with(version);
        let mut pair = Pair::connected(Config::new("h").versions(versions), config);
        let (subscription, _) = pair.client.subscribe("/q", AckMode::Client, &[], true).unwrap();
        let transaction = pair.client.begin().unwrap();
        pair.client.send(send("x"), Some(&transaction), true).unwrap();
        pair.client.commit(transaction, true).unwrap();
        let transaction = pair.client.begin().unwrap();
        pair.client.abort(transaction, true).unwrap();
        pair.client.unsubscribe(subscription, &[], true).unwrap();
        pair.drive();
        pair.client.disconnect(pair.now);
        pair.drive();
        let closed = pair.client_events.pop();
        assert!(matches!(
            closed,
            Some(Event::Closed { reason: CloseReason::Disconnect { confirmed: true }, .. })
        ));
        assert_eq!(pair.client_events.len(), 5);
    }
}
