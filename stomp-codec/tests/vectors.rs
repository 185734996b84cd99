//! Every vector of `vectors.jsonl`, whole, octet by octet, and cut in two at every position
//!
//! The ids of the vectors are those of docs/conformance.md: S10-FRM-01 and so on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use stomp_codec::{
    ChunkDecoder, Command, DecodeErrorKind, Decoder, EncodeError, Frame, Item, Limits, Mode,
    Version, encode,
};

fn vectors(kind: &str) -> Vec<Value> {
    include_str!("vectors.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|vector| vector["kind"] == kind)
        .collect()
}

fn octets(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// What a decoder gave, in the terms of the vectors
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Frame { command: &'static str, headers: Vec<(String, String)>, body: Vec<u8> },
    Eol,
    Error(&'static str),
}

fn class(kind: DecodeErrorKind) -> &'static str {
    match kind {
        DecodeErrorKind::UnknownCommand => "UnknownCommand",
        DecodeErrorKind::CommandTooLong { .. } => "CommandTooLong",
        DecodeErrorKind::HeaderNoColon => "HeaderNoColon",
        DecodeErrorKind::EmptyHeaderName => "EmptyHeaderName",
        DecodeErrorKind::NulInHeader => "NulInHeader",
        DecodeErrorKind::StrayNul => "StrayNul",
        DecodeErrorKind::BareCr => "BareCR",
        DecodeErrorKind::InvalidUtf8 => "InvalidUtf8",
        DecodeErrorKind::BadEscape => "BadEscape",
        DecodeErrorKind::BadContentLength => "BadContentLength",
        DecodeErrorKind::ConflictingContentLength => "ConflictingContentLength",
        DecodeErrorKind::MissingNul => "MissingNul",
        DecodeErrorKind::BodyNotAllowed { .. } => "BodyNotAllowed",
        DecodeErrorKind::BodyTooLarge { .. } => "BodyTooLarge",
        DecodeErrorKind::HeaderLineTooLong { .. } => "HeaderLineTooLong",
        DecodeErrorKind::TooManyHeaders { .. } => "TooManyHeaders",
        _ => "other",
    }
}

fn note(item: Item, seen: &mut Vec<Seen>) {
    match item {
        Item::Frame(frame) => seen.push(Seen::Frame {
            command: frame.command().as_str(),
            headers: frame
                .headers()
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect(),
            body: frame.body().to_vec(),
        }),
        Item::HeartBeats(count) => seen.extend((0..count).map(|_| Seen::Eol)),
        _ => unreachable!(),
    }
}

fn version(name: &Value) -> Version {
    Version::from_token(name.as_str().unwrap()).unwrap()
}

fn settings(vector: &Value) -> (Version, Mode, Limits) {
    let mode = match vector["mode"].as_str().unwrap() {
        "strict" => Mode::Strict,
        "lenient" => Mode::Lenient,
        mode => panic!("{mode}"),
    };
    let mut limits = Limits::DEFAULT.with_body(1024 * 1024).with_header_line(8192).with_headers(64);
    for (name, limit) in vector["limits"].as_object().unwrap() {
        let limit = usize::try_from(limit.as_u64().unwrap()).unwrap();
        limits = match name.as_str() {
            "max_headers" => limits.with_headers(limit),
            "max_line" => limits.with_header_line(limit),
            "max_body" => limits.with_body(limit),
            name => panic!("{name}"),
        };
    }
    (version(&vector["decoder_version"]), mode, limits)
}

/// Through one growing buffer
fn decode<'a>(vector: &Value, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Seen> {
    let (version, mode, limits) = settings(vector);
    let mut decoder = Decoder::new(mode, limits);
    decoder.set_version(version);
    let mut buffer = BytesMut::new();
    let mut seen = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(item)) => note(item, &mut seen),
                Ok(None) => break,
                Err(error) => {
                    if !matches!(seen.last(), Some(Seen::Error(_))) {
                        seen.push(Seen::Error(class(error.kind())));
                    }
                    break;
                }
            }
        }
    }
    seen
}

/// Through pieces of their own
fn decode_chunks<'a>(vector: &Value, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Seen> {
    let (version, mode, limits) = settings(vector);
    let mut decoder = ChunkDecoder::new(mode, limits);
    decoder.set_version(version);
    let mut seen = Vec::new();
    for piece in pieces {
        decoder.push(Bytes::copy_from_slice(piece));
        loop {
            match decoder.decode() {
                Ok(Some(item)) => note(item, &mut seen),
                Ok(None) => break,
                Err(error) => {
                    if !matches!(seen.last(), Some(Seen::Error(_))) {
                        seen.push(Seen::Error(class(error.kind())));
                    }
                    break;
                }
            }
        }
    }
    seen
}

