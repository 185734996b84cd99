//! A consumer group: one queue or durable subscription with the consumers that compete for it.
//!
//! Consumers pull: a consumer that is polled takes what is ready, up to its credit (prefetch). What
//! it took stays here as unacknowledged until it is settled or the consumer goes away, when it is
//! put back at its old place. Entries are ordered by their id, which grows with every publish.
//!
//! A backend that keeps its messages elsewhere (`Retention::Elsewhere`) fills a group only as far as
//! consumers have credit; `behind` says that more is waiting there, and a poll that finds nothing
//! asks the backend's [`Keeper`] to fetch it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::SystemTime;

use crate::{
    BrokerError, Confirm, DeadLetterReason, Delivery, Derived, EndReason, Message, Source,
    SourceStats, SubscribeOptions, Target,
};

use super::unacked::Unacked;
use super::{Settings, lock};

/// The most deliveries of one batch, and the most entries fetched at once.
pub(super) const BATCH: usize = 256;

/// One stored message, shared by all the groups that it waits in.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) message: Message,
    pub(crate) redelivered: bool,
    pub(crate) derived: Derived,
    /// What the message holds of the broker's memory budget, given back on drop.
    pub(crate) _charge: Option<Charge>,
}

/// Octets taken from a budget.
#[derive(Debug)]
pub(crate) struct Charge {
    bytes: usize,
    used: Arc<AtomicUsize>,
}

impl Charge {
    /// Takes `bytes` unless that would exceed `limit`.
    pub(crate) fn take(
        used: &Arc<AtomicUsize>,
        bytes: usize,
        limit: usize,
    ) -> Result<Self, BrokerError> {
        let taken = used.fetch_update(Relaxed, Relaxed, |now| {
            now.checked_add(bytes).filter(|sum| *sum <= limit)
        });
        match taken {
            Ok(_) => Ok(Self { bytes, used: Arc::clone(used) }),
            Err(_) => Err(BrokerError::Overloaded { limit }),
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Relaxed);
    }
}

/// A message in one group.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its place in the group, and its delivery tag.
    pub(crate) id: u64,
    pub(crate) stored: Arc<Stored>,
    pub(crate) target: Target,
    /// How often it was handed to a consumer.
    pub(crate) deliveries: u32,
    /// What the backend has written down of `deliveries`.
    pub(crate) written: u32,
    pub(crate) dead_letter: Option<DeadLetterReason>,
}

impl Entry {
    pub(super) fn cost(&self) -> usize {
        self.stored.message.cost()
    }
}

/// What a backend does about the changes of its groups.
pub(crate) trait Keeper: fmt::Debug + Send + Sync + 'static {
    /// These entries are done with.
    fn settled(&self, group: &Arc<Group>, entries: Vec<Entry>) -> Confirm;

    /// These entries go to the group's dead-letter queue.
    fn dead_letter(
        &self,
        group: &Arc<Group>,
        entries: Vec<Entry>,
        why: DeadLetterReason,
    ) -> Confirm;

    /// These entries expired before they were delivered.
    fn expired(&self, group: &Arc<Group>, entries: Vec<Entry>);

    /// The delivery counts of these entries have changed.
    fn recount(&self, group: &Arc<Group>, counts: Vec<(u64, u32)>);

    /// The group has room for what is kept elsewhere: see [`Group::fetch_window`].
    fn fetch(&self, group: &Arc<Group>, generation: u64);
}

/// Where the messages are kept that no consumer has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retention {
    /// In the group.
    Here,
    /// In the backend's storage.
    Elsewhere,
}

pub(crate) struct Group {
    /// The backend's key.
    pub(crate) id: u64,
    pub(crate) source: Source,
    retention: Retention,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) depth: u64,
    pub(super) ready: VecDeque<Entry>,
    pub(super) ready_bytes: usize,
    pub(super) consumers: Vec<Consumer>,
    pub(super) last_consumer: u64,
    pub(super) ended: Option<EndReason>,
    /// More waits in the backend's storage, after `cursor`.
    pub(super) behind: bool,
    pub(super) fetching: bool,
    /// The last entry that was brought here.
    pub(super) cursor: u64,
    /// Changes when the group is put away, so that a fetch begun before is recognized.
    pub(super) generation: u64,
    /// Room of the consumers that is promised to entries on their way to the storage.
    pub(super) promised: usize,
    pub(super) promised_bytes: usize,
}

