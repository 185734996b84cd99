//! The names under which the gateway's things live in the broker.
//!
//! A name that a person chose becomes one word of a topic: whatever has a meaning in topics and
//! patterns (`.`, `*`, `#`), and all else outside a small safe set, is written as `%XX`. So a user
//! named `a.b` shares nothing with the user `a`, and no name can be a pattern.

use std::fmt::Write;

use crate::destination::UserDestination;
use crate::names::{ConversationId, DeviceName, UserName};

/// What is kept for the devices of `user`.
pub(crate) fn inbox(user: &UserName) -> String {
    format!("inbox.{}", word(user.as_str()))
}

/// Whose sessions end, for all nodes.
pub(crate) const KICK: &str = "kick";

/// What is kept for the devices of everybody.
pub(crate) const EVERYBODY: &str = "everybody";

/// What is for one device of `user` only.
pub(crate) fn device(user: &UserName, device: &DeviceName) -> String {
    format!("device.{}.{}", word(user.as_str()), word(device.as_str()))
}

/// The durable subscription of one device of `user`.
pub(crate) fn device_inbox(user: &UserName, device: &DeviceName) -> String {
    format!("inbox.{}.{}", word(user.as_str()), word(device.as_str()))
}

/// Signals to the connected devices of `user`.
pub(crate) fn live(user: &UserName) -> String {
    format!("live.{}", word(user.as_str()))
}

/// The live part of a conversation's timeline.
pub(crate) fn conversation(id: &ConversationId) -> String {
    format!("conv.{}", word(id.as_str()))
}

/// Changes of the presence of `user`.
pub(crate) fn presence(user: &UserName) -> String {
    format!("presence.{}", word(user.as_str()))
}

/// A client's `/topic/...`, whose words and wildcards stay what they are.
pub(crate) fn topic(name: &str) -> String {
    format!("topic.{name}")
}

/// A client's `/queue/...`.
pub(crate) fn queue(name: &str) -> String {
    format!("queue.{name}")
}

/// A durable topic subscription of `user`.
pub(crate) fn durable(user: &UserName, id: &str) -> String {
    format!("durable.{}.{}", word(user.as_str()), word(id))
}

/// A reply target, by its random name.
pub(crate) fn reply(id: &str) -> String {
    format!("reply.{}", word(id))
}

/// A user destination of `user`.
pub(crate) fn user_destination(user: &UserName, to: &UserDestination) -> String {
    format!("user.{}.{}.{}", word(user.as_str()), to.kind(), word(&to.name))
}

fn word(text: &str) -> String {
    let is_safe = |octet: u8| {
        octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'-' | b'@' | b'+' | b':')
    };
    if text.bytes().all(is_safe) {
        return text.to_owned();
    }
    let mut word = String::with_capacity(text.len());
    for octet in text.bytes() {
        if is_safe(octet) {
            word.push(char::from(octet));
        } else {
            // Writing to a String does not fail.
            let _ = write!(word, "%{octet:02X}");
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    /// V-19: a name cannot be a pattern, nor reach into another's topics.
    #[test]
    fn p8_a_chosen_name_is_one_word_and_never_a_pattern() {
        assert_eq!(word("a.b"), "a%2Eb");
        assert_eq!(word("*#%"), "%2A%23%25");
        assert_eq!(word("é"), "%C3%A9");
        let one = UserName::new("a.b").unwrap();
        let device = DeviceName::new("c").unwrap();
        assert_eq!(device_inbox(&one, &device), "inbox.a%2Eb.c");
    }
}
