//! The outbox: what was stored and the broker has yet to confirm.
//!
//! Messages that were stored together are one row, as mostly they are confirmed together too: then the row goes as it
//! came. Where only some of them are, the row is written again with the others.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::place;
use super::query::{message_columns, stored_message};
use super::value::{text, to_sql, unreadable};
use crate::store::limits::octets_of_stored;
use crate::store::pack::{pack, unpack, unpack_copy};
use crate::store::{OutboxId, Unpublished};

/// The migration that made rows of many messages
#[cfg(test)]
pub(super) const MIGRATION: u32 = 9;

/// A row with so many octets takes no more
const ENOUGH: usize = 64 * 1024;

/// What is read at once has at most about so many octets
const MAX_PART: usize = 8 * 1024 * 1024;

/// In the place of the length of what is not there
const NONE: u32 = u32::MAX;

/// A message in a row
struct Entry<'a> {
    /// Its number, counted from the row's first
    index: u32,
    place: i64,
    targets: &'a [u8],
    /// The whole message, where not all of it is stored
    copy: Option<&'a [u8]>,
}

impl<'a> Entry<'a> {
    fn write(&self, row: &mut Vec<u8>) {
        row.extend(self.index.to_be_bytes());
        row.extend(self.place.to_be_bytes());
        row.extend(length(self.targets));
        row.extend(self.targets);
        row.extend(self.copy.map_or(NONE.to_be_bytes(), length));
        row.extend(self.copy.unwrap_or_default());
    }

    fn read(row: &mut &'a [u8]) -> Option<Self> {
        let index = u32::from_be_bytes(take(row)?);
        let place = i64::from_be_bytes(take(row)?);
        let length = u32::from_be_bytes(take(row)?);
        let targets = take_octets(row, length)?;
        let copy = match u32::from_be_bytes(take(row)?) {
            NONE => None,
            length => Some(take_octets(row, length)?),
        };
        Some(Self { index, place, targets, copy })
    }

    fn read_all(mut row: &'a [u8]) -> rusqlite::Result<Vec<Self>> {
        let mut entries = Vec::new();
        while !row.is_empty() {
            let entry = Self::read(&mut row);
            entries.push(entry.ok_or_else(|| unreadable(0, "damaged outbox"))?);
        }
        Ok(entries)
    }

    fn write_all<'b>(entries: impl IntoIterator<Item = &'b Self>) -> Vec<u8>
    where
        'a: 'b,
    {
        let mut row = Vec::new();
        entries.into_iter().for_each(|entry| entry.write(&mut row));
        row
    }

    fn number(&self, first: i64) -> i64 {
        first + i64::from(self.index)
    }
}

fn length(octets: &[u8]) -> [u8; 4] {
    u32::try_from(octets.len()).unwrap_or(NONE - 1).to_be_bytes()
}

fn take<const N: usize>(row: &mut &[u8]) -> Option<[u8; N]> {
    let (octets, rest) = row.split_first_chunk()?;
    *row = rest;
    Some(*octets)
}

fn take_octets<'a>(row: &mut &'a [u8], length: u32) -> Option<&'a [u8]> {
    let (octets, rest) = row.split_at_checked(usize::try_from(length).ok()?)?;
    *row = rest;
    Some(octets)
}

/// What a batch adds
#[derive(Debug, Default)]
pub(super) struct Added {
    /// The numbers of the row under way, and the next
    first: i64,
    next: i64,
    row: Vec<u8>,
}

impl Added {
    /// Adds a message; gives its number.
    pub(super) fn add(
        &mut self,
        connection: &Connection,
        place: i64,
        targets: &[String],
        copy: Option<&[u8]>,
    ) -> rusqlite::Result<i64> {
        if self.next == 0 {
            self.first = last_number(connection)? + 1;
            self.next = self.first;
        }
        let number = self.next;
        self.next += 1;
        let index = u32::try_from(number - self.first).unwrap_or(u32::MAX);
        let targets = pack(targets.iter().map(String::as_str));
        Entry { index, place, targets: &targets, copy }.write(&mut self.row);
        if self.row.len() >= ENOUGH {
            self.store(connection)?;
        }
        Ok(number)
    }

    /// Whether a message is here, or in the file.
    pub(super) fn has(&self, connection: &Connection, number: i64) -> rusqlite::Result<bool> {
        if self.next > 0 && number >= self.first {
            return Ok(number < self.next);
        }
        let row = connection
            .prepare_cached(
                "SELECT first, messages FROM outbox WHERE id >= ?1 ORDER BY id LIMIT 1",
            )?
            .query_row([number], |row| {
                let first = row.get(0)?;
                let entries = Entry::read_all(row.get_ref(1)?.as_blob()?)?;
                Ok(entries.iter().any(|entry| entry.number(first) == number))
            })
            .optional()?;
        Ok(row.unwrap_or_default())
    }

    /// Writes the row under way.
    pub(super) fn store(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.row.is_empty() {
            return Ok(());
        }
        connection
            .prepare_cached("INSERT INTO outbox (id, first, messages) VALUES (?1, ?2, ?3)")?
            .execute(params![self.next - 1, self.first, self.row])?;
        self.first = self.next;
        self.row.clear();
        Ok(())
    }
}

