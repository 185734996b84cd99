use std::fmt;

use crate::names::{ConversationId, GroupName, UserName};

/// The longest destination that is looked at, in octets.
pub const MAX_DESTINATION: usize = 512;

/// A destination of the gateway, parsed from the `destination` header.
///
/// The spelling is exact: no case folding, no percent-decoding, no path cleaning. Whatever is not
/// one of these forms is refused, so that there is one spelling for each thing that an authorizer
/// decides about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Destination {
    /// `/user/NAME`: a person.
    User(UserName),
    /// `/group/NAME`: the members of a group.
    Group(GroupName),
    /// `/broadcast/NAME`: from operators to the members of a group; `/broadcast/all`: to everybody.
    Broadcast(GroupName),
    /// `/inbox`: everything addressed to the signed-in user, on this device.
    Inbox,
    /// `/presence/NAME`: whether a person is there.
    Presence(UserName),
    /// `/queue/NAME`: each message to one consumer.
    Queue(String),
    /// `/topic/a.b.c`: to every current subscriber; a pattern when subscribing.
    Topic(String),
    /// `/temp-queue/NAME`: a reply target that is private to its connection.
    TempQueue(String),
    /// `/reply-queue/ID`: the server's name of somebody's `/temp-queue/NAME`.
    ReplyQueue(String),
    /// `/user/queue/NAME`, `/user/topic/NAME`: the signed-in user's own user destination.
    OwnUserDestination(UserDestination),
    /// `/user/NAME/queue/X`, `/user/NAME/topic/X`: somebody's user destination, to send to.
    UserDestination(UserName, UserDestination),
}

/// The part of a user destination behind the user: `queue/X` or `topic/X`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct UserDestination {
    /// Whether it is written with `topic` instead of `queue`.
    pub topic: bool,
    /// What stands behind it.
    pub name: String,
}

/// Why a `destination` header names nothing that the gateway knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DestinationError {
    /// The header is empty.
    #[error("destination is empty")]
    Empty,
    /// The header is longer than [`MAX_DESTINATION`].
    #[error("destination is longer than {MAX_DESTINATION} octets")]
    TooLong,
    /// The prefix is none of the known ones.
    #[error(
        "unknown destination; known are /user, /group, /broadcast, /inbox, /presence, /queue, /topic"
    )]
    Unknown,
    /// The prefix is known and what follows is not a name of that kind.
    #[error("malformed name in destination")]
    BadName,
}

impl Destination {
    /// Parses the value of a `destination` header.
    ///
    /// # Errors
    ///
    /// A [`DestinationError`] if the text is not exactly one of the forms above.
    pub fn parse(text: &str) -> Result<Self, DestinationError> {
        if text.is_empty() {
            return Err(DestinationError::Empty);
        }
        if text.len() > MAX_DESTINATION {
            return Err(DestinationError::TooLong);
        }
        if text == "/inbox" {
            return Ok(Self::Inbox);
        }
        let (kind, rest) = text
            .strip_prefix('/')
            .and_then(|rest| rest.split_once('/'))
            .ok_or(DestinationError::Unknown)?;
        match kind {
            "user" => Self::parse_user(rest),
            "group" => GroupName::new(rest).map(Self::Group).map_err(|_| DestinationError::BadName),
            "broadcast" => {
                GroupName::new(rest).map(Self::Broadcast).map_err(|_| DestinationError::BadName)
            }
            "presence" => {
                UserName::new(rest).map(Self::Presence).map_err(|_| DestinationError::BadName)
            }
            "queue" => opaque(rest).map(Self::Queue),
            "topic" => topic(rest).map(Self::Topic),
            "temp-queue" => opaque(rest).map(Self::TempQueue),
            "reply-queue" => opaque(rest).map(Self::ReplyQueue),
            _ => Err(DestinationError::Unknown),
        }
    }

    fn parse_user(rest: &str) -> Result<Self, DestinationError> {
        let Some((first, tail)) = rest.split_once('/') else {
            return UserName::new(rest).map(Self::User).map_err(|_| DestinationError::BadName);
        };
        match first {
            "queue" => user_destination(false, tail).map(Self::OwnUserDestination),
            "topic" => user_destination(true, tail).map(Self::OwnUserDestination),
            name => {
                let user = UserName::new(name).map_err(|_| DestinationError::BadName)?;
                let (kind, name) = tail.split_once('/').ok_or(DestinationError::BadName)?;
                let topic = match kind {
                    "queue" => false,
                    "topic" => true,
                    _ => return Err(DestinationError::BadName),
                };
                user_destination(topic, name).map(|to| Self::UserDestination(user, to))
            }
        }
    }

