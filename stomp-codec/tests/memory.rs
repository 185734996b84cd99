//! What is held while octets come, counted by the allocator
//!
//! One test, as the count is that of the whole process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::alloc::System;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use stomp_codec::server::{Config, Session};
use stomp_codec::{
    ChunkDecoder, Command, Decoder, Frame, Item, Limits, Mode, SharedMessage, Version, encode_parts,
};
use support::{ServerEvent, Wire};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Octets that are held more than at the beginning of `region`
fn held(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change.bytes_allocated.saturating_sub(change.bytes_deallocated)
}

fn allocations(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change.allocations + change.reallocations
}

/// S10-FRM-28, S10-LEN-20, S10-FRM-25, S10-LIM-11
#[test]
fn memory_follows_the_octets_received() {
    a_partial_frame_holds_its_own_octets();
    an_announced_length_allocates_nothing();
    endless_input_is_bounded_by_the_limits();
    decoding_and_encoding_allocate_nothing_per_frame();
    a_further_receiver_allocates_nothing_of_the_message();
    ended_subscriptions_and_settled_messages_are_forgotten();
}

fn a_partial_frame_holds_its_own_octets() {
    for piece in [1, 100, 1500, 64 * KIB] {
        let region = Region::new(GLOBAL);
        let mut decoder = ChunkDecoder::new(Mode::Lenient, Limits::DEFAULT);
        decoder.push(Bytes::from_static(b"SEND\ndestination:/q\n\n"));
        assert!(decoder.decode().unwrap().is_none());
        let octets = Bytes::from(vec![b'x'; piece]);
        let mut sent = 0;
        while sent < MIB {
            decoder.push(octets.clone());
            assert!(decoder.decode().unwrap().is_none());
            sent += piece;
        }
        assert!(
            held(&region) <= sent + 64 * KIB + 2 * piece,
            "{} in pieces of {piece}",
            held(&region)
        );
        decoder.push(Bytes::from_static(b"\0"));
        assert!(decoder.decode().unwrap().is_some());
        for _ in 0..1000 {
            decoder.push(Bytes::from_static(b"SEND\ndestination:/q\n\nx\0"));
            assert!(decoder.decode().unwrap().is_some());
        }
        drop(octets);
        assert!(held(&region) < 64 * KIB, "{} after it", held(&region));
    }
}

fn an_announced_length_allocates_nothing() {
    let region = Region::new(GLOBAL);
    let limits = Limits::DEFAULT.with_body(64 * MIB);
    let decoders: Vec<_> = (0..1000)
        .map(|_| {
            let mut decoder = ChunkDecoder::new(Mode::Lenient, limits);
            decoder.push(Bytes::from_static(b"SEND\ncontent-length:67108864\n\nx"));
            assert!(decoder.decode().unwrap().is_none());
            decoder
        })
        .collect();
    assert!(held(&region) < 8 * MIB, "{}", held(&region));
    drop(decoders);
}

fn endless_input_is_bounded_by_the_limits() {
    for (start, endless) in [
        ("", "A"),
        ("SEND\n", "h"),
        ("SEND\n", "h:v\n"),
        ("SEND\n\n", "x"),
        ("SEND\nk:", "\\n"),
        ("", "\n"),
        ("", "\0"),
    ] {
        let region = Region::new(GLOBAL);
        let limits = Limits::DEFAULT.with_body(256 * KIB);
        let config = Config::default().limits(limits).limits_before_connect(limits);
        let mut wire = Wire::open(Version::V1_2, config);
        wire.say(start);
        let piece = Bytes::from(endless.repeat(KIB / endless.len()));
        for _ in 0..MIB / KIB {
            wire.server.handle_bytes(wire.now, piece.clone());
            while wire.event().is_some() {}
            assert!(held(&region) < 400 * KIB, "{start:?} {endless:?}: {}", held(&region));
        }
        assert_eq!(wire.server.is_closed(), endless != "\n" && endless != "\0");
    }
}

/// The frame that the performance bars are about
fn example() -> Vec<u8> {
    let mut wire = BytesMut::new();
    let headers = [
        ("subscription", "sub-0"),
        ("message-id", "0190c9e8-5e1c-7c4f"),
        ("destination", "/topic/room.42"),
        ("content-type", "application/json"),
        ("timestamp", "1763856000000"),
    ];
    let body = format!("{{\"text\":\"{}\"}}", "x".repeat(117));
    encode_parts(Command::Message, headers, body.as_bytes(), Version::V1_2, &mut wire).unwrap();
    wire.to_vec()
}

