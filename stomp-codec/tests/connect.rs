//! CONNECT, STOMP and CONNECTED, version negotiation: the server's side

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use stomp_codec::server::{CloseReason, Config};
use stomp_codec::{Command, Limits, Mode, Version, Versions};
use support::broker::Broker;
use support::{ServerEvent, Wire};

fn wire() -> Wire {
    Wire::new(Config::default())
}

fn strict() -> Wire {
    Wire::new(Config::default().mode(Mode::Strict).require_host(true))
}

/// What the server says to a CONNECT with these header lines
fn connected(headers: &str) -> stomp_codec::Frame {
    let mut wire = wire();
    wire.say(&format!("CONNECT\n{headers}\n\0"));
    assert!(matches!(wire.event(), Some(ServerEvent::Connect { .. })), "{headers}");
    wire.accept();
    let frame = wire.frame().unwrap();
    assert_eq!(frame.command(), Command::Connected);
    frame
}

/// S10-CON-01, S11-CON-26, S11-CON-27, S11-HX-02, S11-HX-03
#[test]
fn an_accepted_connect_is_answered_by_connected_and_nothing_before_it() {
    let mut wire = wire();
    wire.say("CONNECT\naccept-version:1.2\nhost:h\n\n\0");
    assert!(wire.read().is_empty());
    assert!(matches!(wire.event(), Some(ServerEvent::Connect { version: Version::V1_2, .. })));
    assert!(wire.event().is_none());
    wire.accept();
    assert_eq!(
        wire.read_text(),
        "CONNECTED\nversion:1.2\nsession:session-1\nheart-beat:10000,10000\nserver:test/1.0\n\
         user-name:alice\n\n\0"
    );
}

/// S10-CON-02, S10-CON-03, S10-VER-01, S10-HX-01, S10-HB-34
#[test]
fn connect_without_any_header_opens_a_1_0_session_without_heart_beats() {
    let frame = connected("");
    assert_eq!(frame.header("version").as_deref(), Some("1.0"));
    assert_eq!(frame.header("session").as_deref(), Some("session-1"));
    assert_eq!(frame.header("heart-beat"), None);

    let mut wire = wire();
    wire.say("CONNECT\nheart-beat:100,100\n\n\0");
    wire.event();
    wire.accept();
    wire.read();
    wire.say("SEND\ndestination:/q\nk:a\\nb\n\nx\0");
    let Some(ServerEvent::Send { send, .. }) = wire.event() else { panic!() };
    assert_eq!(send.header("k").as_deref(), Some("a\\nb"));
    let before = wire.written.len();
    wire.pass(Duration::from_secs(3600));
    assert_eq!(wire.written.len(), before);
    assert!(!wire.server.is_closed());
}

/// S10-CON-03: the identifier is the application's; two sessions show two
#[test]
fn each_session_shows_its_own_identifier() {
    let mut broker = Broker::new();
    let sessions: Vec<_> = (0..2)
        .map(|_| {
            let session = broker.connect();
            broker.say(session, "CONNECT\n\n\0");
            broker.frames(session).remove(0).header("session").unwrap().into_owned()
        })
        .collect();
    assert!(!sessions[0].is_empty() && sessions[0] != sessions[1]);
}

/// S11-CON-04: STOMP gets what CONNECT gets
#[test]
fn stomp_is_handled_like_connect() {
    for version in ["1.1", "1.2"] {
        let answers = ["CONNECT", "STOMP"].map(|command| {
            let mut wire = wire();
            wire.say(&format!("{command}\naccept-version:{version}\nhost:h\n\n\0"));
            wire.event();
            wire.accept();
            wire.read_text()
        });
        assert!(answers[0].contains(&format!("version:{version}\n")));
        assert_eq!(answers[0], answers[1]);
    }
}

/// S10-CON-05
#[test]
fn stomp_without_accept_version_opens_a_1_0_session_in_lenient_mode_only() {
    let mut wire = wire();
    wire.say("STOMP\n\n\0");
    assert!(matches!(wire.event(), Some(ServerEvent::Connect { version: Version::V1_0, .. })));
    strict().refused("STOMP\n\n\0");
}

/// S11-CON-09, S11-CON-10: by default a missing host is let pass; which hosts there are is the application's choice
#[test]
fn host_is_required_by_choice_only() {
    connected("accept-version:1.2\n");
    strict().refused("CONNECT\naccept-version:1.2\n\n\0");
    let mut wire = wire();
    wire.say("CONNECT\naccept-version:1.2\nhost:nope\n\n\0");
    let Some(ServerEvent::Connect { connect, .. }) = wire.event() else { panic!() };
    assert_eq!(connect.host().as_deref(), Some("nope"));
}

