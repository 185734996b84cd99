//! What comes on the channels: messages to topics, and notices to consumers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ::redis::{PushInfo, PushKind};
use bytes::Bytes;
use tokio::sync::Mutex as AsyncMutex;

use crate::local::lock;
use crate::remote::Topics;
use crate::{Target, pattern_matches};

use super::connection::Connection;
use super::consumers::Consumers;
use super::error::Fault;
use super::payload::{self, Arrival};
use super::value::octets;

/// Hands on what the server pushes.
#[derive(Debug)]
pub(super) struct Listener {
    /// `{PREFIX}:`
    prefix: String,
    topics: Arc<Topics>,
    consumers: Arc<Consumers>,
    globs: Mutex<HashMap<String, Vec<Wild>>>,
    /// Held while the server is told, so that listening and its end do not overtake each other.
    telling: AsyncMutex<()>,
}

/// A pattern with wildcards that a glob stands for.
#[derive(Debug)]
struct Wild {
    pattern: Arc<str>,
    /// The last publish to several topics that was delivered for it. Its copies come one right
    /// after the other, and in order: the first that matches counts.
    last: Option<String>,
}

impl Listener {
    pub(super) fn new(prefix: String, topics: Arc<Topics>, consumers: Arc<Consumers>) -> Self {
        Self { prefix, topics, consumers, globs: Mutex::default(), telling: AsyncMutex::default() }
    }

    pub(super) fn push(&self, push: PushInfo) {
        let mut data = push.data.into_iter();
        let mut next = || data.next().map(octets).unwrap_or_default();
        let glob = if push.kind == PushKind::PMessage { Some(next()) } else { None };
        if !matches!(push.kind, PushKind::Message | PushKind::PMessage) {
            return;
        }
        let (channel, payload) = (next(), next());
        let Ok(channel) = std::str::from_utf8(&channel) else { return };
        let Some(channel) = channel.strip_prefix(&self.prefix) else { return };
        match (channel.split_at_checked(2), glob) {
            (Some(("n:", source)), None) => self.consumers.notice(source, &payload),
            (Some(("t:", topic)), None) => self.message(topic, payload.into()),
            (Some(("t:", topic)), Some(glob)) => self.wild_message(&glob, topic, payload.into()),
            _ => {}
        }
    }

    fn message(&self, topic: &str, payload: Bytes) {
        let Arrival { message, redelivered, .. } = payload::read(payload);
        let target = Target::topic(topic);
        self.topics.deliver_copy(topic, &target, &[], &message, redelivered);
    }

    fn wild_message(&self, glob: &[u8], topic: &str, payload: Bytes) {
        let mut globs = lock(&self.globs);
        let patterns = std::str::from_utf8(glob).ok().and_then(|glob| globs.get_mut(glob));
        let Some(patterns) = patterns else { return };
        let Arrival { message, redelivered, name } = payload::read(payload);
        let target = Target::topic(topic);
        for wild in patterns {
            // A glob matches more than what it stands for.
            let again = name.is_some() && wild.last == name;
            if !again && pattern_matches(&wild.pattern, topic) {
                wild.last.clone_from(&name);
                self.topics.deliver_copy(&wild.pattern, &target, &[], &message, redelivered);
            }
        }
    }

    pub(super) async fn listen(
        &self,
        pattern: &Arc<str>,
        connection: &Connection,
    ) -> Result<(), Fault> {
        if !has_wildcard(pattern) {
            return connection.subscribe(&format!("{}t:{pattern}", self.prefix)).await;
        }
        let _telling = self.telling.lock().await;
        let glob = self.glob(pattern);
        {
            let mut globs = lock(&self.globs);
            let patterns = globs.entry(glob.clone()).or_default();
            if patterns.iter().all(|one| one.pattern != *pattern) {
                patterns.push(Wild { pattern: Arc::clone(pattern), last: None });
            }
        }
        connection.subscribe_glob(&glob).await
    }

    pub(super) async fn unlisten(
        &self,
        pattern: &Arc<str>,
        connection: &Connection,
    ) -> Result<(), Fault> {
        if !has_wildcard(pattern) {
            return connection.unsubscribe(&format!("{}t:{pattern}", self.prefix)).await;
        }
        let _telling = self.telling.lock().await;
        let glob = self.glob(pattern);
        let unused = {
            let mut globs = lock(&self.globs);
            let patterns = globs.get_mut(&glob);
            let left = patterns.map(|patterns| {
                patterns.retain(|one| one.pattern != *pattern);
                patterns.len()
            });
            left == Some(0) && globs.remove(&glob).is_some()
        };
        if unused { connection.unsubscribe_glob(&glob).await } else { Ok(()) }
    }

    /// A glob that matches the channels of the topics that the pattern matches, and maybe others.
    fn glob(&self, pattern: &str) -> String {
        let mut glob = escaped(&self.prefix);
        glob.push_str("t:");
        let mut separated = true;
        for word in pattern.split('.') {
            if word == "#" {
                // Zero words have no dot either.
                glob.push('*');
                separated = true;
                continue;
            }
            if !separated {
                glob.push('.');
            }
            separated = false;
            glob.push_str(&if word == "*" { "*".to_owned() } else { escaped(word) });
        }
        glob
    }
}

fn has_wildcard(pattern: &str) -> bool {
    pattern.contains(['*', '#'])
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listener() -> Listener {
        Listener::new("{m?q}:".to_owned(), Arc::default(), Arc::default())
    }

    /// As Redis matches, for globs with `*` and escapes.
    fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
        match (glob, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => {
                glob_matches(rest, text) || !text.is_empty() && glob_matches(glob, &text[1..])
            }
            ([b'\\', literal, rest @ ..], [first, others @ ..])
            | ([literal, rest @ ..], [first, others @ ..]) => {
                literal == first && glob_matches(rest, others)
            }
            _ => false,
        }
    }

    #[test]
    fn globs_are_as_narrow_as_they_can_be() {
        let globs =
            [("a.*", "a.*"), ("a.#", "a*"), ("#.b", "*b"), ("#", "*"), ("a.#.[c]", "a*\\[c\\]")];
        for (pattern, glob) in globs {
            assert_eq!(listener().glob(pattern), format!("{{m\\?q}}:t:{glob}"));
        }
    }

    proptest! {
        #[test]
        fn a_glob_misses_nothing_that_its_pattern_matches(
            pattern in "([ab*#?]|\\[\\])(\\.([ab*#?]|\\[\\])){0,4}",
            topic in "([ab?]|\\[\\])(\\.([ab?]|\\[\\])){0,5}",
        ) {
            let glob = listener().glob(&pattern);
            if pattern_matches(&pattern, &topic) {
                prop_assert!(glob_matches(glob.as_bytes(), format!("{{m?q}}:t:{topic}").as_bytes()), "{} {}", pattern, glob);
            }
        }
    }
}
