//! Names of users, groups, devices and conversations.
//!
//! A name is valid or it does not exist: every type here can only be made by a checking constructor, so code that
//! holds one need not check again. Names are compared octet by octet: no case folding, no Unicode normalisation.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name, in characters
pub const MAX_NAME_CHARS: usize = 64;

/// Why a text is no name
///
/// The fault is the caller's. The text itself is not repeated in the message: it may be long or hostile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The name has no characters
    #[error("a name must not be empty")]
    Empty,
    /// The name has more than [`MAX_NAME_CHARS`] characters
    #[error("a name has at most {MAX_NAME_CHARS} characters")]
    TooLong,
    /// A character is neither a Unicode letter or digit nor one of `. _ - @ +`
    #[error("the character {0:?} is not allowed in a name")]
    BadCharacter(char),
    /// The word has a meaning of its own: `queue` and `topic` for users, `.` and `..` for all
    #[error("this name is reserved")]
    Reserved,
    /// The text is not of the form `direct:A:B` (with A and B in order), `group:NAME` or `broadcast:NAME`
    #[error(
        "a conversation is written direct:A:B, with the names in order, group:NAME or broadcast:NAME"
    )]
    NotAConversation,
}

fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    // `.` and `..` are taken out of a path by every HTTP client, percent-encoded or not.
    if text == "." || text == ".." {
        return Err(NameError::Reserved);
    }
    for (index, c) in text.chars().enumerate() {
        if index == MAX_NAME_CHARS {
            return Err(NameError::TooLong);
        }
        if !(c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+')) {
            return Err(NameError::BadCharacter(c));
        }
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and makes a name of it
            ///
            /// # Errors
            ///
            /// [`NameError`] names the rule that `text` breaks.
            pub fn new(text: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> Result<(), NameError> = $check;
                check(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The name as text
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        text_impls!($name);
    };
}

/// What every checked text has in common
macro_rules! text_impls {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;

            fn try_from(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).map_err(D::Error::custom)
            }
        }
    };
}

name!(
    /// The name of a user: 1 to 64 Unicode letters, digits and `. _ - @ +`; not `queue`, not `topic`
    ///
    /// Cheap to clone.
    UserName,
    |text| {
        check(text)?;
        // `/user/queue/x` is the caller's own user destination, so no person can have that name.
        if text == "queue" || text == "topic" { Err(NameError::Reserved) } else { Ok(()) }
    }
);

name!(
    /// The name of a group: 1 to 64 Unicode letters, digits and `. _ - @ +`
    ///
    /// Cheap to clone.
    GroupName,
    check
);

name!(
    /// The name of one device of a user: 1 to 64 Unicode letters, digits and `. _ - @ +`
    ///
    /// It means something only together with its user. Cheap to clone.
    DeviceName,
    check
);

impl DeviceName {
    /// The device of a user who names none: the user's own name
    #[must_use]
    pub fn default_of(user: &UserName) -> Self {
        Self(user.0.clone())
    }
}

/// One conversation: between two people, of a group, or what operators tell a group or everybody
///
/// Its canonical text is `direct:alice:bob`, the two names in the order of their octets, `group:ops`, or
/// `broadcast:ops`. Names contain no `:`, so two conversations never share a text. A person's conversation with himself is `direct:alice:alice`.
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationId(Arc<str>);

/// Who talks in a conversation
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "every user must treat all of them")]
pub enum ConversationKind {
    /// Two people, in the order of the canonical text; the same one twice for notes to oneself
    Direct(UserName, UserName),
    /// The members of a group
    Group(GroupName),
    /// Operators, to the members of a group or to [everybody](EVERYBODY)
    Broadcast(GroupName),
}

/// The name that stands for everybody in `/broadcast/all` and `broadcast:all`
pub const EVERYBODY: &str = "all";

impl ConversationId {
    /// The conversation of two people, in whichever order they are given
    #[must_use]
    pub fn direct(one: &UserName, other: &UserName) -> Self {
        let (first, second) = if one <= other { (one, other) } else { (other, one) };
        Self(Arc::from(format!("direct:{first}:{second}")))
    }

