//! How long messages are kept.

use std::time::Duration;

use super::keep::fits;
use crate::names::ConversationId;

/// From where to where a store has a conversation, and since when
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extent {
    /// Which conversation
    pub conversation: ConversationId,
    /// The first message that the store has
    pub first_seq: u64,
    /// When that was stored, in milliseconds since 1970, UTC
    pub first_time: u64,
    /// The last message that there was
    pub last_seq: u64,
}

impl Extent {
    /// An extent
    #[must_use]
    pub const fn new(
        conversation: ConversationId,
        first_seq: u64,
        first_time: u64,
        last_seq: u64,
    ) -> Self {
        Self { conversation, first_seq, first_time, last_seq }
    }
}

/// Which messages of a conversation are forgotten: those that one of the two concerns
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cut {
    /// Those stored before this time, in milliseconds since 1970, UTC
    pub before_time: u64,
    /// Those with a smaller `seq`
    pub before_seq: u64,
}

impl Cut {
    /// Forgets what was stored before this time, and what has a smaller `seq`; 0 for neither
    #[must_use]
    pub const fn new(before_time: u64, before_seq: u64) -> Self {
        Self { before_time, before_seq }
    }

    pub(crate) const fn concerns(&self, seq: u64, time: u64) -> bool {
        seq < self.before_seq || time < self.before_time
    }
}

/// How long messages of a conversation are kept: as long as both bounds allow; for good without any
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// Not longer than this
    pub max_age: Option<Duration>,
    /// Not more than so many, the last ones
    pub max_messages: Option<u64>,
}

impl Retention {
    /// For good
    pub const FOREVER: Self = Self { max_age: None, max_messages: None };

    /// Messages not older than `age`
    #[must_use]
    pub const fn max_age(age: Duration) -> Self {
        Self { max_age: Some(age), max_messages: None }
    }

    /// The last `count` messages
    #[must_use]
    pub const fn max_messages(count: u64) -> Self {
        Self { max_age: None, max_messages: Some(count) }
    }

    /// Also not older than `age`
    #[must_use]
    pub const fn and_max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// What this means of a conversation now; `None` where nothing is to be forgotten
    pub(crate) fn cut(&self, extent: &Extent, now: u64) -> Option<Cut> {
        let age = self.max_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let before_time = age.map_or(0, |age| now.saturating_sub(age));
        let keep = self.max_messages.unwrap_or(u64::MAX);
        let cut = Cut::new(before_time, (extent.last_seq + 1).saturating_sub(keep));
        cut.concerns(extent.first_seq, extent.first_time).then_some(cut)
    }
}

/// Which conversations are kept how long: the first rule that fits decides; without one, for good
///
/// A pattern is a conversation as it is written, `direct:alice:bob` or `group:ops`, or the beginning of one and `*`:
/// `group:log-*`, `direct:*`, `*`.
///
/// ```
/// use std::time::Duration;
/// use gateway_core::{Retention, RetentionRules};
///
/// const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// let rules = RetentionRules::new()
///     .rule("group:archive-*", Retention::FOREVER)
///     .rule("group:*", Retention::max_messages(10_000).and_max_age(365 * DAY))
///     .rule("direct:*", Retention::max_age(90 * DAY));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionRules(Vec<(String, Retention)>);

impl RetentionRules {
    /// Everything is kept for good
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a rule, for conversations that no earlier one fits
    #[must_use]
    pub fn rule(mut self, pattern: impl Into<String>, retention: Retention) -> Self {
        self.0.push((pattern.into(), retention));
        self
    }

    /// How long a conversation is kept
    #[must_use]
    pub fn of(&self, conversation: &ConversationId) -> Retention {
        let rule = self.0.iter().find(|(pattern, _)| fits(pattern, conversation));
        rule.map_or(Retention::FOREVER, |(_, retention)| *retention)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|(_, retention)| *retention == Retention::FOREVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = RetentionRules::new()
            .rule("group:log", Retention::max_messages(1))
            .rule("group:log*", Retention::max_messages(2))
            .rule("*", Retention::max_messages(3));
        for (name, count) in [("group:log", 1), ("group:logs", 2), ("direct:a:b", 3)] {
            let conversation = ConversationId::new(name).unwrap();
            assert_eq!(rules.of(&conversation), Retention::max_messages(count), "{name}");
        }
        let ops = ConversationId::new("group:ops").unwrap();
        assert_eq!(
            RetentionRules::new().rule("group:o", Retention::FOREVER).of(&ops),
            Retention::FOREVER
        );
    }

    #[test]
    fn a_cut_is_made_only_where_something_goes() {
        let ops = ConversationId::new("group:ops").unwrap();
        let extent = Extent::new(ops, 3, 1000, 10);
        let day = Duration::from_millis(500);
        assert_eq!(Retention::FOREVER.cut(&extent, 9999), None);
        assert_eq!(Retention::max_messages(8).cut(&extent, 9999), None);
        assert_eq!(Retention::max_messages(7).cut(&extent, 9999), Some(Cut::new(0, 4)));
        assert_eq!(Retention::max_messages(0).cut(&extent, 9999), Some(Cut::new(0, 11)));
        assert_eq!(Retention::max_age(day).cut(&extent, 1500), None);
        assert_eq!(Retention::max_age(day).cut(&extent, 1501), Some(Cut::new(1001, 0)));
        assert_eq!(Retention::max_age(day).cut(&extent, 3), None);
    }
}
