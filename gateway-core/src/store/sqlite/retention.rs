//! Forgetting old messages.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::value::{text, to_sql, unsigned};
use super::{index, outbox, place};
use crate::names::ConversationId;
use crate::store::{Cut, Extent};

/// With more rows in the outbox than this nothing is forgotten: all of them are looked through
const MAX_OUTBOX: usize = 100;

pub(super) fn survey(
    connection: &Connection,
    after: Option<&ConversationId>,
    limit: usize,
) -> rusqlite::Result<Vec<Extent>> {
    let extent = |row: &Row<'_>| {
        let first = place::seq(row.get(1)?);
        Ok(Extent::new(text(row, 0)?, first, unsigned(row, 2)?, unsigned(row, 3)?))
    };
    connection
        .prepare_cached(
            "SELECT c.name, m.place, m.time, c.last_seq FROM conversation c
             JOIN message m ON m.place = (
                SELECT min(place) FROM message WHERE place > c.id << 32 AND place < (c.id + 1) << 32
             ) WHERE c.name > ?1 ORDER BY c.name LIMIT ?2",
        )?
        .query_map(params![after.map_or("", ConversationId::as_str), to_sql(limit as u64)], extent)?
        .collect()
}

pub(super) fn forget(
    connection: &Connection,
    conversation: &ConversationId,
    cut: Cut,
    limit: usize,
) -> rusqlite::Result<u64> {
    let id: Option<i64> = connection
        .prepare_cached("SELECT id FROM conversation WHERE name = ?1")?
        .query_row([conversation.as_str()], |row| row.get(0))
        .optional()?;
    let Some(id) = id else { return Ok(0) };
    let Some(waiting) = outbox::places(connection, MAX_OUTBOX)? else { return Ok(0) };
    let (start, end) = (place::of(id, 0), place::of(id + 1, 0));
    let first_waiting = waiting.into_iter().filter(|place| (start..end).contains(place)).min();
    let end = first_waiting.unwrap_or(end);
    let mut gone = 0;
    let mut forgotten = None;
    let old = connection
        .prepare_cached(
            "SELECT place, time, counted FROM message WHERE place > ?1 AND place < ?2
             ORDER BY place LIMIT ?3",
        )?
        .query_map(params![start, end, to_sql(limit as u64)], |row| {
            Ok((row.get(0)?, unsigned(row, 1)?, row.get(2)?))
        })?
        .collect::<rusqlite::Result<Vec<(i64, u64, i64)>>>()?;
    for (place, time, counted) in old {
        if !cut.concerns(place::seq(place), time) {
            break;
        }
        index::remove(connection, place)?;
        connection.prepare_cached("DELETE FROM message WHERE place = ?1")?.execute([place])?;
        forgotten = Some(counted);
        gone += 1;
    }
    if let Some(counted) = forgotten {
        connection
            .prepare_cached("UPDATE conversation SET forgotten = ?2 WHERE id = ?1")?
            .execute([id, counted])?;
    }
    Ok(gone)
}
