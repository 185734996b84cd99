//! Frames, views, text and the encoder, as a user of the crate meets them

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::borrow::Cow;

use bytes::{Buf, Bytes, BytesMut};
use stomp_codec::{
    ByteStr, Command, ContentType, Decoder, EncodeError, Frame, HeartBeat, Item, Limits, Mode,
    SharedMessage, TextError, Version, Versions, encode, encode_parts, encode_transmit, view,
};

fn decode(version: Version, text: &'static [u8]) -> Frame {
    let mut decoder = Decoder::new(Mode::Strict, Limits::DEFAULT);
    decoder.set_version(version);
    let mut octets = Bytes::from_static(text);
    match decoder.decode_bytes(&mut octets) {
        Ok(Some(Item::Frame(frame))) => frame,
        other => panic!("{other:?}"),
    }
}

fn encoded(frame: &Frame, version: Version) -> Vec<u8> {
    let mut octets = BytesMut::new();
    encode(frame, version, &mut octets).unwrap();
    octets.to_vec()
}

#[test]
fn header_text_is_borrowed_unless_it_holds_an_escape() {
    let frame = decode(Version::V1_2, b"SEND\na:1\nb:\\c\nb:second\n\nx\0");
    assert!(matches!(frame.header("a"), Some(Cow::Borrowed("1"))));
    assert!(matches!(frame.header("b"), Some(Cow::Owned(value)) if value == ":"));
    assert_eq!(frame.header("c"), None);
    assert!(frame.has_header("a") && !frame.has_header("A"));
    assert_eq!(frame.header_text("a").unwrap(), "1");
    assert_eq!(frame.header_text("b").unwrap(), ":");
    assert_eq!(frame.headers().len(), 3);
}

#[test]
fn names_with_escapes_are_found() {
    let frame = decode(Version::V1_2, b"SEND\na\\cb:v\n\n\0");
    assert_eq!(frame.header("a:b").as_deref(), Some("v"));
    assert_eq!(frame.header("a\\cb"), None);
}

#[test]
fn more_headers_than_are_kept_inline_are_all_there() {
    let mut frame = Frame::new(Command::Send);
    for n in 0..40 {
        frame.push_header(&format!("name-{n}"), &n.to_string());
    }
    let copy = decode(Version::V1_2, encoded(&frame, Version::V1_2).leak());
    assert_eq!(copy, frame);
    assert_eq!(copy.headers().count(), 40);
    assert_eq!(copy.header("name-39").as_deref(), Some("39"));
    assert_eq!(copy.header("name-15").as_deref(), Some("15"));
    assert_eq!(copy.header("name-16").as_deref(), Some("16"));
}

#[test]
fn a_received_frame_can_be_added_to() {
    let frame = decode(Version::V1_2, b"SEND\na:\\c\n\nbody\0").with_header("b", "\\");
    assert_eq!(encoded(&frame, Version::V1_1), b"SEND\na:\\c\nb:\\\\\ncontent-length:4\n\nbody\0");
    let detached = frame.detached();
    assert_eq!(detached, frame);
    assert_eq!(detached.size(), frame.size());
}

#[test]
fn views_are_made_of_their_commands_only() {
    let stomp = Frame::new(Command::Stomp).with_header("login", "u");
    let connect = view::Connect::try_from(stomp).unwrap();
    assert_eq!(connect.login().as_deref(), Some("u"));
    assert_eq!(connect.frame().command(), Command::Stomp);
    let frame = view::Send::try_from(connect.into_frame()).unwrap_err();
    assert_eq!(frame.command(), Command::Stomp);
    for command in Command::ALL {
        let frame = || Frame::new(command);
        let made = [
            view::Connect::try_from(frame()).is_ok(),
            view::Connected::try_from(frame()).is_ok(),
            view::Send::try_from(frame()).is_ok(),
            view::Subscribe::try_from(frame()).is_ok(),
            view::Unsubscribe::try_from(frame()).is_ok(),
            view::Ack::try_from(frame()).is_ok(),
            view::Nack::try_from(frame()).is_ok(),
            view::Begin::try_from(frame()).is_ok(),
            view::Commit::try_from(frame()).is_ok(),
            view::Abort::try_from(frame()).is_ok(),
            view::Disconnect::try_from(frame()).is_ok(),
            view::Message::try_from(frame()).is_ok(),
            view::Receipt::try_from(frame()).is_ok(),
            view::Error::try_from(frame()).is_ok(),
        ];
        assert_eq!(made.iter().filter(|it| **it).count(), 1, "{command}");
        assert_eq!(Command::from_octets(command.as_str().as_bytes()), Some(command));
    }
}