    /// The conversation of a group
    #[must_use]
    pub fn group(group: &GroupName) -> Self {
        Self(Arc::from(format!("group:{group}")))
    }

    /// What operators tell the members of a group, or [everybody](EVERYBODY)
    #[must_use]
    pub fn broadcast(to: &GroupName) -> Self {
        Self(Arc::from(format!("broadcast:{to}")))
    }

    /// What operators tell everybody
    #[must_use]
    pub(crate) fn everybody() -> Self {
        Self(Arc::from(format!("broadcast:{EVERYBODY}")))
    }

    pub(crate) fn is_everybody(&self) -> bool {
        self.0.strip_prefix("broadcast:") == Some(EVERYBODY)
    }

    /// The conversations of who is in these groups, beside direct ones
    #[must_use]
    pub(crate) fn of_groups(groups: &[GroupName]) -> Vec<Self> {
        let of = groups.iter().map(Self::group).chain(groups.iter().map(Self::broadcast));
        let others = of.filter(|one| !one.is_everybody());
        std::iter::once(Self::everybody()).chain(others).collect()
    }

    /// Whether it is what operators tell
    #[must_use]
    pub fn is_broadcast(&self) -> bool {
        self.0.starts_with("broadcast:")
    }

    /// Reads the canonical text
    ///
    /// # Errors
    ///
    /// [`NameError`] where `text` is not canonical: another prefix, names out of order, a name that breaks the rules.
    pub fn new(text: &str) -> Result<Self, NameError> {
        parse(text)?;
        Ok(Self(Arc::from(text)))
    }

    /// The canonical text
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Who talks in it
    #[must_use]
    #[allow(clippy::missing_panics_doc, reason = "the text was checked when the value was made")]
    pub fn kind(&self) -> ConversationKind {
        if let Some(group) = self.0.strip_prefix("broadcast:") {
            return ConversationKind::Broadcast(GroupName(Arc::from(group)));
        }
        match self.0.strip_prefix("group:") {
            Some(group) => ConversationKind::Group(GroupName(Arc::from(group))),
            None => {
                let names = self.0.strip_prefix("direct:").unwrap_or(&self.0);
                let (first, second) = names.split_once(':').unwrap_or((names, names));
                ConversationKind::Direct(UserName(Arc::from(first)), UserName(Arc::from(second)))
            }
        }
    }

    /// The group whose conversation this is
    #[must_use]
    pub fn as_group(&self) -> Option<GroupName> {
        match self.kind() {
            ConversationKind::Group(group) => Some(group),
            _ => None,
        }
    }

    /// The other person of a direct conversation, `user` himself for notes to oneself
    ///
    /// `None` for a group, a broadcast, and for a direct conversation that `user` is not part of.
    #[must_use]
    pub fn peer_of(&self, user: &UserName) -> Option<UserName> {
        match self.kind() {
            ConversationKind::Direct(first, second) if first == *user => Some(second),
            ConversationKind::Direct(first, second) if second == *user => Some(first),
            _ => None,
        }
    }
}

fn parse(text: &str) -> Result<ConversationKind, NameError> {
    if let Some(group) = text.strip_prefix("group:") {
        return Ok(ConversationKind::Group(GroupName::new(group)?));
    }
    if let Some(group) = text.strip_prefix("broadcast:") {
        return Ok(ConversationKind::Broadcast(GroupName::new(group)?));
    }
    let names = text.strip_prefix("direct:").ok_or(NameError::NotAConversation)?;
    let (first, second) = names.split_once(':').ok_or(NameError::NotAConversation)?;
    let (first, second) = (UserName::new(first)?, UserName::new(second)?);
    if first > second {
        return Err(NameError::NotAConversation);
    }
    Ok(ConversationKind::Direct(first, second))
}

