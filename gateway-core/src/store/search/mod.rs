//! Full-text search: what is looked for, where, and in which order it is found.
//!
//! All stores find the same messages, as they share the one way of taking a text apart ([`terms`]); each finds them
//! with its own index.

mod query;
mod terms;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use super::{MessageKind, StoredMessage};
use crate::names::{ConversationId, UserName};

pub use query::{InvalidSearch, MAX_PHRASES, MAX_QUERY_OCTETS, SearchTerms};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(in crate::store) use terms::words;

/// What is looked for in the texts of messages, and where
///
/// It looks in the direct conversations of [`direct_of`](Self::direct_of) and in [`within`](Self::within), and nowhere
/// else; without both it finds nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Search {
    /// The words
    pub terms: SearchTerms,
    /// All direct conversations of this user
    pub direct_of: Option<UserName>,
    /// These conversations, each once, and none that `direct_of` stands for
    pub within: Vec<SearchScope>,
    /// Only what comes after this place in the order of finding
    pub after: Option<SearchCursor>,
    /// At most so many messages
    pub limit: usize,
    /// No further message once bodies and headers have so many octets; one message always fits. Default 4 MiB
    pub max_octets: usize,
}

impl Search {
    /// A search that looks nowhere yet
    #[must_use]
    pub const fn new(terms: SearchTerms, limit: usize) -> Self {
        Self {
            terms,
            direct_of: None,
            within: Vec::new(),
            after: None,
            limit,
            max_octets: 4 * 1024 * 1024,
        }
    }

    /// Looks in all direct conversations of `user`
    #[must_use]
    pub fn with_direct_of(mut self, user: UserName) -> Self {
        self.direct_of = Some(user);
        self
    }

    /// Looks in these conversations
    #[must_use]
    pub fn with_scopes(mut self, scopes: impl IntoIterator<Item = SearchScope>) -> Self {
        self.within = scopes.into_iter().collect();
        self
    }

    /// Goes on where an earlier search ended
    #[must_use]
    pub fn with_after(mut self, cursor: Option<SearchCursor>) -> Self {
        self.after = cursor;
        self
    }

    /// Sets the bound in octets
    #[must_use]
    pub const fn with_max_octets(mut self, octets: usize) -> Self {
        self.max_octets = octets;
        self
    }
}

/// A conversation, or the later part of one
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SearchScope {
    /// Which conversation
    pub conversation: ConversationId,
    /// Only messages with a greater `seq`; 0 for all
    pub after_seq: u64,
}

impl SearchScope {
    /// All of a conversation
    #[must_use]
    pub const fn new(conversation: ConversationId) -> Self {
        Self { conversation, after_seq: 0 }
    }

    /// Only messages with a greater `seq`
    #[must_use]
    pub const fn with_after_seq(mut self, seq: u64) -> Self {
        self.after_seq = seq;
        self
    }
}

/// A place in the order of finding, newest first: by timestamp, then by conversation, then by `seq`
///
/// Written as `TIMESTAMP-SEQ-CONVERSATION`; clients need not know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SearchCursor {
    /// The timestamp of the message at this place
    pub timestamp: u64,
    /// Its conversation
    pub conversation: ConversationId,
    /// Its `seq`
    pub seq: u64,
}

impl StoredMessage {
    /// Grows in the order in which a search finds backwards
    pub(in crate::store) fn place(&self) -> (u64, &ConversationId, u64) {
        (self.timestamp, &self.conversation, self.seq)
    }
}

impl SearchCursor {
    /// The place of a message
    #[must_use]
    pub fn of(message: &StoredMessage) -> Self {
        let conversation = message.conversation.clone();
        Self { timestamp: message.timestamp, conversation, seq: message.seq }
    }

    /// Within `conversation`: messages after this place are not newer than the first number, and have a smaller `seq`
    /// than the second
    pub(in crate::store) fn bounds(&self, conversation: &ConversationId) -> (u64, u64) {
        match conversation.cmp(&self.conversation) {
            Ordering::Less => (self.timestamp, u64::MAX),
            Ordering::Equal => (self.timestamp, self.seq),
            Ordering::Greater => (self.timestamp.saturating_sub(1), u64::MAX),
        }
    }
}

impl fmt::Display for SearchCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.timestamp, self.seq, self.conversation)
    }
}

impl FromStr for SearchCursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let mut parts = text.splitn(3, '-');
        let mut number = || parts.next()?.parse().ok();
        let (Some(timestamp), Some(seq)) = (number(), number()) else { return Err(InvalidCursor) };
        let conversation = parts.next().ok_or(InvalidCursor)?;
        let conversation = ConversationId::new(conversation).map_err(|_| InvalidCursor)?;
        Ok(Self { timestamp, conversation, seq })
    }
}

/// The text is no place in a list
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the cursor of a page")]
#[non_exhaustive]
pub struct InvalidCursor;

/// The text of a message that can be searched for: that of a plain message whose body is text
pub(in crate::store) fn text_of<'a>(
    kind: MessageKind,
    headers: &[(String, String)],
    body: &'a [u8],
) -> Option<&'a str> {
    let is_text = || {
        let of = headers.iter().find(|(name, _)| name == "content-type");
        of.is_none_or(|(_, value)| value.get(..5).is_some_and(|t| t.eq_ignore_ascii_case("text/")))
    };
    if kind != MessageKind::Message || !is_text() {
        return None;
    }
    std::str::from_utf8(body).ok().filter(|text| !text.is_empty())
}

/// The text of a message to be stored that can be searched for
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(in crate::store) fn text_of_new(message: &super::NewMessage) -> Option<&str> {
    text_of(message.kind, &message.headers, &message.body).filter(|_| message.is_kept_whole())
}

/// The text of a stored message that can be searched for
pub(in crate::store) fn text_of_stored(message: &StoredMessage) -> Option<&str> {
    text_of(message.kind, &message.headers, &message.body)
}
