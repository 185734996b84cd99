use std::borrow::{Borrow, Cow};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;

/// Immutable UTF-8 text that shares its octets with the buffer it was read from
///
/// Cloning is a reference count; [`ByteStr::from_static`] and slices of a received frame own no
/// memory of their own. A `ByteStr` keeps the whole buffer that it is a slice of alive: turn it into
/// a `String` (or use [`ByteStr::detached`]) before keeping a small one for long.
#[derive(Clone, Default)]
pub struct ByteStr {
    /// Checked to be UTF-8 by every constructor.
    octets: Bytes,
}

impl ByteStr {
    /// The empty text
    pub const fn new() -> Self {
        Self { octets: Bytes::new() }
    }

    /// Text that lives as long as the program
    pub const fn from_static(text: &'static str) -> Self {
        Self { octets: Bytes::from_static(text.as_bytes()) }
    }

    /// Takes `octets` as text
    ///
    /// # Errors
    ///
    /// Fails where `octets` is not UTF-8.
    pub fn from_utf8(octets: Bytes) -> Result<Self, std::str::Utf8Error> {
        std::str::from_utf8(&octets)?;
        Ok(Self { octets })
    }

    /// The text
    pub fn as_str(&self) -> &str {
        // Every constructor has checked it; without `unsafe` it is checked once more.
        std::str::from_utf8(&self.octets).unwrap_or_default()
    }

    /// The octets, sharing the memory
    pub const fn as_bytes(&self) -> &Bytes {
        &self.octets
    }

    /// The octets, sharing the memory
    pub fn into_bytes(self) -> Bytes {
        self.octets
    }

    /// A copy that holds nothing but its own octets
    pub fn detached(&self) -> Self {
        Self { octets: Bytes::copy_from_slice(&self.octets) }
    }
}

impl Deref for ByteStr {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for ByteStr {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for ByteStr {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for ByteStr {
    fn from(text: &str) -> Self {
        Self { octets: Bytes::copy_from_slice(text.as_bytes()) }
    }
}

impl From<String> for ByteStr {
    fn from(text: String) -> Self {
        Self { octets: Bytes::from(text) }
    }
}

impl From<Cow<'_, str>> for ByteStr {
    fn from(text: Cow<'_, str>) -> Self {
        match text {
            Cow::Borrowed(text) => Self::from(text),
            Cow::Owned(text) => Self::from(text),
        }
    }
}

impl TryFrom<Bytes> for ByteStr {
    type Error = std::str::Utf8Error;

    fn try_from(octets: Bytes) -> Result<Self, Self::Error> {
        Self::from_utf8(octets)
    }
}

impl PartialEq for ByteStr {
    fn eq(&self, other: &Self) -> bool {
        self.octets == other.octets
    }
}

impl Eq for ByteStr {}

impl PartialEq<str> for ByteStr {
    fn eq(&self, other: &str) -> bool {
        *self.octets == *other.as_bytes()
    }
}

impl PartialEq<&str> for ByteStr {
    fn eq(&self, other: &&str) -> bool {
        *self.octets == *other.as_bytes()
    }
}

impl PartialOrd for ByteStr {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByteStr {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.octets.cmp(&other.octets)
    }
}

impl Hash for ByteStr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As `str` does, which `Borrow<str>` promises.
        self.as_str().hash(state);
    }
}

impl fmt::Debug for ByteStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for ByteStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}
