//! Attachments: what is too large for a message, kept beside the messages.

mod folder;
mod memory;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::names::{ConversationId, UserName};

pub use folder::FolderBlobs;
pub use memory::MemoryBlobs;

/// Where attachments are kept
///
/// Every method may be called concurrently. Nothing holds an attachment in memory as a whole (but for [`MemoryBlobs`]).
#[async_trait]
pub trait BlobStore: fmt::Debug + Send + Sync + 'static {
    /// Begins an attachment; nobody sees it before it is finished
    ///
    /// # Errors
    ///
    /// [`BlobError::Unavailable`].
    async fn create(&self, about: BlobInfo) -> Result<Box<dyn BlobWriter>, BlobError>;

    /// What is known of an attachment, and its content; `None` if there is no such
    ///
    /// # Errors
    ///
    /// [`BlobError`] where it cannot be read; the stream ends with one, too.
    async fn open(&self, id: BlobId) -> Result<Option<Blob>, BlobError>;

    /// Removes an attachment for good; `false` if there is no such
    ///
    /// # Errors
    ///
    /// [`BlobError::Unavailable`].
    async fn remove(&self, id: BlobId) -> Result<bool, BlobError>;

    /// Those that were finished, in the order of their identities after `after`, at most `limit`
    ///
    /// What comes and goes meanwhile may be among them or not. One that is damaged is left out.
    ///
    /// # Errors
    ///
    /// [`BlobError::Unavailable`].
    async fn list(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<BlobEntry>, BlobError>;
}

/// An attachment that is being written; dropped before it is finished, it leaves nothing
#[async_trait]
pub trait BlobWriter: Send {
    /// Adds a part
    ///
    /// # Errors
    ///
    /// [`BlobError::Unavailable`], a full disk for one: there is no use in going on.
    async fn write(&mut self, part: Bytes) -> Result<(), BlobError>;

    /// Makes the attachment durable and gives its identity
    ///
    /// # Errors
    ///
    /// [`BlobError::Unavailable`]: there is no such attachment then.
    async fn finish(self: Box<Self>) -> Result<BlobId, BlobError>;
}

/// An attachment to be read
#[non_exhaustive]
pub struct Blob {
    /// What is known of it
    pub about: BlobInfo,
    /// How many octets it has
    pub size: u64,
    /// Its content, in parts
    pub content: BoxStream<'static, Result<Bytes, BlobError>>,
}

impl Blob {
    /// An attachment
    #[must_use]
    pub fn new(
        about: BlobInfo,
        size: u64,
        content: BoxStream<'static, Result<Bytes, BlobError>>,
    ) -> Self {
        Self { about, size, content }
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob")
            .field("about", &self.about)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// An attachment in a list
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlobEntry {
    /// Its identity
    pub id: BlobId,
    /// The conversation that it belongs to
    pub conversation: ConversationId,
    /// When it was finished, in milliseconds since 1970, UTC
    pub time: u64,
}

impl BlobEntry {
    /// An attachment in a list
    #[must_use]
    pub const fn new(id: BlobId, conversation: ConversationId, time: u64) -> Self {
        Self { id, conversation, time }
    }
}

/// What is known of an attachment
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct BlobInfo {
    /// The conversation that it belongs to: who may read that may read it
    pub conversation: ConversationId,
    /// Who sent it
    pub sender: UserName,
    /// The name of the file, as the sender gave it: for showing, not for a path
    pub name: String,
    /// Its media type, as the sender gave it
    pub content_type: String,
}

impl BlobInfo {
    /// What is known of an attachment
    pub fn new(
        conversation: ConversationId,
        sender: UserName,
        name: impl Into<String>,
        content_type: impl Into<String>,
    ) -> Self {
        Self { conversation, sender, name: name.into(), content_type: content_type.into() }
    }
}

/// The identity of an attachment: 128 random bits, so that nobody finds one by trying
///
/// Written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(u128);

impl BlobId {
    /// A new one, unlike all others
    ///
    /// # Errors
    ///
    /// [`BlobError::Unavailable`] where the system gives no randomness.
    pub fn generate() -> Result<Self, BlobError> {
        let mut octets = [0; 16];
        getrandom::fill(&mut octets).map_err(|error| BlobError::Unavailable(error.to_string()))?;
        Ok(Self(u128::from_be_bytes(octets)))
    }

    const fn octets(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BlobId {
    type Err = InvalidBlobId;

    fn from_str(text: &str) -> Result<Self, InvalidBlobId> {
        // Only what `Display` writes: one attachment has one spelling.
        if text.len() != 32 || text.bytes().any(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidBlobId);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| InvalidBlobId)
    }
}

/// The text is no identity of an attachment
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an attachment is named by 32 lower-case hexadecimal digits")]
#[non_exhaustive]
pub struct InvalidBlobId;

/// Why an attachment could not be written or read
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The store cannot work now: disk full, input/output error, away. Try again later
    #[error("attachments are unavailable: {0}")]
    Unavailable(String),
    /// What is stored cannot be understood
    #[error("an attachment is damaged: {0}")]
    Damaged(String),
}

impl From<std::io::Error> for BlobError {
    fn from(error: std::io::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}
