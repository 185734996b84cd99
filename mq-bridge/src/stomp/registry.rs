//! What is declared, as all nodes know it.
//!
//! Every change is an entry that says which earlier entries it replaces. Entries may come in any
//! order and more than once: what is declared is what no other entry covers. Two nodes that declare
//! the same at the same moment know nothing of each other; then both entries hold, and what they say
//! adds up.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::local::Settings;
use crate::{Declaration, DeclarationKind, Headers, PatternMap, Source};

/// How many covered entries are remembered, for those that come after what covers them.
const REMEMBERED: usize = 100_000;

/// A change of what is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Names it among all.
    pub(super) id: Arc<str>,
    /// Those that it replaces.
    pub(super) covers: Vec<Arc<str>>,
    /// What it is about.
    pub(super) source: Source,
    /// What holds from now on; `None` for what is deleted.
    pub(super) declared: Option<Declared>,
}

/// A queue or durable subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Declared {
    /// In the order of their declaration; none for a queue.
    pub(super) patterns: Vec<Arc<str>>,
    pub(super) settings: Settings,
}

#[derive(Debug, Default)]
pub(super) struct Registry {
    known: HashMap<Source, Vec<Entry>>,
    covered: HashSet<Arc<str>>,
    /// The covered ones by age.
    ages: VecDeque<Arc<str>>,
    /// The nodes among them, in dialects that keep those.
    nodes: BTreeSet<Arc<str>>,
    /// Durable subscriptions by pattern.
    matching: PatternMap<Arc<str>>,
}

impl Declared {
    pub(super) fn of(declaration: &Declaration) -> Self {
        let patterns = match &declaration.kind {
            DeclarationKind::Queue => Vec::new(),
            DeclarationKind::Durable { patterns } => patterns.clone(),
        };
        Self { patterns, settings: Settings::of(declaration) }
    }

    /// Declared again: patterns are added, settings replaced.
    pub(super) fn declare(&mut self, other: &Self) {
        for pattern in &other.patterns {
            if !self.patterns.contains(pattern) {
                self.patterns.push(Arc::clone(pattern));
            }
        }
        self.settings = other.settings.clone();
    }

    /// What is declared if this is as well; none if it is that already.
    pub(super) fn added_to(&self, before: Option<&Self>) -> Option<Self> {
        let mut declared = before.cloned().unwrap_or_default();
        declared.declare(self);
        (before != Some(&declared)).then_some(declared)
    }
}

impl Registry {
    /// Takes an entry in. Says whether it has deleted what was there.
    pub(super) fn apply(&mut self, entry: &Entry) -> bool {
        for id in &entry.covers {
            if self.covered.insert(Arc::clone(id)) {
                self.ages.push_back(Arc::clone(id));
            }
        }
        while self.ages.len() > REMEMBERED {
            self.ages.pop_front().map(|oldest| self.covered.remove(&oldest));
        }
        let source = &entry.source;
        let before = self.get(source);
        let Self { known, covered, .. } = self;
        let entries = known.entry(source.clone()).or_default();
        entries.retain(|one| !covered.contains(&one.id));
        let is_new = entries.iter().all(|one| one.id != entry.id) && !covered.contains(&entry.id);
        if is_new && entry.declared.is_some() {
            entries.push(entry.clone());
            // The same on every node, whatever the order of arrival.
            entries.sort_by(|one, other| one.id.cmp(&other.id));
        }
        if entries.is_empty() {
            known.remove(source);
        }
        let after = self.get(source);
        match source {
            Source::Durable(name) => self.route(name, before.as_ref(), after.as_ref()),
            Source::Topic(node) if after.is_some() => {
                self.nodes.insert(Arc::clone(node));
            }
            Source::Topic(node) => {
                self.nodes.remove(node);
            }
            Source::Queue(_) => {}
        }
        before.is_some() && after.is_none()
    }