text_impls!(ConversationId);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_letters_digits_and_five_signs_are_accepted() {
        for name in ["a", "alice", "Ærøskøbing", "李雷", "bob+1@example.org", "x_y-z.9", "...", "٣"]
        {
            assert_eq!(UserName::new(name).unwrap().as_str(), name);
            assert_eq!(GroupName::new(name).unwrap().as_str(), name);
            assert_eq!(DeviceName::new(name).unwrap().as_str(), name);
        }
        assert!(UserName::new(&"李".repeat(64)).is_ok());
    }

    /// V-19, V-28: nothing that means something in a destination, a pattern or a path is part of a name.
    #[test]
    fn signs_with_a_meaning_elsewhere_are_refused() {
        for bad in [
            "a b",
            "a/b",
            "a:b",
            "*",
            "#",
            ">",
            "a%2fb",
            "a\0",
            "a\nb",
            "a,b",
            "\u{202e}a",
            "a\u{301}",
        ] {
            assert!(matches!(UserName::new(bad), Err(NameError::BadCharacter(_))), "{bad:?}");
            assert!(matches!(GroupName::new(bad), Err(NameError::BadCharacter(_))), "{bad:?}");
        }
        assert_eq!(UserName::new(""), Err(NameError::Empty));
        assert_eq!(UserName::new(&"a".repeat(65)), Err(NameError::TooLong));
        assert_eq!(GroupName::new(".."), Err(NameError::Reserved));
        assert_eq!(UserName::new("queue"), Err(NameError::Reserved));
        assert_eq!(UserName::new("topic"), Err(NameError::Reserved));
        assert!(GroupName::new("queue").is_ok());
    }

    /// V-40: no case mapping, no normalisation.
    #[test]
    fn names_that_look_alike_are_different_names() {
        assert_ne!(UserName::new("alice").unwrap(), UserName::new("Alice").unwrap());
        assert_ne!(UserName::new("\u{e9}").unwrap(), UserName::new("e").unwrap());
        assert_ne!(UserName::new("\u{430}lice").unwrap(), UserName::new("alice").unwrap());
    }

    #[test]
    fn a_direct_conversation_is_the_same_from_both_sides() {
        let (alice, bob) = (UserName::new("alice").unwrap(), UserName::new("bob").unwrap());
        let conversation = ConversationId::direct(&bob, &alice);
        assert_eq!(conversation, ConversationId::direct(&alice, &bob));
        assert_eq!(conversation.as_str(), "direct:alice:bob");
        assert_eq!(conversation.peer_of(&alice), Some(bob.clone()));
        assert_eq!(conversation.peer_of(&bob), Some(alice.clone()));
        assert_eq!(conversation.peer_of(&UserName::new("al").unwrap()), None);
        assert_eq!(ConversationId::direct(&alice, &alice).peer_of(&alice), Some(alice));
    }

    /// V-28: one conversation has one spelling.
    #[test]
    fn only_the_canonical_text_names_a_conversation() {
        for bad in [
            "direct:bob:alice",
            "direct:alice",
            "direct:alice:bob:carol",
            "direct::bob",
            "direct:queue:x",
            "group:",
            "group:a:b",
            "Group:ops",
            "ops",
            "",
            "group:a/b",
        ] {
            assert!(ConversationId::new(bad).is_err(), "{bad:?}");
        }
        let ops = ConversationId::new("group:ops").unwrap();
        assert_eq!(ops.as_group(), Some(GroupName::new("ops").unwrap()));
        let ops = ops.as_group().unwrap();
        let told = ConversationId::new("broadcast:ops").unwrap();
        assert_eq!(told, ConversationId::broadcast(&ops));
        assert_eq!((told.as_group(), told.kind()), (None, ConversationKind::Broadcast(ops)));
        assert!(ConversationId::new("broadcast:").is_err());
    }

    proptest! {
        #[test]
        fn a_conversation_reads_back_as_it_was_written(a in "[a-z.@]{3,9}", b in "[A-Za-z]{3}") {
            let (Ok(a), Ok(b)) = (UserName::new(&a), UserName::new(&b)) else { return Ok(()) };
            let made = ConversationId::direct(&a, &b);
            let read = ConversationId::new(made.as_str()).unwrap();
            prop_assert_eq!(&read, &made);
            prop_assert_eq!(read.peer_of(&a), Some(b));
        }
    }
}