fn decoding_and_encoding_allocate_nothing_per_frame() {
    let one = example();
    let mut decoder = Decoder::new(Mode::Strict, Limits::DEFAULT);
    let mut buffer = BytesMut::from(&*one.repeat(100));
    let region = Region::new(GLOBAL);
    for _ in 0..100 {
        let Some(Item::Frame(frame)) = decoder.decode(&mut buffer).unwrap() else { panic!() };
        assert_eq!(frame.header("subscription").as_deref(), Some("sub-0"));
    }
    // The buffer becomes shared once.
    assert!(allocations(&region) <= 1, "{}", allocations(&region));

    let headers = [
        ("destination", "/topic/room.42"),
        ("message-id", "a:b\\c"),
        ("content-type", "text/plain"),
    ];
    let mut wire = BytesMut::with_capacity(64 * KIB);
    let region = Region::new(GLOBAL);
    for _ in 0..100 {
        encode_parts(Command::Message, headers, &[b'x'; 128], Version::V1_2, &mut wire).unwrap();
    }
    assert_eq!(allocations(&region), 0);
}

fn a_further_receiver_allocates_nothing_of_the_message() {
    let mut wire = Wire::open(Version::V1_2, Config::default().window(usize::MAX));
    wire.say("SUBSCRIBE\nid:0\ndestination:/q\nack:client\n\n\0");
    let Some(ServerEvent::Subscribe { id, .. }) = wire.event() else { panic!() };
    for size in [100, MIB] {
        let frame = Frame::new(Command::Message)
            .with_header("destination", "/q")
            .with_header("message-id", "1")
            .with_body(vec![b'x'; size]);
        let message = SharedMessage::new(&frame).unwrap();
        // The first one encodes it, and makes room for heads.
        wire.server.deliver(&id, &message, 0, false).unwrap();
        drop(wire.server.poll_transmit());
        let region = Region::new(GLOBAL);
        for _ in 0..100 {
            wire.server.deliver(&id, &message, 0, false).unwrap();
            drop(wire.server.poll_transmit());
        }
        let change = region.change();
        assert!(allocations(&region) <= 10, "{change:?}");
        assert!(change.bytes_allocated < 16 * KIB, "{change:?}");
    }
}

fn ended_subscriptions_and_settled_messages_are_forgotten() {
    let config = Arc::new(Config::default());
    let now = std::time::Instant::now();
    let mut session: Session<u32> = Session::new(config, now);
    session.handle_bytes(now, Bytes::from_static(b"CONNECT\naccept-version:1.2\nhost:h\n\n\0"));
    session.poll_event();
    session.accept(now, stomp_codec::server::Accepted::new("s"));
    let message = support::message("m", "x");
    let mut round = |n: u32| {
        let subscribe = format!(
            "SUBSCRIBE\nid:{n}\ndestination:/q\nack:client\nreceipt:1\n\n\0\
             BEGIN\ntransaction:{n}\n\n\0SEND\ndestination:/q\ntransaction:{n}\n\nx\0"
        );
        session.handle_bytes(now, Bytes::from(subscribe));
        let Some(ServerEvent::Subscribe { id, receipt: Some(token), .. }) = session.poll_event()
        else {
            panic!()
        };
        session.receipt(token, &[]);
        session.deliver(&id, &message, n, false).unwrap();
        assert!(matches!(session.poll_event(), Some(ServerEvent::Staged { .. })));
        let end = format!("ABORT\ntransaction:{n}\n\n\0UNSUBSCRIBE\nid:{n}\n\n\0");
        session.handle_bytes(now, Bytes::from(end));
        assert!(matches!(session.poll_event(), Some(ServerEvent::Unsubscribe { .. })));
        while session.poll_transmit().is_some() {}
    };
    for n in 0..100 {
        round(n);
    }
    let region = Region::new(GLOBAL);
    for n in 100..5000 {
        round(n);
    }
    assert!(held(&region) < 16 * KIB, "{}", held(&region));
}
