//! Through `tokio_util::codec::Framed`, which reads and writes in its own pieces

#![cfg(feature = "codec")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use futures::{SinkExt, StreamExt};
use stomp_codec::{CodecError, Command, Frame, Item, Limits, Mode, StompCodec, Version};
use tokio_util::codec::Framed;

#[tokio::test]
async fn frames_pass_through_a_narrow_pipe() {
    let (near, far) = tokio::io::duplex(7);
    let mut writer = Framed::new(near, StompCodec::default());
    let mut reader = Framed::new(far, StompCodec::new(Mode::Strict, Limits::DEFAULT));
    let frames: Vec<_> = (0..50)
        .map(|n| {
            Frame::new(Command::Send)
                .with_header("destination", &format!("/queue/{n}:\\"))
                .with_body(vec![0; n * 10])
        })
        .collect();
    let sent = frames.clone();
    let write = tokio::spawn(async move {
        for frame in sent {
            writer.send(frame).await.unwrap();
        }
        writer.close().await.unwrap();
    });
    for frame in frames {
        let Some(Ok(Item::Frame(got))) = reader.next().await else { panic!() };
        assert_eq!(got.header("destination"), frame.header("destination"));
        assert_eq!(got.body(), frame.body());
    }
    assert!(reader.next().await.is_none());
    write.await.unwrap();
}

#[tokio::test]
async fn a_fault_says_whose_it_is() {
    let (near, mut far) = tokio::io::duplex(64);
    tokio::io::AsyncWriteExt::write_all(&mut far, b"NACK\nid:0\n\n\0").await.unwrap();
    let mut codec = StompCodec::default();
    codec.set_version(Version::V1_0);
    codec.set_limits(Limits::DEFAULT);
    let mut framed = Framed::new(near, codec);
    assert!(matches!(framed.next().await, Some(Err(CodecError::Decode(_)))));
    let nack = Frame::new(Command::Nack);
    assert!(matches!(framed.send(nack).await, Err(CodecError::Encode(_))));
}

#[tokio::test]
async fn the_end_within_a_frame_is_an_error() {
    let (near, mut far) = tokio::io::duplex(64);
    tokio::io::AsyncWriteExt::write_all(&mut far, b"SEND\nde").await.unwrap();
    drop(far);
    let mut framed = Framed::new(near, StompCodec::default());
    assert!(matches!(framed.next().await, Some(Err(CodecError::Io(_)))));
}
