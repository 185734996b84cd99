//! The journal: what is handed out as it comes.
//!
//! Most of it is acknowledged soon, so it does not get rows of its own: all of a transaction is one row, beside which a
//! second, small one says what of it still waits. An acknowledgement overwrites a few octets there, and with the last
//! both rows go. Neither that nor reading ever needs more room in the file. What waits for long is moved to the tables
//! by the publishes that come after it, so the journal stays small, and with it what is known of it in memory.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use crate::Message;
use crate::storage::{Change, Place, StoredEntry};

use super::store::{id, key};

/// Beyond so many octets the oldest goes to the tables.
const MAX_OCTETS: usize = 4 << 20;
/// A larger message goes to the tables at once: a row is kept as long as anything of it waits.
const MAX_MESSAGE: usize = 8 << 10;

/// What waits in the journal; the rows by the id of their first entry, which is also theirs
#[derive(Debug, Default)]
pub(super) struct Journal {
    rows: BTreeMap<u64, JournalRow>,
    octets: usize,
}

#[derive(Clone, Debug, Default)]
struct JournalRow {
    octets: usize,
    /// By its id, counted from the row's; `None` is done with, or was never here.
    entries: Vec<Option<Waiting>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    /// The key of its source
    source: u64,
    deliveries: u16,
}

impl JournalRow {
    fn is_done(&self) -> bool {
        self.entries.iter().all(Option::is_none)
    }

    /// Two octets for each entry: 0 if it is done with, else one more than its deliveries.
    fn state(&self) -> Vec<u8> {
        let state = |entry: &Option<Waiting>| {
            entry.map_or(0, |waiting| waiting.deliveries.saturating_add(1)).to_le_bytes()
        };
        self.entries.iter().flat_map(state).collect()
    }

    fn forget(&mut self, source: u64) {
        let of_source = |entry: &&mut Option<Waiting>| entry.is_some_and(|it| it.source == source);
        self.entries.iter_mut().filter(of_source).for_each(|entry| *entry = None);
    }
}

fn deliveries(count: u32) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX - 1)
}

