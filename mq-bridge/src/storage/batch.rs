//! What the writer makes of some operations: changes of the storage, and what follows from them once
//! they are written.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::local::{Entry, FetchWindow, Group, Promise, Stored, read};
use crate::{DeadLetterReason, Declaration, DeclarationKind, Derived, Source};

use super::broker::Shared;
use super::op::{Op, Routed};
use super::page::Pending;
use super::{Change, Page, Place, Storage, StoredEntry};

#[derive(Default)]
pub(super) struct Batch {
    pub(super) changes: Vec<Change>,
    pub(super) effects: Vec<Effect>,
    pub(super) expired: u64,
    pub(super) next_entry: u64,
    /// The groups that go in this batch.
    deleted: HashSet<u64>,
    /// What is declared in this batch; `None` if it is deleted.
    declared: HashMap<Source, Option<Declaration>>,
}

/// What a batch does to the groups once it is written.
pub(super) enum Effect {
    Stored { group: Arc<Group>, entry: Option<Entry>, cost: usize },
    Shrunk { group: Arc<Group>, count: u64 },
    Fetched { group: Arc<Group>, window: FetchWindow, entries: Vec<Entry>, more: bool },
    Declared(Declaration),
    Deleted(Source),
}

impl Op {
    /// Whether it changes or reads the storage.
    pub(super) fn writes(&self) -> bool {
        match self {
            Self::Publish { routed, .. } => routed.iter().any(Routed::is_stored),
            Self::Shutdown => false,
            _ => true,
        }
    }
}

impl Batch {
    pub(super) fn new(next_entry: u64) -> Self {
        Self { next_entry, ..Self::default() }
    }

    /// Adds what an operation changes; fetches come [last](Self::fetch).
    pub(super) fn apply(&mut self, shared: &Shared, op: &Op) {
        match op {
            Op::Publish { routed, .. } => routed.iter().for_each(|routed| self.publish(routed)),
            Op::Settle { group, ids, .. } => self.remove(group, ids.clone()),
            Op::Expire { group, ids } => {
                if !self.is_deleted(group) {
                    self.expired += ids.len() as u64;
                    self.remove(group, ids.clone());
                }
            }
            Op::DeadLetter { group, entries, why, .. } => {
                self.dead_letter(shared, group, entries, *why);
            }
            Op::Recount { group, counts } => {
                if !self.is_deleted(group) {
                    let (source, counts) = (group.source.clone(), counts.clone());
                    self.changes.push(Change::Count { source, counts });
                }
            }
            Op::Declare { declaration, .. } => self.declare(shared, declaration),
            Op::Delete { source, .. } => self.delete(shared, source),
            Op::Fetch { .. } | Op::Shutdown => {}
        }
    }

    fn is_deleted(&self, group: &Group) -> bool {
        group.is_deleted() || self.deleted.contains(&group.id)
    }

    fn publish(&mut self, routed: &Routed) {
        let publish = &routed.publish;
        let stored = Arc::new(Stored {
            message: publish.message.clone(),
            redelivered: publish.redelivered,
            derived: Derived::new(),
            _charge: None,
        });
        let mut places = Vec::with_capacity(routed.matched.groups.len());
        for (group, index) in &routed.matched.groups {
            // A group that was deleted since the call takes nothing.
            if let Some(target) = publish.targets.get(*index)
                && !self.is_deleted(group)
            {
                let entry = Entry {
                    id: 0,
                    stored: Arc::clone(&stored),
                    target: target.clone(),
                    deliveries: 0,
                    written: 0,
                    dead_letter: None,
                };
                places.extend(self.place(group, entry));
            }
        }
        self.store(&stored, places);
    }

    /// Gives an entry its place in a group, and holds room for it there if it will be handed out at
    /// once.
    fn place(&mut self, group: &Arc<Group>, mut entry: Entry) -> Option<Place> {
        let cost = entry.stored.message.cost();
        let promised = match group.promise(cost) {
            Promise::Gone => return None,
            promise => promise == Promise::Made,
        };
        entry.id = self.next_entry;
        self.next_entry += 1;
        entry.deliveries = 0;
        entry.written = 1;
        let place = Place {
            source: group.source.clone(),
            id: entry.id,
            target: entry.target.clone(),
            deliveries: u32::from(promised),
            dead_letter: entry.dead_letter,
        };
        let entry = promised.then_some(entry);
        self.effects.push(Effect::Stored { group: Arc::clone(group), entry, cost });
        Some(place)
    }

    fn store(&mut self, stored: &Stored, places: Vec<Place>) {
        if !places.is_empty() {
            let (message, redelivered) = (stored.message.clone(), stored.redelivered);
            self.changes.push(Change::Store { message, redelivered, places });
        }
    }

    fn remove(&mut self, group: &Arc<Group>, ids: Vec<u64>) {
        if !self.is_deleted(group) {
            let count = ids.len() as u64;
            self.effects.push(Effect::Shrunk { group: Arc::clone(group), count });
            self.changes.push(Change::Remove { source: group.source.clone(), ids });
        }
    }

