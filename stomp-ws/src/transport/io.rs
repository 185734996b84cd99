use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Any byte stream
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Most octets taken by one read
const READ_SIZE: usize = 64 * 1024;

thread_local! {
    /// One read buffer for a thread instead of one for each connection: what arrives is copied out, so an idle
    /// connection holds none.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The octets of one read, as many as are there; `None` at the end of the stream.
pub(super) fn poll_read_bytes(
    io: Pin<&mut (impl AsyncRead + ?Sized)>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Option<Bytes>>> {
    let mut scratch = SCRATCH.take();
    scratch.resize(READ_SIZE, 0);
    let mut buffer = ReadBuf::new(&mut scratch);
    let outcome = io.poll_read(cx, &mut buffer).map_ok(|()| match buffer.filled() {
        [] => None,
        octets => Some(Bytes::copy_from_slice(octets)),
    });
    SCRATCH.set(scratch);
    outcome
}

/// The byte stream as the WebSocket decoder sees it
///
/// The decoder would answer pings and closes by itself, at moments and in numbers of its own. The transport
/// answers them, under its budget and between whole frames, so what the decoder writes goes nowhere.
#[derive(Debug)]
pub(super) struct DecoderIo<T> {
    pub(super) io: T,
    /// What was read beyond the end of the HTTP head.
    pub(super) read_ahead: Bytes,
}

impl<T: AsyncRead + Unpin> AsyncRead for DecoderIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read_ahead.is_empty() {
            ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        } else {
            let count = buffer.remaining().min(self.read_ahead.len());
            buffer.put_slice(self.read_ahead.get(..count).unwrap_or_default());
            self.read_ahead.advance(count);
            if self.read_ahead.is_empty() {
                self.read_ahead = Bytes::new();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Unpin> AsyncWrite for DecoderIo<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
