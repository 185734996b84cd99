use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio_util::io::poll_write_buf;

/// Up to this size, copying a slice next to its neighbours costs no more than a slice of its own in the
/// vectored write (measured: break-even near 4 KiB).
pub(super) const COPY_LIMIT: usize = 4 * 1024;
/// When the copied slices fill this much, a new buffer is begun: a long queue is not moved around by growth.
const BUFFER_SIZE: usize = 16 * 1024;
/// Buffers kept for each thread. A flush that completes gives its buffer back, so one or two are in use.
const POOL_SIZE: usize = 16;

thread_local! {
    static POOL: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Octets on their way to the peer
///
/// Small slices are copied side by side, large ones are kept as they are, shared with whoever else sends
/// them. An empty outbox holds no buffer.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn push_slice(&mut self, octets: &[u8]) {
        if self.tail.len() + octets.len() > BUFFER_SIZE {
            self.seal();
        }
        if self.tail.capacity() == 0 {
            self.tail = take_buffer();
        }
        self.tail.extend_from_slice(octets);
        self.len += octets.len();
    }

    pub(super) fn push(&mut self, octets: &Bytes) {
        if octets.len() <= COPY_LIMIT {
            self.push_slice(octets);
        } else {
            self.seal();
            self.len += octets.len();
            self.chunks.push_back(octets.clone());
        }
    }

    /// Makes the next `len` octets pushed as slices contiguous.
    pub(super) fn begin(&mut self, len: usize) {
        if self.tail.len() + len > BUFFER_SIZE {
            self.seal();
        }
    }

    /// The last `len` octets, pushed as slices after [`begin`](Self::begin), to be changed in place.
    pub(super) fn last_mut(&mut self, len: usize) -> &mut [u8] {
        let start = self.tail.len().saturating_sub(len);
        self.tail.get_mut(start..).unwrap_or_default()
    }

    pub(super) fn clear(&mut self) {
        self.chunks = VecDeque::new();
        self.len = 0;
        give_back(mem::take(&mut self.tail));
    }

    /// Writes until nothing is left or the peer takes no more.
    pub(super) fn poll_write(
        &mut self,
        mut io: Pin<&mut (impl AsyncWrite + ?Sized)>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let written = if self.chunks.is_empty() {
                // One slice, which is the rule, is cheaper for the kernel than a list of one.
                let written = ready!(io.as_mut().poll_write(cx, &self.tail))?;
                self.advance(written);
                written
            } else {
                ready!(poll_write_buf(io.as_mut(), cx, self))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        self.clear();
        Poll::Ready(Ok(()))
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(mem::take(&mut self.tail).freeze());
        }
    }
}

impl Buf for Outbox {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&self.tail, |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let slices = self.chunks.iter().map(|chunk| &**chunk).chain([&*self.tail]);
        let mut filled = 0;
        for (slot, slice) in dst.iter_mut().zip(slices.filter(|slice| !slice.is_empty())) {
            *slot = IoSlice::new(slice);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        self.len = self.len.saturating_sub(count);
        while let Some(chunk) = self.chunks.front_mut() {
            if count < chunk.len() {
                chunk.advance(count);
                return;
            }
            count -= chunk.len();
            self.chunks.pop_front();
        }
        self.tail.advance(count.min(self.tail.len()));
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        give_back(mem::take(&mut self.tail));
    }
}

fn take_buffer() -> BytesMut {
    let pooled = POOL.try_with(|pool| pool.borrow_mut().pop());
    let mut buffer = pooled.ok().flatten().unwrap_or_default();
    buffer.reserve(BUFFER_SIZE);
    buffer
}

fn give_back(mut buffer: BytesMut) {
    // One that grew for a single large frame is not worth keeping.
    if buffer.capacity() == 0 || buffer.capacity() > 4 * BUFFER_SIZE {
        return;
    }
    buffer.clear();
    // The thread may be ending, and its pool be gone: then the buffer is just freed.
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < POOL_SIZE {
            pool.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outbox: &mut Outbox, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while outbox.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 8];
            let filled = outbox.chunks_vectored(&mut slices);
            assert_eq!(&*slices[0], outbox.chunk());
            let mut left = step;
            for slice in &slices[..filled] {
                let taken = left.min(slice.len());
                out.extend_from_slice(&slice[..taken]);
                left -= taken;
            }
            outbox.advance(step - left);
        }
        out
    }

    #[test]
    fn octets_leave_in_the_order_they_came_whatever_the_write_size() {
        for step in [1, 1000, 4096, 100_000] {
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            for i in 0..30_u8 {
                let piece = vec![i; usize::from(i) * 231];
                outbox.push(&Bytes::from(piece.clone()));
                expected.extend_from_slice(&piece);
                outbox.push_slice(&[i, i]);
                expected.extend_from_slice(&[i, i]);
                assert_eq!(outbox.len(), expected.len());
            }
            assert!(drain(&mut outbox, step) == expected, "step {step}");
        }
    }

    /// W5
    #[test]
    fn a_large_slice_is_shared_and_not_copied() {
        let body = Bytes::from(vec![b'x'; COPY_LIMIT + 1]);
        let mut outboxes: Vec<Outbox> = (0..3).map(|_| Outbox::default()).collect();
        for outbox in &mut outboxes {
            outbox.push(&body);
            assert_eq!(outbox.chunk().as_ptr(), body.as_ptr());
        }
    }

    /// W2
    #[tokio::test]
    async fn an_empty_outbox_holds_no_buffer() {
        let mut outbox = Outbox::default();
        outbox.push_slice(b"abc");
        let mut sink = Vec::new();
        std::future::poll_fn(|cx| outbox.poll_write(Pin::new(&mut sink), cx)).await.unwrap();
        assert_eq!(sink, b"abc");
        assert_eq!(outbox.tail.capacity(), 0);
    }
}
