//! Heart-beats of both sides

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use stomp_codec::client::{self, CloseReason, Event};
use stomp_codec::server::{self, Config};
use stomp_codec::{Frame, HeartBeat, Mode, Version, Versions};
use support::{Pair, ServerEvent, Wire, message};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn beat(can_send: u64, wants: u64) -> HeartBeat {
    HeartBeat::new(ms(can_send), ms(wants))
}

/// An open 1.2 session of a client that says `client`, at a server that says `server`
fn open(client: &str, server: HeartBeat) -> Wire {
    let mut wire = Wire::new(Config::default().heart_beat(server));
    wire.say(&format!("CONNECT\naccept-version:1.2\nhost:h\n{client}\n\0"));
    wire.event();
    wire.accept();
    wire.frames();
    wire
}

fn joined(client: HeartBeat, server: HeartBeat) -> Pair {
    Pair::connected(
        client::Config::new("h").heart_beat(client),
        Config::default().heart_beat(server),
    )
}

/// S11-HB-01, S11-HB-23: huge numbers are clamped, never small
#[test]
fn the_header_is_two_numbers_of_milliseconds() {
    assert_eq!(HeartBeat::parse("4000,5000"), Some(beat(4000, 5000)));
    assert_eq!(beat(4000, 5000).to_string(), "4000,5000");
    let huge = HeartBeat::parse("18446744073709551616,99999999999999999999").unwrap();
    let most = Duration::from_millis(i64::MAX.unsigned_abs());
    assert_eq!((huge.can_send, huge.wants), (most, most));
    let mut wire = open("heart-beat:18446744073709551616,99999999999999999999\n", beat(1, 1));
    wire.pass(Duration::from_secs(1_000_000));
    assert!(!wire.server.is_closed());
}

/// S11-HB-03 to S11-HB-13, S11-HB-37: the slower of the two, none where either is zero
#[test]
fn intervals_are_agreed_by_the_slower_side() {
    for (client, server, to_server, to_client) in [
        ("0,0", "5000,4000", None, None),
        ("1000,2000", "5000,4000", Some(4000), Some(5000)),
        ("10000,10000", "5000,4000", Some(10_000), Some(10_000)),
        ("0,2000", "5000,4000", None, Some(5000)),
        ("1000,0", "5000,4000", Some(4000), None),
        ("1000,1000", "0,0", None, None),
        ("1000,1000", "0,500", Some(1000), None),
        ("1000,1000", "500,0", None, Some(1000)),
        ("4000,5000", "5000,4000", Some(4000), Some(5000)),
        ("1,1", "5000,4000", Some(4000), Some(5000)),
        ("2147483648,4294967296", "5000,4000", Some(2_147_483_648), Some(4_294_967_296)),
        ("1000,3000", "3000,1000", Some(1000), Some(3000)),
    ] {
        let client = HeartBeat::parse(client).unwrap();
        let server = HeartBeat::parse(server).unwrap();
        assert_eq!(client.outgoing(server), to_server.map(ms), "{client} {server}");
        assert_eq!(client.incoming(server), to_client.map(ms), "{client} {server}");
        assert_eq!(server.incoming(client), to_server.map(ms), "{client} {server}");
        assert_eq!(server.outgoing(client), to_client.map(ms), "{client} {server}");
    }
}

/// S11-HB-14 to S11-HB-22
#[test]
fn a_malformed_header_is_a_bad_connect() {
    for value in ["0", "T,0", "100,10,50", "-1,0", " 1,1", "1.5,0", "", "1,", "+1,1"] {
        let mut wire = Wire::new(Config::default());
        wire.refused(&format!("CONNECT\naccept-version:1.2\nhost:h\nheart-beat:{value}\n\n\0"));
    }
}

/// S11-HB-02, S11-HB-36: a missing header is 0,0, and the server's own is always said
#[test]
fn without_the_header_there_are_no_heart_beats() {
    for version in [Version::V1_1, Version::V1_2] {
        let config = Config::default().heart_beat(beat(1000, 1000));
        let mut wire = Wire::open(version, config);
        let connected = String::from_utf8(wire.written.clone()).unwrap();
        assert!(connected.contains("heart-beat:1000,1000\n"));
        let before = wire.written.len();
        wire.pass(Duration::from_secs(600));
        assert_eq!(wire.written.len(), before);
        assert!(!wire.server.is_closed());
    }
}

