//! What the decoder looks at and what it keeps

use bytes::{BufMut, Bytes, BytesMut};

use super::{ChunkDecoder, Decoder, Item};
use crate::{Limits, Mode, Version};

fn limits() -> Limits {
    let large = 64 * 1024 * 1024;
    Limits::DEFAULT.with_body(large).with_head(large).with_headers(large)
}

/// Octets looked at while `data` comes in pieces of so many octets
fn examined(data: &[u8], piece: usize) -> u64 {
    let mut decoder = Decoder::new(Mode::Lenient, limits());
    let mut buffer = BytesMut::new();
    for piece in data.chunks(piece) {
        buffer.put_slice(piece);
        while decoder.decode(&mut buffer).unwrap().is_some() {}
    }
    decoder.scanner.examined
}

/// Octets to decode, and how many times each octet of them may be looked at, in tenths
fn inputs() -> Vec<(&'static str, Vec<u8>, u64)> {
    let mut body = b"SEND\ndestination:/q\n\n".to_vec();
    body.resize(256 * 1024, b'x');
    body.push(0);
    let mut sized = b"SEND\ndestination:/q\ncontent-length:200000\n\n".to_vec();
    sized.resize(sized.len() + 200_000, 0);
    sized.push(0);
    let mut headers = b"SEND\n".to_vec();
    for n in 0..10_000 {
        headers.extend_from_slice(format!("name-{n}:value\n").as_bytes());
    }
    headers.extend_from_slice(b"\n\0");
    let frame = b"MESSAGE\nsubscription:0\nmessage-id:1\ndestination:/topic/a\n\nhello world\0\n";
    let cr_lf = b"MESSAGE\r\nsubscription:0\r\nmessage-id:1\r\ndestination:/topic/a\r\n\r\n\0\r\n";
    let escapes =
        b"MESSAGE\nsubscription:\\c\\c\\\\\nk\\c:\\n\\r\\\\\ndestination:/topic/\\c\n\n\0\n";
    let foreign = "MESSAGE\nимя:значение\nключ:日本語\n\n\0\n".as_bytes();
    vec![
        ("an unsized body", body, 11),
        ("a sized body", sized, 11),
        ("many headers", headers, 11),
        ("heart-beats", vec![b'\n'; 256 * 1024], 11),
        ("heart-beats with CR", b"\r\n".repeat(100_000), 11),
        ("many frames", frame.repeat(3000), 11),
        ("CR LF", cr_lf.repeat(3000), 11),
        ("escapes", escapes.repeat(3000), 11),
        // Once more, to see whether it is UTF-8.
        ("not ASCII", foreign.repeat(3000), 21),
    ]
}

/// S10-FRM-23: octets examined, in whatever search, are at most 1.1 times those received, and 64 for each read
#[test]
fn work_is_linear_whatever_the_pieces() {
    for (name, data, tenths) in inputs() {
        for piece in [1, 2, 3, 64, 1500, usize::MAX] {
            let piece = piece.min(data.len());
            let reads = data.len().div_ceil(piece) as u64;
            let bound = data.len() as u64 * tenths / 10;
            let examined = examined(&data, piece);
            let received = data.len();
            assert!(examined <= bound + 64 * reads, "{name} by {piece}: {examined} of {received}");
            if piece >= 64 {
                assert!(examined <= bound, "{name} by {piece}: {examined} of {received}");
            }
        }
    }
}

/// A sized body is not looked at
#[test]
fn a_sized_body_costs_nothing() {
    let (_, data, _) = inputs().swap_remove(1);
    assert!(examined(&data, 1500) < 100);
}

/// S10-FRM-23: the decoder of pieces of their own copies no more than that
#[test]
fn chunks_are_decoded_in_linear_work() {
    for (name, data, tenths) in inputs() {
        for piece in [1, 1500] {
            let mut decoder = ChunkDecoder::new(Mode::Lenient, limits());
            for piece in data.chunks(piece) {
                decoder.push(Bytes::copy_from_slice(piece));
                while decoder.decode().unwrap().is_some() {}
            }
            let examined = decoder.decoder.scanner.examined;
            let bound = data.len() as u64 * tenths / 10 + 64 * data.len().div_ceil(piece) as u64;
            assert!(examined <= bound, "{name} in pieces of {piece}: {examined}");
            assert_eq!(decoder.pending(), 0);
        }
    }
}

