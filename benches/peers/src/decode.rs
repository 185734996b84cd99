//! Decoding to a frame with every header split, or to whatever the peer's nearest thing is

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use stomp_codec::{Decoder, Frame, Item, Limits, Mode};
use stomp_parser::server::ServerFrame;
use stomp_rs::protocol::{FrameParser, ServerCommand, StompMessage};
use tokio_util::codec::Decoder as _;

use crate::race::{Bar, Contender, Race, Turn};

/// Frames in a buffer.
const BATCH: usize = 16;
/// Buffers in a turn. They are filled before the clock runs.
const BUFFERS: usize = 8;

/// What every contender must find in the frame
#[derive(Debug, PartialEq)]
struct Parts {
    headers: usize,
    body: Vec<u8>,
}

fn decoder() -> Decoder {
    Decoder::new(Mode::Strict, Limits::DEFAULT)
}

fn whole(octets: &[u8]) -> Frame {
    match decoder().decode(&mut BytesMut::from(octets)) {
        Ok(Some(Item::Frame(frame))) => frame,
        other => panic!("not a frame: {other:?}"),
    }
}

/// The time that `work` takes for all inputs together
fn timed<T>(inputs: impl Iterator<Item = T>, work: impl FnMut(T)) -> Duration {
    let inputs: Vec<T> = inputs.collect();
    let start = Instant::now();
    inputs.into_iter().for_each(work);
    start.elapsed()
}

fn buffers(octets: &[u8]) -> impl Iterator<Item = BytesMut> {
    std::iter::repeat_with(move || BytesMut::from(octets)).take(BUFFERS)
}

/// Frames off the front of a read buffer
fn codec(octets: Vec<u8>) -> Turn {
    let mut decoder = decoder();
    Box::new(move || {
        timed(buffers(&octets), |mut buffer| {
            while let Some(item) = decoder.decode(&mut buffer).unwrap() {
                black_box(&item);
            }
        })
    })
}

pub fn race(what: &str, frame: &[u8], [parser, asynchronous, tokio, rs]: [f64; 4]) -> Race {
    let copy = whole(frame);
    let expected = Parts { headers: copy.headers().len(), body: copy.body().to_vec() };
    let batch = frame.repeat(BATCH);
    let contender = |name: &str, bar, turn| Contender {
        id: "D1",
        name: format!("{what}, {name}"),
        bar: Bar::AtLeast(bar),
        turn,
    };
    Race {
        units: BATCH * BUFFERS,
        codec: codec(batch.clone()),
        others: vec![
            contender("stomp-parser", parser, stomp_parser(frame, &expected)),
            contender("async-stomp", asynchronous, async_stomp(batch.clone(), &expected)),
            contender("tokio-stomp", tokio, tokio_stomp(batch.clone(), &expected)),
            contender("stomp-rs", rs, stomp_rs(batch, &expected)),
        ],
    }
}

fn stomp_parser(frame: &[u8], expected: &Parts) -> Turn {
    let Ok(ServerFrame::Message(message)) = ServerFrame::try_from(frame.to_vec()) else { panic!() };
    let optional = [message.content_type().is_some(), message.content_length().is_some()];
    let headers = 3 + optional.iter().filter(|it| **it).count() + message.custom.len();
    let body = message.body().unwrap().to_vec();
    assert_eq!(Parts { headers, body }, *expected);
    let frame = frame.to_vec();
    Box::new(move || {
        // It wants a `Vec` of its own for each frame.
        let frames = std::iter::repeat_with(|| frame.clone()).take(BATCH * BUFFERS);
        timed(frames, |frame| {
            black_box(ServerFrame::try_from(frame).unwrap());
        })
    })
}

fn async_stomp(batch: Vec<u8>, expected: &Parts) -> Turn {
    let mut codec = async_stomp::client::ClientCodec::new();
    let mut buffer = BytesMut::from(&*batch);
    for _ in 0..BATCH {
        let message = codec.decode(&mut buffer).unwrap().unwrap();
        let async_stomp::FromServer::Message { headers, body, .. } = message.content else {
            panic!()
        };
        assert_eq!(Parts { headers: headers.len(), body: body.unwrap() }, *expected);
    }
    assert!(buffer.is_empty());
    Box::new(move || {
        timed(buffers(&batch), |mut buffer| {
            while let Some(item) = codec.decode(&mut buffer).unwrap() {
                black_box(&item);
            }
        })
    })
}

