//! What holds for any frame and any octets

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use stomp_codec::server::{AckMode, Config, DeliverError};
use stomp_codec::{
    ChunkDecoder, Command, DecodeErrorKind, Decoder, Frame, Item, Limits, Mode, SharedMessage,
    Version, client, encode, encode_parts,
};
use support::{Pair, ServerEvent, Wire};

fn version() -> impl Strategy<Value = Version> {
    prop::sample::select(Version::ALL.to_vec())
}

fn mode() -> impl Strategy<Value = Mode> {
    prop::sample::select(vec![Mode::Strict, Mode::Lenient])
}

/// Text with much of what is special
fn text(least: usize) -> impl Strategy<Value = String> {
    let special = prop::sample::select(vec!['\r', '\n', ':', '\\', '\t', ' ', 'c', 'n', 'r', '\0']);
    let octet = prop_oneof![4 => special, 4 => prop::char::range('a', 'z'), 1 => any::<char>()];
    prop::collection::vec(octet, least..12).prop_map(String::from_iter)
}

fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec((text(1), text(0)), 0..20)
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        prop::collection::vec(prop::sample::select(vec![0, b'\n', b'\r', b'x', 0xFF]), 1..40),
        prop::collection::vec(any::<u8>(), 0..2000),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    (prop::sample::select(Command::ALL.to_vec()), headers(), body()).prop_map(
        |(command, headers, body)| {
            let mut frame = Frame::new(command).with_body(body);
            for (name, value) in headers {
                frame.push_header(&name, &value);
            }
            frame
        },
    )
}

/// Whether the server's session writes the header, or the test
fn known(name: &str) -> bool {
    ["destination", "message-id", "subscription", "ack", "redelivered", "content-length"]
        .contains(&name)
}

/// Octets that look much like STOMP
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        prop::sample::select(vec![
            "SEND\n",
            "MESSAGE\r\n",
            "CONNECT\n",
            "ACK\n",
            "destination:/q\n",
            "content-length:3\n",
            "content-length:03\r\n",
            "content-length: 5\n",
            "content-length:x\n",
            "a\\cb:c\\nd\n",
            "k:\\t\n",
            "k:\\",
            "\n",
            "\r\n",
            "\r",
            "\0",
            "\0\n",
            "abc",
            "abc\0",
            "\n\0",
            ":v\n",
            "nocolon\n",
            "accept-version:1.2\n",
            "SUBSCRIBE\nid:0\n",
            "é:€\n",
            "DISCONNECT\n\n\0",
            "BEGIN\ntransaction:t\n\n\0",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(fragment, 0..30).prop_map(|fragments| fragments.concat())
}

fn small() -> impl Strategy<Value = Limits> {
    (1..40_usize, 1..5_usize, 5..120_usize, 0..10_usize).prop_map(|(line, headers, head, body)| {
        Limits::DEFAULT.with_header_line(line).with_headers(headers).with_head(head).with_body(body)
    })
}

/// What comes out, heart-beats added up, with the error at the end
type Outcome = (Vec<Item>, Option<(DecodeErrorKind, u64)>);

fn add(items: &mut Vec<Item>, item: Item) {
    match (items.last_mut(), item) {
        (Some(Item::HeartBeats(before)), Item::HeartBeats(count)) => *before += count,
        (_, item) => items.push(item),
    }
}

fn decode_all(mut decoder: Decoder, data: &[u8], cuts: &[usize]) -> Outcome {
    let mut items = Vec::new();
    let mut buffer = BytesMut::new();
    for piece in pieces(data, cuts) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(item)) => add(&mut items, item),
                Ok(None) => break,
                Err(error) => return (items, Some((error.kind(), error.offset()))),
            }
        }
    }
    (items, None)
}

fn decode_chunks(mut decoder: ChunkDecoder, data: &[u8], cuts: &[usize]) -> Outcome {
    let mut items = Vec::new();
    for piece in pieces(data, cuts) {
        decoder.push(Bytes::copy_from_slice(piece));
        loop {
            match decoder.decode() {
                Ok(Some(item)) => add(&mut items, item),
                Ok(None) => break,
                Err(error) => return (items, Some((error.kind(), error.offset()))),
            }
        }
    }
    (items, None)
}