/// A frame that lies in one piece is a slice of it, head and body
#[test]
fn frames_share_the_octets_they_came_in() {
    let chunk =
        Bytes::from_static(b"SEND\ndestination:/q\n\nhello\0SEND\ndestination:/r\n\nworld\0");
    let mut decoder = ChunkDecoder::new(Mode::Strict, Limits::DEFAULT);
    decoder.push(chunk.clone());
    let within = chunk.as_ptr_range();
    for _ in 0..2 {
        let Some(Item::Frame(frame)) = decoder.decode().unwrap() else { panic!() };
        assert!(within.contains(&frame.body().as_ptr()));
        let destination = frame.header_text("destination").unwrap();
        assert!(within.contains(&destination.as_bytes().as_ptr()));
    }
    assert!(decoder.decode().unwrap().is_none());
}

/// S10-FRM-24: also when more octets come, octet by octet
#[test]
fn nothing_follows_an_error() {
    let data = b"SEND\n:v\n\nx\0DISCONNECT\n\n\0";
    for piece in [1, data.len()] {
        let mut decoder = Decoder::new(Mode::Lenient, Limits::DEFAULT);
        let mut buffer = BytesMut::new();
        let mut first = None;
        for piece in data.chunks(piece) {
            buffer.put_slice(piece);
            match decoder.decode(&mut buffer) {
                Ok(item) => assert!(item.is_none() && first.is_none()),
                Err(error) => assert_eq!(*first.get_or_insert(error), error),
            }
        }
        assert_eq!(first.unwrap().offset(), 5);
    }
}

/// Offsets count the octets of the stream, not of the buffer
#[test]
fn errors_say_where() {
    for (text, offset) in [
        ("\n\nSEND\ndestination:/q\n\nx\0BEGIN\nnocolon\n\n\0", 31),
        ("SEND\nk:\\t\n\n\0", 7),
        ("SEND\nk:a\rb\n\n\0", 8),
        ("DISCONNECT\n\n\0FOO\n\n\0", 13),
        ("SEND\ncontent-length:1\n\nxy\0", 24),
    ] {
        let mut decoder = Decoder::new(Mode::Strict, Limits::DEFAULT);
        let mut octets = Bytes::from_static(text.as_bytes());
        let error = loop {
            match decoder.decode_bytes(&mut octets) {
                Ok(item) => assert!(item.is_some()),
                Err(error) => break error,
            }
        };
        assert_eq!(error.offset(), offset, "{text:?}: {error}");
    }
}

/// S10-LIM-08: the head as a whole is bounded, at the octet and not at the blank line
#[test]
fn the_head_as_a_whole_is_bounded() {
    let limits = Limits::DEFAULT.with_head(100);
    for (padding, passes) in [(0, true), (2, true), (3, false), (30, false)] {
        let text = format!("SEND\nk:{}\nk:{}\n\n\0", "v".repeat(44), "v".repeat(42 + padding));
        for piece in [1, 1000] {
            let mut decoder = Decoder::new(Mode::Strict, limits);
            let mut buffer = BytesMut::new();
            let mut result = Ok(None);
            for piece in text.as_bytes().chunks(piece) {
                buffer.put_slice(piece);
                result = decoder.decode(&mut buffer);
            }
            assert_eq!(result.is_ok(), passes, "{padding} {piece}");
        }
    }
}

/// A session's version changes between two frames of one buffer
#[test]
fn the_version_changes_between_frames() {
    let mut decoder = ChunkDecoder::new(Mode::Strict, Limits::DEFAULT);
    decoder.push(Bytes::from_static(b"CONNECT\n\n\0SEND\nk:a\\tb\n\n\0"));
    assert!(decoder.decode().unwrap().is_some());
    decoder.set_version(Version::V1_0);
    let Some(Item::Frame(frame)) = decoder.decode().unwrap() else { panic!() };
    assert_eq!(frame.header("k").as_deref(), Some("a\\tb"));
    assert_eq!(decoder.offset(), 24);
}