fn tokio_stomp(batch: Vec<u8>, expected: &Parts) -> Turn {
    let mut codec = tokio_stomp::client::ClientCodec;
    let mut buffer = BytesMut::from(&*batch);
    for _ in 0..BATCH {
        let message = codec.decode(&mut buffer).unwrap().unwrap();
        let tokio_stomp::FromServer::Message { body, .. } = message.content else { panic!() };
        // Destination, message-id and subscription are fields.
        let headers = 3 + message.extra_headers.len();
        assert_eq!(Parts { headers, body: body.unwrap() }, *expected);
    }
    assert!(buffer.is_empty());
    Box::new(move || {
        timed(buffers(&batch), |mut buffer| {
            while !buffer.is_empty() {
                black_box(codec.decode(&mut buffer).unwrap().unwrap());
            }
        })
    })
}

fn stomp_rs(batch: Vec<u8>, expected: &Parts) -> Turn {
    let mut parser = FrameParser::<ServerCommand>::new();
    let messages = parser.parse(&batch).unwrap();
    assert_eq!(messages.len(), BATCH);
    for message in messages {
        let StompMessage::Frame(frame) = message else { panic!() };
        let parts = Parts { headers: frame.headers.len(), body: frame.body.into_bytes() };
        assert_eq!(parts, *expected);
    }
    Box::new(move || {
        timed(std::iter::repeat_n(&batch, BUFFERS), |batch| {
            black_box(parser.parse(batch).unwrap());
        })
    })
}

pub fn beside_httparse() -> Race {
    fn parse(request: &str) -> usize {
        let mut headers = [httparse::EMPTY_HEADER; 24];
        let mut parsed = httparse::Request::new(&mut headers);
        assert!(parsed.parse(request.as_bytes()).unwrap().is_complete());
        black_box(&parsed).headers.len()
    }
    let frame = benches::frame_a();
    let text = String::from_utf8_lossy(&frame).into_owned();
    let (head, _) = text.split_once("\n\n").unwrap();
    let lines: Vec<_> = head.lines().skip(1).collect();
    let request = format!("GET /topic HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"));
    assert_eq!(parse(&request), lines.len());
    Race {
        units: BATCH * BUFFERS,
        codec: codec(frame.repeat(BATCH)),
        others: vec![Contender {
            id: "D3",
            name: "decode a, httparse on a request with the same headers".to_owned(),
            bar: Bar::AtMost(1.4),
            turn: Box::new(move || {
                timed(std::iter::repeat_n(&*request, BATCH * BUFFERS), |request| {
                    black_box(parse(black_box(request)));
                })
            }),
        }],
    }
}

/// Reads of 1500 octets, each copied behind what the buffer holds, beside all of it in one read
pub fn in_reads() -> Race {
    let octets = benches::frame_a().repeat(BATCH * BUFFERS);
    let reads = |piece: usize| -> Turn {
        let octets = octets.clone();
        let mut decoder = decoder();
        let mut buffer = BytesMut::with_capacity(2 * octets.len());
        Box::new(move || {
            let start = Instant::now();
            for piece in octets.chunks(piece) {
                buffer.extend_from_slice(piece);
                while let Some(item) = decoder.decode(&mut buffer).unwrap() {
                    black_box(&item);
                }
            }
            start.elapsed()
        })
    };
    Race {
        units: BATCH * BUFFERS,
        codec: reads(1500),
        others: vec![Contender {
            id: "D6",
            name: "decode a in reads of 1500 octets, in one read".to_owned(),
            bar: Bar::AtMost(1.15),
            turn: reads(octets.len()),
        }],
    }
}

pub fn heart_beats() -> Race {
    const COUNT: usize = 100_000;
    let octets = Bytes::from(vec![b'\n'; COUNT]);
    let same = octets.clone();
    let mut decoder = decoder();
    Race {
        units: COUNT,
        codec: Box::new(move || {
            timed(std::iter::once(octets.clone()), |mut octets| {
                let item = decoder.decode_bytes(&mut octets).unwrap();
                assert_eq!(item, Some(Item::HeartBeats(COUNT)));
            })
        }),
        others: vec![Contender {
            id: "D7",
            name: "a heart-beat in bulk, an octet in a sum".to_owned(),
            bar: Bar::Nanoseconds(1.0),
            turn: Box::new(move || {
                timed(std::iter::once(&same), |octets| {
                    black_box(octets.iter().map(|octet| u64::from(*octet)).sum::<u64>());
                })
            }),
        }],
    }
}
