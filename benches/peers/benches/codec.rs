//! Throughput of the codec beside its peers, in one run
//!
//! `cargo bench --manifest-path benches/peers/Cargo.toml`
//!
//! Decoding is to a frame with every header split and nothing unescaped, or to whatever the peer's nearest thing
//! is. Each contender gets the same octets, sixteen frames to a buffer where it takes a stream.

use std::hint::black_box;

use benches::{A_HEADERS, a_body, frame_64k, frame_a, frame_bm, frame_e};
use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stomp_codec::{Command, Decoder, Frame, Limits, Mode, Version, encode_parts, encode_transmit};
use tokio_util::codec::{Decoder as _, Encoder as _};

const BATCH: usize = 16;

fn decode(criterion: &mut Criterion) {
    for (name, frame) in [("a", frame_a()), ("bm", frame_bm()), ("e", frame_e())] {
        let batch = frame.repeat(BATCH);
        let mut group = criterion.benchmark_group(format!("decode {name}"));
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function("stomp-codec", |bencher| {
            let octets = Bytes::from(batch.clone());
            let mut decoder = Decoder::new(Mode::Strict, Limits::DEFAULT);
            bencher.iter(|| {
                let mut buffer = octets.clone();
                while let Some(item) = decoder.decode_bytes(&mut buffer).unwrap() {
                    black_box(&item);
                }
            });
        });
        group.bench_function("stomp-codec, into a read buffer", |bencher| {
            let mut decoder = Decoder::new(Mode::Strict, Limits::DEFAULT);
            let mut buffer = BytesMut::with_capacity(2 * batch.len());
            bencher.iter(|| {
                buffer.extend_from_slice(&batch);
                while let Some(item) = decoder.decode(&mut buffer).unwrap() {
                    black_box(&item);
                }
            });
        });
        group.bench_function("stomp-parser", |bencher| {
            bencher.iter(|| {
                for _ in 0..BATCH {
                    let parsed = stomp_parser::server::ServerFrame::try_from(frame.clone());
                    let _ = black_box(&parsed.is_ok());
                }
            });
        });
        group.bench_function("async-stomp", |bencher| {
            let mut codec = async_stomp::client::ClientCodec::new();
            bencher.iter(|| {
                let mut buffer = BytesMut::from(&*batch);
                while let Ok(Some(item)) = codec.decode(&mut buffer) {
                    black_box(&item);
                }
            });
        });
        group.bench_function("tokio-stomp", |bencher| {
            bencher.iter(|| {
                let mut buffer = BytesMut::from(&*batch);
                while let Ok(Some(item)) = tokio_stomp::client::ClientCodec.decode(&mut buffer) {
                    black_box(&item);
                }
            });
        });
        group.bench_function("stomp-rs", |bencher| {
            let mut parser =
                stomp_rs::protocol::FrameParser::<stomp_rs::protocol::ServerCommand>::new();
            bencher.iter(|| {
                let parsed = parser.parse(&batch);
                black_box(&parsed.is_ok());
            });
        });
        group.bench_function("httparse, a request with as many headers", |bencher| {
            let text = String::from_utf8_lossy(&frame).into_owned();
            let head = text.split("\n\n").next().unwrap();
            let lines: Vec<_> = head.lines().skip(1).collect();
            let request = format!("GET /topic HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"));
            bencher.iter(|| {
                for _ in 0..BATCH {
                    let mut headers = [httparse::EMPTY_HEADER; 24];
                    let mut parsed = httparse::Request::new(&mut headers);
                    let _ = black_box(&parsed.parse(request.as_bytes()).is_ok());
                }
            });
        });
        group.finish();
    }
}

fn sizes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode in reads of 1500 octets");
    for (name, frame) in [("a", frame_a()), ("a body of 64 KiB", frame_64k())] {
        let batch = frame.repeat(BATCH);
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(name, |bencher| {
            let mut decoder = Decoder::new(Mode::Strict, Limits::DEFAULT);
            let mut buffer = BytesMut::new();
            bencher.iter(|| {
                for piece in batch.chunks(1500) {
                    buffer.extend_from_slice(piece);
                    while let Some(item) = decoder.decode(&mut buffer).unwrap() {
                        black_box(&item);
                    }
                }
            });
        });
    }
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("heart-beats", |bencher| {
        let octets = Bytes::from(vec![b'\n'; 10_000]);
        let mut decoder = Decoder::new(Mode::Strict, Limits::DEFAULT);
        bencher.iter(|| black_box(decoder.decode_bytes(&mut octets.clone())));
    });
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode a");
    let body = a_body();
    group.bench_function("stomp-codec", |bencher| {
        let mut wire = BytesMut::with_capacity(1024);
        bencher.iter(|| {
            wire.clear();
            encode_parts(Command::Message, black_box(A_HEADERS), &body, Version::V1_2, &mut wire)
                .unwrap();
            black_box(&wire);
        });
    });
    group.bench_function("async-stomp, a SEND", |bencher| {
        let mut codec = async_stomp::client::ClientCodec::new();
        let mut wire = BytesMut::with_capacity(1024);
        bencher.iter(|| {
            wire.clear();
            let mut message: async_stomp::Message<async_stomp::ToServer> =
                async_stomp::ToServer::Send {
                    destination: "/topic/room.42".into(),
                    transaction: None,
                    headers: None,
                    body: Some(body.clone()),
                }
                .into();
            for (name, value) in A_HEADERS {
                if name != "destination" {
                    message
                        .extra_headers
                        .push((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
                }
            }
            codec.encode(message, &mut wire).unwrap();
            black_box(&wire);
        });
    });
    group.bench_function("stomp-parser", |bencher| {
        bencher.iter(|| {
            let mut builder = stomp_parser::server::MessageFrameBuilder::new(
                "0190c9e8-5e1c-7c4f-9a3b".to_owned(),
                "/topic/room.42".to_owned(),
                "sub-0".to_owned(),
            )
            .content_type("application/json".to_owned())
            .body(body.clone());
            builder = builder.add_custom_header("timestamp".to_owned(), "1763856000000".to_owned());
            black_box(&builder.build());
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("a body of 64 KiB");
    let mut frame = Frame::new(Command::Message).with_body(vec![b'x'; 64 * 1024]);
    for (name, value) in A_HEADERS {
        frame.push_header(name, value);
    }
    group.bench_function("encoded around", |bencher| {
        bencher.iter(|| black_box(encode_transmit(&frame, Version::V1_2)));
    });
    group.bench_function("copied", |bencher| {
        let mut copy = vec![0; frame.body().len()];
        bencher.iter(|| {
            copy.copy_from_slice(black_box(frame.body()));
            black_box(&copy);
        });
    });
    group.finish();
}

criterion_group!(benches, decode, sizes, encode);
criterion_main!(benches);
