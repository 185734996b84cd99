//! Another form in the store than on the way.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Appended, ConversationCursor, ConversationSummary, Cut, Extent, Imported, Marker, Marks,
    MessageId, MessageStore, NewMessage, OutboxId, Page, Position, Search, SharedOutbox,
    StoreError, StoredMessage, Unpublished, UnreadRange,
};
use crate::names::{ConversationId, UserName};

/// Gives messages another form before they are stored, and takes it away after they are read: encryption, redaction
///
/// Receivers get the original: it is published as it came. Only where that fails, or the process ends before the broker
/// has confirmed, is a message published from the store, after [`load`](Self::load). A formatter that cannot undo what
/// it did (it redacts) means that such a message arrives as it was stored.
///
/// What is searched is what is stored, so nothing that is encrypted is found. An edit replaces body, `content-type`
/// and `mentions` of a stored message and leaves its other headers alone, so what [`load`](Self::load) needs belongs into those.
/// Reactions are read by the store: leave them as they are.
pub trait Formatter: fmt::Debug + Send + Sync + 'static {
    /// Changes headers and body of a message that is about to be stored
    ///
    /// # Errors
    ///
    /// [`StoreError`] where that cannot be done: this message is not stored, and its sender is told.
    fn store(&self, message: &mut NewMessage) -> Result<(), StoreError>;

    /// Changes headers and body of a stored message back
    ///
    /// Also gets messages that were stored before there was a formatter, and those without a body as they were recalled.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where that cannot be done, as a key is missing: reading fails.
    fn load(&self, message: &mut StoredMessage) -> Result<(), StoreError>;
}

/// A store behind a [`Formatter`]
#[derive(Debug)]
pub(crate) struct FormattedStore {
    inner: Arc<dyn MessageStore>,
    formatter: Arc<dyn Formatter>,
}

impl FormattedStore {
    pub(crate) fn new(inner: Arc<dyn MessageStore>, formatter: Arc<dyn Formatter>) -> Self {
        Self { inner, formatter }
    }

    /// Gives a message that another store had its form in this one
    fn store_again(&self, message: &mut StoredMessage) -> Result<(), StoreError> {
        if message.recalled.is_some() && message.body.is_empty() {
            return Ok(());
        }
        let (conversation, sender) = (message.conversation.clone(), message.sender.clone());
        let mut new = NewMessage::new(conversation, sender, std::mem::take(&mut message.body));
        new.headers = std::mem::take(&mut message.headers);
        new.kind = message.kind;
        new.idempotency_key.clone_from(&message.idempotency_key);
        self.formatter.store(&mut new)?;
        (message.headers, message.body) = (new.headers, new.body);
        Ok(())
    }

    fn load_all(&self, mut messages: Vec<StoredMessage>) -> Result<Vec<StoredMessage>, StoreError> {
        for message in &mut messages {
            self.formatter.load(message)?;
        }
        Ok(messages)
    }
}

#[async_trait]
impl MessageStore for FormattedStore {
    async fn append(&self, batch: Vec<NewMessage>) -> Vec<Result<Appended, StoreError>> {
        let mut good = Vec::with_capacity(batch.len());
        let mut faults = Vec::with_capacity(batch.len());
        for mut message in batch {
            match self.formatter.store(&mut message) {
                Ok(()) => {
                    good.push(message);
                    faults.push(None);
                }
                Err(error) => faults.push(Some(error)),
            }
        }
        let mut stored = self.inner.append(good).await.into_iter();
        let lost = || Err(StoreError::Unusable("the store did not answer".to_owned()));
        let answer = |fault: Option<StoreError>| match fault {
            Some(error) => Err(error),
            None => stored.next().unwrap_or_else(lost),
        };
        faults.into_iter().map(answer).collect()
    }

    async fn history(
        &self,
        conversation: &ConversationId,
        page: Page,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        self.load_all(self.inner.history(conversation, page).await?)
    }

    async fn find(
        &self,
        conversation: &ConversationId,
        message: MessageId,
        original: bool,
    ) -> Result<Option<StoredMessage>, StoreError> {
        let mut found = self.inner.find(conversation, message, original).await?;
        if let Some(message) = &mut found {
            self.formatter.load(message)?;
        }
        Ok(found)
    }

    async fn position(&self, conversation: &ConversationId) -> Result<Position, StoreError> {
        self.inner.position(conversation).await
    }

    async fn mark(
        &self,
        conversation: &ConversationId,
        user: &UserName,
        marker: Marker,
        up_to: u64,
    ) -> Result<Marks, StoreError> {
        self.inner.mark(conversation, user, marker, up_to).await
    }

    async fn markers(&self, conversation: &ConversationId) -> Result<Vec<Marks>, StoreError> {
        self.inner.markers(conversation).await
    }

    async fn conversations(
        &self,
        user: &UserName,
        others: &[ConversationId],
        after: Option<&ConversationCursor>,
        limit: usize,
    ) -> Result<Vec<ConversationSummary>, StoreError> {
        let mut list = self.inner.conversations(user, others, after, limit).await?;
        for message in list.iter_mut().filter_map(|line| line.last_message.as_mut()) {
            self.formatter.load(message)?;
        }
        Ok(list)
    }

    async fn unread(
        &self,
        user: &UserName,
        others: &[ConversationId],
    ) -> Result<Vec<UnreadRange>, StoreError> {
        self.inner.unread(user, others).await
    }

    async fn search(&self, search: Search) -> Result<Vec<StoredMessage>, StoreError> {
        self.load_all(self.inner.search(search).await?)
    }

    async fn unpublished(
        &self,
        after: Option<OutboxId>,
        limit: usize,
    ) -> Result<Vec<Unpublished>, StoreError> {
        let mut entries = self.inner.unpublished(after, limit).await?;
        for entry in &mut entries {
            self.formatter.load(&mut entry.message)?;
        }
        Ok(entries)
    }

    async fn mark_published(&self, ids: &[OutboxId]) -> Result<(), StoreError> {
        self.inner.mark_published(ids).await
    }

    fn shared(&self) -> Option<&dyn SharedOutbox> {
        self.inner.shared()
    }

    async fn survey(
        &self,
        after: Option<&ConversationId>,
        limit: usize,
    ) -> Result<Vec<Extent>, StoreError> {
        self.inner.survey(after, limit).await
    }

    async fn forget(
        &self,
        conversation: &ConversationId,
        cut: Cut,
        limit: usize,
    ) -> Result<u64, StoreError> {
        self.inner.forget(conversation, cut, limit).await
    }

    async fn import(
        &self,
        conversation: &ConversationId,
        mut batch: Vec<Imported>,
    ) -> Result<u64, StoreError> {
        for one in &mut batch {
            self.store_again(&mut one.message)?;
            if let Some(original) = &mut one.original {
                self.store_again(original)?;
            }
        }
        self.inner.import(conversation, batch).await
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.inner.health().await
    }
}
