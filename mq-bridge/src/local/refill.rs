//! A group whose messages are kept in the backend's storage, filled as far as consumers have room.

use super::group::{BATCH, Consumer, Entry, Group, State, Wakers, miscounted};
use crate::EndReason;

/// What a group wants fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchWindow {
    pub(crate) after: u64,
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
    generation: u64,
}

/// Whether an entry that is about to be stored will be handed out at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    Made,
    /// It will be fetched when there is room.
    Declined,
    /// The group takes nothing any more.
    Gone,
}

impl Group {
    /// Whether an entry that is about to be stored will be handed out at once; if so the room is
    /// held for it until [`stored`](Self::stored) or [`not_stored`](Self::not_stored).
    pub(crate) fn promise(&self, cost: usize) -> Promise {
        let mut state = self.state();
        if state.ended == Some(EndReason::Deleted) {
            return Promise::Gone;
        }
        if state.behind || state.ended.is_some() {
            return Promise::Declined;
        }
        let room = state.consumers.iter().map(Consumer::room).fold(0, usize::saturating_add);
        let promise = room > state.ready.len() + state.promised
            && state.room_bytes() > state.ready_bytes + state.promised_bytes;
        if promise {
            state.promised += 1;
            state.promised_bytes = state.promised_bytes.saturating_add(cost);
        }
        if promise { Promise::Made } else { Promise::Declined }
    }

    /// An entry was stored. It comes along if room was promised to it; given back if the room is
    /// gone, it will be fetched.
    pub(crate) fn stored(&self, entry: Option<Entry>, wakers: &mut Wakers) -> Option<Entry> {
        let mut state = self.state();
        state.depth += 1;
        let mut unwanted = None;
        match entry {
            Some(entry) => {
                state.promised = state.promised.saturating_sub(1);
                state.promised_bytes = state.promised_bytes.saturating_sub(entry.cost());
                // Behind an entry that was not brought here it must wait for its turn.
                if state.behind || state.consumers.is_empty() {
                    state.behind = true;
                    unwanted = Some(entry);
                } else {
                    state.cursor = entry.id;
                    state.insert(entry);
                }
            }
            None => state.behind = true,
        }
        state.collect_waiting(wakers);
        unwanted
    }

    /// The entry that room was promised to was not stored.
    pub(crate) fn not_stored(&self, cost: usize) {
        let mut state = self.state();
        state.promised = state.promised.saturating_sub(1);
        state.promised_bytes = state.promised_bytes.saturating_sub(cost);
    }

    /// Says that the storage holds entries which were never brought here.
    pub(crate) fn set_behind(&self, depth: u64) {
        let mut state = self.state();
        state.depth = depth;
        state.behind = depth > 0;
    }

    /// What to fetch now; `None` if nobody has room any more, or the group was put away since the
    /// fetch was asked for.
    pub(crate) fn fetch_window(&self, generation: u64) -> Option<FetchWindow> {
        let mut state = self.state();
        if state.generation != generation {
            return None;
        }
        let room = state.consumers.iter().map(Consumer::room).fold(0, usize::saturating_add);
        let window = FetchWindow {
            after: state.cursor,
            // What was put back meanwhile takes its share of the room.
            entries: room.saturating_sub(state.ready.len()).min(BATCH),
            bytes: state.room_bytes(),
            generation,
        };
        if window.entries == 0 || !state.behind {
            state.fetching = false;
            return None;
        }
        Some(window)
    }

    /// What a fetch brought, and whether more is left. Gives the counts of what nobody wants any
    /// more.
    pub(crate) fn fetched(
        &self,
        window: FetchWindow,
        entries: Vec<Entry>,
        more: bool,
        wakers: &mut Wakers,
    ) -> Vec<(u64, u32)> {
        let mut state = self.state();
        let mut unwanted = Vec::new();
        if state.generation == window.generation {
            state.fetching = false;
            state.behind = more;
            if let Some(last) = entries.last() {
                state.cursor = last.id;
            }
            entries.into_iter().for_each(|entry| state.insert(entry));
        } else {
            unwanted = miscounted(entries);
        }
        state.collect_waiting(wakers);
        unwanted
    }
}

impl State {
    fn room_bytes(&self) -> usize {
        self.consumers
            .iter()
            .map(|one| one.prefetch_bytes.saturating_sub(one.unacked_bytes))
            .fold(0, usize::saturating_add)
    }
}
