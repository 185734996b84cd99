//! The frames that the benchmarks are about.

use bytes::BytesMut;
use stomp_codec::{Command, Version, encode_parts};

/// Headers of frame "a"; `content-length` is written by the encoder.
pub const A_HEADERS: [(&str, &str); 5] = [
    ("subscription", "sub-0"),
    ("message-id", "0190c9e8-5e1c-7c4f-9a3b"),
    ("destination", "/topic/room.42"),
    ("content-type", "application/json"),
    ("timestamp", "1763856000000"),
];

/// Body of frame "a": 128 octets of JSON.
pub fn a_body() -> Vec<u8> {
    format!("{{\"from\":\"alice\",\"text\":\"{}\"}}", "x".repeat(103)).into_bytes()
}

/// A MESSAGE of 6 headers, `content-length` among them, and a JSON body of 128 octets.
pub fn frame_a() -> Vec<u8> {
    encoded(&A_HEADERS, &a_body())
}

/// A MESSAGE of 3 headers and a body of 40 octets without `content-length`.
pub fn frame_bm() -> Vec<u8> {
    let mut frame = b"MESSAGE\nsubscription:0\nmessage-id:007\ndestination:/queue/a\n\n".to_vec();
    frame.extend_from_slice(&[b'x'; 40]);
    frame.push(0);
    frame
}

/// A MESSAGE of 20 headers, `content-length` among them, every second one with three escapes.
pub fn frame_e() -> Vec<u8> {
    let names: Vec<_> = (0..15).map(|n| format!("x-header-{n}")).collect();
    let mut headers = vec![
        ("subscription", "sub-0"),
        ("message-id", "ID:broker-1:2:3"),
        ("destination", "/topic/room.42"),
        ("content-type", "application/json"),
    ];
    headers.extend(
        names
            .iter()
            .enumerate()
            .map(|(n, name)| (&**name, if n % 2 == 0 { "a:b\\c\nd" } else { "plain-value-of-it" })),
    );
    encoded(&headers, &a_body())
}

/// Frame "a" with a body of 64 KiB.
pub fn frame_64k() -> Vec<u8> {
    encoded(&A_HEADERS, &[b'x'; 64 * 1024])
}

fn encoded(headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut wire = BytesMut::new();
    let written =
        encode_parts(Command::Message, headers.iter().copied(), body, Version::V1_2, &mut wire);
    debug_assert!(written.is_ok(), "the frames are well-formed");
    wire.to_vec()
}
