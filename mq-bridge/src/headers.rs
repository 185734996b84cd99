//! The headers of a message: one block of octets.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// The headers of a message
///
/// All pairs live in one block of octets, so a clone costs one reference count, a backend stores
/// or sends the block as it is, and nothing is parsed until it is asked for. A name is UTF-8 text;
/// a value is any octets. A name may occur more than once: [`get`](Self::get) answers with the
/// first, [`iter`](Self::iter) gives all in order. A lookup walks the block, which for the dozen
/// headers that a message has is faster than hashing.
///
/// Layout, for backends that keep the block: for every pair the length of the name as 4 octets
/// little-endian, the name, the length of the value as 4 octets little-endian, the value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    block: Bytes,
}

impl Headers {
    /// No headers.
    #[must_use]
    pub const fn new() -> Self {
        Self { block: Bytes::new() }
    }

    /// Starts a block that pairs are appended to.
    pub fn builder() -> HeadersBuilder {
        HeadersBuilder::default()
    }

    /// Starts a block that has room for so many octets.
    pub fn builder_with_capacity(octets: usize) -> HeadersBuilder {
        HeadersBuilder { block: BytesMut::with_capacity(octets) }
    }

    /// Takes a block that [`as_bytes`](Self::as_bytes) gave earlier.
    ///
    /// # Errors
    ///
    /// [`MalformedHeaders`] where a length points outside the block or a name is not UTF-8.
    pub fn from_bytes(block: Bytes) -> Result<Self, MalformedHeaders> {
        let mut rest: &[u8] = &block;
        while !rest.is_empty() {
            let (name, after_name) = split_field(rest).ok_or(MalformedHeaders)?;
            std::str::from_utf8(name).map_err(|_| MalformedHeaders)?;
            let (_, after_value) = split_field(after_name).ok_or(MalformedHeaders)?;
            rest = after_value;
        }
        Ok(Self { block })
    }

    /// The whole block, as a backend stores it.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.block
    }

    /// Whether there is no pair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// The number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.octets().count()
    }

    /// The first value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let mut pairs = self.octets();
        pairs.find_map(|(candidate, value)| (candidate == name.as_bytes()).then_some(value))
    }

    /// The first value of `name` if it is UTF-8 text.
    #[must_use]
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The first value of `name` as a slice that shares the block.
    #[must_use]
    pub fn get_bytes(&self, name: &str) -> Option<Bytes> {
        self.get(name).map(|value| self.block.slice_ref(value))
    }

    /// All pairs in order.
    #[must_use]
    pub fn iter(&self) -> HeadersIter<'_> {
        HeadersIter { pairs: self.octets() }
    }

    /// All pairs in order, the names as octets too: cheaper than [`iter`](Self::iter), which has to look at each.
    #[must_use]
    pub fn octets(&self) -> OctetsIter<'_> {
        OctetsIter { rest: &self.block }
    }

    /// A copy of this block with one more pair at its end.
    #[must_use]
    pub fn with(&self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        let mut block = BytesMut::with_capacity(self.block.len() + 8 + name.len() + value.len());
        block.extend_from_slice(&self.block);
        HeadersBuilder { block }.with(name, value).build()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be anything, passwords included: only their length is shown.
        f.debug_map().entries(self.iter().map(|(name, value)| (name, value.len()))).finish()
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = (&'a str, &'a [u8]);
    type IntoIter = HeadersIter<'a>;

    fn into_iter(self) -> HeadersIter<'a> {
        self.iter()
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut builder = Self::builder();
        for (name, value) in pairs {
            builder.push(name.as_ref(), value);
        }
        builder.build()
    }
}

/// Appends pairs to a block of [`Headers`]
#[derive(Debug, Default)]
#[must_use]
pub struct HeadersBuilder {
    block: BytesMut,
}

impl HeadersBuilder {
    /// Appends a pair and gives the builder back.
    ///
    /// A name or value of 4 GiB or more does not fit the block and is left out whole.
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.push(name, value);
        self
    }

    /// Appends a pair.
    ///
    /// A name or value of 4 GiB or more does not fit the block and is left out whole.
    pub fn push(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        let (Ok(name_len), Ok(value_len)) = (u32::try_from(name.len()), u32::try_from(value.len()))
        else {
            return;
        };
        self.block.reserve(8 + name.len() + value.len());
        self.block.put_u32_le(name_len);
        self.block.put_slice(name.as_bytes());
        self.block.put_u32_le(value_len);
        self.block.put_slice(value);
    }

    /// Whether a pair of this name was appended.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        OctetsIter { rest: &self.block }.any(|(candidate, _)| candidate == name.as_bytes())
    }

    /// The finished headers.
    #[must_use]
    pub fn build(self) -> Headers {
        Headers { block: self.block.freeze() }
    }
}

/// Iterator over the pairs of [`Headers`]
#[derive(Clone, Debug)]
pub struct HeadersIter<'a> {
    pairs: OctetsIter<'a>,
}

impl<'a> Iterator for HeadersIter<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.pairs.next()?;
        // Blocks come from the builder or through `from_bytes`, so the name is text.
        Some((std::str::from_utf8(name).ok()?, value))
    }
}

/// Iterator over the pairs of [`Headers`] as octets
#[derive(Clone, Debug)]
pub struct OctetsIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for OctetsIter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (name, after_name) = split_field(self.rest)?;
        let (value, after_value) = split_field(after_name)?;
        self.rest = after_value;
        Some((name, value))
    }
}

/// A stored block of headers that is not what [`Headers`] wrote
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed header block: a length or a name in it is invalid")]
#[non_exhaustive]
pub struct MalformedHeaders;

#[inline]
fn split_field(block: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = block.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn first_of_repeated_names_wins_and_all_are_kept_in_order() {
        let headers = Headers::builder().with("a", "1").with("b", "2").with("a", "3").build();
        assert_eq!(headers.get_str("a"), Some("1"));
        assert_eq!(headers.get("missing"), None);
        assert_eq!(
            headers.iter().collect::<Vec<_>>(),
            [("a", &b"1"[..]), ("b", &b"2"[..]), ("a", &b"3"[..])]
        );
        assert_eq!(headers.with("c", "4").get_str("c"), Some("4"));
    }

    #[test]
    fn a_builder_knows_what_it_has() {
        let mut builder = Headers::builder_with_capacity(8);
        builder.push("a", "b");
        builder.push("c", "");
        assert!(builder.contains("a") && builder.contains("c") && !builder.contains("b"));
        assert_eq!(builder.build(), [("a", "b"), ("c", "")].into_iter().collect());
    }

    #[test]
    fn debug_shows_no_value() {
        let shown = format!("{:?}", Headers::builder().with("passcode", "hunter2").build());
        assert!(shown.contains("passcode") && !shown.contains("hunter2"));
    }

    proptest! {
        #[test]
        fn any_octets_round_trip(pairs in prop::collection::vec((".{0,8}", prop::collection::vec(any::<u8>(), 0..20)), 0..6)) {
            let headers: Headers = pairs.iter().map(|(name, value)| (name, value)).collect();
            let back = Headers::from_bytes(headers.as_bytes().clone());
            prop_assert_eq!(back.as_ref(), Ok(&headers));
            let seen: Vec<_> = headers.iter().map(|(n, v)| (n.to_owned(), v.to_vec())).collect();
            prop_assert_eq!(seen, pairs);
        }

        #[test]
        fn any_block_is_read_or_refused_without_panic(block in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(headers) = Headers::from_bytes(Bytes::from(block)) {
                prop_assert_eq!(headers.iter().count(), headers.len());
            }
        }
    }
}
