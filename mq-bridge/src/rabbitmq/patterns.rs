//! The patterns of the durable subscriptions that were declared here: the broker does not tell.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use crate::local::{read, write};
use crate::{Target, pattern_matches};

/// Known for as long as the bridge lives, whatever becomes of its links.
#[derive(Debug, Default)]
pub(super) struct Patterns(RwLock<HashMap<Arc<str>, Vec<Arc<str>>>>);

impl Patterns {
    pub(super) fn add(&self, name: &Arc<str>, patterns: &[Arc<str>]) {
        let mut known = write(&self.0);
        let known = known.entry(Arc::clone(name)).or_default();
        for pattern in patterns {
            if !known.contains(pattern) {
                known.push(Arc::clone(pattern));
            }
        }
    }

    pub(super) fn remove(&self, name: &str) {
        write(&self.0).remove(name);
    }

    /// The first of `topics` that leads to a durable subscription; the very first where its patterns
    /// are not known, because another node has declared it.
    pub(super) fn first_match(&self, name: &str, topics: &[Target]) -> Option<Target> {
        let leads = |topic: &&Target| {
            let known = read(&self.0);
            let patterns = known.get(name);
            patterns.is_none_or(|some| some.iter().any(|one| pattern_matches(one, topic.name())))
        };
        let found = if topics.len() > 1 { topics.iter().find(leads) } else { None };
        found.or_else(|| topics.first()).cloned()
    }
}