#[test]
fn debug_hides_passcodes_and_bodies() {
    let frame = Frame::new(Command::Connect)
        .with_header("login", "u")
        .with_header("passcode", "hunter2")
        .with_body("hunter2");
    let text = format!("{frame:?}");
    assert!(text.contains("login") && text.contains("7 octets") && !text.contains("hunter2"));
}

/// S11-CT-01, S11-CT-05, S11-CT-06, S11-CT-07, S11-CT-08
#[test]
fn bodies_are_text_where_content_type_says_so() {
    let text = |content_type: &str, body: &'static [u8]| {
        Frame::new(Command::Message)
            .with_header("content-type", content_type)
            .with_body(body)
            .text()
            .map(Cow::into_owned)
    };
    assert_eq!(text("text/plain", "€".as_bytes()).unwrap(), "€");
    assert_eq!(text("text/html", b"\xC3\xA9").unwrap(), "é");
    assert_eq!(text("text/plain;charset=iso-8859-1", b"\xE9").unwrap(), "é");
    assert_eq!(text("text/plain;charset=us-ascii", b"\xE9"), Err(TextError::Invalid));
    assert_eq!(text("text/plain;charset=us-ascii", b"e").unwrap(), "e");
    assert_eq!(text("text/plain;charset=koi8-r", b"e"), Err(TextError::Charset));
    assert_eq!(text("application/xml;charset=utf-8", b"<a/>").unwrap(), "<a/>");
    assert_eq!(text("application/json", b"{}"), Err(TextError::Binary));
    assert_eq!(text("Text/Plain; Charset=\"UTF-8\"", b"x").unwrap(), "x");
    assert_eq!(text("not a mime", b"x"), Err(TextError::Binary));
    assert_eq!(Frame::new(Command::Send).text(), Err(TextError::Binary));
    assert!(Frame::new(Command::Send).with_text("é").is_text());
    let content_type = ContentType::parse("a/b ; c = \"d\"; e=f").unwrap();
    assert_eq!((content_type.kind(), content_type.subtype()), ("a", "b"));
    assert_eq!((content_type.parameter("C"), content_type.parameter("e")), (Some("d"), Some("f")));
    for value in ["", "text", "text/", "/plain", "te xt/plain", "text/plain/x", ";charset=utf-8"] {
        assert_eq!(ContentType::parse(value), None, "{value}");
    }
}

/// S11-CT-09
#[test]
fn a_body_that_is_not_what_it_claims_is_reported_and_kept() {
    let mut decoder = Decoder::new(Mode::Strict, Limits::DEFAULT);
    let mut octets =
        Bytes::from_static(b"MESSAGE\ncontent-type:text/plain\n\n\xFF\0MESSAGE\n\nnext\0");
    let Ok(Some(Item::Frame(frame))) = decoder.decode_bytes(&mut octets) else { panic!() };
    assert_eq!(frame.text(), Err(TextError::Invalid));
    assert_eq!(frame.body(), b"\xFF");
    let Ok(Some(Item::Frame(next))) = decoder.decode_bytes(&mut octets) else { panic!() };
    assert_eq!(next.body(), b"next");
}

/// S10-CT-12
#[test]
fn content_type_is_an_ordinary_header_in_1_0() {
    let frame = decode(Version::V1_0, b"SEND\ncontent-type:nonsense\n\nx\0");
    assert_eq!(
        encoded(&frame, Version::V1_0),
        b"SEND\ncontent-type:nonsense\ncontent-length:1\n\nx\0"
    );
}

