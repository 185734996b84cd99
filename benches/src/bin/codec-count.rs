//! Runs one scenario of the codec a number of times, for an instruction counter to watch
//!
//! `codec-count SCENARIO COUNT` prints the allocations of one round; `codec-count` lists the scenarios. The
//! difference between two counts is the price of the rounds between them: see `.ci/bench-gate`.

use std::alloc::System;
use std::hint::black_box;
use std::time::Instant;

use benches::{A_HEADERS, a_body, frame_64k, frame_a, frame_bm, frame_e};
use bytes::{Bytes, BytesMut};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use stomp_codec::server::{Accepted, Config, Event, Session};
use stomp_codec::{
    ChunkDecoder, Command, Decoder, Frame, Limits, Mode, SharedMessage, Version, encode_parts,
    encode_transmit,
};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Frames in one read buffer.
const BATCH: usize = 16;

const SCENARIOS: [&str; 17] = [
    "nothing",
    "decode-a",
    "decode-bm",
    "decode-e",
    "decode-64k",
    "decode-a-1500",
    "decode-a-octets",
    "decode-chunk-a",
    "heart-beats",
    "encode-a",
    "encode-shared-64k",
    "copy-64k",
    "share",
    "deliver",
    "deliver-redelivered",
    "deliver-acknowledged",
    "server-send",
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(scenario) = arguments.next() else {
        for scenario in SCENARIOS {
            println!("{scenario}");
        }
        return;
    };
    let count = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(1);
    let (mut round, unit) = scenario_of(&scenario);
    // What is made once is not counted.
    for _ in 0..3 {
        round();
    }
    let region = Region::new(GLOBAL);
    for _ in 0..count {
        round();
    }
    let change = region.change();
    println!("{unit} {}", change.allocations + change.reallocations);
}

/// One round of a scenario, and how many units (frames, heart-beats) it has
fn scenario_of(name: &str) -> (Box<dyn FnMut()>, usize) {
    match name {
        "decode-a" => (decode(&frame_a(), usize::MAX), BATCH),
        "decode-bm" => (decode(&frame_bm(), usize::MAX), BATCH),
        "decode-e" => (decode(&frame_e(), usize::MAX), BATCH),
        "decode-64k" => (decode(&frame_64k(), usize::MAX), BATCH),
        "decode-a-1500" => (decode(&frame_a(), 1500), BATCH),
        "decode-a-octets" => (decode(&frame_a(), 1), BATCH),
        "decode-chunk-a" => (decode_chunks(frame_a()), 1),
        "heart-beats" => (heart_beats(), 10_000),
        "encode-a" => (encode(), 1),
        "encode-shared-64k" => (encode_shared(), 1),
        "copy-64k" => (copy(), 1),
        "share" => (share(), 1),
        "deliver" => (deliver("auto", false), 1),
        "deliver-redelivered" => (deliver("auto", true), 1),
        "deliver-acknowledged" => (deliver("client-individual", false), 1),
        "server-send" => (server_send(), 1),
        _ => (Box::new(|| {}), 1),
    }
}

/// Frames through a read buffer in pieces of so many octets
fn decode(frame: &[u8], piece: usize) -> Box<dyn FnMut()> {
    let octets = Bytes::from(frame.repeat(BATCH));
    let mut decoder = Decoder::new(Mode::Strict, Limits::DEFAULT);
    if piece >= octets.len() {
        // The octets are shared, so that the copy into a read buffer is not part of the count.
        return Box::new(move || {
            let mut buffer = octets.clone();
            while let Ok(Some(item)) = decoder.decode_bytes(&mut buffer) {
                black_box(&item);
            }
        });
    }
    let mut buffer = BytesMut::with_capacity(octets.len());
    Box::new(move || {
        for piece in octets.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Ok(Some(item)) = decoder.decode(&mut buffer) {
                black_box(&item);
            }
        }
    })
}