    /// The conversation that a message from `sender` to this destination belongs to, if any.
    #[must_use]
    pub fn conversation(&self, sender: &UserName) -> Option<ConversationId> {
        match self {
            Self::User(user) => Some(ConversationId::direct(sender, user)),
            Self::Group(group) => Some(ConversationId::group(group)),
            Self::Broadcast(to) => Some(ConversationId::broadcast(to)),
            _ => None,
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "/user/{user}"),
            Self::Group(group) => write!(f, "/group/{group}"),
            Self::Broadcast(to) => write!(f, "/broadcast/{to}"),
            Self::Inbox => f.write_str("/inbox"),
            Self::Presence(user) => write!(f, "/presence/{user}"),
            Self::Queue(name) => write!(f, "/queue/{name}"),
            Self::Topic(name) => write!(f, "/topic/{name}"),
            Self::TempQueue(name) => write!(f, "/temp-queue/{name}"),
            Self::ReplyQueue(name) => write!(f, "/reply-queue/{name}"),
            Self::OwnUserDestination(to) => write!(f, "/user/{}/{}", to.kind(), to.name),
            Self::UserDestination(user, to) => write!(f, "/user/{user}/{}/{}", to.kind(), to.name),
        }
    }
}

impl UserDestination {
    /// `queue` or `topic`, as written.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        if self.topic { "topic" } else { "queue" }
    }
}

fn opaque(name: &str) -> Result<String, DestinationError> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(DestinationError::BadName);
    }
    Ok(name.to_owned())
}

fn user_destination(topic: bool, name: &str) -> Result<UserDestination, DestinationError> {
    opaque(name).map(|name| UserDestination { topic, name })
}

/// A topic is words with dots between; an empty word would have two spellings of nothing.
fn topic(name: &str) -> Result<String, DestinationError> {
    if name.split('.').any(str::is_empty) {
        return Err(DestinationError::BadName);
    }
    opaque(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserName {
        UserName::new(name).unwrap()
    }

    #[test]
    fn every_form_is_parsed_and_printed_as_it_was_written() {
        for text in [
            "/user/bob",
            "/group/ops",
            "/broadcast/all",
            "/inbox",
            "/presence/bob",
            "/queue/a/b c",
            "/topic/a.b.*.#",
            "/temp-queue/x",
            "/reply-queue/x",
            "/user/queue/x",
            "/user/topic/x.y",
            "/user/bob/queue/x",
            "/user/bob/topic/x",
        ] {
            assert_eq!(Destination::parse(text).unwrap().to_string(), text);
        }
    }

    /// V-19, V-28: no second spelling reaches a thing.
    #[test]
    fn p8_other_spellings_are_refused() {
        for text in [
            "",
            "/",
            "inbox",
            "/inbox/",
            "/inbox/bob",
            "//inbox",
            "/Inbox",
            "/user/",
            "/user/bob/",
            "/user//bob",
            "/user/bob/inbox",
            "/user/../bob",
            "/user/%62ob",
            "/user/bob,eve",
            "/user/queue",
            "/user/topic",
            "/user/queue/",
            "/group/a/b",
            "/group/*",
            "/group/",
            "/presence/#",
            "/topic/",
            "/topic/a..b",
            "/topic/.a",
            "/queue/",
            "/queue/a\nb",
            "$SYS/#",
            "/exchange/x",
            "/USER/bob",
        ] {
            assert!(Destination::parse(text).is_err(), "{text:?} was accepted");
        }
        assert_eq!(
            Destination::parse(&format!("/queue/{}", "x".repeat(600))),
            Err(DestinationError::TooLong)
        );
    }

    #[test]
    fn a_direct_conversation_is_the_same_from_both_sides() {
        let to_bob = Destination::parse("/user/bob").unwrap();
        let to_alice = Destination::parse("/user/alice").unwrap();
        assert_eq!(to_bob.conversation(&user("alice")), to_alice.conversation(&user("bob")));
        assert_eq!(Destination::Inbox.conversation(&user("bob")), None);
    }
}