fn last_number(connection: &Connection) -> rusqlite::Result<i64> {
    let last = connection
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(last.unwrap_or_default())
}

/// Takes out what is published.
pub(super) fn remove(connection: &Connection, published: &[OutboxId]) -> rusqlite::Result<()> {
    let mut numbers: Vec<i64> = published.iter().map(|id| to_sql(id.get())).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut next = connection
        .prepare_cached("SELECT id, first FROM outbox WHERE id >= ?1 ORDER BY id LIMIT 1")?;
    let mut left = numbers.as_slice();
    while let Some(wanted) = left.first() {
        let row = next.query_row([wanted], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((last, first)) = row else { break };
        let (here, others) = left.split_at(left.partition_point(|number| *number <= last));
        left = others;
        let is_all = *wanted == first && to_sql(here.len() as u64) == last - first + 1;
        let rest = if is_all { Vec::new() } else { rest(connection, last, first, here)? };
        if rest.is_empty() {
            connection.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([last])?;
        } else {
            rewrite(connection, last, &rest)?;
        }
    }
    Ok(())
}

/// What is left of a row without some messages
fn rest(
    connection: &Connection,
    id: i64,
    first: i64,
    without: &[i64],
) -> rusqlite::Result<Vec<u8>> {
    connection.prepare_cached("SELECT messages FROM outbox WHERE id = ?1")?.query_row([id], |row| {
        let mut entries = Entry::read_all(row.get_ref(0)?.as_blob()?)?;
        entries.retain(|entry| without.binary_search(&entry.number(first)).is_err());
        Ok(Entry::write_all(&entries))
    })
}

fn rewrite(connection: &Connection, id: i64, row: &[u8]) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE outbox SET messages = ?2 WHERE id = ?1")?
        .execute(params![id, row])?;
    Ok(())
}

/// Drops the copy of the message at a place.
pub(super) fn drop_copy(connection: &Connection, of: i64) -> rusqlite::Result<()> {
    let mut changed = Vec::new();
    let mut all = connection.prepare_cached("SELECT id, messages FROM outbox")?;
    let mut rows = all.query([])?;
    while let Some(row) = rows.next()? {
        let mut entries = Entry::read_all(row.get_ref(1)?.as_blob()?)?;
        let copies = entries.iter_mut().filter(|entry| entry.place == of && entry.copy.is_some());
        if copies.map(|entry| entry.copy = None).count() > 0 {
            changed.push((row.get(0)?, Entry::write_all(&entries)));
        }
    }
    drop(rows);
    changed.iter().try_for_each(|(id, row)| rewrite(connection, *id, row))
}

/// The places of all messages; `None` if there are more than `most` rows.
pub(super) fn places(connection: &Connection, most: usize) -> rusqlite::Result<Option<Vec<i64>>> {
    let mut all = connection.prepare_cached("SELECT messages FROM outbox LIMIT ?1")?;
    let mut rows = all.query([to_sql(most as u64 + 1)])?;
    let (mut places, mut count) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let entries = Entry::read_all(row.get_ref(0)?.as_blob()?)?;
        places.extend(entries.iter().map(|entry| entry.place));
        count += 1;
    }
    Ok((count <= most).then_some(places))
}

/// Reads the messages after one, in the order of their numbers.
pub(super) fn unpublished(
    connection: &Connection,
    after: Option<OutboxId>,
    limit: usize,
) -> rusqlite::Result<Vec<Unpublished>> {
    let after = to_sql(after.map_or(0, OutboxId::get));
    let mut found = Vec::new();
    let mut octets = 0;
    let mut all = connection
        .prepare_cached("SELECT first, messages FROM outbox WHERE id > ?1 ORDER BY id")?;
    let mut rows = all.query([after])?;
    while let Some(row) = rows.next()? {
        let first = row.get(0)?;
        for entry in Entry::read_all(row.get_ref(1)?.as_blob()?)? {
            let number = entry.number(first);
            if number <= after {
                continue;
            }
            if found.len() >= limit || octets >= MAX_PART {
                return Ok(found);
            }
            let one = entry.unpublished(connection, number)?;
            octets += octets_of_stored(&one.message);
            found.push(one);
        }
    }
    Ok(found)
}

impl Entry<'_> {
    fn unpublished(&self, connection: &Connection, number: i64) -> rusqlite::Result<Unpublished> {
        let message = match self.copy {
            Some(copy) => {
                let conversation = connection
                    .prepare_cached("SELECT name FROM conversation WHERE id = ?1")?
                    .query_row([place::conversation(self.place)], |row| text(row, 0))?;
                unpack_copy(copy, conversation, place::seq(self.place))
                    .ok_or_else(|| unreadable(0, "damaged message"))?
            }
            None => connection
                .prepare_cached(concat!(
                    "SELECT ",
                    message_columns!(),
                    ", c.name FROM message m JOIN conversation c ON c.id = m.place >> 32
                     WHERE m.place = ?1"
                ))?
                .query_row([self.place], |row| stored_message(row, text(row, 12)?))?,
        };
        let targets = unpack(self.targets).ok_or_else(|| unreadable(0, "damaged targets"))?;
        Ok(Unpublished::new(OutboxId::new(number.cast_unsigned()), message, targets))
    }
}

#[cfg(test)]
mod tests;
