//! Parses a buffer of octets, frame by frame, without any I/O
//!
//! `cargo run -p stomp-codec --example parse --no-default-features`

use bytes::BytesMut;
use stomp_codec::{Decoder, Item, Limits, Mode};

fn main() {
    let mut decoder = Decoder::new(Mode::Strict, Limits::DEFAULT);
    let mut buffer = BytesMut::new();
    // Octets come as they come: here the second frame is cut within an escape.
    for piece in [
        &b"CONNECT\naccept-version:1.2\nhost:example.org\n\n\0\n\nSEND\ndestination:/queue/a\\"[..],
        b"cb\ncontent-length:5\n\nhel\0o\0",
    ] {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(Item::Frame(frame))) => {
                    println!("{} with a body of {} octets", frame.command(), frame.body().len());
                    for (name, value) in frame.headers() {
                        println!("    {name} = {value}");
                    }
                }
                Ok(Some(Item::HeartBeats(count))) => println!("{count} heart-beats"),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    println!("the peer's fault: {error}");
                    return;
                }
            }
        }
    }
}
