//! Encoding frame "a" from `&str` parts, and around a body that is shared

use std::hint::black_box;
use std::time::Instant;

use benches::{A_HEADERS, a_body};
use bytes::BytesMut;
use stomp_codec::{
    Command, Decoder, Frame, Item, Limits, Mode, Version, encode_parts, encode_transmit,
};
use tokio_util::codec::Encoder as _;

use crate::race::{Bar, Contender, Race, Turn};

/// Frames in a turn.
const COUNT: usize = 128;

fn repeated(mut work: impl FnMut() + 'static) -> Turn {
    Box::new(move || {
        let start = Instant::now();
        (0..COUNT).for_each(|_| work());
        start.elapsed()
    })
}

/// Panics unless the octets are one frame with the headers and the body of "a"
fn check(octets: &[u8]) {
    let mut buffer = BytesMut::from(octets);
    let mut decoder = Decoder::new(Mode::Strict, Limits::DEFAULT);
    let Ok(Some(Item::Frame(frame))) = decoder.decode(&mut buffer) else { panic!() };
    for (name, value) in A_HEADERS {
        assert_eq!(frame.header(name).as_deref(), Some(value));
    }
    assert_eq!(frame.body(), a_body());
    assert!(buffer.is_empty());
}

pub fn race() -> Race {
    let contender = |name: &str, bar, turn| Contender {
        id: "E1",
        name: format!("encode a, {name}"),
        bar,
        turn,
    };
    Race {
        units: COUNT,
        codec: codec(),
        others: vec![
            contender("stomp-parser", Bar::AtLeast(2.0), stomp_parser()),
            contender("async-stomp", Bar::AtLeast(4.0), async_stomp()),
            contender("stomp-rs", Bar::None, stomp_rs()),
        ],
    }
}

fn codec() -> Turn {
    fn encode(body: &[u8], wire: &mut BytesMut) {
        wire.clear();
        encode_parts(Command::Message, black_box(A_HEADERS), body, Version::V1_2, wire).unwrap();
    }
    let body = a_body();
    let mut wire = BytesMut::with_capacity(1024);
    encode(&body, &mut wire);
    check(&wire);
    repeated(move || {
        encode(&body, &mut wire);
        black_box(&wire);
    })
}

/// It escapes nothing.
fn stomp_parser() -> Turn {
    fn encode(body: &[u8]) -> Vec<u8> {
        let [(_, subscription), (_, id), (_, destination), (_, kind), (name, value)] =
            black_box(A_HEADERS);
        stomp_parser::server::MessageFrameBuilder::new(
            id.to_owned(),
            destination.to_owned(),
            subscription.to_owned(),
        )
        .content_type(kind.to_owned())
        .add_custom_header(name.to_owned(), value.to_owned())
        .body(body.to_vec())
        .build()
        .into()
    }
    let body = a_body();
    check(&encode(&body));
    repeated(move || {
        black_box(encode(&body));
    })
}

/// It writes what clients send: a SEND with the same headers.
fn async_stomp() -> Turn {
    fn encode(body: &[u8], codec: &mut async_stomp::client::ClientCodec, wire: &mut BytesMut) {
        wire.clear();
        let headers = black_box(A_HEADERS);
        let destination = headers.iter().find(|(name, _)| *name == "destination").unwrap().1;
        let mut message: async_stomp::Message<async_stomp::ToServer> =
            async_stomp::ToServer::Send {
                destination: destination.to_owned(),
                transaction: None,
                headers: None,
                body: Some(body.to_vec()),
            }
            .into();
        for (name, value) in headers {
            if name != "destination" {
                let header = (name.as_bytes().to_vec(), value.as_bytes().to_vec());
                message.extra_headers.push(header);
            }
        }
        codec.encode(message, wire).unwrap();
    }
    let body = a_body();
    let mut codec = async_stomp::client::ClientCodec::new();
    let mut wire = BytesMut::with_capacity(1024);
    encode(&body, &mut codec, &mut wire);
    check(&wire);
    repeated(move || {
        encode(&body, &mut codec, &mut wire);
        black_box(&wire);
    })
}

/// It escapes nothing, and writes no `content-length`.
fn stomp_rs() -> Turn {
    fn encode(body: &[u8]) -> Vec<u8> {
        let headers = black_box(A_HEADERS).map(|(name, value)| (name.to_owned(), value.to_owned()));
        let frame = stomp_rs::protocol::Frame {
            command: stomp_rs::protocol::ServerCommand::Message,
            headers: headers.into(),
            body: String::from_utf8_lossy(body).into_owned(),
        };
        frame.to_bytes()
    }
    let body = a_body();
    check(&encode(&body));
    repeated(move || {
        black_box(encode(&body));
    })
}

pub fn around_a_shared_body() -> Race {
    let body = vec![b'x'; 64 * 1024];
    let mut frame = Frame::new(Command::Message).with_body(body.clone());
    for (name, value) in A_HEADERS {
        frame.push_header(name, value);
    }
    let mut copy = vec![0; body.len()];
    Race {
        units: COUNT,
        codec: repeated(move || {
            black_box(encode_transmit(&frame, Version::V1_2).unwrap());
        }),
        others: vec![Contender {
            id: "E2",
            name: "encode around a body of 64 KiB, copying that".to_owned(),
            bar: Bar::AtMost(0.2),
            turn: repeated(move || {
                copy.copy_from_slice(black_box(&body));
                black_box(&copy);
            }),
        }],
    }
}