/// S10-CON-11, S11-CON-12, S10-CON-13: one ERROR, the same for an unknown user and a wrong passcode
#[test]
fn a_refused_sign_in_gets_one_error_that_tells_nothing() {
    let mut broker = Broker::new();
    broker.user = Some(("alice".into(), "secret".into()));
    let mut answer = |headers: &str| {
        let session = broker.connect();
        broker.say(session, &format!("CONNECT\naccept-version:1.2\nhost:h\n{headers}\n\0"));
        let text = String::from_utf8(broker.wire(session).written.clone()).unwrap();
        let rest = broker.wire(session).read_text();
        (text + &rest, broker.is_gone(session))
    };
    let (wrong, closed) = answer("login:alice\npasscode:wrong\n");
    assert!(closed);
    assert_eq!(wrong.matches('\0').count(), 1);
    assert!(wrong.starts_with("ERROR\nmessage:authentication failed\n"));
    assert_eq!(answer("login:nobody\npasscode:secret\n").0, wrong);
    assert_eq!(answer("").0, wrong);
    assert!(answer("login:alice\npasscode:secret\n").0.starts_with("CONNECTED\n"));
}

/// S11-CON-14: the passcode reaches the authenticator as it stands on the wire
#[test]
fn connect_values_are_taken_raw() {
    let mut broker = Broker::new();
    broker.user = Some(("a".into(), "a\\b:c\\n".into()));
    for command in ["CONNECT", "STOMP"] {
        let session = broker.connect();
        broker.say(
            session,
            &format!("{command}\naccept-version:1.2\nhost:h\nlogin:a\npasscode:a\\b:c\\n\n\n\0"),
        );
        assert_eq!(broker.trace(session), ["CONNECTED"]);
    }
}

/// S10-CON-15, S10-ERR-06: nothing but CONNECT opens a session, and nothing behind it is processed
#[test]
fn a_frame_before_connect_is_refused() {
    for frame in [
        "SEND\ndestination:/q\n\nx\0",
        "SUBSCRIBE\nid:0\ndestination:/q\n\n\0",
        "BEGIN\ntransaction:t\n\n\0",
        "ACK\nid:1\n\n\0",
        "DISCONNECT\nreceipt:1\n\n\0",
    ] {
        let mut wire = wire();
        let error = wire.refused(&format!("{frame}CONNECT\naccept-version:1.2\nhost:h\n\n\0"));
        assert_eq!(error.header("receipt-id"), None);
    }
}

/// S10-CON-16: neither by CONNECT nor by STOMP
#[test]
fn a_second_connect_is_refused() {
    for version in Version::ALL {
        for command in ["CONNECT", "STOMP"] {
            let mut wire = Wire::open(version, Config::default());
            wire.refused(&format!(
                "{command}\naccept-version:1.2\nhost:h\nlogin:admin\npasscode:x\n\n\0"
            ));
        }
    }
}

/// S10-CON-17
#[test]
fn commands_of_a_server_are_refused() {
    for frame in [
        "MESSAGE\ndestination:/q\nmessage-id:1\nsubscription:0\n\nx\0",
        "CONNECTED\nversion:1.2\n\n\0",
        "RECEIPT\nreceipt-id:1\n\n\0",
        "ERROR\n\n\0",
    ] {
        Wire::open(Version::V1_2, Config::default()).refused(frame);
    }
}

/// S10-CON-22, S11-VER-26: what is pipelined behind CONNECT is read in the negotiated version, or not at all
#[test]
fn frames_behind_connect_wait_for_its_answer() {
    let mut accepted = wire();
    accepted
        .say("CONNECT\naccept-version:1.0\n\n\0SEND\ndestination:/q\nk:a\\tb\nreceipt:1\n\nx\0");
    assert!(matches!(accepted.event(), Some(ServerEvent::Connect { .. })));
    assert!(accepted.event().is_none());
    assert!(!accepted.server.wants_input());
    accepted.accept();
    let events = accepted.answer_all();
    assert!(matches!(events.as_slice(), [ServerEvent::Send { .. }]), "{events:?}");
    let frames = accepted.frames();
    assert_eq!(frames[0].command(), Command::Connected);
    assert_eq!(frames[1].command(), Command::Receipt);

    let mut refused = wire();
    refused.say("CONNECT\naccept-version:1.2\nhost:h\n\n\0SEND\ndestination:/q\nreceipt:1\n\nx\0");
    refused.event();
    refused.server.reject(refused.now, "authentication failed");
    refused.refusal();
}