    fn dead_letter(
        &mut self,
        shared: &Shared,
        group: &Arc<Group>,
        entries: &[Entry],
        why: DeadLetterReason,
    ) {
        if self.is_deleted(group) {
            return;
        }
        let queue = group
            .settings()
            .dead_letter
            .and_then(|name| read(&shared.tables).group(&Source::Queue(name)).ok().map(Arc::clone));
        if let Some(queue) = queue.filter(|queue| !self.is_deleted(queue)) {
            for entry in entries {
                let letter = Entry {
                    stored: Arc::clone(&entry.stored),
                    target: entry.target.clone(),
                    dead_letter: Some(why),
                    ..*entry
                };
                let place = self.place(&queue, letter);
                self.store(&entry.stored, place.into_iter().collect());
            }
        }
        self.remove(group, entries.iter().map(|entry| entry.id).collect());
    }

    /// What is declared under this name, this batch included.
    fn declared(&self, shared: &Shared, source: &Source) -> Option<Declaration> {
        match self.declared.get(source) {
            Some(declared) => declared.clone(),
            None => read(&shared.tables).declaration(source),
        }
    }

    fn declare(&mut self, shared: &Shared, declaration: &Declaration) {
        if let Some(name) = &declaration.dead_letter
            && self.declared(shared, &Source::Queue(Arc::clone(name))).is_none()
        {
            self.declare_now(Declaration::queue(Arc::clone(name)));
        }
        let mut declaration = declaration.clone();
        let before = self.declared(shared, &declaration.source()).map(|before| before.kind);
        if let DeclarationKind::Durable { patterns } = &mut declaration.kind
            && let Some(DeclarationKind::Durable { patterns: mut all }) = before
        {
            all.extend(patterns.drain(..).filter(|one| !all.contains(one)).collect::<Vec<_>>());
            *patterns = all;
        }
        self.declare_now(declaration);
    }

    fn declare_now(&mut self, declaration: Declaration) {
        self.declared.insert(declaration.source(), Some(declaration.clone()));
        self.changes.push(Change::Declare(declaration.clone()));
        self.effects.push(Effect::Declared(declaration));
    }

    fn delete(&mut self, shared: &Shared, source: &Source) {
        if self.declared(shared, source).is_none() {
            return;
        }
        if let Ok(group) = read(&shared.tables).group(source) {
            self.deleted.insert(group.id);
        }
        self.declared.insert(source.clone(), None);
        self.changes.push(Change::Delete(source.clone()));
        self.effects.push(Effect::Deleted(source.clone()));
    }

    /// Reads what the groups have room for, as if the changes were made already.
    pub(super) fn fetch<S: Storage>(
        &mut self,
        storage: &mut S,
        ops: &[Op],
    ) -> Result<(), S::Error> {
        let fetches = ops.iter().filter_map(|op| match op {
            Op::Fetch { group, generation } if !self.is_deleted(group) => {
                Some((Arc::clone(group), group.fetch_window(*generation)?))
            }
            _ => None,
        });
        let fetches: Vec<_> = fetches.collect();
        if fetches.is_empty() {
            return Ok(());
        }
        let mut pending = self.pending(fetches.iter().map(|(group, _)| &group.source));
        for (group, window) in fetches {
            let (seen, stored) = pending.remove(&group.source).unwrap_or_default();
            let mut page = Page::new(&window, seen);
            storage.read(&group.source, window.after, &mut page)?;
            for entry in stored.into_iter().filter(|entry| entry.id > window.after) {
                if !page.push(entry) {
                    break;
                }
            }
            let (entries, more) = page.finish();
            let counts: Vec<_> = entries
                .iter()
                .map(|entry| (entry.id, entry.deliveries.saturating_add(1)))
                .collect();
            if !counts.is_empty() {
                let source = group.source.clone();
                self.changes.push(Change::Count { source, counts });
            }
            let entries = entries.into_iter().map(brought).collect();
            self.effects.push(Effect::Fetched { group, window, entries, more });
        }
        Ok(())
    }

    /// What the changes do to some sources: to what is stored already, and what comes anew.
    fn pending<'a>(
        &self,
        sources: impl Iterator<Item = &'a Source>,
    ) -> HashMap<Source, (Pending, Vec<StoredEntry>)> {
        let mut pending: HashMap<Source, (Pending, Vec<StoredEntry>)> =
            sources.map(|source| (source.clone(), Default::default())).collect();
        for change in &self.changes {
            match change {
                Change::Remove { source, ids } => {
                    if let Some((seen, _)) = pending.get_mut(source) {
                        seen.removed.extend(ids);
                    }
                }
                Change::Count { source, counts } => {
                    if let Some((seen, _)) = pending.get_mut(source) {
                        seen.counts.extend(counts.iter().copied());
                    }
                }
                Change::Store { message, redelivered, places } => {
                    for place in places {
                        if let Some((_, stored)) = pending.get_mut(&place.source) {
                            stored.push(place.entry(message, *redelivered));
                        }
                    }
                }
                Change::Declare(_) | Change::Delete(_) => {}
            }
        }
        pending
    }

    /// The write did not happen.
    pub(super) fn undo(self) {
        for effect in self.effects {
            if let Effect::Stored { group, entry: Some(_), cost } = effect {
                group.not_stored(cost);
            }
        }
    }
}

/// What was read, as a group has it: counted as delivered.
fn brought(entry: StoredEntry) -> Entry {
    let StoredEntry { id, message, redelivered, target, deliveries, dead_letter } = entry;
    let stored = Stored { message, redelivered, derived: Derived::new(), _charge: None };
    Entry {
        id,
        stored: Arc::new(stored),
        target,
        deliveries,
        written: deliveries.saturating_add(1),
        dead_letter,
    }
}
