//! Rules that open destinations to users.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Action, Authorizer};
use crate::destination::{Destination, DestinationError, UserDestination};
use crate::error::RefusedError;
use crate::names::{NameError, UserName};

/// Stands for the user who asks
const USER: &str = "{user}";

/// Allows users to send to, or to subscribe to, queues, topics and user destinations
///
/// Written `ACTIONS DESTINATION`, or `USERS: ACTIONS DESTINATION` where it is for some users only:
///
/// ```
/// # use gateway_core::Rule;
/// for rule in [
///     "subscribe /topic/news.#",
///     "newsroom,editor: send /topic/news.#",
///     "send,subscribe /queue/orders.{user}",
///     "send /user/*/queue/offers",
/// ] {
///     rule.parse::<Rule>()?;
/// }
/// # Ok::<(), gateway_core::InvalidRule>(())
/// ```
///
/// What stands behind `/queue/` and `/topic/` is words with dots between. `*` stands for one word, `#`, at the end only,
/// for any number of them, also none; `{user}`, within a word, for the name of the user who asks. A name is one word:
/// its dots are written `%2E`, so that `/topic/{user}.#` gives to `a` nothing of `a.b`, who has `/topic/a%2Eb.#`.
///
/// A subscription with wildcards is allowed where the rule allows everything that it may bring. Direct messages, groups,
/// inboxes and presence are no matter of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    text: String,
    /// Everybody, if empty
    users: Vec<UserName>,
    send: bool,
    subscribe: bool,
    place: Place,
    words: Vec<Word>,
    /// Whether any words may follow
    open_ended: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Queue,
    Topic,
    /// Of whom, and whether it is written with `topic`
    UserDestination(Word, bool),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Any,
    Exactly(String),
    /// The name of who asks, with this before and behind it
    User(String, String),
}

/// Why a text is no rule
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRule {
    /// It has another form
    #[error("a rule is written ACTIONS DESTINATION, or USERS: ACTIONS DESTINATION")]
    Form,
    /// A user that cannot exist
    #[error("the users of a rule: {0}")]
    User(#[from] NameError),
    /// An action that there is none of
    #[error("the actions of a rule are send and subscribe, with a comma between")]
    Action,
    /// A destination that there is none of
    #[error("the destination of a rule: {0}")]
    Destination(#[from] DestinationError),
    /// A destination that is no matter of rules
    #[error(
        "a rule is about /queue/..., /topic/..., /user/NAME/queue/... or /user/NAME/topic/...; \
         members decide about all else"
    )]
    Place,
    /// A wildcard in a place where it has no meaning
    #[error("in a rule * is a word of its own, and # is the last word")]
    Wildcard,
    /// Something else than `{user}` in braces, or it stands twice in a word
    #[error("in a rule only {{user}} is in braces, and once in a word")]
    Braces,
    /// Others' user destinations take no SUBSCRIBE, and everybody may subscribe to the own ones
    #[error("user destinations of others take no subscribe")]
    Subscribe,
}

impl FromStr for Rule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let (head, destination) = text.split_once(" /").ok_or(InvalidRule::Form)?;
        let (users, actions) = match head.split_once(": ") {
            Some((users, actions)) => {
                (users.split(',').map(UserName::new).collect::<Result<_, _>>()?, actions)
            }
            None => (Vec::new(), head),
        };
        let (mut send, mut subscribe) = (false, false);
        for action in actions.split(',') {
            match action {
                "send" => send = true,
                "subscribe" => subscribe = true,
                _ => return Err(InvalidRule::Action),
            }
        }
        let (place, name) = place(destination)?;
        if subscribe && matches!(place, Place::UserDestination(..)) {
            return Err(InvalidRule::Subscribe);
        }
        let open_ended = name == "#" || name.ends_with(".#");
        let name = if open_ended { name.trim_end_matches('#').trim_end_matches('.') } else { name };
        let words = if open_ended && name.is_empty() {
            Vec::new()
        } else {
            name.split('.').map(word).collect::<Result<_, _>>()?
        };
        Ok(Self { text: text.to_owned(), users, send, subscribe, place, words, open_ended })
    }
}