/// S10-ENC-01, S11-ENC-15: from parts as from a frame
#[test]
fn parts_are_encoded_as_a_frame_is() {
    let headers = [("destination", "/q"), ("k", "a:b\\c"), ("content-length", "99"), ("e", "")];
    let mut frame = Frame::new(Command::Send).with_body("hi");
    for (name, value) in headers {
        frame.push_header(name, value);
    }
    for version in Version::ALL {
        let mut parts = BytesMut::new();
        encode_parts(Command::Send, headers, b"hi", version, &mut parts).unwrap();
        assert_eq!(parts, encoded(&frame, version));
        assert_eq!(encode_transmit(&frame, version).unwrap().into_bytes(), parts);
    }
}

/// S10-ENC-06, S10-ENC-09, S11-ENC-04: each octet that has no form, in name and value
#[test]
fn what_has_no_form_is_refused_and_nothing_is_written() {
    use Version::{V1_0, V1_1, V1_2};
    for (version, command, name, value) in [
        (V1_0, Command::Send, "k", "\n"),
        (V1_0, Command::Send, "k", "\r"),
        (V1_0, Command::Send, "k:", "v"),
        (V1_0, Command::Send, "k\n", "v"),
        (V1_1, Command::Send, "k", "\r"),
        (V1_1, Command::Send, "k\r", "v"),
        (V1_2, Command::Send, "k", "\0"),
        (V1_2, Command::Send, "k\0", "v"),
        (V1_2, Command::Send, "", "v"),
        (V1_2, Command::Connect, "k", "\n"),
        (V1_2, Command::Stomp, "k", "\r"),
        (V1_2, Command::Connected, "k:", "v"),
    ] {
        let frame = Frame::new(command).with_header("a", "b").with_header(name, value);
        let mut octets = BytesMut::from("before");
        assert_eq!(
            encode(&frame, version, &mut octets),
            Err(EncodeError::Unencodable { index: 1 }),
            "{version} {name:?} {value:?}"
        );
        let parts = [("a", "b"), (name, value)];
        assert!(encode_parts(command, parts, b"", version, &mut octets).is_err());
        assert_eq!(octets, "before");
    }
}

/// S10-CMD-04 in the other direction, S11-ENC-13
#[test]
fn a_frame_that_the_version_does_not_have_is_refused() {
    let mut octets = BytesMut::new();
    let nack = Frame::new(Command::Nack);
    assert!(matches!(
        encode(&nack, Version::V1_0, &mut octets),
        Err(EncodeError::UnknownCommand { command: Command::Nack })
    ));
    let subscribe = Frame::new(Command::Subscribe).with_body("x");
    assert!(encode(&subscribe, Version::V1_1, &mut octets).is_err());
    assert!(octets.is_empty());
    encode(&subscribe, Version::V1_0, &mut octets).unwrap();
}

#[test]
fn a_large_body_is_shared_with_its_transmit() {
    let body = Bytes::from(vec![b'x'; 100_000]);
    let frame = Frame::new(Command::Send).with_header("destination", "/q").with_body(body.clone());
    let transmit = encode_transmit(&frame, Version::V1_2).unwrap();
    assert!(transmit.slices().any(|slice| slice.as_ptr() == body.as_ptr()));
    assert_eq!(transmit.len(), encoded(&frame, Version::V1_2).len());
    assert!(transmit.is_text() && !transmit.is_heart_beat() && !transmit.is_empty());
    assert_eq!(transmit.clone().into_bytes(), encoded(&frame, Version::V1_2));
    assert_eq!(transmit.slices().count(), 3);
}

#[test]
fn a_transmit_can_be_written_piece_by_piece() {
    let body = Bytes::from(vec![b'\xFF'; 10_000]);
    let frame = Frame::new(Command::Send).with_header("destination", "/q").with_body(body);
    let transmit = encode_transmit(&frame, Version::V1_2).unwrap();
    assert!(!transmit.is_text());
    let mut transmit = transmit.into_buf();
    let mut written = Vec::new();
    while transmit.has_remaining() {
        let mut slices = [std::io::IoSlice::new(&[]); 2];
        let filled = transmit.chunks_vectored(&mut slices);
        assert!(filled > 0 && slices[0].len() == transmit.chunk().len());
        let count = transmit.remaining().min(7);
        written.extend_from_slice(&transmit.copy_to_bytes(count));
    }
    assert_eq!(written, encoded(&frame, Version::V1_2));
}

