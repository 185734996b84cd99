//! A conversation as a whole, for taking along.

use futures::stream::{self, BoxStream, StreamExt as _};

use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::names::{ConversationId, UserName};
use crate::store::{Page, StoredMessage};

/// Messages read at a time.
const PART: usize = 200;

/// Octets read at a time.
const PART_OCTETS: usize = 1024 * 1024;

/// The messages of a conversation in the order of `seq`, part by part.
pub type Export = BoxStream<'static, Result<Vec<StoredMessage>, GatewayError>>;

impl Gateway {
    /// All that `user` may read of a conversation, from the first message to the last one there is when it gets there.
    ///
    /// Each part is authorized as a page of the history is: whoever loses the conversation meanwhile gets no more of it.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Refused`] for whoever is no part of it, whether it exists or not.
    pub async fn export(
        &self,
        user: &UserName,
        conversation: &ConversationId,
    ) -> Result<Export, GatewayError> {
        let first = self.part(user, conversation, 0).await?;
        let next = first.last().map(|message| message.seq);
        let about = (self.clone(), user.clone(), conversation.clone());
        let rest = stream::try_unfold((about, next), |(about, after)| async move {
            let Some(after) = after else { return Ok(None) };
            let (gateway, user, conversation) = &about;
            let part = gateway.part(user, conversation, after).await?;
            let next = part.last().map(|message| message.seq);
            Ok((!part.is_empty()).then_some((part, (about, next))))
        });
        Ok(stream::iter([Ok(first)]).chain(rest).boxed())
    }

    async fn part(
        &self,
        user: &UserName,
        conversation: &ConversationId,
        after: u64,
    ) -> Result<Vec<StoredMessage>, GatewayError> {
        let page = Page::after(after, PART).with_max_octets(PART_OCTETS);
        Ok(self.history(user, conversation, page).await?.messages)
    }
}