    fn route(&mut self, name: &Arc<str>, before: Option<&Declared>, after: Option<&Declared>) {
        let patterns = |declared: Option<&Declared>| -> Vec<Arc<str>> {
            declared.map(|declared| declared.patterns.clone()).unwrap_or_default()
        };
        let (before, after) = (patterns(before), patterns(after));
        for pattern in before.iter().filter(|pattern| !after.contains(pattern)) {
            self.matching.remove(pattern, |one| one == name);
        }
        for pattern in after.iter().filter(|pattern| !before.contains(pattern)) {
            self.matching.insert(pattern, Arc::clone(name));
        }
    }

    /// What is declared under this name.
    pub(super) fn get(&self, source: &Source) -> Option<Declared> {
        let mut entries = self.known.get(source)?.iter().filter_map(|one| one.declared.as_ref());
        let mut declared = entries.next()?.clone();
        entries.for_each(|other| declared.declare(other));
        Some(declared)
    }

    pub(super) fn has(&self, source: &Source) -> bool {
        self.known.contains_key(source)
    }

    /// The entries that say what is declared under this name.
    pub(super) fn ids(&self, source: &Source) -> Vec<Arc<str>> {
        let entries = self.known.get(source).into_iter().flatten();
        entries.map(|one| Arc::clone(&one.id)).collect()
    }

    /// The nodes that have joined and not left; they stand in the place of topics.
    pub(super) fn nodes(&self) -> Vec<Arc<str>> {
        self.nodes.iter().map(Arc::clone).collect()
    }

    /// What those entries cover.
    pub(super) fn covered_by(&self, source: &Source) -> Vec<Arc<str>> {
        let entries = self.known.get(source).into_iter().flatten();
        entries.flat_map(|one| one.covers.iter().map(Arc::clone)).collect()
    }

    /// Calls `visitor` with the name of each durable subscription to this topic, some more than
    /// once.
    pub(super) fn visit<'a>(&'a self, topic: &str, visitor: &mut impl FnMut(&'a Arc<str>)) {
        self.matching.visit(topic, visitor);
    }
}

impl Entry {
    pub(super) fn encode(&self) -> Bytes {
        let mut block = Headers::builder().with("id", &*self.id);
        for id in &self.covers {
            block = block.with("covers", &**id);
        }
        let kind = match self.source {
            Source::Queue(_) => "queue",
            Source::Durable(_) => "durable",
            Source::Topic(_) => "node",
        };
        block = block.with(kind, &**self.source.name());
        if let Some(Declared { patterns, settings }) = &self.declared {
            block = block.with("declared", "");
            for pattern in patterns {
                block = block.with("pattern", &**pattern);
            }
            if let Some(max) = settings.max_deliveries {
                block = block.with("max-deliveries", max.to_string());
            }
            if let Some(name) = &settings.dead_letter {
                block = block.with("dead-letter", &**name);
            }
        }
        block.build().as_bytes().clone()
    }

