//! The order of a user's conversations.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use super::message::ConversationSummary;
use super::search::InvalidCursor;
use crate::names::ConversationId;

/// A place in a user's list of conversations; as text it is a cursor
///
/// The list has the conversation with the latest message first, and those of one moment in the order of their names. A
/// conversation that gets a message while somebody pages moves to the front, and is not met behind the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationCursor {
    last_time: u64,
    conversation: ConversationId,
}

impl ConversationCursor {
    /// The place of a line
    #[must_use]
    pub fn of(summary: &ConversationSummary) -> Self {
        Self { last_time: summary.last_time, conversation: summary.conversation.clone() }
    }

    /// Whether a conversation whose last message was stored at `last_time` (0 without one) is behind this place
    #[must_use]
    pub fn precedes(&self, last_time: u64, conversation: &ConversationId) -> bool {
        (Reverse(self.last_time), &self.conversation) < (Reverse(last_time), conversation)
    }
}

impl fmt::Display for ConversationCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.last_time, self.conversation)
    }
}

impl FromStr for ConversationCursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (last_time, conversation) = text.split_once('-').ok_or(InvalidCursor)?;
        let last_time = last_time.parse().map_err(|_| InvalidCursor)?;
        let conversation = ConversationId::new(conversation).map_err(|_| InvalidCursor)?;
        Ok(Self { last_time, conversation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let text = "1700000000000-direct:a-b:c";
        let cursor: ConversationCursor = text.parse().unwrap();
        assert_eq!(cursor.to_string(), text);
        for wrong in ["", "1", "-", "1-", "x-group:a", "1-group", "-1-group:a"] {
            assert_eq!(wrong.parse::<ConversationCursor>(), Err(InvalidCursor), "{wrong:?}");
        }
    }
}
