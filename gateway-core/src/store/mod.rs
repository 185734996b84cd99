//! What the gateway keeps for good: messages, who has read how far, and what the broker has yet to confirm.

mod change;
mod error;
mod format;
mod import;
mod keep;
mod limits;
mod listing;
mod memory;
mod message;
#[cfg(test)]
mod outage;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod pack;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
mod retention;
mod search;
mod shared;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

use async_trait::async_trait;

use crate::names::{ConversationId, UserName};

pub(crate) use change::IN_REPLY_TO;
pub use change::{Change, ChangeError, MAX_REACTION_OCTETS, MAX_REACTIONS, Reaction};
pub use error::StoreError;
pub(crate) use format::FormattedStore;
pub use format::Formatter;
pub use import::Imported;
pub(crate) use keep::STORED;
pub use keep::{InvalidStorageRule, Keep, StoragePolicy, StorageRule, StorageRules, UnknownKeep};
pub use limits::MAX_KEY_OCTETS;
pub use listing::ConversationCursor;
pub use memory::MemoryStore;
pub use message::{
    Appended, ConversationSummary, Epoch, InvalidMessageId, Marker, Marks, MessageId, MessageKind,
    NewMessage, OutboxId, Page, Position, StoredMessage, UnknownMessageKind, Unpublished,
    UnreadRange,
};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, PostgresStore};
pub use retention::{Cut, Extent, Retention, RetentionRules};
pub use search::{
    InvalidCursor, InvalidSearch, MAX_PHRASES, MAX_QUERY_OCTETS, Search, SearchCursor, SearchScope,
    SearchTerms,
};
pub use shared::{Renewal, SharedOutbox};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteStore};

/// How long an idempotency key is remembered, in milliseconds: 24 hours
pub const DEDUPE_MILLIS: u64 = 24 * 60 * 60 * 1000;

