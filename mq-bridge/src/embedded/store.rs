//! The statements: what is done to the file within a transaction.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use crate::storage::{Page, Place, StoredEntry};
use crate::{DeadLetterReason, Declaration, DeclarationKind, Headers, Message, Source, Target};

const QUEUE: i64 = 0;
const DURABLE: i64 = 1;

/// A queue or durable subscription as the file has it.
#[derive(Debug)]
pub(super) struct StoredSource {
    pub(super) key: u64,
    pub(super) declaration: Declaration,
    pub(super) depth: u64,
}

/// All that is known at the start.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) sources: Vec<StoredSource>,
    /// Sources that were deleted but not yet emptied.
    pub(super) orphans: Vec<u64>,
    pub(super) last_message: u64,
    pub(super) last_entry: u64,
}

/// SQLite has signed integers; our ids start at 1 and never get there.
pub(super) fn key(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

pub(super) fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|key| u64::try_from(key).unwrap_or(0))
}

fn kind(source: &Source) -> i64 {
    match source {
        Source::Queue(_) => QUEUE,
        Source::Durable(_) | Source::Topic(_) => DURABLE,
    }
}

/// Milliseconds since 1970.
pub(super) fn millis(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

pub(super) fn load(connection: &Connection) -> rusqlite::Result<Loaded> {
    let mut loaded = Loaded::default();
    let mut depths = HashMap::new();
    let mut statement =
        connection.prepare("SELECT source, count(*), max(id) FROM entry GROUP BY source")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        depths.insert(id(row, 0)?, id(row, 1)?);
        loaded.last_entry = loaded.last_entry.max(id(row, 2)?);
    }
    let mut patterns: HashMap<u64, Vec<Arc<str>>> = HashMap::new();
    let mut statement = connection.prepare("SELECT source, pattern FROM pattern")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        patterns.entry(id(row, 0)?).or_default().push(row.get(1)?);
    }
    let mut statement =
        connection.prepare("SELECT id, kind, name, max_deliveries, dead_letter FROM source")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let key = id(row, 0)?;
        let name: Arc<str> = row.get(2)?;
        let mut declaration = match row.get::<_, i64>(1)? {
            QUEUE => Declaration::queue(name),
            _ => Declaration::durable(name, patterns.remove(&key).unwrap_or_default()),
        };
        declaration.max_deliveries = row.get::<_, Option<u32>>(3)?.and_then(NonZeroU32::new);
        declaration.dead_letter = row.get(4)?;
        let depth = depths.remove(&key).unwrap_or(0);
        loaded.sources.push(StoredSource { key, declaration, depth });
    }
    loaded.orphans = depths.into_keys().collect();
    loaded.last_message =
        connection.query_row("SELECT ifnull(max(id), 0) FROM message", [], |row| id(row, 0))?;
    Ok(loaded)
}

/// Makes or changes what is declared; gives its id.
pub(super) fn declare(connection: &Connection, declaration: &Declaration) -> rusqlite::Result<u64> {
    let kind = match &declaration.kind {
        DeclarationKind::Queue => QUEUE,
        DeclarationKind::Durable { .. } => DURABLE,
    };
    let source = connection
        .prepare_cached(
            "INSERT INTO source (kind, name, max_deliveries, dead_letter) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (kind, name) DO UPDATE
             SET max_deliveries = ?3, dead_letter = ?4 RETURNING id",
        )?
        .query_row(
            params![
                kind,
                declaration.name,
                declaration.max_deliveries.map(NonZeroU32::get),
                declaration.dead_letter
            ],
            |row| id(row, 0),
        )?;
    if let DeclarationKind::Durable { patterns } = &declaration.kind {
        let mut statement = connection
            .prepare_cached("INSERT OR IGNORE INTO pattern (source, pattern) VALUES (?1, ?2)")?;
        for pattern in patterns {
            statement.execute(params![key(source), pattern])?;
        }
    }
    Ok(source)
}

