//! Which durable subscriptions have patterns with wildcards: what a publisher has to know.
//!
//! A publish says which version of it was used; the server refuses it where that is old.

use std::collections::HashMap;
use std::sync::Arc;

use ::redis::Value;

use crate::PatternMap;

use super::value::{items, list, number, text};

#[derive(Debug)]
pub(super) struct Registry {
    version: String,
    patterns: HashMap<Arc<str>, Vec<Arc<str>>>,
    matching: PatternMap<Arc<str>>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { version: "0".to_owned(), patterns: HashMap::new(), matching: PatternMap::default() }
    }
}

impl Registry {
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// The durable subscriptions with a wildcard that matches, each once.
    pub(super) fn matching(&self, topic: &str) -> Vec<&Arc<str>> {
        let mut names = Vec::new();
        self.matching.visit(topic, &mut |name| names.push(name));
        if names.len() > 1 {
            names.sort_unstable();
            names.dedup();
        }
        names
    }

    /// Takes in what the server answers to the version known so far.
    pub(super) fn update(&mut self, answer: Value) {
        let [version, all, changes] = items(answer);
        if number(&all) == 1 {
            *self = Self::default();
        }
        let mut changes = list(changes).into_iter();
        while let (Some(name), Some(patterns)) = (changes.next(), changes.next()) {
            self.set(text(name).into(), &text(patterns));
        }
        self.version = text(version);
    }

    fn set(&mut self, name: Arc<str>, patterns: &str) {
        for pattern in self.patterns.remove(&name).unwrap_or_default() {
            self.matching.remove(&pattern, |one| *one == name);
        }
        let patterns: Vec<Arc<str>> = patterns.split_terminator('\n').map(Arc::from).collect();
        for pattern in &patterns {
            self.matching.insert(pattern, Arc::clone(&name));
        }
        if !patterns.is_empty() {
            self.patterns.insert(name, patterns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(version: &str, all: i64, changes: &[&str]) -> Value {
        let text = |text: &str| Value::BulkString(text.into());
        let changes = changes.iter().map(|one| text(one)).collect();
        Value::Array(vec![text(version), Value::Int(all), Value::Array(changes)])
    }

    fn matching(registry: &Registry, topic: &str) -> Vec<String> {
        registry.matching(topic).iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn changes_replace_what_a_name_had_and_a_whole_replaces_everything() {
        let mut registry = Registry::default();
        registry.update(answer("2", 0, &["d", "a.*\n#", "e", "a.#"]));
        assert_eq!(matching(&registry, "a.b"), ["d", "e"]);
        registry.update(answer("4", 0, &["d", "b.*", "e", ""]));
        assert_eq!((registry.version(), matching(&registry, "a.b").len()), ("4", 0));
        assert_eq!(matching(&registry, "b.c"), ["d"]);
        registry.update(answer("9", 1, &["f", "b.*"]));
        assert_eq!(matching(&registry, "b.c"), ["f"]);
    }
}