/// S11-HB-25, S11-HB-39: an idle sender emits one LF within every interval
#[test]
fn an_idle_server_sends_one_lf_within_every_interval() {
    let mut wire = open("heart-beat:0,500\n", beat(500, 0));
    let mut beats = 0;
    let mut last = wire.now;
    let end = wire.now + ms(5000);
    while wire.now < end {
        wire.now = wire.server.poll_timeout().unwrap();
        wire.server.handle_timeout(wire.now);
        assert_eq!(wire.read(), b"\n");
        assert!(wire.now - last <= ms(500));
        last = wire.now;
        beats += 1;
    }
    assert!(beats >= 10);
}

/// S11-HB-26: frames make heart-beats needless
#[test]
fn no_heart_beat_is_sent_while_frames_flow() {
    let mut wire = open("heart-beat:0,500\n", beat(500, 0));
    wire.say("SUBSCRIBE\nid:0\ndestination:/q\n\n\0");
    let Some(ServerEvent::Subscribe { id, .. }) = wire.event() else { panic!() };
    for _ in 0..25 {
        wire.server.handle_timeout(wire.now);
        wire.server.deliver(&id, &message("1", "x"), 1, false).unwrap();
        assert!(wire.read().starts_with(b"MESSAGE"));
        let before = wire.written.len();
        wire.pass(ms(200));
        assert_eq!(wire.written.len(), before);
    }
}

/// S11-HB-27: any octet is a sign of life, also one within a frame
#[test]
fn a_part_of_a_frame_is_a_sign_of_life() {
    let mut wire = open("heart-beat:500,0\n", beat(0, 500));
    wire.say("SEND\ndestination:/q\ncontent-length:100\n\n");
    for _ in 0..100 {
        wire.pass(ms(300));
        wire.say("x");
        assert!(wire.event().is_none());
        assert!(!wire.server.is_closed());
    }
    wire.say("\0");
    assert!(matches!(wire.event(), Some(ServerEvent::Send { .. })));
}

/// S11-HB-28, S11-TX-10: a silent client is given up after two intervals, and everything it held goes back
#[test]
fn a_silent_client_is_given_up() {
    let mut wire = open("heart-beat:500,0\n", beat(0, 500));
    wire.say("SUBSCRIBE\nid:0\ndestination:/q\nack:client\n\n\0BEGIN\ntransaction:t\n\n\0");
    let Some(ServerEvent::Subscribe { id, .. }) = wire.event() else { panic!() };
    assert!(wire.event().is_none());
    wire.server.deliver(&id, &message("1", "x"), 7, false).unwrap();
    wire.pass(ms(999));
    assert!(!wire.server.is_closed());
    wire.pass(ms(1));
    assert!(wire.server.is_closed());
    let Some(ServerEvent::Closed { reason, returned }) = wire.event() else { panic!() };
    assert_eq!((reason, returned), (server::CloseReason::HeartBeatTimeout, vec![7]));
}

/// S11-HB-29
#[test]
fn a_late_heart_beat_is_forgiven() {
    let mut wire = open("heart-beat:1000,0\n", beat(0, 1000));
    for _ in 0..50 {
        wire.pass(ms(1400));
        wire.say("\n");
        wire.events();
    }
    assert!(!wire.server.is_closed());
}

/// S11-HB-30: each transmit is a whole frame or a heart-beat, so that none can stand within a frame
#[test]
fn no_heart_beat_stands_within_a_frame() {
    let mut wire = open("heart-beat:0,100\n", beat(100, 0));
    wire.say("SUBSCRIBE\nid:0\ndestination:/q\n\n\0");
    let Some(ServerEvent::Subscribe { id, .. }) = wire.event() else { panic!() };
    let body = "y".repeat(1024 * 1024);
    wire.server.deliver(&id, &message("1", &body), 1, false).unwrap();
    let frame = wire.server.poll_transmit().unwrap();
    // While the frame is being written time passes.
    wire.now += ms(350);
    wire.server.handle_timeout(wire.now);
    let octets = frame.into_bytes();
    assert!(octets.starts_with(b"MESSAGE\n") && octets.ends_with(b"y\0"));
    assert!(wire.server.poll_transmit().unwrap().is_heart_beat());
}

/// S11-HB-31: nothing is sent before CONNECTED
#[test]
fn the_clock_starts_at_connected() {
    let config = client::Config::new("h").heart_beat(beat(200, 0));
    let mut pair = Pair::new(config, Config::default().heart_beat(beat(0, 200)));
    pair.is_willing = false;
    pair.drive();
    let before = pair.pass(ms(2000));
    assert_eq!(before, 0);
    pair.server.accept(pair.now, server::Accepted::new("s"));
    pair.drive();
    assert!(pair.pass(ms(2000)) >= 10);
}