/// Removes a source, but not what it keeps; gives its id if there was one.
pub(super) fn delete(connection: &Connection, source: &Source) -> rusqlite::Result<Option<u64>> {
    let deleted = connection
        .prepare_cached("DELETE FROM source WHERE kind = ?1 AND name = ?2 RETURNING id")?
        .query_row(params![kind(source), source.name()], |row| id(row, 0))
        .optional()?;
    if let Some(deleted) = deleted {
        connection
            .prepare_cached("DELETE FROM pattern WHERE source = ?1")?
            .execute([key(deleted)])?;
    }
    Ok(deleted)
}

/// Removes up to `limit` entries of a source that was deleted; whether that was all.
pub(super) fn purge(
    connection: &Connection,
    source: u64,
    limit: u32,
    released: &mut Released,
) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM entry WHERE source = ?1
         AND id IN (SELECT id FROM entry WHERE source = ?1 LIMIT ?2) RETURNING message",
    )?;
    let mut rows = statement.query(params![key(source), limit])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        released.add(id(row, 0)?);
        count += 1;
    }
    Ok(count < limit)
}

/// The statements that store messages, looked up once for many
pub(super) struct Inserts<'a> {
    message: CachedStatement<'a>,
    refs: CachedStatement<'a>,
    entry: CachedStatement<'a>,
}

impl<'a> Inserts<'a> {
    pub(super) fn new(connection: &'a Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            message: connection.prepare_cached(
                "INSERT INTO message
                 (id, redelivered, persistent, priority, expires, targets, headers, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?,
            refs: connection.prepare_cached("INSERT INTO refs (message, count) VALUES (?1, ?2)")?,
            entry: connection.prepare_cached(
                "INSERT INTO entry (source, id, message, target, deliveries, dead_letter, expires)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?,
        })
    }

    /// Stores a message that waits in `places` places.
    pub(super) fn message(
        &mut self,
        message_id: u64,
        message: &Message,
        redelivered: bool,
        targets: &[&Target],
        places: usize,
    ) -> rusqlite::Result<()> {
        self.message.execute(params![
            key(message_id),
            redelivered,
            message.persistent,
            message.priority,
            message.expires.map(millis),
            encode_targets(targets),
            &message.headers.as_bytes()[..],
            &message.body[..],
        ])?;
        if places > 1 {
            let places = i64::try_from(places).unwrap_or(i64::MAX);
            self.refs.execute([key(message_id), places])?;
        }
        Ok(())
    }

    pub(super) fn entry(
        &mut self,
        entry: &NewEntry<'_>,
        expires: Option<SystemTime>,
    ) -> rusqlite::Result<()> {
        let place = entry.place;
        self.entry.execute(params![
            key(entry.source),
            key(place.id),
            key(entry.message),
            i64::try_from(entry.target).unwrap_or(i64::MAX),
            place.deliveries,
            place.dead_letter.map(encode_reason),
            expires.map(millis),
        ])?;
        Ok(())
    }
}

/// Puts a message in a place.
pub(super) struct NewEntry<'a> {
    pub(super) source: u64,
    pub(super) message: u64,
    /// Which of the message's targets led here.
    pub(super) target: usize,
    pub(super) place: &'a Place,
}

/// Removes entries of a source; gives how many were not there.
///
/// Those that stand side by side go in one statement: what was handed out in order is mostly acknowledged in order. Not
/// with RETURNING: SQLite makes a table in memory for each statement that has one.
pub(super) fn remove(
    connection: &Connection,
    source: u64,
    mut entries: Vec<u64>,
    released: &mut Released,
) -> rusqlite::Result<u64> {
    entries.sort_unstable();
    let mut find = connection.prepare_cached(
        "SELECT id, message FROM entry WHERE source = ?1 AND id >= ?2 ORDER BY id",
    )?;
    let mut delete = connection
        .prepare_cached("DELETE FROM entry WHERE source = ?1 AND id BETWEEN ?2 AND ?3")?;
    let (mut left, mut missing) = (entries.as_slice(), 0);
    while let Some((first, others)) = left.split_first() {
        let mut run = 0;
        let mut rows = find.query([key(source), key(*first)])?;
        while let (Some(wanted), Some(row)) = (left.get(run), rows.next()?) {
            if id(row, 0)? != *wanted {
                break;
            }
            released.add(id(row, 1)?);
            run += 1;
        }
        drop(rows);
        if let Some(last) = run.checked_sub(1).and_then(|last| left.get(last)) {
            delete.execute([key(source), key(*first), key(*last)])?;
            left = left.get(run..).unwrap_or_default();
        } else {
            missing += 1;
            left = others;
        }
    }
    Ok(missing)
}

