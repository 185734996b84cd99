//! Search in what a user may read.

use crate::authorizer::Action;
use crate::error::{GatewayError, RefusedError};
use crate::gateway::{Gateway, conversation_destination};
use crate::names::{ConversationId, UserName};
use crate::store::{Search, SearchCursor, SearchScope, SearchTerms, StoredMessage};

/// What a search has found: a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The newest first.
    pub messages: Vec<StoredMessage>,
    /// Where to go on; `None` where this was all.
    pub next: Option<SearchCursor>,
}

impl Gateway {
    /// Finds messages with these words that `user` may read, the newest first, at most `limit`: in one conversation, or
    /// in all of his direct conversations and the groups he is in.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Refused`] for whoever is no part of the conversation, whether it exists or not.
    pub async fn search(
        &self,
        user: &UserName,
        conversation: Option<&ConversationId>,
        terms: SearchTerms,
        after: Option<SearchCursor>,
        limit: usize,
    ) -> Result<Found, GatewayError> {
        let search = Search::new(terms, limit).with_after(after);
        let search = match conversation {
            Some(conversation) => {
                self.authorize_reading(user, conversation).await?;
                search.with_scopes([self.scope(user, conversation.clone()).await?])
            }
            None => {
                let groups = self.inner.directory.groups_of(user).await?;
                let others = ConversationId::of_groups(&groups);
                let mut scopes = Vec::with_capacity(others.len());
                for conversation in others {
                    scopes.push(self.scope(user, conversation).await?);
                }
                search.with_direct_of(user.clone()).with_scopes(scopes)
            }
        };
        let all = conversation.is_none();
        let mut messages = self.inner.store.search(search).await?;
        let next = messages.last().map(SearchCursor::of);
        let now = self.inner.clock.now_millis();
        messages.retain(|message| message.expires().is_none_or(|expires| expires > now));
        if all {
            self.keep_readable(user, &mut messages).await?;
        }
        Ok(Found { messages, next })
    }

    /// What `user`, who may read the conversation, sees of it.
    async fn scope(
        &self,
        user: &UserName,
        conversation: ConversationId,
    ) -> Result<SearchScope, GatewayError> {
        let floor = self.inner.visible_after(user, &conversation).await?;
        Ok(SearchScope::new(conversation).with_after_seq(floor))
    }

    /// Takes out what the authorizer does not let the user read (P8), though he is a part of it.
    async fn keep_readable(
        &self,
        user: &UserName,
        messages: &mut Vec<StoredMessage>,
    ) -> Result<(), GatewayError> {
        let mut found: Vec<_> = messages.iter().map(|one| one.conversation.clone()).collect();
        found.sort_unstable();
        found.dedup();
        for conversation in found {
            match self.authorize_reading(user, &conversation).await {
                Ok(()) => {}
                Err(GatewayError::Refused(RefusedError::Denied(_))) => {
                    messages.retain(|message| message.conversation != conversation);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn authorize_reading(
        &self,
        user: &UserName,
        conversation: &ConversationId,
    ) -> Result<(), GatewayError> {
        let destination = conversation_destination(user, conversation)?;
        self.inner.authorize(user, Action::Read, &destination).await
    }
}
