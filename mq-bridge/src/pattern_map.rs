//! Finds the patterns that match a topic without trying them one by one.

use std::collections::HashMap;
use std::sync::Arc;

/// Values under topic patterns: what a backend needs to route a topic within its process
///
/// A pattern without wildcards costs one hash lookup however many there are; the others share a
/// tree of words.
#[derive(Debug)]
pub struct PatternMap<T> {
    exact: HashMap<Arc<str>, Vec<T>>,
    wild: Node<T>,
}

#[derive(Debug)]
struct Node<T> {
    words: HashMap<Box<str>, Self>,
    star: Option<Box<Self>>,
    hash: Option<Box<Self>>,
    here: Vec<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { words: HashMap::new(), star: None, hash: None, here: Vec::new() }
    }
}

impl<T> Default for PatternMap<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wild: Node::default() }
    }
}

fn has_wildcard(pattern: &str) -> bool {
    pattern.contains(['*', '#'])
}

impl<T> PatternMap<T> {
    /// Adds a value under `pattern`; any number may be under one pattern.
    pub fn insert(&mut self, pattern: &Arc<str>, value: T) {
        if has_wildcard(pattern) {
            self.wild.insert(pattern.split('.'), value);
        } else {
            self.exact.entry(Arc::clone(pattern)).or_default().push(value);
        }
    }

    /// Removes the values under `pattern` that `is` recognizes, and whatever is empty then.
    pub fn remove(&mut self, pattern: &str, is: impl Fn(&T) -> bool) {
        if has_wildcard(pattern) {
            self.wild.remove(pattern.split('.'), &is);
        } else if let Some(values) = self.exact.get_mut(pattern) {
            values.retain(|value| !is(value));
            if values.is_empty() {
                self.exact.remove(pattern);
            }
        }
    }

    /// Visits the values of every pattern that matches `topic`; with several `#` in a pattern
    /// possibly more than once.
    pub fn visit<'a>(&'a self, topic: &str, visitor: &mut impl FnMut(&'a T)) {
        if let Some(values) = self.exact.get(topic) {
            values.iter().for_each(&mut *visitor);
        }
        if !self.wild.is_empty() {
            self.wild.visit(Some(topic), visitor);
        }
    }
}

impl<T> Node<T> {
    fn is_empty(&self) -> bool {
        self.words.is_empty() && self.star.is_none() && self.hash.is_none() && self.here.is_empty()
    }

    fn insert<'p>(&mut self, mut pattern: impl Iterator<Item = &'p str>, value: T) {
        match pattern.next() {
            None => self.here.push(value),
            Some("*") => self.star.get_or_insert_default().insert(pattern, value),
            Some("#") => self.hash.get_or_insert_default().insert(pattern, value),
            Some(word) => self.words.entry(word.into()).or_default().insert(pattern, value),
        }
    }

    fn remove<'p>(&mut self, mut pattern: impl Iterator<Item = &'p str>, is: &impl Fn(&T) -> bool) {
        let prune = |slot: &mut Option<Box<Self>>| {
            if slot.as_ref().is_some_and(|node| node.is_empty()) {
                *slot = None;
            }
        };
        match pattern.next() {
            None => self.here.retain(|value| !is(value)),
            Some("*") => {
                if let Some(node) = &mut self.star {
                    node.remove(pattern, is);
                }
                prune(&mut self.star);
            }
            Some("#") => {
                if let Some(node) = &mut self.hash {
                    node.remove(pattern, is);
                }
                prune(&mut self.hash);
            }
            Some(word) => {
                if let Some(node) = self.words.get_mut(word) {
                    node.remove(pattern, is);
                    if node.is_empty() {
                        self.words.remove(word);
                    }
                }
            }
        }
    }

    fn visit<'a>(&'a self, topic: Option<&str>, visitor: &mut impl FnMut(&'a T)) {
        if let Some(after_hash) = &self.hash {
            let mut rest = topic;
            loop {
                after_hash.visit(rest, visitor);
                let Some(text) = rest else { break };
                rest = text.split_once('.').map(|(_, rest)| rest);
            }
        }
        let Some(topic) = topic else {
            self.here.iter().for_each(visitor);
            return;
        };
        let (word, rest) = match topic.split_once('.') {
            Some((word, rest)) => (word, Some(rest)),
            None => (topic, None),
        };
        if let Some(node) = self.words.get(word) {
            node.visit(rest, visitor);
        }
        if let Some(node) = &self.star {
            node.visit(rest, visitor);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::pattern_matches;

    fn matching(map: &PatternMap<usize>, topic: &str) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        map.visit(topic, &mut |value| {
            found.insert(*value);
        });
        found
    }

    proptest! {
        /// The map agrees with the plain matcher, before and after removals, and ends empty.
        #[test]
        fn the_tree_finds_what_the_matcher_matches(
            patterns in prop::collection::vec("([ab*#])(\\.[ab*#]){0,3}", 1..8),
            topics in prop::collection::vec("([abc])(\\.[abc]){0,4}", 1..6),
            removed in prop::collection::vec(any::<bool>(), 8),
        ) {
            let mut map = PatternMap::default();
            for (index, pattern) in patterns.iter().enumerate() {
                map.insert(&pattern.as_str().into(), index);
            }
            let mut left: BTreeSet<usize> = (0..patterns.len()).collect();
            for round in 0..2 {
                for topic in &topics {
                    let expected: BTreeSet<usize> = left.iter().copied()
                        .filter(|index| pattern_matches(&patterns[*index], topic)).collect();
                    prop_assert_eq!(matching(&map, topic), expected, "round {} {}", round, topic);
                }
                for (index, pattern) in patterns.iter().enumerate() {
                    if removed[index] || round == 1 {
                        map.remove(pattern, |value| *value == index);
                        left.remove(&index);
                    }
                }
            }
            prop_assert!(map.exact.is_empty() && map.wild.is_empty());
        }
    }
}