    /// Reads what [`encode`](Self::encode) wrote; names that are not known are passed over.
    pub(super) fn decode(block: Bytes) -> Option<Self> {
        let block = Headers::from_bytes(block).ok()?;
        let mut entry =
            Self { id: "".into(), covers: Vec::new(), source: Source::queue(""), declared: None };
        let mut declared = Declared::default();
        for (name, value) in block.iter() {
            let text = std::str::from_utf8(value).ok()?;
            match name {
                "id" => entry.id = text.into(),
                "covers" => entry.covers.push(text.into()),
                "queue" => entry.source = Source::queue(text),
                "durable" => entry.source = Source::durable(text),
                "node" => entry.source = Source::topic(text),
                "declared" => entry.declared = Some(Declared::default()),
                "pattern" => declared.patterns.push(text.into()),
                "max-deliveries" => declared.settings.max_deliveries = text.parse().ok(),
                "dead-letter" => declared.settings.dead_letter = Some(text.into()),
                _ => {}
            }
        }
        let named = !entry.id.is_empty() && !entry.source.name().is_empty();
        entry.declared = entry.declared.map(|_| declared);
        named.then_some(entry)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(id: &str, covers: &[&str], patterns: Option<&[&str]>) -> Entry {
        Entry {
            id: id.into(),
            covers: covers.iter().map(|id| (*id).into()).collect(),
            source: Source::durable("d"),
            declared: patterns.map(|patterns| Declared {
                patterns: patterns.iter().map(|one| (*one).into()).collect(),
                settings: Settings::default(),
            }),
        }
    }

    fn subscribers(registry: &Registry, topic: &str) -> usize {
        let mut found = HashSet::new();
        registry.visit(topic, &mut |name| {
            found.insert(name);
        });
        found.len()
    }

    #[test]
    fn entries_come_back_as_they_were() {
        let mut full = entry("1-2", &["1-1", "0-7"], Some(&["a.*", "#"]));
        let settings = &mut full.declared.as_mut().unwrap().settings;
        settings.max_deliveries = std::num::NonZeroU32::new(3);
        settings.dead_letter = Some("dead".into());
        let queue = Entry { source: Source::queue("q"), ..entry("1", &[], Some(&[])) };
        let node = Entry { source: Source::topic("n"), ..entry("1", &[], Some(&[])) };
        for one in [full, queue, node, entry("3", &["1-2"], None)] {
            assert_eq!(Entry::decode(one.encode()), Some(one));
        }
        assert_eq!(Entry::decode(Bytes::from_static(b"nonsense")), None);
        assert_eq!(Entry::decode(Bytes::new()), None);
    }

    #[test]
    fn what_is_deleted_routes_nothing_and_does_not_come_back() {
        let mut registry = Registry::default();
        assert!(!registry.apply(&entry("1", &[], Some(&["a.*"]))));
        assert_eq!((subscribers(&registry, "a.b"), subscribers(&registry, "b")), (1, 0));
        assert!(registry.apply(&entry("2", &["1"], None)));
        assert!(!registry.has(&Source::durable("d")) && subscribers(&registry, "a.b") == 0);
        registry.apply(&entry("1", &[], Some(&["a.*"])));
        assert!(!registry.has(&Source::durable("d")));
    }

    #[test]
    fn declarations_that_know_nothing_of_each_other_add_up() {
        let mut registry = Registry::default();
        registry.apply(&entry("1", &[], Some(&["a"])));
        registry.apply(&entry("2", &[], Some(&["b", "a"])));
        let declared = registry.get(&Source::durable("d")).unwrap();
        assert_eq!(declared.patterns, [Arc::<str>::from("a"), Arc::from("b")]);
        registry.apply(&entry("3", &["1", "2"], Some(&["b"])));
        assert_eq!(registry.ids(&Source::durable("d")), [Arc::<str>::from("3")]);
        assert_eq!((subscribers(&registry, "a"), subscribers(&registry, "b")), (0, 1));
    }

    proptest! {
        #[test]
        fn the_order_of_arrival_makes_no_difference(
            changes in prop::collection::vec((any::<bool>(), 0..4_usize), 1..8),
            order in any::<prop::sample::Index>(),
        ) {
            let mut history = Registry::default();
            let mut entries = Vec::new();
            for (number, (deletes, forgets)) in changes.into_iter().enumerate() {
                let pattern = format!("t{number}");
                let mut covers = history.ids(&Source::durable("d"));
                covers.truncate(covers.len().saturating_sub(forgets));
                let covers: Vec<_> = covers.iter().map(|id| &**id).collect();
                let patterns = [pattern.as_str()];
                let patterns = (!deletes).then_some(&patterns[..]);
                let one = entry(&number.to_string(), &covers, patterns);
                history.apply(&one);
                entries.push(one);
            }
            let first = order.index(entries.len());
            let mut other = Registry::default();
            let (end, begin) = entries.split_at(first);
            begin.iter().rev().chain(end).chain(&entries).for_each(|one| {
                other.apply(one);
            });
            prop_assert_eq!(history.get(&Source::durable("d")), other.get(&Source::durable("d")));
            for number in 0..8 {
                let topic = format!("t{number}");
                prop_assert_eq!(subscribers(&history, &topic), subscribers(&other, &topic));
            }
        }
    }
}
