//! What edits, recalls and reactions do to the message that they are about.

use bytes::Bytes;

use super::keep::{STORED, metadata};
use super::{MessageId, MessageKind, NewMessage, StoreError, StoredMessage};
use crate::names::UserName;

/// How many reactions a message takes, each of another user
pub const MAX_REACTIONS: usize = 1000;

/// How long a reaction may be, in octets
pub const MAX_REACTION_OCTETS: usize = 64;

/// The header that names the message which a message is about
pub(crate) const IN_REPLY_TO: &str = "in-reply-to";

/// What an edit, a recall or a reaction is about, and when it is allowed
///
/// The store decides in the transaction that stores it, so that of an edit and a recall at the same time one comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// The message that is changed; it is of the same conversation and of kind [`MessageKind::Message`]
    pub target: MessageId,
    /// Whether only the author of the message may do it
    pub author_only: bool,
    /// Only a message of this time or later, in milliseconds since 1970, UTC
    pub not_before: u64,
}

impl Change {
    /// A change that everyone may make at any time
    #[must_use]
    pub const fn of(target: MessageId) -> Self {
        Self { target, author_only: false, not_before: 0 }
    }

    /// Allows it to the author of the message only
    #[must_use]
    pub const fn by_author_only(mut self) -> Self {
        self.author_only = true;
        self
    }

    /// Allows it for messages of this time or later
    #[must_use]
    pub const fn not_before(mut self, millis: u64) -> Self {
        self.not_before = millis;
        self
    }
}

/// What a user has said to a message in a word or a sign
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reaction {
    /// Who
    pub user: UserName,
    /// What
    pub text: String,
}

impl Reaction {
    /// A reaction
    #[must_use]
    pub const fn new(user: UserName, text: String) -> Self {
        Self { user, text }
    }
}

/// Why a message cannot be changed
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The target is not there, or nothing that can be changed
    #[error("in-reply-to: there is no such message in this conversation")]
    NoTarget,
    /// The target was recalled before
    #[error("in-reply-to: the message was recalled")]
    Recalled,
    /// Somebody else said it
    #[error("only its author may change a message")]
    NotAuthor,
    /// The target is older than allowed
    #[error("the message is too old to be recalled")]
    TooLate,
    /// The target has as many reactions as it may have
    #[error("a message takes at most {MAX_REACTIONS} reactions")]
    TooManyReactions,
}

/// What the rules look at in the message to be changed
pub(super) struct Target<'a> {
    pub(super) kind: MessageKind,
    pub(super) sender: &'a UserName,
    pub(super) timestamp: u64,
    pub(super) recalled: bool,
}

impl<'a> From<&'a StoredMessage> for Target<'a> {
    fn from(message: &'a StoredMessage) -> Self {
        Self {
            kind: message.kind,
            sender: &message.sender,
            timestamp: message.timestamp,
            recalled: message.recalled.is_some(),
        }
    }
}

/// Whether `sender` may make the change
pub(super) fn check_change(
    change: &Change,
    sender: &UserName,
    target: Option<&Target<'_>>,
) -> Result<(), StoreError> {
    let target = target.filter(|target| target.kind == MessageKind::Message);
    let fault = match target {
        None => ChangeError::NoTarget,
        Some(target) if target.recalled => ChangeError::Recalled,
        Some(target) if change.author_only && target.sender != sender => ChangeError::NotAuthor,
        Some(target) if target.timestamp < change.not_before => ChangeError::TooLate,
        Some(_) => return Ok(()),
    };
    Err(fault.into())
}

/// Headers and body of a message after an edit: what tells of the body is the edit's, the rest stays; nothing of either
/// where the edit is not stored as a whole
pub(super) fn edited(
    old: Vec<(String, String)>,
    edit: &NewMessage,
) -> (Vec<(String, String)>, Bytes) {
    if !edit.is_kept_whole() {
        let old: Vec<_> = old.into_iter().filter(|(name, _)| name != STORED).collect();
        return (metadata(&old), Bytes::new());
    }
    let of_body = |(name, _): &&(String, String)| name == "content-type" || name == "mentions";
    let stays = |header: &(String, String)| !of_body(&header) && header.0 != STORED;
    let mut headers: Vec<_> = old.into_iter().filter(stays).collect();
    headers.extend(edit.headers.iter().filter(of_body).cloned());
    (headers, edit.body.clone())
}

/// Whether the outbox may have a copy of its own of a message with these headers
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(super) fn has_copy(headers: &[(String, String)]) -> bool {
    headers.iter().any(|(name, _)| name == STORED)
}

/// What a recall leaves of the headers: which message it was about
pub(super) fn wiped_headers(headers: Vec<(String, String)>) -> Vec<(String, String)> {
    headers.into_iter().filter(|(name, _)| name == IN_REPLY_TO).collect()
}

/// The reactions of a message after one more; no text takes the user's one back
pub(super) fn react(
    mut reactions: Vec<Reaction>,
    reaction: &NewMessage,
) -> Result<Vec<Reaction>, StoreError> {
    if !reaction.is_kept_whole() {
        return Ok(reactions);
    }
    reactions.retain(|known| known.user != reaction.sender);
    let text = String::from_utf8_lossy(&reaction.body);
    if !text.is_empty() {
        if reactions.len() >= MAX_REACTIONS {
            return Err(ChangeError::TooManyReactions.into());
        }
        reactions.push(Reaction::new(reaction.sender.clone(), text.into_owned()));
    }
    Ok(reactions)
}