pub(super) fn recount(
    connection: &Connection,
    source: u64,
    entry: u64,
    deliveries: u32,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE entry SET deliveries = ?3 WHERE source = ?1 AND id = ?2")?
        .execute(params![key(source), key(entry), deliveries])?;
    Ok(())
}

/// Reads what comes after an entry of a source; `kept` is what is elsewhere, in order.
pub(super) fn read(
    connection: &Connection,
    source: u64,
    after: u64,
    kept: Vec<StoredEntry>,
    page: &mut Page,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT entry.id, entry.target, entry.deliveries, entry.dead_letter,
                message.targets, message.redelivered, message.persistent, message.priority,
                message.expires, message.headers, message.body
         FROM entry JOIN message ON message.id = entry.message
         WHERE entry.source = ?1 AND entry.id > ?2 ORDER BY entry.id",
    )?;
    let mut rows = statement.query(params![key(source), key(after)])?;
    let mut kept = kept.into_iter().peekable();
    while let Some(row) = rows.next()? {
        let next = id(row, 0)?;
        while let Some(before) = kept.next_if(|kept| kept.id < next) {
            if !page.push(before) {
                return Ok(());
            }
        }
        match read_entry(row)? {
            Some(entry) => {
                if !page.push(entry) {
                    return Ok(());
                }
            }
            // Must not keep all others from being delivered.
            None => tracing::error!(source, "passing over a damaged message in the queue file"),
        }
    }
    kept.all(|entry| page.push(entry));
    Ok(())
}

/// `None` if what was stored makes no sense.
fn read_entry(row: &Row<'_>) -> rusqlite::Result<Option<StoredEntry>> {
    let target: usize = usize::try_from(row.get::<_, i64>(1)?).unwrap_or(usize::MAX);
    let targets = row.get_ref(4)?.as_blob()?;
    let Some(target) = decode_target(targets, target) else { return Ok(None) };
    let blob = |column: usize| -> rusqlite::Result<Bytes> {
        Ok(Bytes::copy_from_slice(row.get_ref(column)?.as_blob()?))
    };
    let Ok(headers) = Headers::from_bytes(blob(9)?) else { return Ok(None) };
    let mut message = Message::new(blob(10)?)
        .with_headers(headers)
        .with_persistent(row.get(6)?)
        .with_priority(row.get(7)?);
    let expires: Option<i64> = row.get(8)?;
    message.expires = expires
        .map(|millis| UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0)));
    let mut entry = StoredEntry::new(id(row, 0)?, message, target);
    entry.deliveries = row.get(2)?;
    entry.dead_letter = row.get::<_, Option<i64>>(3)?.map(decode_reason);
    entry.redelivered = row.get(5)?;
    Ok(Some(entry))
}