fn pieces<'a>(data: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = data;
    for cut in cuts {
        let (piece, after) = rest.split_at((*cut).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// S10-FRM-26: what can be encoded decodes to itself
    #[test]
    fn encode_then_decode_gives_the_frame(frame in frame(), version in version(), mode in mode()) {
        let mut wire = BytesMut::new();
        if encode(&frame, version, &mut wire).is_err() {
            prop_assert!(wire.is_empty());
            return Ok(());
        }
        let mut decoder = Decoder::new(mode, Limits::DEFAULT);
        decoder.set_version(version);
        if !frame.command().exists_in(version) {
            return Ok(());
        }
        let Item::Frame(copy) = decoder.decode(&mut wire).unwrap().unwrap() else { panic!() };
        prop_assert!(wire.is_empty());
        prop_assert_eq!(copy.command(), frame.command());
        prop_assert_eq!(copy.body(), frame.body());
        let plain = |frame: &Frame| -> Vec<(String, String)> {
            frame
                .headers()
                .filter(|(name, _)| name != "content-length")
                .map(|(name, value)| {
                    // Blanks at the edges of a value are padding in 1.0.
                    let is_padded = version == Version::V1_0 && !frame.command().is_escape_free();
                    let value = if is_padded { value.trim_matches([' ', '\t']) } else { &*value };
                    (name.into_owned(), value.to_owned())
                })
                .collect()
        };
        prop_assert_eq!(plain(&copy), plain(&frame));
    }

    /// S10-FRM-25, S10-FRM-04: the same items and the same error, with the same offset, however the octets are cut
    #[test]
    fn the_pieces_make_no_difference(
        data in hostile(),
        cuts in prop::collection::vec(0..20_usize, 0..30),
        version in version(),
        mode in mode(),
        limits in prop_oneof![Just(Limits::DEFAULT), small()],
    ) {
        let decoder = || {
            let mut decoder = Decoder::new(mode, limits);
            decoder.set_version(version);
            decoder
        };
        let chunks = || {
            let mut decoder = ChunkDecoder::new(mode, limits);
            decoder.set_version(version);
            decoder
        };
        let whole = decode_all(decoder(), &data, &[]);
        prop_assert_eq!(&decode_all(decoder(), &data, &cuts), &whole);
        prop_assert_eq!(&decode_all(decoder(), &data, &vec![1; data.len()]), &whole);
        prop_assert_eq!(&decode_chunks(chunks(), &data, &[]), &whole);
        prop_assert_eq!(&decode_chunks(chunks(), &data, &cuts), &whole);
        prop_assert_eq!(&decode_chunks(chunks(), &data, &vec![1; data.len()]), &whole);
    }

    /// S10-FRM-27: what was decoded encodes to something that decodes alike, in a version that can carry it
    #[test]
    fn decoded_frames_are_stable(data in hostile(), version in version()) {
        let mut decoder = Decoder::new(Mode::Lenient, Limits::DEFAULT);
        decoder.set_version(version);
        let (items, _) = decode_all(decoder.clone(), &data, &[]);
        for item in items {
            let Item::Frame(frame) = item else { continue };
            let mut wire = BytesMut::new();
            if encode(&frame, version, &mut wire).is_err() {
                continue;
            }
            let first = wire.clone();
            let Item::Frame(copy) = decoder.clone().decode(&mut wire).unwrap().unwrap() else {
                panic!()
            };
            let mut again = BytesMut::new();
            encode(&copy, version, &mut again).unwrap();
            prop_assert_eq!(again, first);
        }
    }

    /// S10-MSG-10, S10-MSG-11: any message to any version is exactly one frame, or refused by name
    #[test]
    fn any_message_reaches_any_version_as_one_frame(
        headers in headers(),
        body in body(),
        version in version(),
    ) {
        let mut frame = Frame::new(Command::Send).with_header("destination", "/q").with_body(body);
        for (name, value) in &headers {
            frame.push_header(name, value);
        }
        let shared = SharedMessage::relay(&frame, "m-1", &[]).unwrap();
        let mut wire = Wire::open(version, Config::default());
        wire.say("SUBSCRIBE\nid:0\ndestination:/q\nack:client\n\n\0");
        let Some(ServerEvent::Subscribe { id, .. }) = wire.event() else { panic!() };
        wire.server.deliver(&id, &shared, 1, true).unwrap();
        let frames = wire.frames();
        prop_assert_eq!(frames.len(), 1);
        prop_assert_eq!(frames[0].body(), frame.body());
        prop_assert_eq!(frames[0].header("destination").unwrap(), "/q");
        prop_assert_eq!(frames[0].headers().filter(|(name, _)| name == "subscription").count(), 1);
        for (name, value) in frames[0].headers().skip(5) {
            let value = value.trim_matches([' ', '\t']);
            let is_sent = headers
                .iter()
                .any(|(sent, it)| *sent == name && it.trim_matches([' ', '\t']) == value);
            prop_assert!(is_sent || name == "content-length", "{name:?} {value:?}");
        }
        let names: HashSet<&str> = headers.iter().map(|(name, _)| &**name).collect();
        let first = |name: &str| headers.iter().find(|(it, _)| it == name).unwrap();
        let is_carried = |name: &&&str| {
            let (name, value) = first(name);
            let mut dst = BytesMut::new();
            encode_parts(Command::Message, [(&**name, &**value)], b"", version, &mut dst).is_ok()
        };
        let carried = names.iter().filter(is_carried).count();
        prop_assert_eq!(shared.omitted(version), names.len() - carried);
        let received = frames[0].headers().filter(|(name, _)| !known(name)).count();
        prop_assert_eq!(received, carried);
    }

    /// S10-FRM-25: no octets make a session panic, or answer with more than one ERROR
    #[test]
    fn no_octets_break_a_session(
        data in prop::collection::vec(hostile(), 1..8),
        version in version(),
        mode in mode(),
    ) {
        let mut wire = Wire::open(version, Config::default().mode(mode));
        let mut tokens = 0;
        for data in data {
            wire.say_octets(&data);
            let events = wire.answer_all();
            for event in &events {
                if let ServerEvent::Subscribe { id, .. } = event {
                    // Octets behind the SUBSCRIBE may have ended it again.
                    let delivered =
                        wire.server.deliver(id, &support::message("m", "x"), tokens, false);
                    prop_assert!(matches!(delivered, Ok(()) | Err(DeliverError::NoSubscription)));
                    tokens += 1;
                }
            }
        }
        let frames = wire.frames();
        let errors = frames.iter().filter(|frame| frame.command() == Command::Error).count();
        prop_assert_eq!(errors, usize::from(wire.server.is_closed() && errors > 0));
        if errors == 1 {
            prop_assert_eq!(frames.last().unwrap().command(), Command::Error);
        }
    }

    /// Client and server understand each other whatever the client does, in pieces of any size
    #[test]
    fn a_client_and_a_server_understand_each_other(
        commands in prop::collection::vec(0..9_u8, 1..40),
        piece in 1..50_usize,
        version in version(),
    ) {
        let config = client::Config::new("h").versions([version].into_iter().collect());
        let mut pair = Pair::connected(config, Config::default().mode(Mode::Strict));
        pair.piece = piece;
        let mut subscriptions = Vec::new();
        let mut transactions = Vec::new();
        let mut messages = Vec::new();
        let mut tokens = 0;
        let mut asked = 0;
        for command in commands {
            let send = Frame::new(Command::Send).with_header("destination", "/q").with_body("x\0");
            let receipt = match command {
                0 => pair.client.send(send, None, true).unwrap(),
                1 => pair.client.send(send, transactions.last(), true).unwrap(),
                2 => {
                    let (subscription, receipt) =
                        pair.client.subscribe("/q", AckMode::Client, &[], true).unwrap();
                    subscriptions.push(subscription);
                    receipt
                }
                3 => match subscriptions.pop() {
                    Some(subscription) => {
                        messages.clear();
                        pair.client.unsubscribe(subscription, &[], true).unwrap()
                    }
                    None => None,
                },
                4 if transactions.len() < 10 => {
                    transactions.push(pair.client.begin().unwrap());
                    None
                }
                5 => match transactions.pop() {
                    Some(transaction) => pair.client.commit(transaction, true).unwrap(),
                    None => None,
                },
                6 => match transactions.pop() {
                    Some(transaction) => pair.client.abort(transaction, true).unwrap(),
                    None => None,
                },
                7 => match messages.pop() {
                    Some(message) => {
                        messages.clear();
                        pair.client.ack(&message, None, true).unwrap()
                    }
                    None => None,
                },
                _ => None,
            };
            asked += usize::from(receipt.is_some());
            pair.drive();
            for event in std::mem::take(&mut pair.server_events) {
                if let ServerEvent::Subscribe { id, .. } = event {
                    let message = support::message(&format!("m-{tokens}"), "x");
                    pair.server.deliver(&id, &message, tokens, false).unwrap();
                    tokens += 1;
                }
            }
            pair.drive();
            for event in std::mem::take(&mut pair.client_events) {
                match event {
                    client::Event::Message { message, .. } => messages.push(message),
                    client::Event::Receipt { .. } => asked -= 1,
                    event => panic!("{event:?}"),
                }
            }
            // Only the last message's subscription is known to live.
            if messages.len() > 1 {
                messages.drain(..messages.len() - 1);
            }
        }
        prop_assert_eq!(asked, 0);
        prop_assert!(pair.client.is_connected());
    }
}
