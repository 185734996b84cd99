use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Any byte stream
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Most octets taken by one read
const READ_SIZE: usize = 64 * 1024;

thread_local! {
    /// One read buffer for a thread instead of one for each connection: what arrives is taken out at once, so an idle
    /// connection holds none.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Reads once, as much as is there, and gives it to `take`: nothing at the end of the stream.
pub(super) fn poll_read<T>(
    io: Pin<&mut (impl AsyncRead + ?Sized)>,
    cx: &mut Context<'_>,
    take: impl FnOnce(&mut [u8]) -> T,
) -> Poll<io::Result<T>> {
    let mut scratch = SCRATCH.take();
    scratch.resize(READ_SIZE, 0);
    let mut buffer = ReadBuf::new(&mut scratch);
    let outcome = io.poll_read(cx, &mut buffer).map_ok(|()| take(buffer.filled_mut()));
    SCRATCH.set(scratch);
    Poll::Ready(ready!(outcome))
}