/// One frame in one piece of its own, as a WebSocket message gives it
fn decode_chunks(frame: Vec<u8>) -> Box<dyn FnMut()> {
    let octets = Bytes::from(frame);
    let mut decoder = ChunkDecoder::new(Mode::Lenient, Limits::DEFAULT);
    Box::new(move || {
        decoder.push(octets.clone());
        while let Ok(Some(item)) = decoder.decode() {
            black_box(&item);
        }
    })
}

fn heart_beats() -> Box<dyn FnMut()> {
    let octets = Bytes::from(vec![b'\n'; 10_000]);
    let mut decoder = Decoder::new(Mode::Strict, Limits::DEFAULT);
    Box::new(move || {
        black_box(&decoder.decode_bytes(&mut octets.clone()));
    })
}

fn encode() -> Box<dyn FnMut()> {
    let body = a_body();
    let mut wire = BytesMut::with_capacity(1024);
    Box::new(move || {
        wire.clear();
        let headers = black_box(A_HEADERS);
        let written = encode_parts(Command::Message, headers, &body, Version::V1_2, &mut wire);
        black_box((&wire, written.is_ok()));
    })
}

fn encode_shared() -> Box<dyn FnMut()> {
    let mut frame = Frame::new(Command::Message).with_body(vec![b'x'; 64 * 1024]);
    for (name, value) in A_HEADERS {
        frame.push_header(name, value);
    }
    Box::new(move || {
        black_box(&encode_transmit(&frame, Version::V1_2));
    })
}

fn copy() -> Box<dyn FnMut()> {
    let body = vec![b'x'; 64 * 1024];
    let mut target = vec![0; body.len()];
    Box::new(move || {
        target.copy_from_slice(black_box(&body));
        black_box(&target);
    })
}

/// A message for all its receivers, of its headers and its body
fn share() -> Box<dyn FnMut()> {
    let body = Bytes::from(a_body());
    Box::new(move || {
        black_box(&SharedMessage::from_headers(A_HEADERS, body.clone()).is_ok());
    })
}

fn session() -> (Session<u64>, Instant) {
    let now = Instant::now();
    let mut session = Session::new(Config::default().window(usize::MAX), now);
    let connect = b"CONNECT\naccept-version:1.2\nhost:h\nheart-beat:10000,10000\n\n\0";
    session.handle_bytes(now, Bytes::from_static(connect));
    session.poll_event();
    session.accept(now, Accepted::new("s"));
    session.poll_transmit();
    (session, now)
}

/// A further receiver of a message that is encoded already; acknowledgements are yet to come
fn deliver(ack: &str, redelivered: bool) -> Box<dyn FnMut()> {
    let (mut session, now) = session();
    let subscribe = format!("SUBSCRIBE\nid:0\ndestination:/q\nack:{ack}\n\n\0");
    session.handle_bytes(now, Bytes::from(subscribe));
    let Some(Event::Subscribe { id, .. }) = session.poll_event() else { return Box::new(|| {}) };
    let mut frame = Frame::new(Command::Message).with_body(a_body());
    for (name, value) in A_HEADERS {
        frame.push_header(name, value);
    }
    let Ok(message) = SharedMessage::new(&frame) else { return Box::new(|| {}) };
    let mut tag = 0;
    Box::new(move || {
        tag += 1;
        black_box(&session.deliver(&id, &message, tag, redelivered));
        black_box(&session.poll_transmit());
    })
}

/// A SEND with receipt through a server session, and its RECEIPT
fn server_send() -> Box<dyn FnMut()> {
    let (mut session, now) = session();
    let octets =
        Bytes::from_static(b"SEND\ndestination:/user/bob\nreceipt:17\ncontent-length:5\n\nhello\0");
    Box::new(move || {
        session.handle_bytes(now, octets.clone());
        while let Some(event) = session.poll_event() {
            if let Event::Send { send, receipt: Some(receipt) } = event {
                black_box(&send);
                session.receipt(receipt, &[("seq", "1")]);
            }
        }
        black_box(&session.poll_transmit());
    })
}
