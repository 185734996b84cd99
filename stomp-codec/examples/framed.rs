//! Frames over any `AsyncRead + AsyncWrite` with `tokio_util::codec::Framed`
//!
//! `cargo run -p stomp-codec --example framed`

use futures::{SinkExt, StreamExt};
use stomp_codec::{CodecError, Command, Frame, Item, StompCodec};
use tokio_util::codec::Framed;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), CodecError> {
    // In place of a socket.
    let (near, far) = tokio::io::duplex(64);
    let mut client = Framed::new(near, StompCodec::default());
    let mut server = Framed::new(far, StompCodec::default());

    let connect = Frame::new(Command::Connect)
        .with_header("accept-version", "1.2")
        .with_header("host", "example.org");
    let send = Frame::new(Command::Send)
        .with_header("destination", "/queue/a")
        .with_text("more text than the pipe holds at a time, which makes no difference");

    let write = async {
        client.send(connect).await?;
        client.send(send).await?;
        client.close().await
    };
    let read = async {
        while let Some(item) = server.next().await {
            if let Item::Frame(frame) = item? {
                println!("{frame:?}: {:?}", frame.text().ok());
            }
        }
        Ok::<(), CodecError>(())
    };
    futures::try_join!(write, read)?;
    Ok(())
}
