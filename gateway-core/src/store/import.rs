//! Messages that come from another store.

use super::limits::octets_of_stored;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use super::{IN_REPLY_TO, MessageId, MessageKind};
use super::{StoreError, StoredMessage};

/// A message as another store had it
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// The message
    pub message: StoredMessage,
    /// As it was before its first edit; only its headers and body count
    pub original: Option<Box<StoredMessage>>,
}

impl Imported {
    /// A message that was not edited
    #[must_use]
    pub const fn new(message: StoredMessage) -> Self {
        Self { message, original: None }
    }

    /// Sets what it was before its first edit
    #[must_use]
    pub fn with_original(mut self, original: Option<StoredMessage>) -> Self {
        self.original = original.map(Box::new);
        self
    }

    pub(crate) fn octets(&self) -> usize {
        let original = self.original.as_ref().map_or(0, |original| octets_of_stored(original));
        octets_of_stored(&self.message) + original
    }

    /// The last `seq` of which not all is stored once this one follows `last_seq`, if that changes
    pub(super) fn gap_after(&self, last_seq: u64) -> Option<u64> {
        let seq = self.message.seq;
        if !self.message.is_whole() {
            return Some(seq);
        }
        (last_seq > 0 && seq > last_seq + 1).then_some(seq - 1)
    }

    /// Whether it counts as unread, and until when
    pub(super) fn counts(&self) -> (bool, Option<u64>) {
        let counts = self.message.kind.counts_as_unread();
        let recalled = self.message.recalled.map(|_| 0);
        (counts, recalled.or_else(|| self.message.expires()).filter(|_| counts))
    }

    /// The message that it changes
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) fn target(&self) -> Option<MessageId> {
        let changes = matches!(
            self.message.kind,
            MessageKind::Edit | MessageKind::Recall | MessageKind::Reaction
        );
        let mut headers = self.message.headers.iter().filter(|_| changes);
        headers.find(|(name, _)| name == IN_REPLY_TO)?.1.parse().ok()
    }
}

/// The answer where another message, or none, has the place
pub(super) fn taken(seq: u64) -> StoreError {
    StoreError::Refused(format!("seq {seq} is another message here, or was forgotten"))
}
