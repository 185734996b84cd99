use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use crate::shared::Encoded;

/// Exactly one frame, or one heart-beat, ready to be written
///
/// Up to four slices, written one after the other: a head that may be the receiver's own, headers and body that
/// may be shared with other receivers, and the final NUL. [`Transmit::into_buf`] makes a [`Buf`] of it for
/// vectored writes; [`Transmit::into_bytes`] joins the slices where one piece is needed.
#[derive(Clone, Debug)]
pub struct Transmit {
    head: Head,
    rest: Option<Arc<Encoded>>,
}

/// The first slice
#[derive(Clone, Debug)]
enum Head {
    Own(Bytes),
    /// Of all messages of a subscription: cloning it is cheaper than cloning `Bytes`
    Shared(Arc<Bytes>),
}

impl Transmit {
    pub(crate) fn heart_beat() -> Self {
        Self::from_bytes(Bytes::from_static(b"\n"))
    }

    pub(crate) const fn from_bytes(octets: Bytes) -> Self {
        Self { head: Head::Own(octets), rest: None }
    }

    pub(crate) fn with_body(head: Bytes, body: Bytes) -> Self {
        Self { head: Head::Own(head), rest: Some(Arc::new(Encoded::body_of_one(body))) }
    }

    /// A message with the head of one delivery
    #[inline]
    pub(crate) const fn delivery(head: Bytes, message: Arc<Encoded>) -> Self {
        Self { head: Head::Own(head), rest: Some(message) }
    }

    /// A message with the head that all messages of the subscription have
    #[inline]
    pub(crate) const fn message(head: Arc<Bytes>, message: Arc<Encoded>) -> Self {
        Self { head: Head::Shared(head), rest: Some(message) }
    }

    fn head(&self) -> &Bytes {
        match &self.head {
            Head::Own(octets) => octets,
            Head::Shared(octets) => octets,
        }
    }

    /// The number of octets
    #[inline]
    pub fn len(&self) -> usize {
        self.head().len() + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    /// Whether there are no octets, which is so for none that a session gives
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this is a heart-beat: the one octet LF
    pub fn is_heart_beat(&self) -> bool {
        self.rest.is_none() && self.head() == "\n"
    }

    /// Whether the octets are UTF-8 text as a whole
    pub fn is_text(&self) -> bool {
        let rest = self.rest.as_ref().is_none_or(|rest| rest.is_text());
        rest && (matches!(self.head, Head::Shared(_)) || std::str::from_utf8(self.head()).is_ok())
    }

    /// The slices in the order of writing
    pub fn slices(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(self.head()).chain(self.rest.iter().flat_map(|rest| rest.slices()))
    }

    /// The octets as a buffer whose slices a vectored write can take at once
    pub fn into_buf(self) -> impl Buf + Send + Unpin + 'static {
        let mut slices = self.slices().cloned();
        let mut next = || slices.next().unwrap_or_default();
        next().chain(next()).chain(next().chain(next()))
    }

    /// The octets in one piece; copies them unless there is only one slice
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self { head: Head::Own(only), rest: None } => only,
            several => {
                let mut joined = BytesMut::with_capacity(several.len());
                several.slices().for_each(|slice| joined.extend_from_slice(slice));
                joined.freeze()
            }
        }
    }
}
