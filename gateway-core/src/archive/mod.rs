//! A conversation as a whole, for taking along: JSON lines out, and in again.

mod import;
mod line;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use serde::Serialize;

use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::names::{ConversationId, UserName};
use crate::store::{Marks, Page, StoredMessage};

pub use import::{Import, ImportError, ImportFault, MAX_IMPORT_LINE};
pub(crate) use line::MessageLine;
use line::{ConversationLine, MarkerLine, MemberLine};

/// Messages read at a time.
const PART: usize = 200;

/// Octets read at a time.
const PART_OCTETS: usize = 1024 * 1024;

/// A conversation as JSON lines, part by part; each part is whole lines.
pub type Export = BoxStream<'static, Result<Bytes, GatewayError>>;

/// What comes next in an export.
enum Next {
    /// Messages after this `seq`.
    Messages(u64),
    Markers,
    End,
}

impl Gateway {
    /// All that `user` may read of a conversation: how it is run and its members, the messages in the order of `seq`
    /// from the first to the last one there is when it gets there, and how far everybody has read.
    ///
    /// Each part is authorized as a page of the history is: whoever loses the conversation meanwhile gets no more of it.
    /// What edited messages said at first is there for whom [`message`](Self::message) gives it to.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Refused`] for whoever is no part of it, whether it exists or not.
    pub async fn export(
        &self,
        user: &UserName,
        conversation: &ConversationId,
    ) -> Result<Export, GatewayError> {
        let head = self.head(user, conversation).await?;
        let about = (self.clone(), user.clone(), conversation.clone());
        let rest = stream::try_unfold((about, Next::Messages(0)), |(about, next)| async move {
            let (gateway, user, conversation) = &about;
            Ok(match next {
                Next::Messages(after) => {
                    let part = gateway.part(user, conversation, after).await?;
                    let next = part.last().map_or(Next::Markers, |last| Next::Messages(last.seq));
                    let lines = gateway.message_lines(user, part).await?;
                    Some((lines, (about, next)))
                }
                Next::Markers => {
                    let marks = gateway.inner.store.markers(conversation).await?;
                    let mine = |marks: &&Marks| {
                        marks.delivered > 0 && (!conversation.is_broadcast() || marks.user == *user)
                    };
                    let lines = lines(marks.iter().filter(mine).map(MarkerLine::from));
                    Some((lines, (about, Next::End)))
                }
                Next::End => None,
            })
        });
        Ok(stream::iter([Ok(head)]).chain(rest).boxed())
    }

    async fn head(
        &self,
        user: &UserName,
        conversation: &ConversationId,
    ) -> Result<Bytes, GatewayError> {
        let page = Page::after(0, 1);
        let first = self.history(user, conversation, page).await?.messages;
        let directory = &self.inner.directory;
        let (settings, members) = match conversation.as_group() {
            Some(group) => (
                directory.settings(&group).await?,
                directory.members(&group).await?.unwrap_or_default(),
            ),
            None => (None, Vec::new()),
        };
        let head = ConversationLine::new(conversation.clone(), first.first(), settings);
        let mut all = lines([head]).to_vec();
        all.extend_from_slice(&lines(members.iter().map(MemberLine::from)));
        Ok(all.into())
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

    async fn message_lines(
        &self,
        user: &UserName,
        part: Vec<StoredMessage>,
    ) -> Result<Bytes, GatewayError> {
        let mut all = Vec::with_capacity(part.len());
        for message in &part {
            let mut original = None;
            if message.edited.is_some() && message.recalled.is_none() {
                let (of, id) = (&message.conversation, message.message_id);
                original = self.message(user, of, id, true).await?;
            }
            all.push(MessageLine::from(message).with_original(original.as_ref()));
        }
        Ok(lines(all))
    }
}

fn lines(all: impl IntoIterator<Item = impl Serialize>) -> Bytes {
    let mut lines = Vec::new();
    for line in all {
        // Of texts and numbers; writing to a vector cannot fail.
        let _ = serde_json::to_writer(&mut lines, &line);
        lines.push(b'\n');
    }
    lines.into()
}