pub(super) struct Consumer {
    pub(super) id: u64,
    pub(super) unacked: Unacked,
    pub(super) unacked_bytes: usize,
    pub(super) prefetch: usize,
    pub(super) prefetch_bytes: usize,
    pub(super) waker: Option<Waker>,
    pub(super) ending: Arc<Mutex<Option<EndReason>>>,
}

impl Consumer {
    pub(super) fn room(&self) -> usize {
        if self.unacked_bytes >= self.prefetch_bytes {
            0
        } else {
            self.prefetch.saturating_sub(self.unacked.len())
        }
    }

    fn forget(&mut self, tag: u64) -> Option<Entry> {
        let entry = self.unacked.remove(tag)?;
        self.unacked_bytes -= entry.cost();
        Some(entry)
    }
}

/// What a poll of a consumer found.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) dead: Vec<Entry>,
    pub(crate) expired: Vec<Entry>,
    pub(crate) recount: Vec<(u64, u32)>,
    /// That a fetch is to be made, for this generation.
    pub(crate) fetch: Option<u64>,
}

/// A consumer's place in its group.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) consumer: u64,
    pub(crate) ending: Arc<Mutex<Option<EndReason>>>,
}

impl Group {
    pub(crate) fn new(id: u64, source: Source, retention: Retention, settings: Settings) -> Self {
        let state = State { settings, ..State::default() };
        Self { id, source, retention, state: Mutex::new(state) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn not_declared(&self) -> BrokerError {
        BrokerError::not_declared(&self.source)
    }

    pub(crate) fn settings(&self) -> Settings {
        self.state().settings.clone()
    }

    pub(crate) fn set_settings(&self, settings: Settings) {
        self.state().settings = settings;
    }

    pub(crate) fn stats(&self) -> SourceStats {
        let state = self.state();
        SourceStats {
            depth: state.depth,
            unacked: state.consumers.iter().map(|one| one.unacked.len() as u64).sum(),
            consumers: state.consumers.len() as u64,
        }
    }

    /// Whether the group has been deleted.
    #[cfg(feature = "storage")]
    pub(crate) fn is_deleted(&self) -> bool {
        self.state().ended == Some(EndReason::Deleted)
    }

    #[cfg(feature = "storage")]
    pub(crate) fn add_depth(&self, count: u64) {
        self.state().depth += count;
    }

    pub(crate) fn sub_depth(&self, count: u64) {
        let mut state = self.state();
        state.depth = state.depth.saturating_sub(count);
    }

    /// Takes a consumer in, with takeover after ending all others.
    pub(crate) fn attach(&self, options: &SubscribeOptions) -> Result<Seat, EndReason> {
        let mut state = self.state();
        if let Some(reason) = &state.ended {
            return Err(reason.clone());
        }
        let mut wakers = Wakers::default();
        if options.takeover {
            for consumer in std::mem::take(&mut state.consumers) {
                *lock(&consumer.ending) = Some(EndReason::TakenOver);
                wakers.extend(consumer.waker);
                state.requeue(consumer.unacked.into_entries());
            }
        }
        state.last_consumer += 1;
        let seat = Seat { consumer: state.last_consumer, ending: Arc::default() };
        state.consumers.push(Consumer {
            id: seat.consumer,
            unacked: Unacked::default(),
            unacked_bytes: 0,
            prefetch: usize::try_from(options.prefetch_messages.max(1)).unwrap_or(usize::MAX),
            prefetch_bytes: options.prefetch_bytes.max(1),
            waker: None,
            ending: Arc::clone(&seat.ending),
        });
        drop(state);
        wakers.wake();
        Ok(seat)
    }

    /// Puts back what the consumer has not acknowledged.
    pub(crate) fn detach(self: &Arc<Self>, consumer: u64, keeper: &dyn Keeper) {
        let mut state = self.state();
        let Some(index) = state.consumers.iter().position(|one| one.id == consumer) else {
            return;
        };
        let gone = state.consumers.swap_remove(index);
        state.requeue(gone.unacked.into_entries());
        if state.consumers.is_empty() && self.retention == Retention::Elsewhere {
            self.put_away(&mut state, keeper);
        }
        let wakers = state.waiting();
        drop(state);
        wakers.wake();
    }

    /// Ends all consumers; what they had is put back into the storage, or forgotten with a deleted
    /// group.
    pub(crate) fn end(self: &Arc<Self>, reason: &EndReason, keeper: &dyn Keeper) {
        let mut state = self.state();
        state.ended.get_or_insert_with(|| reason.clone());
        let mut wakers = Wakers::default();
        for consumer in std::mem::take(&mut state.consumers) {
            *lock(&consumer.ending) = Some(reason.clone());
            wakers.extend(consumer.waker);
            state.requeue(consumer.unacked.into_entries());
        }
        self.put_away(&mut state, keeper);
        drop(state);
        wakers.wake();
    }

    /// Empties the group. The storage has everything already but the counts; they are handed over
    /// under the lock, so that they get there before the next fetch.
    fn put_away(self: &Arc<Self>, state: &mut State, keeper: &dyn Keeper) {
        state.behind |= !state.ready.is_empty();
        state.cursor = 0;
        // A fetch that is under way would read what is being acknowledged behind it.
        state.generation += 1;
        state.fetching = false;
        state.ready_bytes = 0;
        let counts = miscounted(std::mem::take(&mut state.ready));
        if !counts.is_empty() {
            keeper.recount(self, counts);
        }
    }

    /// Takes out what is ready and has expired.
    pub(crate) fn take_expired(&self, now: SystemTime) -> Vec<Entry> {
        let mut state = self.state();
        let (expired, ready): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut state.ready)
            .into_iter()
            .partition(|entry| entry.stored.message.is_expired(now));
        state.ready = ready;
        state.ready_bytes -= expired.iter().map(Entry::cost).sum::<usize>();
        expired.into()
    }

    /// Adds an entry that is kept here, under the next id of the group.
    pub(crate) fn push(&self, next_id: impl FnOnce() -> u64, mut entry: Entry) {
        let mut state = self.state();
        if state.ended.is_some() {
            return;
        }
        // Under the lock, so that ids grow in the order of the queue whoever publishes.
        entry.id = next_id();
        state.depth += 1;
        state.insert(entry);
        let wakers = state.waiting();
        drop(state);
        wakers.wake();
    }

    /// Takes what is ready and fits the consumer's credit; leaves the waker if that is nothing.
    /// `None` if the consumer has been ended.
    pub(crate) fn take(&self, consumer: u64, waker: &Waker) -> Option<Taken> {
        let mut state = self.state();
        let index = state.consumers.iter().position(|one| one.id == consumer)?;
        let mut taken = Taken::default();
        state.take(index, &mut taken);
        if taken.deliveries.is_empty()
            && let Some(consumer) = state.consumers.get_mut(index)
        {
            match &mut consumer.waker {
                Some(old) => old.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
        }
        taken.fetch = state.starts_fetch();
        Some(taken)
    }

    /// Removes what the consumer settles from its unacknowledged entries. Gives them, and whether
    /// the room that this makes is to be filled by a fetch.
    pub(crate) fn settle(&self, consumer: u64, tags: &[u64]) -> (Vec<Entry>, Option<u64>) {
        let mut state = self.state();
        let Some(consumer) = state.consumers.iter_mut().find(|one| one.id == consumer) else {
            return (Vec::new(), None);
        };
        let entries: Vec<Entry> = tags.iter().filter_map(|tag| consumer.forget(*tag)).collect();
        // At once, so that the settlement and the fetch share a transaction.
        let fetch = if entries.is_empty() { None } else { state.starts_fetch() };
        let wakers = state.waiting();
        drop(state);
        wakers.wake();
        (entries, fetch)
    }

    /// Puts entries back at their place.
    pub(crate) fn requeue(&self, entries: Vec<Entry>) {
        let mut state = self.state();
        if state.ended.is_some() {
            return;
        }
        state.requeue(entries.into_iter());
        let wakers = state.waiting();
        drop(state);
        wakers.wake();
    }
}

impl State {
    pub(super) fn insert(&mut self, entry: Entry) {
        self.ready_bytes += entry.cost();
        if self.ready.back().is_none_or(|last| last.id < entry.id) {
            self.ready.push_back(entry);
        } else if self.ready.front().is_some_and(|first| first.id > entry.id) {
            self.ready.push_front(entry);
        } else {
            let place = self.ready.partition_point(|other| other.id < entry.id);
            self.ready.insert(place, entry);
        }
    }

    fn requeue(&mut self, entries: impl DoubleEndedIterator<Item = Entry>) {
        // Backwards: what goes to the front is pushed there one before the other.
        entries.rev().for_each(|entry| self.insert(entry));
    }

    fn take(&mut self, index: usize, taken: &mut Taken) {
        let with_room = self.consumers.iter().filter(|one| one.room() > 0).count();
        let Some(consumer) = self.consumers.get_mut(index) else { return };
        // A fair share of what is ready, so that one consumer does not starve the others.
        let mut share = self.ready.len().div_ceil(with_room.max(1)).min(BATCH);
        let mut now = None;
        while share > 0 && consumer.room() > 0 {
            let Some(mut entry) = self.ready.pop_front() else { break };
            let cost = entry.cost();
            self.ready_bytes -= cost;
            if entry.stored.message.expires.is_some()
                && entry.stored.message.is_expired(*now.get_or_insert_with(SystemTime::now))
            {
                taken.expired.push(entry);
                continue;
            }
            if self.settings.max_deliveries.is_some_and(|max| entry.deliveries >= max.get()) {
                taken.dead.push(entry);
                continue;
            }
            entry.deliveries = entry.deliveries.saturating_add(1);
            if entry.written < entry.deliveries {
                entry.written = entry.deliveries;
                taken.recount.push((entry.id, entry.deliveries));
            }
            let stored = &entry.stored;
            taken.deliveries.push(Delivery {
                tag: entry.id,
                message: stored.message.clone(),
                target: entry.target.clone(),
                redelivered: stored.redelivered || entry.deliveries > 1,
                delivery_count: entry.deliveries,
                dead_letter: entry.dead_letter,
                derived: stored.derived.clone(),
            });
            consumer.unacked_bytes += cost;
            consumer.unacked.insert(entry);
            share -= 1;
        }
    }

    /// Whether a fetch shall be started, for which generation; then it counts as started.
    fn starts_fetch(&mut self) -> Option<u64> {
        let start = self.behind
            && !self.fetching
            && self.ready.is_empty()
            && self.consumers.iter().any(|one| one.room() > 0);
        self.fetching |= start;
        start.then_some(self.generation)
    }

    /// The consumers that wait and have room, if there is something for them. All are woken: one
    /// that was picked might be busy with something else while the others wait.
    fn waiting(&mut self) -> Wakers {
        let mut wakers = Wakers::default();
        self.collect_waiting(&mut wakers);
        wakers
    }

    pub(super) fn collect_waiting(&mut self, wakers: &mut Wakers) {
        if !self.ready.is_empty() || (self.behind && !self.fetching) {
            for consumer in &mut self.consumers {
                if consumer.room() > 0 {
                    wakers.extend(consumer.waker.take());
                }
            }
        }
    }
}

/// The counts of entries that were not handed out as often as is written down.
pub(super) fn miscounted(entries: impl IntoIterator<Item = Entry>) -> Vec<(u64, u32)> {
    entries
        .into_iter()
        .filter(|entry| entry.written != entry.deliveries)
        .map(|entry| (entry.id, entry.deliveries))
        .collect()
}

/// Wakers to call once the lock is released.
#[derive(Default)]
pub(crate) struct Wakers {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl Wakers {
    fn extend(&mut self, waker: Option<Waker>) {
        // Most groups have one consumer: no allocation for it.
        if self.first.is_none() {
            self.first = waker;
        } else {
            self.more.extend(waker);
        }
    }

    pub(crate) fn wake(self) {
        self.first.into_iter().chain(self.more).for_each(Waker::wake);
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("source", &self.source).finish_non_exhaustive()
    }
}
