//! What a storage is told, and what it gives.

use crate::{DeadLetterReason, Declaration, Message, Source, Target};

/// Something that changes in a [`Storage`](super::Storage)
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a storage must make every change")]
pub enum Change {
    /// A queue or durable subscription is, from now on, as declared here: made if there is none,
    /// changed if there is. All its patterns are named.
    Declare(Declaration),
    /// A queue or durable subscription goes, with all its entries.
    Delete(Source),
    /// A message waits in these places.
    Store {
        /// The message.
        message: Message,
        /// Whether its publisher said that an earlier attempt may have succeeded.
        redelivered: bool,
        /// Where it waits: at least one place. Its octets need to be stored once only.
        places: Vec<Place>,
    },
    /// Entries are done with.
    Remove {
        /// Where they wait.
        source: Source,
        /// Their ids.
        ids: Vec<u64>,
    },
    /// Entries have been handed out so often.
    Count {
        /// Where they wait.
        source: Source,
        /// Their ids, and the new value of [`deliveries`](StoredEntry::deliveries).
        counts: Vec<(u64, u32)>,
    },
}

impl Change {
    /// The change as one for each place, for storages that keep every entry on its own.
    #[must_use]
    pub fn per_place(&self) -> Vec<Self> {
        match self {
            Self::Store { message, redelivered, places } => {
                let (message, redelivered) = (message.clone(), *redelivered);
                let one = |place: &Place| {
                    let (message, places) = (message.clone(), vec![place.clone()]);
                    Self::Store { message, redelivered, places }
                };
                places.iter().map(one).collect()
            }
            other => vec![other.clone()],
        }
    }
}

/// Where a message waits, and as what
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// A queue or durable subscription that is declared.
    pub source: Source,
    /// Names the entry among all of the storage, now and later; greater than every one before.
    pub id: u64,
    /// The queue or topic that the message was published to.
    pub target: Target,
    /// How often it is handed out once this is stored.
    pub deliveries: u32,
    /// Why it is here, if this is a dead-letter queue.
    pub dead_letter: Option<DeadLetterReason>,
}

impl Place {
    /// The entry of a message here.
    #[must_use]
    pub fn entry(&self, message: &Message, redelivered: bool) -> StoredEntry {
        StoredEntry {
            id: self.id,
            message: message.clone(),
            redelivered,
            target: self.target.clone(),
            deliveries: self.deliveries,
            dead_letter: self.dead_letter,
        }
    }
}

/// A message that waits in a queue or durable subscription, as it was [stored](Change::Store)
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredEntry {
    /// Of its [`Place`].
    pub id: u64,
    /// The message.
    pub message: Message,
    /// Whether its publisher said that an earlier attempt may have succeeded.
    pub redelivered: bool,
    /// The queue or topic that it was published to.
    pub target: Target,
    /// How often it was handed out: of its [`Place`], or the last that was [counted](Change::Count).
    pub deliveries: u32,
    /// Why it is here, if this is a dead-letter queue.
    pub dead_letter: Option<DeadLetterReason>,
}

impl StoredEntry {
    /// An entry that was never handed out.
    #[must_use]
    pub const fn new(id: u64, message: Message, target: Target) -> Self {
        Self { id, message, redelivered: false, target, deliveries: 0, dead_letter: None }
    }
}
