//! Everything that reads messages.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::value::{text, to_sql, unreadable, unsigned};
use super::{change, place};
use crate::names::{ConversationId, UserName};
use crate::store::limits::octets_of_stored;
use crate::store::pack::{unpack_headers, unpack_reactions};
use crate::store::{
    ConversationCursor, ConversationSummary, Epoch, Marks, MessageId, Page, Position,
    StoredMessage, UnreadRange,
};

/// What [`stored_message`] reads
macro_rules! message_columns {
    () => {
        "m.place, m.id, m.time, m.sender, m.device, m.kind, m.key, m.headers, m.body,
         m.edited, m.recalled, m.reactions"
    };
}
pub(super) use message_columns;

pub(super) fn headers(row: &Row<'_>, index: usize) -> rusqlite::Result<Vec<(String, String)>> {
    unpack_headers(row.get_ref(index)?.as_blob()?)
        .ok_or_else(|| unreadable(index, "damaged headers"))
}

pub(super) fn stored_message(
    row: &Row<'_>,
    conversation: ConversationId,
) -> rusqlite::Result<StoredMessage> {
    let device = match row.get_ref(4)?.as_str_or_null()? {
        Some(device) => Some(device.parse().map_err(|error| unreadable(4, error_of(error)))?),
        None => None,
    };
    Ok(StoredMessage {
        conversation,
        seq: place::seq(row.get(0)?),
        message_id: message_id(row, 1)?,
        timestamp: unsigned(row, 2)?,
        sender: text(row, 3)?,
        device,
        kind: text(row, 5)?,
        idempotency_key: row.get(6)?,
        headers: headers(row, 7)?,
        body: Bytes::from(row.get::<_, Vec<u8>>(8)?),
        edited: row.get::<_, Option<i64>>(9)?.map(i64::cast_unsigned),
        recalled: row.get::<_, Option<i64>>(10)?.map(i64::cast_unsigned),
        reactions: unpack_reactions(row.get_ref(11)?.as_blob_or_null()?)
            .ok_or_else(|| unreadable(11, "damaged reactions"))?,
    })
}

fn error_of(error: crate::names::NameError) -> Box<dyn std::error::Error + Send + Sync> {
    Box::new(error)
}

pub(super) fn message_id(row: &Row<'_>, index: usize) -> rusqlite::Result<MessageId> {
    row.get(index).map(MessageId::from_octets)
}

fn id_of(connection: &Connection, conversation: &ConversationId) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM conversation WHERE name = ?1")?
        .query_row([conversation.as_str()], |row| row.get(0))
        .optional()
}

pub(super) fn history(
    connection: &Connection,
    conversation: &ConversationId,
    page: Page,
) -> rusqlite::Result<Vec<StoredMessage>> {
    let Some(id) = id_of(connection, conversation)? else { return Ok(Vec::new()) };
    let after = place::of(id, page.after.unwrap_or(0));
    let before = page.before.map_or_else(|| place::of(id + 1, 0), |before| place::of(id, before));
    let limit = to_sql(page.limit as u64);
    let sql = if page.after.is_some() {
        concat!(
            "SELECT ",
            message_columns!(),
            " FROM message m WHERE m.place > ?1 AND m.place < ?2 ORDER BY m.place LIMIT ?3"
        )
    } else {
        concat!(
            "SELECT ",
            message_columns!(),
            " FROM message m WHERE m.place > ?1 AND m.place < ?2 ORDER BY m.place DESC LIMIT ?3"
        )
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![after, before, limit])?;
    let mut messages = Vec::new();
    let mut octets = 0;
    while let Some(row) = rows.next()? {
        let message = stored_message(row, conversation.clone())?;
        octets += octets_of_stored(&message);
        messages.push(message);
        if octets >= page.max_octets {
            break;
        }
    }
    if page.after.is_none() {
        messages.reverse();
    }
    Ok(messages)
}

pub(super) fn find(
    connection: &Connection,
    conversation: &ConversationId,
    message: MessageId,
    original: bool,
) -> rusqlite::Result<Option<StoredMessage>> {
    let Some(id) = id_of(connection, conversation)? else { return Ok(None) };
    match change::find(connection, id, conversation, message)? {
        Some((place, message)) if original => {
            change::originally(connection, place, message).map(Some)
        }
        found => Ok(found.map(|(_, message)| message)),
    }
}

pub(super) fn position(
    connection: &Connection,
    conversation: &ConversationId,
    epoch: Epoch,
) -> rusqlite::Result<Position> {
    let found = connection
        .prepare_cached("SELECT id, last_seq, gap FROM conversation WHERE name = ?1")?
        .query_row([conversation.as_str()], |row| {
            Ok((row.get(0)?, unsigned(row, 1)?, unsigned(row, 2)?))
        })
        .optional()?;
    let Some((id, last_seq, gap)) = found else { return Ok(Position::new(1, 0, epoch)) };
    let first: Option<i64> = connection
        .prepare_cached("SELECT min(place) FROM message WHERE place > ?1 AND place < ?2")?
        .query_row(params![place::of(id, 0), place::of(id + 1, 0)], |row| row.get(0))?;
    Ok(Position::new(first.map_or(last_seq + 1, place::seq), last_seq, epoch).with_gap(gap))
}

