//! What the bridge knows of a message beside headers and body, as text.

use std::time::{Duration, SystemTime};

use crate::remote::Outbound;
use crate::{DeadLetterReason, Message};

/// As text `FLAGS PRIORITY EXPIRES`: flags are letters or `-`, the time is in milliseconds since
/// 1970 or `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) persistent: bool,
    pub(super) priority: u8,
    pub(super) expires: Option<SystemTime>,
    pub(super) redelivered: bool,
    pub(super) dead_letter: Option<DeadLetterReason>,
    /// All headers are in one field, as they are more than the server can handle one by one.
    pub(super) block: bool,
}

/// The most headers that get a field each.
const MAX_FIELDS: usize = 1000;

const TRANSIENT: char = 't';
const REDELIVERED: char = 'r';
const REJECTED: char = 'j';
const MAX_DELIVERIES: char = 'm';
const BLOCK: char = 'h';

impl Default for Attributes {
    /// Those of a message that another program has written.
    fn default() -> Self {
        Self {
            persistent: true,
            priority: 4,
            expires: None,
            redelivered: false,
            dead_letter: None,
            block: false,
        }
    }
}

impl Attributes {
    pub(super) fn of(outbound: &Outbound) -> Self {
        let Message { persistent, priority, expires, .. } = outbound.message;
        Self {
            persistent,
            priority,
            expires,
            redelivered: outbound.redelivered,
            dead_letter: outbound.dead_letter.as_ref().map(|letter| letter.reason),
            block: outbound.message.headers.len() > MAX_FIELDS,
        }
    }

    pub(super) fn apply(&self, message: Message) -> Message {
        let mut message = message.with_persistent(self.persistent).with_priority(self.priority);
        message.expires = self.expires;
        message
    }

    pub(super) fn encode(&self) -> String {
        let mut flags = String::new();
        if !self.persistent {
            flags.push(TRANSIENT);
        }
        if self.redelivered {
            flags.push(REDELIVERED);
        }
        match self.dead_letter {
            Some(DeadLetterReason::Rejected) => flags.push(REJECTED),
            Some(DeadLetterReason::MaxDeliveries) => flags.push(MAX_DELIVERIES),
            None => {}
        }
        if self.block {
            flags.push(BLOCK);
        }
        if flags.is_empty() {
            flags.push('-');
        }
        match self.expires {
            Some(time) => {
                // What expires before 1970 has expired.
                let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                format!("{flags} {} {}", self.priority, since.as_millis())
            }
            None => format!("{flags} {} -", self.priority),
        }
    }

    /// Reads the text and gives what follows it after a space.
    pub(super) fn decode(text: &str) -> Option<(Self, &str)> {
        let mut words = text.splitn(4, ' ');
        let (flags, priority, expires) = (words.next()?, words.next()?, words.next()?);
        let expires = match expires {
            "-" => None,
            millis => {
                let since = Duration::from_millis(millis.parse().ok()?);
                Some(SystemTime::UNIX_EPOCH.checked_add(since)?)
            }
        };
        let dead_letter = if flags.contains(REJECTED) {
            Some(DeadLetterReason::Rejected)
        } else if flags.contains(MAX_DELIVERIES) {
            Some(DeadLetterReason::MaxDeliveries)
        } else {
            None
        };
        let attributes = Self {
            persistent: !flags.contains(TRANSIENT),
            priority: priority.parse().ok().filter(|priority| *priority <= 9)?,
            expires,
            redelivered: flags.contains(REDELIVERED),
            dead_letter,
            block: flags.contains(BLOCK),
        };
        Some((attributes, words.next().unwrap_or_default()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::redis) fn attributes() -> impl Strategy<Value = Attributes> {
        let reasons = vec![DeadLetterReason::Rejected, DeadLetterReason::MaxDeliveries];
        (
            proptest::bool::ANY,
            0..=9_u8,
            prop::option::of(0..u64::from(u32::MAX)),
            proptest::bool::ANY,
            prop::option::of(prop::sample::select(reasons)),
            proptest::bool::ANY,
        )
            .prop_map(
                |(persistent, priority, expires, redelivered, dead_letter, block)| {
                    let expires =
                        expires.map(|ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
                    Attributes { persistent, priority, expires, redelivered, dead_letter, block }
                },
            )
    }

    proptest! {
        #[test]
        fn they_come_back_with_what_follows(attributes in attributes(), rest in ".{0,9}") {
            let text = format!("{} {rest}", attributes.encode());
            prop_assert_eq!(Attributes::decode(&text), Some((attributes, rest.as_str())));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-tr0-9 ]{0,12}") {
            let _ = Attributes::decode(&text);
        }
    }
}