#[test]
fn a_shared_message_needs_destination_and_message_id() {
    for (headers, missing) in [
        (vec![("destination", "/q")], "message-id"),
        (vec![("message-id", "1")], "destination"),
        (vec![("message-id", ""), ("destination", "/q")], "message-id"),
    ] {
        let mut frame = Frame::new(Command::Message);
        for (name, value) in headers {
            frame.push_header(name, value);
        }
        assert_eq!(
            SharedMessage::new(&frame).unwrap_err(),
            EncodeError::MissingHeader { name: missing }
        );
    }
    let send = Frame::new(Command::Send)
        .with_header("destination", "/q")
        .with_header("from", "evil")
        .with_body("x");
    let shared = SharedMessage::relay(&send, "m", &[("from", "alice")]).unwrap();
    assert_eq!(shared.header("from").as_deref(), Some("alice"));
    assert_eq!((shared.message_id(), shared.body()), ("m", &b"x"[..]));
    assert!(shared.size(Version::V1_2) > 0);
    assert!(SharedMessage::relay(&send, "", &[]).is_err());
}

/// What no version can carry, what the session writes itself, what is the sender's own, and repeats
#[test]
fn a_shared_message_leaves_out_what_does_not_travel() {
    let headers: [(&[u8], &[u8]); 12] = [
        (b"message-id", b"m"),
        (b"destination", b"/q"),
        (b"nul", b"a\0b"),
        (b"no text", b"a\xFFb"),
        (b"no text \xFF", b"ab"),
        (b"", b"nameless"),
        (b"subscription", b"0"),
        (b"receipt", b"1"),
        (b"content-length", b"7"),
        (b"a:b", b"first"),
        (b"a:b", b"second"),
        (b"b:a", b"other"),
    ];
    let shared = SharedMessage::from_headers(headers, Bytes::from_static(b"\xFF")).unwrap();
    assert_eq!(Version::ALL.map(|version| shared.omitted(version)), [6, 4, 4]);
    let names = ["message-id", "no text", "nul", "receipt", "a:b", "b:a"];
    let values = names.map(|name| shared.header(name).map(Cow::into_owned));
    let expected = [Some("m"), None, None, None, Some("first"), Some("other")];
    assert_eq!(values.each_ref().map(Option::as_deref), expected);
    let lines = "message-id:m\ndestination:/q\na\\cb:first\nb\\ca:other\ncontent-length:1\n\n";
    assert_eq!(shared.size(Version::V1_2), lines.len() + 2);
}

#[test]
fn several_headers_are_found_at_once() {
    let built = Frame::new(Command::Send)
        .with_header("a", "1")
        .with_header("b:", "\n")
        .with_header("a", "2");
    let mut wire = BytesMut::new();
    encode(&built, Version::V1_2, &mut wire).unwrap();
    let mut decoder = Decoder::new(Mode::Strict, Limits::default());
    let Ok(Some(Item::Frame(received))) = decoder.decode(&mut wire) else { panic!() };
    for frame in [built, received] {
        let found = frame.headers_named(["b:", "c", "a", "a"]);
        let expected = [Some("\n"), None, Some("1"), Some("1")];
        assert_eq!(found.each_ref().map(Option::as_deref), expected);
    }
}

#[test]
fn texts_compare_and_share() {
    let octets = Bytes::from_static("é text".as_bytes());
    let text = ByteStr::from_utf8(octets.clone()).unwrap();
    assert_eq!(text, "é text");
    assert_eq!(text.as_bytes().as_ptr(), octets.as_ptr());
    assert_ne!(text.detached().as_bytes().as_ptr(), octets.as_ptr());
    assert!(ByteStr::from_utf8(Bytes::from_static(b"\xFF")).is_err());
    let map = std::collections::HashMap::from([(text.clone(), 1)]);
    assert_eq!(map.get("é text"), Some(&1));
    assert!(ByteStr::from_static("a") < ByteStr::from_static("b"));
    assert_eq!(format!("{text} {text:?}"), "é text \"é text\"");
}

#[test]
fn versions_and_intervals_print_as_they_travel() {
    assert_eq!(Versions::ALL.to_string(), "1.0,1.1,1.2");
    assert_eq!(Versions::NONE.with(Version::V1_2).to_string(), "1.2");
    assert_eq!(HeartBeat::NONE.to_string(), "0,0");
    assert!(Version::V1_0 < Version::V1_2);
}