pub(super) fn markers(
    connection: &Connection,
    conversation: &ConversationId,
) -> rusqlite::Result<Vec<Marks>> {
    match id_of(connection, conversation)? {
        Some(id) => marks_in(connection, id, None),
        None => Ok(Vec::new()),
    }
}

fn marks_in(
    connection: &Connection,
    conversation: i64,
    only: Option<&UserName>,
) -> rusqlite::Result<Vec<Marks>> {
    let (sql, only) = match only {
        None => {
            ("SELECT user, read, delivered FROM mark WHERE conversation = ?1 ORDER BY user, ?2", "")
        }
        Some(user) => (
            "SELECT user, read, delivered FROM mark WHERE conversation = ?1 AND user = ?2",
            user.as_str(),
        ),
    };
    connection
        .prepare_cached(sql)?
        .query_map(params![conversation, only], |row| {
            Ok(Marks::new(text(row, 0)?, unsigned(row, 1)?, unsigned(row, 2)?))
        })?
        .collect()
}

/// A conversation as its user sees it
struct Line {
    /// `None` for a group without messages
    id: Option<i64>,
    name: ConversationId,
    last_seq: u64,
    last_time: u64,
    read: u64,
    unread: u64,
}

/// What [`Line::read`] reads
macro_rules! line_columns {
    () => {
        "c.id, c.name, c.last_seq, c.last_time, c.counted, coalesce(k.read, 0),
         max(coalesce(k.read_counted, 0), c.forgotten),
         (SELECT count(*) FROM fading f WHERE f.place > (c.id << 32) + coalesce(k.read, 0)
          AND f.place < (c.id + 1) << 32 AND f.until <= ?2)"
    };
}

impl Line {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            name: text(row, 1)?,
            last_seq: unsigned(row, 2)?,
            last_time: unsigned(row, 3)?,
            read: unsigned(row, 5)?,
            unread: unsigned(row, 4)?.saturating_sub(unsigned(row, 6)? + unsigned(row, 7)?),
        })
    }

    fn of_user(
        connection: &Connection,
        user: &UserName,
        others: &[ConversationId],
        now: u64,
    ) -> rusqlite::Result<Vec<Self>> {
        let now = to_sql(now);
        let mut lines: Vec<Self> = connection
            .prepare_cached(concat!(
                "SELECT ",
                line_columns!(),
                " FROM party p JOIN conversation c ON c.id = p.conversation
                 LEFT JOIN mark k ON k.conversation = c.id AND k.user = ?1 WHERE p.user = ?1"
            ))?
            .query_map(params![user.as_str(), now], Self::read)?
            .collect::<rusqlite::Result<_>>()?;
        let mut statement = connection.prepare_cached(concat!(
            "SELECT ",
            line_columns!(),
            " FROM conversation c
             LEFT JOIN mark k ON k.conversation = c.id AND k.user = ?1 WHERE c.name = ?3"
        ))?;
        for name in others.iter().cloned() {
            let line = statement
                .query_row(params![user.as_str(), now, name.as_str()], Self::read)
                .optional()?;
            let broadcast = name.is_broadcast();
            let silent = Self { id: None, name, last_seq: 0, last_time: 0, read: 0, unread: 0 };
            lines.extend(line.or_else(|| (!broadcast).then_some(silent)));
        }
        Ok(lines)
    }
}

pub(super) fn conversations(
    connection: &Connection,
    user: &UserName,
    others: &[ConversationId],
    after: Option<&ConversationCursor>,
    limit: usize,
    now: u64,
) -> rusqlite::Result<Vec<ConversationSummary>> {
    let mut lines = Line::of_user(connection, user, others, now)?;
    lines.sort_by(|a, b| b.last_time.cmp(&a.last_time).then_with(|| a.name.cmp(&b.name)));
    if let Some(after) = after {
        lines.retain(|line| after.precedes(line.last_time, &line.name));
    }
    lines.truncate(limit);
    lines
        .into_iter()
        .map(|line| {
            let mut summary = ConversationSummary::new(line.name);
            if let Some(id) = line.id {
                let last = history(connection, &summary.conversation, Page::latest(1))?;
                summary.last_seq = line.last_seq;
                summary.last_time = line.last_time;
                summary.last_message = last.into_iter().next();
                summary.unread = line.unread;
                let only = summary.conversation.is_broadcast().then_some(user);
                summary.markers = marks_in(connection, id, only)?;
            }
            Ok(summary)
        })
        .collect()
}

pub(super) fn unread(
    connection: &Connection,
    user: &UserName,
    others: &[ConversationId],
) -> rusqlite::Result<Vec<UnreadRange>> {
    let mut lines = Line::of_user(connection, user, others, 0)?;
    lines.retain(|line| line.read < line.last_seq);
    lines.sort_by(|a, b| a.last_time.cmp(&b.last_time).then_with(|| a.name.cmp(&b.name)));
    Ok(lines
        .into_iter()
        .map(|line| UnreadRange::new(line.name, line.read, line.last_seq))
        .collect())
}
