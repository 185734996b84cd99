//! One topic subscription of the broker for all subscribers in this process.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, RwLock};

use tokio::sync::Mutex as AsyncMutex;

use crate::local::{Live, lock, read, write};
use crate::{EndReason, Message, PatternMap, Target, pattern_matches};

/// The live subscribers of topics, and the patterns that a link listens to for them
///
/// A broker has to do with each pattern once, however many subscribe to it here.
#[derive(Default)]
pub(crate) struct Topics {
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    patterns: HashMap<Arc<str>, Arc<Listened>>,
    matching: PatternMap<Arc<Listened>>,
    last: u64,
}

/// A pattern that somebody here subscribes to.
pub(super) struct Listened {
    id: u64,
    pub(super) pattern: Arc<str>,
    subscribers: Mutex<HashMap<u64, Arc<Live>>>,
    /// The epoch of the link that listens. Held while the link is told, so that listening and its
    /// end do not overtake each other.
    pub(super) epoch: AsyncMutex<Option<u64>>,
}

impl Topics {
    /// Hands a message to every subscriber with a pattern that matches one of `targets`, once,
    /// under the first that matches: for links that get each message once.
    pub(crate) fn deliver(&self, targets: &[Target], message: &Message, redelivered: bool) {
        let table = read(&self.table);
        let mut matched: Vec<(&Arc<Listened>, &Target)> = Vec::new();
        for target in targets {
            if matches!(target, Target::Topic(_)) {
                table.matching.visit(target.name(), &mut |one| matched.push((one, target)));
            }
        }
        if matched.len() > 1 {
            // Stable: the first target of each stays first.
            matched.sort_by_key(|(one, _)| one.id);
            matched.dedup_by_key(|(one, _)| one.id);
        }
        for (one, target) in matched {
            one.push(message, target, redelivered);
        }
    }

    /// Hands a message to the subscribers of exactly `pattern`: for links that get a message once
    /// for every pattern, and for every one of its targets, that leads here. `target` is the one
    /// that this copy came for, `targets` are all, in order; of the copies for the same pattern
    /// only that of the first target that matches counts.
    pub(crate) fn deliver_copy(
        &self,
        pattern: &str,
        target: &Target,
        targets: &[Target],
        message: &Message,
        redelivered: bool,
    ) {
        let leads =
            |one: &Target| matches!(one, Target::Topic(_)) && pattern_matches(pattern, one.name());
        let first = targets.iter().find(|one| leads(one)).unwrap_or(target);
        if first == target
            && leads(target)
            && let Some(one) = read(&self.table).patterns.get(pattern)
        {
            one.push(message, target, redelivered);
        }
    }

    /// Takes a subscriber in; the caller then lets the link listen.
    pub(super) fn insert(&self, live: &Arc<Live>) -> Arc<Listened> {
        let Table { patterns, matching, last } = &mut *write(&self.table);
        let one = patterns.entry(Arc::clone(&live.pattern)).or_insert_with(|| {
            *last += 1;
            let one = Arc::new(Listened {
                id: *last,
                pattern: Arc::clone(&live.pattern),
                subscribers: Mutex::default(),
                epoch: AsyncMutex::default(),
            });
            matching.insert(&live.pattern, Arc::clone(&one));
            one
        });
        lock(&one.subscribers).insert(live.id, Arc::clone(live));
        Arc::clone(one)
    }

    /// Takes a subscriber off; gives its pattern if nobody is left there.
    pub(super) fn remove(&self, live: &Live) -> Option<Arc<Listened>> {
        let table = read(&self.table);
        let one = table.patterns.get(&live.pattern)?;
        let mut subscribers = lock(&one.subscribers);
        subscribers.remove(&live.id);
        subscribers.is_empty().then(|| Arc::clone(one))
    }

    /// Forgets a pattern that the link does not listen to any more, unless somebody has come.
    pub(super) fn forget(&self, one: &Listened) {
        let Table { patterns, matching, .. } = &mut *write(&self.table);
        if !one.is_wanted() && patterns.get(&one.pattern).is_some_and(|found| found.id == one.id) {
            patterns.remove(&one.pattern);
            matching.remove(&one.pattern, |found| found.id == one.id);
        }
    }

    pub(super) fn listened(&self) -> Vec<Arc<Listened>> {
        read(&self.table).patterns.values().map(Arc::clone).collect()
    }

    /// How many subscribe to exactly `pattern`.
    pub(super) fn count(&self, pattern: &str) -> u64 {
        let table = read(&self.table);
        table.patterns.get(pattern).map_or(0, |one| lock(&one.subscribers).len() as u64)
    }

    pub(super) fn end_all(&self, reason: &EndReason) {
        for one in self.listened() {
            one.end(reason);
        }
    }
}

impl Listened {
    /// Whether somebody here subscribes to it.
    pub(super) fn is_wanted(&self) -> bool {
        !lock(&self.subscribers).is_empty()
    }

    pub(super) fn end(&self, reason: &EndReason) {
        lock(&self.subscribers).values().for_each(|live| live.end(reason.clone()));
    }

    fn push(&self, message: &Message, target: &Target, redelivered: bool) {
        for live in lock(&self.subscribers).values() {
            live.push(message, target, redelivered);
        }
    }
}

impl fmt::Debug for Listened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listened").field(&self.pattern).finish()
    }
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns = read(&self.table).patterns.len();
        f.debug_struct("Topics").field("patterns", &patterns).finish_non_exhaustive()
    }
}
