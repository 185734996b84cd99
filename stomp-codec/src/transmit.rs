use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Exactly one frame, or one heart-beat, ready to be written
///
/// Up to four slices, written one after the other: a head of the receiver's own, headers and body that may
/// be shared with other receivers, and the final NUL. Implements [`Buf`], so that a vectored write can
/// consume it; [`Transmit::into_bytes`] joins the slices where one piece is needed.
#[derive(Clone, Debug, Default)]
pub struct Transmit {
    /// In the order of writing; empty ones are skipped.
    pub(crate) parts: [Bytes; 4],
    pub(crate) text: Option<bool>,
}

impl Transmit {
    pub(crate) fn heart_beat() -> Self {
        Self::from_bytes(Bytes::from_static(b"\n"))
    }

    pub(crate) fn from_bytes(octets: Bytes) -> Self {
        Self { parts: [octets, Bytes::new(), Bytes::new(), Bytes::new()], text: None }
    }

    /// The number of octets
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// Whether nothing is left, which is so only after it was consumed as a [`Buf`]
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(Bytes::is_empty)
    }

    /// Whether this is a heart-beat: the one octet LF
    pub fn is_heart_beat(&self) -> bool {
        self.parts.first().is_some_and(|octets| &**octets == b"\n")
    }

    /// Whether the octets are UTF-8 text as a whole
    pub fn is_text(&self) -> bool {
        // No slice begins or ends within a character, except a body that is not text anyway.
        self.text.unwrap_or_else(|| self.slices().all(|slice| std::str::from_utf8(slice).is_ok()))
    }

    /// The slices in the order of writing
    pub fn slices(&self) -> impl Iterator<Item = &Bytes> {
        self.parts.iter().filter(|part| !part.is_empty())
    }

    /// The slices in the order of writing
    pub fn into_slices(self) -> impl Iterator<Item = Bytes> {
        self.parts.into_iter().filter(|part| !part.is_empty())
    }

    /// The octets in one piece; copies them unless there is only one slice
    pub fn into_bytes(self) -> Bytes {
        let mut slices = self.slices();
        match (slices.next(), slices.next()) {
            (Some(only), None) => only.clone(),
            _ => {
                let mut joined = BytesMut::with_capacity(self.len());
                self.slices().for_each(|slice| joined.extend_from_slice(slice));
                joined.freeze()
            }
        }
    }
}

impl Buf for Transmit {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self.slices().next().map_or(&[], |slice| slice)
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, slice) in dst.iter_mut().zip(self.slices()) {
            *slot = IoSlice::new(slice);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, count: usize) {
        let mut left = count;
        for part in &mut self.parts {
            let taken = left.min(part.len());
            part.advance(taken);
            left -= taken;
        }
        assert!(left == 0, "advanced beyond the end of a transmit");
    }
}