/// S11-HB-32: neither after DISCONNECT nor after ERROR
#[test]
fn no_heart_beat_follows_the_end() {
    let mut pair = joined(beat(100, 0), beat(0, 100));
    pair.is_willing = false;
    pair.client.disconnect(pair.now);
    pair.drive();
    assert_eq!(pair.pass(ms(1000)), 0);

    let mut wire = open("heart-beat:0,100\n", beat(100, 0));
    wire.refused("FOO\n\n\0");
    wire.pass(ms(1000));
    assert!(wire.read().is_empty());
}

/// S11-HB-33
#[test]
fn a_blocked_writer_holds_at_most_one_heart_beat() {
    let mut wire = open("heart-beat:0,100\n", beat(100, 0));
    for _ in 0..900 {
        wire.now += ms(100);
        wire.server.handle_timeout(wire.now);
        if wire.server.is_closed() {
            break;
        }
        assert!(wire.server.queued() <= 1);
    }
    // In the end the client is given up: it does not read.
    assert!(matches!(
        wire.events().as_slice(),
        [ServerEvent::Closed { reason: server::CloseReason::Stalled, .. }]
    ));
}

/// S10-HB-35
#[test]
fn eols_are_accepted_where_no_heart_beats_were_agreed() {
    let mut wire = open("heart-beat:0,0\n", beat(0, 0));
    wire.say("\n\n\r\n\nSEND\ndestination:/q\n\nx\0\n\n");
    assert!(matches!(wire.events().as_slice(), [ServerEvent::Send { .. }]));
}

/// S11-HB-38: the server's numbers are a floor
#[test]
fn a_client_cannot_order_tiny_intervals() {
    let mut wire = open("heart-beat:1,1\n", beat(5000, 5000));
    let before = wire.written.len();
    wire.pass(ms(4000));
    assert_eq!(wire.written.len(), before);
    assert!(!wire.server.is_closed());
}

/// S11-HB-24: fails in strict mode, counts as 0,0 in lenient mode
#[test]
fn a_malformed_header_of_the_server_is_met_by_mode() {
    for mode in [Mode::Strict, Mode::Lenient] {
        let now = std::time::Instant::now();
        let config = client::Config::new("h").mode(mode);
        let mut client = client::Session::new(config, now).unwrap();
        client.handle_bytes(now, "CONNECTED\nversion:1.2\nheart-beat:x\n\n\0".into());
        match (mode, client.poll_event()) {
            (Mode::Strict, Some(Event::Closed { reason: CloseReason::Protocol(_), .. })) => {}
            (Mode::Lenient, Some(Event::Connected { heart_beat, .. })) => {
                assert_eq!(heart_beat, HeartBeat::NONE);
                client.poll_transmit();
                assert_eq!(client.poll_timeout(), None);
            }
            (_, event) => panic!("{event:?}"),
        }
    }
}

/// S11-HB-28: the client gives up a silent server, S10-HB-34: but not in 1.0
#[test]
fn a_silent_server_is_given_up() {
    let mut pair = joined(beat(0, 500), beat(500, 0));
    pair.now += ms(1000);
    pair.client.handle_timeout(pair.now);
    assert!(matches!(
        pair.client.poll_event(),
        Some(Event::Closed { reason: CloseReason::HeartBeatTimeout, .. })
    ));
    let config = client::Config::new("h").versions(Versions::NONE.with(Version::V1_0));
    let mut pair = Pair::connected(config, Config::default());
    assert_eq!(pair.pass(Duration::from_secs(3600)), 0);
    assert!(pair.client.is_connected());
    pair.client
        .send(Frame::new(stomp_codec::Command::Send).with_header("destination", "/q"), None, false)
        .unwrap();
    assert!(pair.drive() > 0);
}

/// A server that waits for its own application does not take the client for dead: nobody reads
#[test]
fn silence_is_not_held_against_a_client_that_nobody_reads_from() {
    let config = Config::default().heart_beat(beat(0, 500)).max_pending_receipts(1);
    let mut wire = Wire::new(config);
    wire.say("CONNECT\naccept-version:1.2\nhost:h\nheart-beat:500,0\n\n\0");
    wire.event();
    wire.accept();
    wire.say("SEND\ndestination:/q\nreceipt:1\n\nx\0");
    let Some(ServerEvent::Send { receipt: Some(token), .. }) = wire.event() else { panic!() };
    assert!(!wire.server.wants_input());
    wire.pass(Duration::from_secs(60));
    assert!(!wire.server.is_closed());
    wire.server.receipt(token, &[]);
    assert!(wire.server.wants_input());
    wire.pass(Duration::from_secs(60));
    assert!(wire.server.is_closed());
}