/// S10-CON-23
#[test]
fn a_receipt_asked_for_by_connect_is_not_answered() {
    for command in ["CONNECT", "STOMP"] {
        let mut wire = wire();
        wire.say(&format!("{command}\naccept-version:1.2\nhost:h\nreceipt:r\n\n\0"));
        wire.event();
        wire.accept();
        assert!(wire.answer_all().is_empty());
        wire.pass(Duration::from_secs(1));
        let commands: Vec<_> = wire.frames().iter().map(stomp_codec::Frame::command).collect();
        assert_eq!(commands, [Command::Connected]);
    }
}

/// S11-CON-24
#[test]
fn a_body_of_connect_is_refused_but_for_eols_in_lenient_mode() {
    let mut tolerated = wire();
    tolerated.say("CONNECT\naccept-version:1.2\nhost:h\n\n\n\r\n\0");
    let Some(ServerEvent::Connect { connect, .. }) = tolerated.event() else { panic!() };
    assert!(connect.body().is_empty());
    wire().refused("CONNECT\naccept-version:1.2\nhost:h\n\n\nx\0");
    wire().refused("CONNECT\naccept-version:1.2\nhost:h\n\nx\0");
    strict().refused("CONNECT\naccept-version:1.2\nhost:h\n\n\n\0");
}

/// S10-CON-25
#[test]
fn values_of_a_1_0_connect_are_trimmed() {
    let mut broker = Broker::new();
    broker.user = Some(("user".into(), "pw".into()));
    let session = broker.connect();
    broker.say(session, "CONNECT\nlogin: user\npasscode:pw\n\n\0");
    assert_eq!(broker.trace(session), ["CONNECTED"]);
    let session = broker.connect();
    broker.refused(session, "CONNECT\naccept-version:1.2\nhost:h\nlogin: user\npasscode:pw\n\n\0");
}

/// S10-CON-30, S11-HX-17
#[test]
fn unknown_headers_of_connect_are_ignored() {
    connected("accept-version:1.2\nhost:h\nx-foo:1\n");
}

/// S10-CON-32: neither in what can be logged nor in ERROR
#[test]
fn passcodes_are_not_shown() {
    let mut wire = wire();
    wire.say("CONNECT\naccept-version:1.2\nhost:h\nlogin:u\npasscode:hunter2\n\n\0");
    let event = wire.event().unwrap();
    assert!(!format!("{event:?}{:?}", wire.server).contains("hunter2"));
    wire.server.reject(wire.now, "authentication failed");
    assert!(!wire.read_text().contains("hunter2"));
    let config = stomp_codec::client::Config::new("h").credentials("u", "hunter2");
    let client = stomp_codec::client::Session::new(config.clone(), wire.now).unwrap();
    assert!(!format!("{config:?}{client:?}").contains("hunter2"));
}

/// S11-VER-02 to S11-VER-10, S11-VER-18, S11-VER-19: the highest common version, whatever the order
#[test]
fn the_highest_common_version_wins() {
    for (headers, expected) in [
        ("accept-version:1.0\n", "1.0"),
        ("accept-version:1.1\n", "1.1"),
        ("accept-version:1.2\n", "1.2"),
        ("accept-version:1.0,1.1,1.2\n", "1.2"),
        ("accept-version:1.2,1.1,1.0\n", "1.2"),
        ("accept-version:1.1,1.0\n", "1.1"),
        ("accept-version:1.0,1.1,2.0\n", "1.1"),
        ("accept-version:1.1,1.3\n", "1.1"),
        ("accept-version:1.2,1.2\n", "1.2"),
        ("accept-version:1.1, 1.2\n", "1.2"),
        ("accept-version:,1.1,\n", "1.1"),
        ("accept-version:1.1\naccept-version:1.2\n", "1.1"),
    ] {
        let frame = connected(&format!("{headers}host:h\n"));
        let versions: Vec<_> = frame.headers().filter(|(name, _)| name == "version").collect();
        assert_eq!(versions.len(), 1);
        assert_eq!(versions[0].1, expected, "{headers}");
    }
}

/// S12-VER-11 to S12-VER-17, S11-VER-20
#[test]
fn without_a_common_version_error_names_those_there_are() {
    for list in ["2.0", "1.10", "1", "v1.2", "1.20", "01.2", ""] {
        let mut wire = wire();
        let error = wire.refused(&format!("CONNECT\naccept-version:{list}\nhost:h\n\n\0"));
        assert_eq!(error.header("version").as_deref(), Some("1.0,1.1,1.2"));
        assert_eq!(error.header("content-type").as_deref(), Some("text/plain"));
        assert!(error.text().unwrap().contains("1.0,1.1,1.2"));
    }
}

