//! What exists, and where a publish goes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::{
    BrokerError, Declaration, DeclarationKind, PatternMap, Source, SourceStats, Target,
    validate_topic,
};

use super::{Group, Live, Settings};

/// The groups and subscribers of a broker inside this process.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    queues: HashMap<Arc<str>, Arc<Group>>,
    durables: HashMap<Arc<str>, Durable>,
    topics: PatternMap<Subscriber>,
    live: HashMap<u64, Arc<Live>>,
}

#[derive(Debug)]
struct Durable {
    group: Arc<Group>,
    patterns: Vec<Arc<str>>,
}

#[derive(Debug)]
enum Subscriber {
    Durable(Arc<Group>),
    Live(Arc<Live>),
}

/// Where the targets of a publish lead, each place once, with the index of the first target that
/// leads there.
#[derive(Debug, Default)]
pub(crate) struct Matched {
    pub(crate) groups: Vec<(Arc<Group>, usize)>,
    pub(crate) live: Vec<(Arc<Live>, usize)>,
}

impl Tables {
    pub(crate) fn resolve(&self, targets: &[Target]) -> Result<Matched, BrokerError> {
        let mut matched = Matched::default();
        for (index, target) in targets.iter().enumerate() {
            match target {
                Target::Queue(name) => {
                    matched.groups.push((Arc::clone(self.queue(name)?), index));
                }
                Target::Topic(name) => {
                    validate_topic(name)?;
                    self.topics.visit(name, &mut |subscriber| match subscriber {
                        Subscriber::Durable(group) => {
                            matched.groups.push((Arc::clone(group), index));
                        }
                        Subscriber::Live(live) => matched.live.push((Arc::clone(live), index)),
                    });
                }
            }
        }
        once(&mut matched.groups, |group| group.id);
        once(&mut matched.live, |live| live.id);
        Ok(matched)
    }

    pub(crate) fn queue(&self, name: &Arc<str>) -> Result<&Arc<Group>, BrokerError> {
        let group = self.queues.get(name);
        group.ok_or_else(|| BrokerError::not_declared(&Source::Queue(Arc::clone(name))))
    }

    pub(crate) fn group(&self, source: &Source) -> Result<&Arc<Group>, BrokerError> {
        let group = match source {
            Source::Queue(name) => self.queues.get(name),
            Source::Durable(name) => self.durables.get(name).map(|durable| &durable.group),
            Source::Topic(_) => None,
        };
        group.ok_or_else(|| BrokerError::not_declared(source))
    }

    pub(crate) fn stats(&self, source: &Source) -> Result<SourceStats, BrokerError> {
        match source {
            Source::Topic(pattern) => Ok(SourceStats {
                consumers: self.live.values().filter(|live| live.pattern == *pattern).count()
                    as u64,
                ..SourceStats::default()
            }),
            _ => self.group(source).map(|group| group.stats()),
        }
    }

    /// What is declared under this name, with all its patterns.
    #[cfg(feature = "storage")]
    pub(crate) fn declaration(&self, source: &Source) -> Option<Declaration> {
        let name = source.name();
        let (group, kind) = match source {
            Source::Queue(_) => (self.queues.get(name)?, DeclarationKind::Queue),
            Source::Durable(_) => {
                let Durable { group, patterns } = self.durables.get(name)?;
                (group, DeclarationKind::Durable { patterns: patterns.clone() })
            }
            Source::Topic(_) => return None,
        };
        let Settings { max_deliveries, dead_letter } = group.settings();
        Some(Declaration { kind, name: Arc::clone(name), max_deliveries, dead_letter })
    }

    /// Whether there is nothing left to do for a declaration.
    pub(crate) fn is_declared(&self, declaration: &Declaration) -> bool {
        let same = |group: &Arc<Group>| group.settings() == Settings::of(declaration);
        let dead_letter = declaration.dead_letter.as_ref();
        if !dead_letter.is_none_or(|name| self.queues.contains_key(name)) {
            return false;
        }
        match &declaration.kind {
            DeclarationKind::Queue => self.queues.get(&declaration.name).is_some_and(same),
            DeclarationKind::Durable { patterns } => {
                self.durables.get(&declaration.name).is_some_and(|durable| {
                    same(&durable.group)
                        && patterns.iter().all(|pattern| durable.patterns.contains(pattern))
                })
            }
        }
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.queues.values().chain(self.durables.values().map(|durable| &durable.group))
    }

    pub(crate) fn insert_group(&mut self, group: Arc<Group>) {
        match &group.source {
            Source::Queue(name) => {
                self.queues.insert(Arc::clone(name), group);
            }
            Source::Durable(name) => {
                self.durables.insert(Arc::clone(name), Durable { group, patterns: Vec::new() });
            }
            Source::Topic(_) => {}
        }
    }

    /// Binds a durable subscription to the patterns that it is not bound to yet.
    pub(crate) fn bind(&mut self, name: &str, patterns: &[Arc<str>]) {
        let Some(durable) = self.durables.get_mut(name) else { return };
        for pattern in patterns {
            if !durable.patterns.contains(pattern) {
                durable.patterns.push(Arc::clone(pattern));
                self.topics.insert(pattern, Subscriber::Durable(Arc::clone(&durable.group)));
            }
        }
    }

    pub(crate) fn remove_group(&mut self, source: &Source) -> Option<Arc<Group>> {
        match source {
            Source::Queue(name) => self.queues.remove(name),
            Source::Durable(name) => {
                let durable = self.durables.remove(name)?;
                for pattern in &durable.patterns {
                    self.topics.remove(pattern, |subscriber| {
                        matches!(subscriber, Subscriber::Durable(group) if group.id == durable.group.id)
                    });
                }
                Some(durable.group)
            }
            Source::Topic(_) => None,
        }
    }

    pub(crate) fn insert_live(&mut self, live: &Arc<Live>) {
        self.topics.insert(&live.pattern, Subscriber::Live(Arc::clone(live)));
        self.live.insert(live.id, Arc::clone(live));
    }

    pub(crate) fn remove_live(&mut self, live: &Live) {
        self.topics.remove(
            &live.pattern,
            |subscriber| matches!(subscriber, Subscriber::Live(one) if one.id == live.id),
        );
        self.live.remove(&live.id);
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = &Arc<Live>> {
        self.live.values()
    }
}

fn once<T>(places: &mut Vec<(Arc<T>, usize)>, key: impl Fn(&T) -> u64) {
    if places.len() > 1 {
        places.sort_by_key(|(place, index)| (key(place), *index));
        places.dedup_by_key(|(place, _)| key(place));
    }
}