/// What a rule is about, and the name behind that. The destination comes without its first slash.
fn place(destination: &str) -> Result<(Place, &str), InvalidRule> {
    // What could never be sent to or subscribed to is a mistake.
    let (kind, name) = destination.split_once('/').ok_or(InvalidRule::Place)?;
    match kind {
        "queue" => {
            Destination::parse(&format!("/queue/{name}"))?;
            Ok((Place::Queue, name))
        }
        "topic" => {
            Destination::parse(&format!("/topic/{name}"))?;
            Ok((Place::Topic, name))
        }
        "user" => {
            let mut parts = name.splitn(3, '/');
            let (Some(who), Some(kind), Some(name)) = (parts.next(), parts.next(), parts.next())
            else {
                return Err(InvalidRule::Place);
            };
            Destination::parse(&format!("/user/x/{kind}/{name}"))?;
            let who = match who {
                "*" => Word::Any,
                USER => Word::User(String::new(), String::new()),
                name => Word::Exactly(UserName::new(name)?.as_str().to_owned()),
            };
            Ok((Place::UserDestination(who, kind == "topic"), name))
        }
        _ => Err(InvalidRule::Place),
    }
}

fn word(text: &str) -> Result<Word, InvalidRule> {
    if text == "*" {
        return Ok(Word::Any);
    }
    if text.is_empty() || text.contains(['*', '#']) {
        return Err(InvalidRule::Wildcard);
    }
    let word = match text.split_once(USER) {
        Some((before, behind)) if !(before.to_owned() + behind).contains(['{', '}']) => {
            Word::User(before.to_owned(), behind.to_owned())
        }
        None if !text.contains(['{', '}']) => Word::Exactly(text.to_owned()),
        _ => return Err(InvalidRule::Braces),
    };
    Ok(word)
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error| D::Error::custom(format_args!("`{text}`: {error}")))
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Rule {
    /// Whether `user` may do this.
    #[must_use]
    pub fn allows(&self, user: &UserName, action: Action, destination: &Destination) -> bool {
        let named = match action {
            Action::Send => self.send,
            Action::Subscribe => self.subscribe,
            Action::Read => false,
        };
        if !named || !(self.users.is_empty() || self.users.contains(user)) {
            return false;
        }
        match (&self.place, destination) {
            (Place::Queue, Destination::Queue(name)) => self.covers(user, name, false),
            (Place::Topic, Destination::Topic(name)) => {
                self.covers(user, name, action == Action::Subscribe)
            }
            (Place::UserDestination(who, topic), Destination::UserDestination(of, to)) => {
                self.covers_of(who, *topic, user, of, to)
            }
            (Place::UserDestination(who, topic), Destination::OwnUserDestination(to)) => {
                self.covers_of(who, *topic, user, user, to)
            }
            _ => false,
        }
    }

    fn covers_of(
        &self,
        who: &Word,
        topic: bool,
        user: &UserName,
        of: &UserName,
        to: &UserDestination,
    ) -> bool {
        let whose = match who {
            Word::Any => true,
            Word::Exactly(name) => name == of.as_str(),
            Word::User(..) => user == of,
        };
        whose && topic == to.topic && self.covers(user, &to.name, false)
    }

    /// Whether everything that `name` stands for is allowed; with `wild` its wildcards are such.
    fn covers(&self, user: &UserName, name: &str, wild: bool) -> bool {
        let mut asked = name.split('.');
        for word in &self.words {
            let Some(asked) = asked.next() else { return false };
            let covered = match word {
                // One word: `#` may be none, or many.
                Word::Any => !(wild && asked == "#"),
                _ if wild && matches!(asked, "*" | "#") => false,
                Word::Exactly(text) => text == asked,
                Word::User(before, behind) => asked
                    .strip_prefix(before.as_str())
                    .and_then(|rest| rest.strip_suffix(behind.as_str()))
                    // No part of a name holds a `%`, so this is the name with each dot as `%2E` and nothing else.
                    .is_some_and(|name| name.split("%2E").eq(user.as_str().split('.'))),
            };
            if !covered {
                return false;
            }
        }
        self.open_ended || asked.next().is_none()
    }
}

/// Allows what one of its [`Rule`]s allows; about all else another authorizer decides
#[derive(Clone, Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    otherwise: Arc<dyn Authorizer>,
}

impl Rules {
    /// Rules before `otherwise`
    #[must_use]
    pub fn new(rules: Vec<Rule>, otherwise: Arc<dyn Authorizer>) -> Self {
        Self { rules, otherwise }
    }
}