fn expected(vector: &Value) -> Vec<Seen> {
    let mut expected = Vec::new();
    for event in vector["expect"].as_array().unwrap() {
        if let Some(frame) = event.get("frame") {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let headers = event["headers"].as_array().unwrap();
            expected.push(Seen::Frame {
                command: Command::from_octets(frame.as_str().unwrap().as_bytes()).unwrap().as_str(),
                headers: headers.iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
                body: octets(&event["body_hex"]),
            });
        } else if let Some(class) = event.get("error") {
            let class = class.as_str().unwrap().to_owned();
            expected.push(Seen::Error(class.leak()));
        } else if event.get("eol").is_some() {
            expected.push(Seen::Eol);
        } else {
            assert!(event.get("need_more").is_some(), "{event}");
        }
    }
    expected
}

#[test]
fn decode_vectors_pass_in_their_own_pieces() {
    for vector in vectors("decode") {
        let pieces: Vec<_> = vector["chunks_hex"].as_array().unwrap().iter().map(octets).collect();
        let pieces = || pieces.iter().map(Vec::as_slice);
        assert_eq!(decode(&vector, pieces()), expected(&vector), "{vector}");
        assert_eq!(decode_chunks(&vector, pieces()), expected(&vector), "{vector}");
    }
}

#[test]
fn decode_vectors_pass_whole_and_octet_by_octet_and_cut_at_every_position() {
    for vector in vectors("decode") {
        let whole: Vec<u8> =
            vector["chunks_hex"].as_array().unwrap().iter().flat_map(octets).collect();
        let expected = expected(&vector);
        assert_eq!(decode(&vector, [&*whole]), expected, "{vector}");
        assert_eq!(decode_chunks(&vector, [&*whole]), expected, "{vector}");
        assert_eq!(decode(&vector, whole.chunks(1)), expected, "{vector}");
        assert_eq!(decode_chunks(&vector, whole.chunks(1)), expected, "{vector}");
        for cut in 0..=whole.len() {
            let (before, after) = whole.split_at(cut);
            assert_eq!(decode(&vector, [before, after]), expected, "cut at {cut}: {vector}");
            assert_eq!(decode_chunks(&vector, [before, after]), expected, "cut at {cut}: {vector}");
        }
    }
}

#[test]
fn encode_vectors_pass() {
    for vector in vectors("encode") {
        let command = vector["command"].as_str().unwrap();
        let mut frame = Frame::new(Command::from_octets(command.as_bytes()).unwrap())
            .with_body(octets(&vector["body_hex"]));
        for header in vector["headers"].as_array().unwrap() {
            frame.push_header(header[0].as_str().unwrap(), header[1].as_str().unwrap());
        }
        let mut wire = BytesMut::from(&b"before"[..]);
        let result = encode(&frame, version(&vector["encoder_version"]), &mut wire);
        let expect = &vector["expect"];
        match result {
            Ok(()) => assert_eq!(wire[6..], octets(&expect["bytes_hex"]), "{vector}"),
            Err(error) => {
                let class = match error {
                    EncodeError::Unencodable { .. } => "Unencodable",
                    EncodeError::BodyNotAllowed { .. } => "BodyNotAllowed",
                    _ => "other",
                };
                assert_eq!(expect["error"], class, "{vector}");
                assert_eq!(wire, b"before"[..], "nothing is written: {vector}");
            }
        }
    }
}

/// S10-FRM-27
#[test]
fn decoding_what_was_encoded_from_a_decoded_vector_gives_the_same_frames() {
    for vector in vectors("decode") {
        let (version, mode, limits) = settings(&vector);
        let mut decoder = Decoder::new(mode, limits.with_header_line(8192));
        decoder.set_version(version);
        let mut buffer: BytesMut =
            vector["chunks_hex"].as_array().unwrap().iter().flat_map(octets).collect();
        while let Ok(Some(item)) = decoder.decode(&mut buffer) {
            let Item::Frame(frame) = item else { continue };
            let mut wire = BytesMut::new();
            if let Err(error) = encode(&frame, version, &mut wire) {
                // 1.1 in strict mode reads a CR that it has no way to write.
                assert_eq!(error, EncodeError::Unencodable { index: 0 }, "{vector}");
                assert_eq!(vector["id"], "S10-EOL-11");
                continue;
            }
            let mut again = Decoder::new(mode, Limits::DEFAULT);
            again.set_version(version);
            let Ok(Some(Item::Frame(copy))) = again.decode(&mut wire) else { panic!("{vector}") };
            let plain = |frame: &Frame| {
                let mut headers: Vec<_> = frame
                    .headers()
                    .map(|(name, value)| (name.into_owned(), value.into_owned()))
                    .collect();
                headers.retain(|(name, _)| name != "content-length");
                (frame.command(), headers, frame.body_bytes())
            };
            assert_eq!(plain(&copy), plain(&frame), "{vector}");
            assert!(wire.is_empty());
        }
    }
}