impl Journal {
    /// Reads what is known of the journal. `key_of` gives the key of a source, if there is one.
    pub(super) fn load(
        connection: &Connection,
        key_of: impl Fn(&Place) -> Option<u64>,
    ) -> rusqlite::Result<Self> {
        let mut journal = Self::default();
        let mut statement =
            connection.prepare("SELECT id, content, state FROM journal JOIN waiting USING (id)")?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let first = id(row, 0)?;
            let content = row.get_ref(1)?.as_blob()?;
            let (state, _) = row.get_ref(2)?.as_blob()?.as_chunks();
            let mut entries = vec![None; state.len()];
            for place in decode(content).into_iter().flat_map(|(_, _, places)| places) {
                let at = index(first, place.id);
                let count = state.get(at).copied().map(u16::from_le_bytes);
                if let (Some(count), Some(entry)) = (count, entries.get_mut(at)) {
                    let deliveries = count.checked_sub(1);
                    *entry = deliveries.and_then(|deliveries| {
                        Some(Waiting { source: key_of(&place)?, deliveries })
                    });
                }
            }
            journal.octets += content.len();
            journal.rows.insert(first, JournalRow { octets: content.len(), entries });
        }
        Ok(journal)
    }

    /// All that waits: the key of its source, and its id.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (u64, u64)> {
        self.rows.iter().flat_map(|(first, row)| {
            let ids = (*first..).zip(&row.entries);
            ids.filter_map(|(id, entry)| Some((entry.as_ref()?.source, id)))
        })
    }

    /// What of a source waits after an entry, in order.
    pub(super) fn read(
        &self,
        connection: &Connection,
        source: u64,
        after: u64,
    ) -> rusqlite::Result<Vec<StoredEntry>> {
        let mut found = Vec::new();
        for (first, row) in &self.rows {
            let wanted = |id: u64, entry: Option<Waiting>| {
                entry.filter(|waiting| waiting.source == source && id > after)
            };
            if !(*first..).zip(&row.entries).any(|(id, entry)| wanted(id, *entry).is_some()) {
                continue;
            }
            for (message, redelivered, places) in content(connection, *first)? {
                for place in places {
                    let entry = row.entries.get(index(*first, place.id)).copied().flatten();
                    if let Some(waiting) = wanted(place.id, entry) {
                        let mut entry = place.entry(&message, redelivered);
                        entry.deliveries = waiting.deliveries.into();
                        found.push(entry);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Takes over what a transaction made of it.
    pub(super) fn apply(&mut self, edit: Edit) {
        for (first, row) in edit.changed {
            let octets = if row.is_done() {
                self.rows.remove(&first).map_or(0, |row| row.octets)
            } else {
                self.rows.insert(first, row);
                0
            };
            self.octets = self.octets.saturating_sub(octets);
        }
        if let Some(draft) = edit.draft.filter(|draft| !draft.row.is_done()) {
            self.octets += draft.row.octets;
            self.rows.insert(draft.first, draft.row);
        }
    }
}

/// What a transaction makes of the journal.
#[derive(Debug, Default)]
pub(super) struct Edit {
    changed: BTreeMap<u64, JournalRow>,
    draft: Option<Draft>,
}

/// The row of a transaction.
#[derive(Debug)]
struct Draft {
    first: u64,
    row: JournalRow,
    content: Vec<u8>,
}

/// Whether a message goes to the journal.
pub(super) fn takes(message: &Message, places: &[Place]) -> bool {
    message.expires.is_none()
        && message.cost() <= MAX_MESSAGE
        && places.iter().all(|place| place.deliveries > 0 && place.dead_letter.is_none())
}

impl Edit {
    /// Adds what is stored, with the keys of the sources of its places.
    pub(super) fn add(&mut self, stored: &Change, places: &[Place], keys: &[u64]) {
        let Some(first) = places.first() else { return };
        let draft = self.draft.get_or_insert_with(|| Draft {
            first: first.id,
            row: JournalRow::default(),
            content: Vec::new(),
        });
        for (place, source) in places.iter().zip(keys) {
            let entries = &mut draft.row.entries;
            // Entries of the tables may lie between.
            entries.resize(index(draft.first, place.id), None);
            entries
                .push(Some(Waiting { source: *source, deliveries: deliveries(place.deliveries) }));
        }
        let start = draft.content.len();
        draft.content.extend([0; 4]);
        stored.encode_to(&mut draft.content);
        let length = u32::try_from(draft.content.len() - start - 4).unwrap_or(u32::MAX);
        if let Some(place) = draft.content.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }

    /// An entry that waits in the journal.
    fn entry(&mut self, journal: &Journal, source: u64, id: u64) -> Option<&mut Option<Waiting>> {
        let (first, row) = journal.rows.range(..=id).next_back()?;
        let at = index(*first, id);
        let is_it = |row: &JournalRow| {
            row.entries.get(at).copied().flatten().is_some_and(|it| it.source == source)
        };
        if !is_it(self.changed.get(first).unwrap_or(row)) {
            return None;
        }
        self.changed.entry(*first).or_insert_with(|| row.clone()).entries.get_mut(at)
    }

    /// Removes an entry, if it is here.
    pub(super) fn remove(&mut self, journal: &Journal, source: u64, id: u64) -> bool {
        self.entry(journal, source, id).is_some_and(|entry| entry.take().is_some())
    }

    /// Notes how often an entry was handed out, if it is here.
    pub(super) fn count(&mut self, journal: &Journal, source: u64, id: u64, count: u32) -> bool {
        let Some(entry) = self.entry(journal, source, id) else { return false };
        *entry = Some(Waiting { source, deliveries: deliveries(count) });
        true
    }

    /// Removes all entries of a source.
    pub(super) fn forget(&mut self, journal: &Journal, source: u64) {
        for (first, row) in &journal.rows {
            if row.entries.iter().flatten().any(|waiting| waiting.source == source) {
                self.changed.entry(*first).or_insert_with(|| row.clone()).forget(source);
            }
        }
        if let Some(draft) = &mut self.draft {
            draft.row.forget(source);
        }
    }

    /// Takes the oldest rows out if there is too much; gives what waits in them.
    pub(super) fn take_oldest(
        &mut self,
        journal: &Journal,
        connection: &Connection,
    ) -> rusqlite::Result<Vec<(Message, bool, Vec<Place>)>> {
        let mut taken = Vec::new();
        if journal.octets <= MAX_OCTETS {
            return Ok(taken);
        }
        let mut octets = journal.octets;
        for (first, row) in &journal.rows {
            if octets <= MAX_OCTETS / 2 {
                break;
            }
            octets = octets.saturating_sub(row.octets);
            let now = self.changed.entry(*first).or_insert_with(|| row.clone());
            for (message, redelivered, mut places) in content(connection, *first)? {
                places.retain_mut(|place| {
                    let entry = now.entries.get_mut(index(*first, place.id));
                    entry.and_then(Option::take).is_some_and(|waiting| {
                        place.deliveries = waiting.deliveries.into();
                        true
                    })
                });
                if !places.is_empty() {
                    taken.push((message, redelivered, places));
                }
            }
            now.entries.clear();
        }
        Ok(taken)
    }

    /// Writes what has changed.
    pub(super) fn store(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if !self.changed.is_empty() {
            let mut update =
                connection.prepare_cached("UPDATE waiting SET state = ?2 WHERE id = ?1")?;
            for (first, row) in &self.changed {
                if row.is_done() {
                    for delete in
                        ["DELETE FROM waiting WHERE id = ?1", "DELETE FROM journal WHERE id = ?1"]
                    {
                        connection.prepare_cached(delete)?.execute([key(*first)])?;
                    }
                } else {
                    update.execute(params![key(*first), row.state()])?;
                }
            }
        }
        if let Some(Draft { first, row, content }) = &mut self.draft
            && !row.is_done()
        {
            row.octets = content.len();
            connection
                .prepare_cached("INSERT INTO journal (id, content) VALUES (?1, ?2)")?
                .execute(params![key(*first), &*content])?;
            connection
                .prepare_cached("INSERT INTO waiting (id, state) VALUES (?1, ?2)")?
                .execute(params![key(*first), row.state()])?;
        }
        Ok(())
    }
}

fn index(first: u64, id: u64) -> usize {
    usize::try_from(id.saturating_sub(first)).unwrap_or(usize::MAX)
}

fn content(
    connection: &Connection,
    first: u64,
) -> rusqlite::Result<Vec<(Message, bool, Vec<Place>)>> {
    connection
        .prepare_cached("SELECT content FROM journal WHERE id = ?1")?
        .query_row([key(first)], |row| Ok(decode(row.get_ref(0)?.as_blob()?)))
}

/// Reads what [`Edit::add`] wrote.
fn decode(mut content: &[u8]) -> Vec<(Message, bool, Vec<Place>)> {
    let mut all = Vec::new();
    while let Some((length, rest)) = content.split_first_chunk() {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some((one, rest)) = rest.split_at_checked(length) else { break };
        match Change::decode(one) {
            Ok(Change::Store { message, redelivered, places }) => {
                all.push((message, redelivered, places));
            }
            // Must not keep all others from being delivered.
            _ => tracing::error!("passing over a damaged message in the queue file's journal"),
        }
        content = rest;
    }
    all
}

#[cfg(test)]
mod tests;