/// Where messages are stored
///
/// One store serves all conversations of a gateway. Every method may be called concurrently.
///
/// # Durability
///
/// When a method that writes has returned `Ok`, its effect survives the loss of the process and of power (a store that
/// keeps nothing, such as [`MemoryStore`], says so in its documentation).
///
/// # Cancel safety
///
/// Dropping the future of a call does not take the call back: what was handed over may still be written. A caller that
/// does not know whether an append took place repeats it with the same idempotency key.
#[async_trait]
pub trait MessageStore: Debug + Send + Sync + 'static {
    /// Stores `batch` in one transaction and gives each message its place
    ///
    /// For each message, in the order of the batch:
    ///
    /// - if its sender used its idempotency key within the last [`DEDUPE_MILLIS`], in this batch or before, nothing is
    ///   stored and the answer is that of the first use, with [`Appended::duplicate`] set, whatever else differs;
    /// - otherwise it gets the next `seq` of its conversation, from 1, without gaps; a message id; and a timestamp that
    ///   is not before that of the conversation's previous message;
    /// - the sender's read and delivered markers move to the new `seq`;
    /// - if it has a [`Change`], that is made: an edit puts its body in the place of the target's, a recall takes headers
    ///   and body of the target and of its edits away for good, a reaction replaces the sender's earlier one (an empty
    ///   body takes it back);
    /// - if it has targets, an entry goes to the outbox, from where [`unpublished`](Self::unpublished) gives all of it
    ///   until [`mark_published`](Self::mark_published) takes it out;
    /// - of the rest as much is stored as [`NewMessage::keep`] says, at no time more. What is not stored whole is not
    ///   searched, cannot be reacted to, and moves [`Position::gap`]; what is not stored at all cannot be changed and
    ///   is not unread. An edit that is not stored whole takes the content of its target away.
    ///
    /// The answer has one element per message of the batch, in its order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] and [`StoreError::Change`] concern one message and leave the others alone. Every other error means that nothing
    /// of the batch was stored; [`StoreError::is_retryable`] says whether the same batch may succeed later (a full
    /// disk, for one). Only where a store over a network loses its connection in the middle of a commit nobody knows;
    /// what was stored then is in the outbox.
    async fn append(&self, batch: Vec<NewMessage>) -> Vec<Result<Appended, StoreError>>;

    /// Messages of one conversation, in the order of `seq`; may be fewer than asked for, never none while there are some
    ///
    /// Whether the caller may see them is not the store's business.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    async fn history(
        &self,
        conversation: &ConversationId,
        page: Page,
    ) -> Result<Vec<StoredMessage>, StoreError>;

    /// One message by its id, as it is now or, with `original`, as it was before its first edit
    ///
    /// `None` if the conversation has no such message.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    async fn find(
        &self,
        conversation: &ConversationId,
        message: MessageId,
        original: bool,
    ) -> Result<Option<StoredMessage>, StoreError>;

    /// From where to where the store has the conversation
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    async fn position(&self, conversation: &ConversationId) -> Result<Position, StoreError>;

    /// Moves a marker of `user` to `up_to`, forward only, and gives the markers as they are then
    ///
    /// A number beyond the last message means the last message. What is read is delivered too, so moving
    /// [`Marker::Read`] moves [`Marker::Delivered`] along. Whether anything moved is in [`Marks::moved`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be written.
    async fn mark(
        &self,
        conversation: &ConversationId,
        user: &UserName,
        marker: Marker,
        up_to: u64,
    ) -> Result<Marks, StoreError>;

    /// The markers of everyone who has any in this conversation, by name
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    async fn markers(&self, conversation: &ConversationId) -> Result<Vec<Marks>, StoreError>;

    /// The conversations of `user`, the one with the latest message first, at most `limit`, those behind a place if one is
    /// given ([`ConversationCursor::precedes`])
    ///
    /// These are his direct conversations that have a message, and `others`, which are those of the groups he is a
    /// member of, and what operators tell him; groups without a message come last, what operators have not told is left
    /// out. Of that only his own markers are given. What was recalled, and what has expired (its `expires` header), is
    /// no longer unread.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    async fn conversations(
        &self,
        user: &UserName,
        others: &[ConversationId],
        after: Option<&ConversationCursor>,
        limit: usize,
    ) -> Result<Vec<ConversationSummary>, StoreError>;

    /// What `user` has not read in his direct conversations and in `others`, the conversation that has been quiet for longest first
    ///
    /// Gives ranges, so that the answer stays small however much there is; [`history`](Self::history) has the messages.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    async fn unread(
        &self,
        user: &UserName,
        others: &[ConversationId],
    ) -> Result<Vec<UnreadRange>, StoreError>;

    /// Messages whose text has what is looked for, the newest first; may be fewer than asked for, never none while there
    /// are some
    ///
    /// Only messages of the kind [`MessageKind::Message`] are found, and only those whose body is text: UTF-8, with a
    /// `content-type` of `text/...` or none.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    async fn search(&self, search: Search) -> Result<Vec<StoredMessage>, StoreError>;

    /// The outbox after `after`: what was stored and not yet marked as published, in the order of storing, at most `limit`
    ///
    /// Of a store that several nodes [share](Self::shared) only what is this node's and waits for no other node.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    async fn unpublished(
        &self,
        after: Option<OutboxId>,
        limit: usize,
    ) -> Result<Vec<Unpublished>, StoreError>;

    /// Takes entries out of the outbox; those that are not in it are passed over
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be written: the entries stay.
    async fn mark_published(&self, ids: &[OutboxId]) -> Result<(), StoreError>;

    /// What several nodes that share this store need; none, which is the default, where one node has it for itself
    fn shared(&self) -> Option<&dyn SharedOutbox> {
        None
    }

    /// The conversations that have messages, in the order of their names after `after`, at most `limit`
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    async fn survey(
        &self,
        after: Option<&ConversationId>,
        limit: usize,
    ) -> Result<Vec<Extent>, StoreError>;

    /// Forgets the first messages of a conversation for good, as far as `cut` concerns them, and at most `limit`; gives
    /// how many they were
    ///
    /// It stops before a message that is in the outbox, and may do nothing while very much is in there. What is
    /// forgotten is no longer unread and not found; its idempotency key is remembered, and its `seq` is not used again.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be written: nothing is forgotten.
    async fn forget(
        &self,
        conversation: &ConversationId,
        cut: Cut,
        limit: usize,
    ) -> Result<u64, StoreError>;

    /// Stores messages of a conversation as another store had them, in the order of `seq`, each at its place; gives how
    /// many of them were not there before
    ///
    /// They are unread, found and shown like others. They go to no outbox, move no markers, and their idempotency keys
    /// are not remembered. A `seq` that is left out moves [`Position::gap`], and so does a message that
    /// was not stored as a whole.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] where a place is taken by another message, or lies before the last one and is empty;
    /// [`StoreError`] where the store cannot be written. Nothing of the batch is stored then.
    async fn import(
        &self,
        conversation: &ConversationId,
        batch: Vec<Imported>,
    ) -> Result<u64, StoreError>;

    /// Whether the store can be read and written now
    ///
    /// # Errors
    ///
    /// [`StoreError`] says what is wrong.
    async fn health(&self) -> Result<(), StoreError>;
}