#[async_trait]
impl Authorizer for Rules {
    async fn authorize(
        &self,
        user: &UserName,
        action: Action,
        destination: &Destination,
    ) -> Result<(), RefusedError> {
        if self.rules.iter().any(|rule| rule.allows(user, action, destination)) {
            return Ok(());
        }
        self.otherwise.authorize(user, action, destination).await
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(text: &str) -> Rule {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn allows(rule: &str, user: &str, action: Action, destination: &str) -> bool {
        let user = UserName::new(user).unwrap();
        self::rule(rule).allows(&user, action, &Destination::parse(destination).unwrap())
    }

    #[test]
    fn a_rule_allows_what_it_names() {
        for (rule, user, action, destination) in [
            ("send /queue/jobs", "eve", Action::Send, "/queue/jobs"),
            ("send,subscribe /queue/a/b c", "eve", Action::Subscribe, "/queue/a/b c"),
            ("subscribe /topic/news.#", "eve", Action::Subscribe, "/topic/news"),
            ("subscribe /topic/news.#", "eve", Action::Subscribe, "/topic/news.a.*.#"),
            ("subscribe /topic/*.a", "eve", Action::Subscribe, "/topic/*.a"),
            ("subscribe /topic/#", "eve", Action::Subscribe, "/topic/#"),
            ("send /topic/u.{user}", "eve", Action::Send, "/topic/u.eve"),
            ("send /topic/u-{user}-x.y", "eve", Action::Send, "/topic/u-eve-x.y"),
            ("send /topic/{user}.#", "a.b", Action::Send, "/topic/a%2Eb.c"),
            ("send /queue/{user}", "e+v@x.org", Action::Send, "/queue/e+v@x%2Eorg"),
            ("adam,eve: send /queue/x", "eve", Action::Send, "/queue/x"),
            ("send /user/*/queue/x.*", "eve", Action::Send, "/user/bob/queue/x.y"),
            ("send /user/bob/topic/x", "eve", Action::Send, "/user/bob/topic/x"),
            ("send /user/{user}/queue/x", "eve", Action::Send, "/user/queue/x"),
            ("send /user/*/queue/x", "eve", Action::Send, "/user/queue/x"),
        ] {
            assert!(allows(rule, user, action, destination), "{rule} {user} {destination}");
        }
    }

    /// V-19, V-28: no spelling, no wildcard and no name gets more than the rule says.
    #[test]
    fn p8_a_rule_cannot_be_stretched() {
        for (rule, user, action, destination) in [
            // The other action, another kind, another user.
            ("send /queue/jobs", "eve", Action::Subscribe, "/queue/jobs"),
            ("send,subscribe /queue/jobs", "eve", Action::Read, "/queue/jobs"),
            ("send /queue/jobs", "eve", Action::Send, "/topic/jobs"),
            ("send /user/*/queue/x", "eve", Action::Send, "/user/bob/topic/x"),
            ("send /user/*/queue/x", "eve", Action::Send, "/queue/x"),
            ("adam: send /queue/x", "eve", Action::Send, "/queue/x"),
            ("adam: send /queue/x", "Adam", Action::Send, "/queue/x"),
            // Broader than the rule.
            ("subscribe /topic/news.a", "eve", Action::Subscribe, "/topic/news.*"),
            ("subscribe /topic/news.a", "eve", Action::Subscribe, "/topic/#"),
            ("subscribe /topic/news.*", "eve", Action::Subscribe, "/topic/news.#"),
            ("subscribe /topic/news.*", "eve", Action::Subscribe, "/topic/news.*.#"),
            ("subscribe /topic/news.*", "eve", Action::Subscribe, "/topic/news.#.#"),
            ("subscribe /topic/news.#", "eve", Action::Subscribe, "/topic/#"),
            ("subscribe /topic/news.#", "eve", Action::Subscribe, "/topic/*.#"),
            ("subscribe /topic/news.#", "eve", Action::Subscribe, "/topic/#.news"),
            ("subscribe /topic/u.{user}.#", "eve", Action::Subscribe, "/topic/u.*.#"),
            ("subscribe /topic/u.{user}.#", "eve", Action::Subscribe, "/topic/u.#"),
            ("subscribe /topic/*.a", "eve", Action::Subscribe, "/topic/#.a"),
            // Another's name.
            ("send /topic/u.{user}", "eve", Action::Send, "/topic/u.bob"),
            ("send /topic/u.{user}", "eve", Action::Send, "/topic/u.{user}"),
            ("send /topic/u.{user}", "eve", Action::Send, "/topic/u.EVE"),
            ("send /topic/u.{user}", "eve", Action::Send, "/topic/u.eve%2E"),
            ("send /topic/u.{user}", "eve", Action::Send, "/topic/u.%65ve"),
            ("send /topic/u.{user}", "eve", Action::Send, "/topic/u.evebob"),
            ("send /topic/u.{user}.#", "a", Action::Send, "/topic/u.a%2Eb.c"),
            ("send /topic/u.{user}.#", "a.b", Action::Send, "/topic/u.a.b"),
            ("send /topic/u.{user}.#", "a.b", Action::Send, "/topic/u.a%2eb.c"),
            ("send /topic/u.{user}.#", "a.b", Action::Send, "/topic/u.aXb.c"),
            ("send /topic/{user}-x", "a", Action::Send, "/topic/a-x-x"),
            ("send /user/{user}/queue/x", "eve", Action::Send, "/user/bob/queue/x"),
            // Longer, shorter, and paths, which there are none of.
            ("send /topic/a.*", "eve", Action::Send, "/topic/a"),
            ("send /topic/a.*", "eve", Action::Send, "/topic/a.b.c"),
            ("send /queue/jobs", "eve", Action::Send, "/queue/x/../jobs"),
            ("send /queue/jobs", "eve", Action::Send, "/queue/jobs/"),
            ("send /queue/jobs.{user}", "eve", Action::Send, "/queue/jobs.bob/../eve"),
            // A colon is written `\c` on the wire and is one here.
            ("send /topic/u.{user}", "eve", Action::Send, "/topic/u.eve:bob"),
            ("send /topic/u.{user}", "eve", Action::Send, "/topic/u.eve\\c"),
            ("send /queue/a:b", "eve", Action::Send, "/queue/a\\cb"),
        ] {
            assert!(!allows(rule, user, action, destination), "{rule} {user} {destination}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for (text, error) in [
            ("", InvalidRule::Form),
            ("send", InvalidRule::Form),
            ("/queue/x", InvalidRule::Form),
            ("read /queue/x", InvalidRule::Action),
            ("send, subscribe /queue/x", InvalidRule::Action),
            ("SEND /queue/x", InvalidRule::Action),
            ("a b: send /queue/x", InvalidRule::User(NameError::BadCharacter(' '))),
            ("send /inbox", InvalidRule::Place),
            ("send /group/ops", InvalidRule::Place),
            ("send /user/bob", InvalidRule::Place),
            ("send /presence/bob", InvalidRule::Place),
            ("subscribe /user/*/queue/x", InvalidRule::Subscribe),
            ("send /queue/", InvalidRule::Destination(DestinationError::BadName)),
            ("send /topic/a..b", InvalidRule::Destination(DestinationError::BadName)),
            ("send /user/bob/inbox/x", InvalidRule::Destination(DestinationError::BadName)),
            ("send /topic/#.a", InvalidRule::Wildcard),
            ("send /topic/#.#", InvalidRule::Wildcard),
            ("send /topic/a*", InvalidRule::Wildcard),
            ("send /queue/a#", InvalidRule::Wildcard),
            ("send /topic/{usr}", InvalidRule::Braces),
            ("send /topic/{user}{user}", InvalidRule::Braces),
            ("send /topic/{user", InvalidRule::Braces),
        ] {
            assert_eq!(text.parse::<Rule>(), Err(error), "{text}");
        }
    }

    /// Whether a broker brings what is published to `topic` to a subscriber of `pattern`.
    fn brings(pattern: &[&str], topic: &[&str]) -> bool {
        match (pattern.split_first(), topic.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), _) => (0..=topic.len()).any(|taken| brings(rest, &topic[taken..])),
            (Some((&word, rest)), Some((&first, others))) => {
                (word == "*" || word == first) && brings(rest, others)
            }
            _ => false,
        }
    }

    fn words(words: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
        prop::collection::vec(prop::sample::select(words), 1..5)
    }

    proptest! {
        /// P8: what an allowed subscription brings, the rule allows.
        #[test]
        fn p8_an_allowed_subscription_brings_nothing_else(
            rule in words(&["a", "b", "{user}", "*"]),
            open_ended: bool,
            asked in words(&["a", "b", "eve", "*", "#"]),
            topic in words(&["a", "b", "eve"]),
        ) {
            let end = if open_ended { ".#" } else { "" };
            let rule = self::rule(&format!("send,subscribe /topic/{}{end}", rule.join(".")));
            let eve = UserName::new("eve").unwrap();
            let of = |words: &[&str]| Destination::Topic(words.join("."));
            if rule.allows(&eve, Action::Subscribe, &of(&asked)) && brings(&asked, &topic) {
                prop_assert!(rule.allows(&eve, Action::Send, &of(&topic)));
            }
        }
    }
}
