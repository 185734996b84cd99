//! Writing the full-text index.
//!
//! It takes many texts at once for a fraction of what they cost one by one. So what stores messages only notes where the
//! texts are, a row for each batch, and once enough are noted puts all of them in, in the same transaction and in the
//! order of their places: whenever a place is before the last one, the index starts another part of itself. What is
//! noted is looked through by each search, and is never in the index as well.

use std::collections::BTreeSet;

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};

use super::value::{to_sql, unsigned};
use crate::store::MessageKind;
use crate::store::pack::unpack_headers;
use crate::store::search::{text_of, words};

/// The migration that makes the index
pub(super) const MIGRATION: u32 = 3;

/// The weight at which what is noted goes into the index: some two thousand usual texts, which it takes in some ten
/// milliseconds; fewer at a time would cost more each, as its parts are merged then more often
const ENOUGH: u64 = 512 * 1024;

/// What a text weighs beside its octets
const WEIGHT: u64 = 128;

/// Texts that are yet to be noted
#[derive(Default)]
pub(super) struct Texts {
    places: Vec<u8>,
    weight: u64,
}

impl Texts {
    /// Adds one that is not in the index
    pub(super) fn add(&mut self, place: i64, text: &str) {
        self.places.extend(place.to_le_bytes());
        self.weight += WEIGHT + text.len() as u64;
    }

    /// Notes them, once their messages are written
    pub(super) fn store(self, connection: &Connection) -> rusqlite::Result<()> {
        if self.places.is_empty() {
            return Ok(());
        }
        let before: Option<i64> = connection
            .prepare_cached("SELECT weight FROM unindexed ORDER BY id DESC LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        let weight = before.unwrap_or_default().saturating_add(to_sql(self.weight));
        connection
            .prepare_cached("INSERT INTO unindexed (places, weight) VALUES (?1, ?2)")?
            .execute(params![self.places, weight])?;
        if weight >= to_sql(ENOUGH) { put_all(connection) } else { Ok(()) }
    }
}

/// The places of all texts that are noted, in order
pub(super) fn noted(connection: &Connection) -> rusqlite::Result<BTreeSet<i64>> {
    let mut statement = connection.prepare_cached("SELECT places FROM unindexed")?;
    let mut rows = statement.query([])?;
    let mut places = BTreeSet::new();
    while let Some(row) = rows.next()? {
        let (packed, _) = row.get_ref(0)?.as_blob()?.as_chunks();
        places.extend(packed.iter().copied().map(i64::from_le_bytes));
    }
    Ok(places)
}

/// Reads texts of messages
pub(super) struct Reader<'a>(CachedStatement<'a>);

impl<'a> Reader<'a> {
    pub(super) fn new(connection: &'a Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT headers, body, time FROM message WHERE place = ?1 AND kind = ?2";
        Ok(Self(connection.prepare_cached(sql)?))
    }

    /// Gives `with` the text of the message at a place, and when it was stored, if it has one now
    pub(super) fn with_text<T>(
        &mut self,
        place: i64,
        with: impl FnOnce(&str, u64) -> T,
    ) -> rusqlite::Result<Option<T>> {
        let kind = MessageKind::Message;
        let found = self.0.query_row(params![place, kind.as_str()], |row| {
            // Were they damaged, no message could be stored any more for this one.
            let headers = unpack_headers(row.get_ref(0)?.as_blob()?).unwrap_or_default();
            let text = text_of(kind, &headers, row.get_ref(1)?.as_blob()?);
            let time = unsigned(row, 2)?;
            Ok(text.map(|text| with(text, time)))
        });
        Ok(found.optional()?.flatten())
    }
}

/// Puts in all texts that are noted
fn put_all(connection: &Connection) -> rusqlite::Result<()> {
    put(connection, noted(connection)?.into_iter().map(Ok))?;
    connection.prepare_cached("DELETE FROM unindexed")?.execute([])?;
    Ok(())
}

fn put(
    connection: &Connection,
    places: impl Iterator<Item = rusqlite::Result<i64>>,
) -> rusqlite::Result<()> {
    let mut texts = Reader::new(connection)?;
    let mut insert =
        connection.prepare_cached("INSERT INTO word (rowid, words) VALUES (?1, ?2)")?;
    for place in places {
        let place = place?;
        let words = texts.with_text(place, |text, _| words(text))?;
        if let Some(words) = words.filter(|words| !words.is_empty()) {
            insert.execute(params![place, words])?;
        }
    }
    Ok(())
}

/// Takes the text of a message out, if it is there
pub(super) fn remove(connection: &Connection, place: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM word WHERE rowid = ?1")?.execute([place])?;
    Ok(())
}

/// Puts in the texts of all messages that were stored before there was an index
pub(super) fn put_stored(connection: &Connection) -> rusqlite::Result<()> {
    let mut places = connection.prepare("SELECT place FROM message ORDER BY place")?;
    put(connection, places.query_map([], |row| row.get(0))?)
}

#[cfg(test)]
mod tests;