/// Removes up to `limit` entries that have expired: their sources, and the number removed.
pub(super) fn expire(
    connection: &Connection,
    now: SystemTime,
    limit: u32,
    released: &mut Released,
) -> rusqlite::Result<Vec<(Source, u64)>> {
    let mut statement = connection.prepare_cached(
        "SELECT source, id FROM entry WHERE expires IS NOT NULL AND expires <= ?1 LIMIT ?2",
    )?;
    let found: Vec<(u64, u64)> = statement
        .query_map(params![millis(now), limit], |row| Ok((id(row, 0)?, id(row, 1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut counts = HashMap::new();
    for (source, entry) in found {
        remove(connection, source, vec![entry], released)?;
        *counts.entry(source).or_insert(0) += 1;
    }
    let mut names = connection.prepare_cached("SELECT kind, name FROM source WHERE id = ?1")?;
    let mut expired = Vec::with_capacity(counts.len());
    let source = |row: &Row<'_>| match row.get::<_, i64>(0)? {
        QUEUE => row.get(1).map(Source::Queue),
        _ => row.get(1).map(Source::Durable),
    };
    for (of, count) in counts {
        // Those of an orphan count nowhere.
        let source = names.query_row([key(of)], source).optional()?;
        expired.extend(source.map(|source| (source, count)));
    }
    Ok(expired)
}

/// Messages that lost entries in this transaction, each as often as it did.
#[derive(Debug, Default)]
pub(super) struct Released {
    messages: Vec<u64>,
}

impl Released {
    pub(super) fn add(&mut self, message: u64) {
        self.messages.push(message);
    }

    /// Removes the messages that wait nowhere any more.
    pub(super) fn apply(mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.messages.sort_unstable();
        let (mut gone, mut uncounted) = (Vec::new(), Vec::new());
        for run in self.messages.chunk_by(is_next) {
            let known: Vec<(u64, i64)> = connection
                .prepare_cached(
                    "SELECT message, count FROM refs WHERE message BETWEEN ?1 AND ?2 ORDER BY message",
                )?
                .query_map(ends(run), |row| Ok((id(row, 0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()?;
            let mut known = known.into_iter().peekable();
            for lost in run.chunk_by(u64::eq) {
                let [message, ..] = *lost else { continue };
                let known = known.next_if(|(of, _)| *of == message);
                // Without a row it waited in one place.
                let left = known.map_or(1, |(_, count)| count)
                    - i64::try_from(lost.len()).unwrap_or(i64::MAX);
                if left > 1 {
                    connection
                        .prepare_cached("UPDATE refs SET count = ?2 WHERE message = ?1")?
                        .execute([key(message), left])?;
                    continue;
                }
                uncounted.extend(known.map(|(message, _)| message));
                if left < 1 {
                    gone.push(message);
                }
            }
        }
        let all = [
            ("DELETE FROM refs WHERE message BETWEEN ?1 AND ?2", uncounted),
            ("DELETE FROM message WHERE id BETWEEN ?1 AND ?2", gone),
        ];
        for (delete, messages) in all {
            for run in messages.chunk_by(is_next) {
                connection.prepare_cached(delete)?.execute(ends(run))?;
            }
        }
        Ok(())
    }
}

/// Whether an id is that of the one before, or the next: neighbours go in one statement.
fn is_next(one: &u64, next: &u64) -> bool {
    next - one <= 1
}

/// The first and the last.
fn ends(run: &[u64]) -> [i64; 2] {
    let end = |id: Option<&u64>| key(id.copied().unwrap_or_default());
    [end(run.first()), end(run.last())]
}

/// For every target one octet for its kind, the length of its name as 4 octets, the name.
fn encode_targets(targets: &[&Target]) -> Vec<u8> {
    let mut block = Vec::new();
    for target in targets {
        block.push(u8::from(matches!(*target, Target::Topic(_))));
        let name = target.name().as_bytes();
        block.extend_from_slice(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes());
        block.extend_from_slice(name);
    }
    block
}

fn decode_target(mut block: &[u8], index: usize) -> Option<Target> {
    for _ in 0..index {
        (_, block) = split_target(block)?;
    }
    split_target(block)?.0
}

fn split_target(block: &[u8]) -> Option<(Option<Target>, &[u8])> {
    let (kind, rest) = block.split_first()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (name, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
    let target = std::str::from_utf8(name).ok().map(|name| match kind {
        0 => Target::queue(name),
        _ => Target::topic(name),
    });
    Some((target, rest))
}

const fn encode_reason(why: DeadLetterReason) -> i64 {
    match why {
        DeadLetterReason::Rejected => 0,
        DeadLetterReason::MaxDeliveries => 1,
    }
}

const fn decode_reason(code: i64) -> DeadLetterReason {
    match code {
        0 => DeadLetterReason::Rejected,
        _ => DeadLetterReason::MaxDeliveries,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_back_by_index() {
        let targets = [Target::topic("a.b"), Target::queue("q"), Target::topic("")];
        let block = encode_targets(&targets.each_ref());
        for (index, target) in targets.iter().enumerate() {
            assert_eq!(decode_target(&block, index).as_ref(), Some(target));
        }
        assert_eq!(decode_target(&block, 3), None);
        assert_eq!(decode_target(&block[..block.len() - 6], 1), None);
    }
}
