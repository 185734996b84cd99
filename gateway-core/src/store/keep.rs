//! How much of a message is stored.

use std::fmt::{self, Debug};
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{IN_REPLY_TO, MessageKind, NewMessage};
use crate::names::ConversationId;

/// The header that tells that of this message not all was stored
pub(crate) const STORED: &str = "stored";

/// What is left of the headers where only metadata is stored: what says when, about what, and of which type
const METADATA: [&str; 4] = [IN_REPLY_TO, "expires", "attachment", "content-type"];

/// How much of a message a store keeps once the broker has it
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Keep {
    /// All of it
    #[default]
    Everything,
    /// Who said something when, of which kind and about what; no body, and of the headers only `in-reply-to`, `expires`,
    /// `attachment` and `content-type`. A header `stored` of the value `metadata` says so
    Metadata,
    /// Its number, and for 24 hours its idempotency key
    Nothing,
}

impl Keep {
    /// The word for it: `everything`, `metadata`, `nothing`
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Metadata => "metadata",
            Self::Nothing => "nothing",
        }
    }
}

/// A text that names no [`Keep`]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what is stored is one of everything, metadata, nothing")]
#[non_exhaustive]
pub struct UnknownKeep;

impl FromStr for Keep {
    type Err = UnknownKeep;

    fn from_str(text: &str) -> Result<Self, UnknownKeep> {
        [Self::Everything, Self::Metadata, Self::Nothing]
            .into_iter()
            .find(|keep| keep.as_str() == text)
            .ok_or(UnknownKeep)
    }
}

/// Decides how much of each message is stored for good
///
/// Whatever it says, the message waits in the outbox as a whole until the broker has it for every recipient: an offline
/// device gets what no store keeps. It is asked about what people say (messages, edits, recalls, reactions); what tells
/// of a group's members is always kept.
pub trait StoragePolicy: Debug + Send + Sync + 'static {
    /// How much of this message is stored
    fn keep(&self, message: &NewMessage) -> Keep;
}

/// How much is stored of some conversations, written `KEEP PATTERN`
///
/// ```
/// # use gateway_core::StorageRule;
/// for rule in ["nothing group:secret-*", "metadata direct:*", "everything *"] {
///     rule.parse::<StorageRule>()?;
/// }
/// # Ok::<(), gateway_core::InvalidStorageRule>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageRule {
    keep: Keep,
    pattern: String,
}

/// Why a text is no [`StorageRule`]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidStorageRule {
    /// It has another form
    #[error("a storage rule is written KEEP PATTERN, such as `metadata direct:*`")]
    Form,
    /// What is to be kept
    #[error(transparent)]
    Keep(#[from] UnknownKeep),
    /// A pattern that fits no conversation
    #[error(
        "a pattern is a conversation, as direct:alice:bob or group:ops, or its beginning and *"
    )]
    Pattern,
}

impl FromStr for StorageRule {
    type Err = InvalidStorageRule;

    fn from_str(text: &str) -> Result<Self, InvalidStorageRule> {
        let (keep, pattern) = text.split_once(' ').ok_or(InvalidStorageRule::Form)?;
        let fits = match pattern.strip_suffix('*') {
            Some(beginning) => ["direct:", "group:", "broadcast:"]
                .iter()
                .any(|kind| kind.starts_with(beginning) || beginning.starts_with(kind)),
            None => ConversationId::new(pattern).is_ok(),
        };
        if !fits {
            return Err(InvalidStorageRule::Pattern);
        }
        Ok(Self { keep: keep.parse()?, pattern: pattern.to_owned() })
    }
}

impl fmt::Display for StorageRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.keep.as_str(), self.pattern)
    }
}

impl Serialize for StorageRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StorageRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error| D::Error::custom(format_args!("`{text}`: {error}")))
    }
}

/// How much is stored of which conversation: the first rule that fits decides; without one, everything
///
/// Patterns are those of [`RetentionRules`](crate::RetentionRules).
///
/// ```
/// use gateway_core::{Keep, StorageRules};
///
/// let rules = StorageRules::new()
///     .rule("group:secret-*", Keep::Nothing)
///     .rule("direct:*", Keep::Metadata);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageRules(Vec<StorageRule>);

impl StorageRules {
    /// Everything is stored
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a rule, for conversations that no earlier one fits
    #[must_use]
    pub fn rule(mut self, pattern: impl Into<String>, keep: Keep) -> Self {
        self.0.push(StorageRule { keep, pattern: pattern.into() });
        self
    }
}

impl FromIterator<StorageRule> for StorageRules {
    fn from_iter<I: IntoIterator<Item = StorageRule>>(rules: I) -> Self {
        Self(rules.into_iter().collect())
    }
}

impl StoragePolicy for StorageRules {
    fn keep(&self, message: &NewMessage) -> Keep {
        let rule = self.0.iter().find(|rule| fits(&rule.pattern, &message.conversation));
        rule.map_or(Keep::Everything, |rule| rule.keep)
    }
}

/// Whether a pattern names a conversation: as it is written, or by the beginning of that and `*`
pub(super) fn fits(pattern: &str, conversation: &ConversationId) -> bool {
    let name = conversation.as_str();
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

/// What is stored of the headers of a message of which only metadata is
pub(super) fn metadata(headers: &[(String, String)]) -> Vec<(String, String)> {
    let kept = headers.iter().filter(|(name, _)| METADATA.contains(&name.as_str())).cloned();
    kept.chain([(STORED.to_owned(), Keep::Metadata.as_str().to_owned())]).collect()
}

impl NewMessage {
    /// Whether all of it goes into the history
    pub(super) fn is_kept_whole(&self) -> bool {
        self.keep == Keep::Everything
    }

    /// Whether it makes the unread count grow: only what there is to read does
    pub(super) fn counts_as_unread(&self) -> bool {
        self.kind.counts_as_unread() && self.keep != Keep::Nothing
    }

    /// The headers that go into the history
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) fn stored_headers(&self) -> Vec<(String, String)> {
        if self.is_kept_whole() { self.headers.clone() } else { metadata(&self.headers) }
    }
}

impl MessageKind {
    /// Whether a [`StoragePolicy`] decides about it: what people say, and not what the server tells
    pub(crate) const fn follows_policy(self) -> bool {
        !matches!(self, Self::Member | Self::System)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::UserName;

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = StorageRules::new()
            .rule("group:log", Keep::Nothing)
            .rule("group:log*", Keep::Metadata)
            .rule("direct:*", Keep::Nothing);
        let keep = |name| {
            let conversation = ConversationId::new(name).unwrap();
            rules.keep(&NewMessage::new(conversation, UserName::new("a").unwrap(), ""))
        };
        for (name, wanted) in [
            ("group:log", Keep::Nothing),
            ("group:logs", Keep::Metadata),
            ("direct:a:b", Keep::Nothing),
            ("group:a", Keep::Everything),
        ] {
            assert_eq!(keep(name), wanted, "{name}");
        }
    }

    #[test]
    fn a_rule_is_read_as_it_is_written() {
        for text in ["nothing group:a", "metadata direct:a:b", "everything group:a-*", "nothing *"]
        {
            assert_eq!(text.parse::<StorageRule>().map(|rule| rule.to_string()), Ok(text.into()));
        }
        for text in ["", "nothing", "none *", "nothing groups:*", "nothing a", "nothing direct:b:a"]
        {
            assert!(text.parse::<StorageRule>().is_err(), "{text:?}");
        }
    }
}