/// S10-VER-21: the ERROR before negotiation reads alike in every version
#[test]
fn what_is_said_before_negotiation_means_the_same_in_every_version() {
    let mut wire = wire();
    wire.say("CONNECT\naccept-version:1.2\nhost:h\npasscode:a:b\\c\n\n\0");
    wire.event();
    wire.server.reject(wire.now, "bad passcode: a:b\\c\r\nlogin");
    let octets = wire.read();
    let frames = Version::ALL.map(|version| {
        let mut decoder = stomp_codec::Decoder::new(Mode::Strict, Limits::DEFAULT);
        decoder.set_version(version);
        let mut octets = bytes::Bytes::from(octets.clone());
        decoder.decode_bytes(&mut octets).unwrap().unwrap()
    });
    assert!(frames[0] == frames[1] && frames[1] == frames[2], "{frames:?}");
    assert!(!octets.contains(&b'\\') && !octets.contains(&b'\r'));
}

/// S11-VER-25, S10-ERR-07: after CONNECTED each version reads by its own rules
#[test]
fn frames_are_read_by_the_rules_of_the_negotiated_version() {
    let frame = "SEND\ndestination:/q\nk:a\\rb\n\nx\0";
    for (version, expected) in [(Version::V1_2, "a\rb"), (Version::V1_0, "a\\rb")] {
        let mut wire = Wire::open(version, Config::default());
        wire.say(frame);
        let Some(ServerEvent::Send { send, .. }) = wire.event() else { panic!() };
        assert_eq!(send.header("k").as_deref(), Some(expected));
    }
    Wire::open(Version::V1_1, Config::default()).refused(frame);
}

/// S10-VER-27
#[test]
fn a_disabled_version_is_as_unknown() {
    let config = Config::default().versions(Versions::NONE.with(Version::V1_2));
    let mut wire = Wire::new(config.clone());
    let error = wire.refused("CONNECT\naccept-version:1.1\nhost:h\n\n\0");
    assert_eq!(error.header("version").as_deref(), Some("1.2"));
    Wire::new(config).refused("CONNECT\n\n\0");
}

/// S10-LIM-09: a stranger may send less than a session; the same size passes once connected
#[test]
fn before_connect_smaller_limits_hold() {
    let long = "v".repeat(64 * 1024);
    let mut wire = wire();
    wire.say(&format!("CONNECT\naccept-version:1.2\nhost:h\na:{long}"));
    let error = wire.refusal();
    assert!(error.header("message").unwrap().contains("16384"), "{error:?}");
    let mut wire = Wire::open(Version::V1_2, Config::default());
    wire.say(&format!("SEND\ndestination:/q\n\n{long}\0"));
    assert!(matches!(wire.event(), Some(ServerEvent::Send { .. })));
}

/// S10-LIM-10: octets that trickle in do not extend the time
#[test]
fn connect_must_be_complete_in_time() {
    for octet in ["C", "\n"] {
        let mut wire = wire();
        let mut seconds = 0;
        while !wire.server.is_closed() {
            wire.say(octet);
            wire.events();
            wire.pass(Duration::from_secs(1));
            seconds += 1;
            assert!(seconds <= 10, "still open");
        }
        assert_eq!(seconds, 10);
        assert!(matches!(
            wire.events().as_slice(),
            [ServerEvent::Closed { reason: CloseReason::ConnectTimeout, .. }]
        ));
    }
}

/// S10-EOL-13, S10-FRM-08: CR LF and leading EOLs are accepted before negotiation
#[test]
fn a_1_2_client_may_use_cr_lf_from_the_start() {
    let mut wire = strict();
    wire.say("\r\n\nCONNECT\r\naccept-version:1.2\r\nhost:h\r\n\r\n\0\r\n");
    let Some(ServerEvent::Connect { connect, .. }) = wire.event() else { panic!() };
    assert_eq!(connect.host().as_deref(), Some("h"));
}

/// S11-LIM-17: sessions that come and go leave nothing behind
#[test]
fn rapid_connects_and_losses_leave_nothing_behind() {
    let config = std::sync::Arc::new(Config::default());
    let now = std::time::Instant::now();
    for _ in 0..5000 {
        let mut session: support::Server = stomp_codec::server::Session::new(config.clone(), now);
        session.handle_bytes(now, "CONNECT\naccept-version:1.2\nhost:h\n\n\0".into());
        assert!(matches!(session.poll_event(), Some(ServerEvent::Connect { .. })));
        session.accept(now, stomp_codec::server::Accepted::new("s"));
        session.handle_eof(now);
        assert!(matches!(session.poll_event(), Some(ServerEvent::Closed { .. })));
        assert!(session.poll_event().is_none() && session.poll_timeout().is_none());
    }
    assert_eq!(std::sync::Arc::strong_count(&config), 1);
}
