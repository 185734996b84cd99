//! The rules of edits, recalls and reactions.

use std::time::Duration;

use crate::authorizer::Action;
use crate::directory::Role;
use crate::error::GatewayError;
use crate::gateway::{Gateway, conversation_destination};
use crate::names::{ConversationId, UserName};
use crate::send::SendRequest;
use crate::store::{
    Change, IN_REPLY_TO, MAX_REACTION_OCTETS, MessageId, MessageKind, StoredMessage,
};

/// What a message of this kind changes, or `None` if it changes nothing.
///
/// Only the author edits. The author recalls within `recall_limit`; who manages the group recalls
/// anybody's messages at any time. Everybody in the conversation reacts.
pub(crate) fn change_of(
    kind: MessageKind,
    request: &SendRequest,
    role: Option<Role>,
    recall_limit: Duration,
    now: u64,
) -> Result<Option<Change>, GatewayError> {
    if !matches!(kind, MessageKind::Edit | MessageKind::Recall | MessageKind::Reaction) {
        return Ok(None);
    }
    let invalid = |name, problem| Err(GatewayError::Invalid { name, problem });
    let target = request.headers.iter().find(|(name, _)| name == IN_REPLY_TO);
    let Some(target) = target.and_then(|(_, id)| id.parse::<MessageId>().ok()) else {
        return invalid(IN_REPLY_TO, "must be the message-id of the message that is changed");
    };
    let change = Change::of(target);
    Ok(Some(match kind {
        MessageKind::Edit => change.by_author_only(),
        MessageKind::Recall if !request.body.is_empty() => {
            return invalid("body", "a recall has none");
        }
        MessageKind::Recall if role > Some(Role::Member) => change,
        MessageKind::Recall => {
            let limit = u64::try_from(recall_limit.as_millis()).unwrap_or(u64::MAX);
            change.by_author_only().not_before(now.saturating_sub(limit))
        }
        _ if request.body.len() > MAX_REACTION_OCTETS => {
            return invalid("body", "a reaction has at most 64 octets");
        }
        _ if std::str::from_utf8(&request.body).is_err() => {
            return invalid("body", "a reaction is UTF-8 text");
        }
        _ => change,
    }))
}

impl Gateway {
    /// One message, for somebody who may read its conversation; with `original`, as it was before its
    /// first edit. `None` if there is no such message, or only its author may see originals
    /// ([`originals`](crate::GatewayBuilder::originals)).
    ///
    /// # Errors
    ///
    /// [`GatewayError::Refused`] for whoever is no part of the conversation, whether it exists or not.
    pub async fn message(
        &self,
        user: &UserName,
        conversation: &ConversationId,
        message: MessageId,
        original: bool,
    ) -> Result<Option<StoredMessage>, GatewayError> {
        let destination = conversation_destination(user, conversation)?;
        self.inner.authorize(user, Action::Read, &destination).await?;
        let floor = self.inner.visible_after(user, conversation).await?;
        let found = self.inner.store.find(conversation, message, original).await?;
        let shows = |found: &StoredMessage| {
            let allowed = !original || self.inner.settings.originals || found.sender == *user;
            allowed && found.seq > floor
        };
        Ok(found.filter(shows).map(|mut found| {
            found.fade(self.inner.clock.now_millis());
            found
        }))
    }
}
