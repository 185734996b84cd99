//! What a read of a storage finds.

use std::collections::{HashMap, HashSet};

use crate::local::FetchWindow;

use super::StoredEntry;

/// Takes the entries that a [`read`](super::Storage::read) finds, as many as there is room for
#[derive(Debug)]
pub struct Page {
    entries: Vec<StoredEntry>,
    most: usize,
    most_bytes: usize,
    bytes: usize,
    more: bool,
    pub(super) pending: Pending,
}

/// What is about to be written about the source.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) removed: HashSet<u64>,
    pub(super) counts: HashMap<u64, u32>,
}

impl Page {
    pub(super) fn new(window: &FetchWindow, pending: Pending) -> Self {
        Self {
            entries: Vec::new(),
            most: window.entries,
            most_bytes: window.bytes,
            bytes: 0,
            more: false,
            pending,
        }
    }

    /// Takes the next entry; `false` if there was no room for it, nor for any after it.
    pub fn push(&mut self, mut entry: StoredEntry) -> bool {
        if self.pending.removed.contains(&entry.id) {
            return true;
        }
        // One is always taken, however large.
        let full = self.entries.len() >= self.most || self.bytes >= self.most_bytes;
        if full && !self.entries.is_empty() {
            self.more = true;
            return false;
        }
        if let Some(count) = self.pending.counts.get(&entry.id) {
            entry.deliveries = *count;
        }
        self.bytes = self.bytes.saturating_add(entry.message.cost());
        self.entries.push(entry);
        true
    }

    /// The entries, and whether there are more.
    pub(super) fn finish(self) -> (Vec<StoredEntry>, bool) {
        (self.entries, self.more)
    }
}
