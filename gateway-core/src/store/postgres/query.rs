//! Everything that reads messages.

use std::collections::HashMap;

use bytes::Bytes;
use deadpool_postgres::Client;
use tokio_postgres::Row;

use super::change;
use super::error::Failure;
use super::value::{text, to_sql, unreadable, unsigned};
use crate::names::{ConversationId, UserName};
use crate::store::pack::{unpack, unpack_copy, unpack_headers, unpack_reactions};
use crate::store::{
    ConversationCursor, ConversationSummary, Epoch, Marks, MessageId, OutboxId, Page, Position,
    StoredMessage, Unpublished, UnreadRange,
};

/// A part of the outbox has at most about so many octets
const MAX_OUTBOX_PART: i64 = 8 * 1024 * 1024;

/// What [`stored_message`] reads
macro_rules! message_columns {
    () => {
        "m.seq, m.id, m.time, m.sender, m.device, m.kind, m.key, m.headers, m.body,
         m.edited, m.recalled, m.reactions"
    };
}
pub(super) use message_columns;

pub(super) fn headers(row: &Row, index: usize) -> Result<Vec<(String, String)>, Failure> {
    unpack_headers(row.try_get(index)?).ok_or_else(|| unreadable("damaged headers"))
}

pub(super) fn stored_message(
    row: &Row,
    conversation: ConversationId,
) -> Result<StoredMessage, Failure> {
    let device: Option<&str> = row.try_get(4)?;
    let key: Option<&[u8]> = row.try_get(6)?;
    let key = key.map(|key| String::from_utf8(key.to_vec())).transpose().map_err(unreadable)?;
    Ok(StoredMessage {
        conversation,
        seq: unsigned(row, 0)?,
        message_id: message_id(row, 1)?,
        timestamp: unsigned(row, 2)?,
        sender: text(row, 3)?,
        device: device.map(str::parse).transpose().map_err(unreadable)?,
        kind: text(row, 5)?,
        idempotency_key: key,
        headers: headers(row, 7)?,
        body: Bytes::copy_from_slice(row.try_get(8)?),
        edited: row.try_get::<_, Option<i64>>(9)?.map(i64::cast_unsigned),
        recalled: row.try_get::<_, Option<i64>>(10)?.map(i64::cast_unsigned),
        reactions: unpack_reactions(row.try_get(11)?)
            .ok_or_else(|| unreadable("damaged reactions"))?,
    })
}

pub(super) fn message_id(row: &Row, index: usize) -> Result<MessageId, Failure> {
    let octets: &[u8] = row.try_get(index)?;
    octets.try_into().map(MessageId::from_octets).map_err(unreadable)
}

pub(super) async fn history(
    client: &Client,
    conversation: &ConversationId,
    page: Page,
) -> Result<Vec<StoredMessage>, Failure> {
    // The window is over the octets before each row: one message always fits.
    let sql = if page.after.is_some() {
        concat!(
            "SELECT ",
            message_columns!(),
            " FROM (
                SELECT p.*, sum(octet_length(body) + octet_length(headers) + 256) OVER
                    (ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
                FROM (SELECT message.* FROM message JOIN conversation c ON c.id = conversation
                    WHERE c.name = $1 AND seq > $2 AND seq < $3 ORDER BY seq LIMIT $4) p
             ) m WHERE coalesce(m.before, 0) < $5 ORDER BY m.seq"
        )
    } else {
        concat!(
            "SELECT ",
            message_columns!(),
            " FROM (
                SELECT p.*, sum(octet_length(body) + octet_length(headers) + 256) OVER
                    (ORDER BY seq DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
                FROM (SELECT message.* FROM message JOIN conversation c ON c.id = conversation
                    WHERE c.name = $1 AND seq > $2 AND seq < $3 ORDER BY seq DESC LIMIT $4) p
             ) m WHERE coalesce(m.before, 0) < $5 ORDER BY m.seq"
        )
    };
    let statement = client.prepare_cached(sql).await?;
    let after = to_sql(page.after.unwrap_or(0));
    let before = page.before.map_or(i64::MAX, to_sql);
    let (limit, octets) = (to_sql(page.limit as u64), to_sql(page.max_octets.max(1) as u64));
    let rows = client
        .query(&statement, &[&conversation.as_str(), &after, &before, &limit, &octets])
        .await?;
    rows.iter().map(|row| stored_message(row, conversation.clone())).collect()
}

pub(super) async fn find(
    client: &Client,
    conversation: &ConversationId,
    message: MessageId,
    original: bool,
) -> Result<Option<StoredMessage>, Failure> {
    let find = client.prepare_cached("SELECT id FROM conversation WHERE name = $1").await?;
    let Some(row) = client.query_opt(&find, &[&conversation.as_str()]).await? else {
        return Ok(None);
    };
    let id = row.try_get(0)?;
    let found = change::find(client, id, conversation, message).await?;
    match found {
        Some(message) if original => change::originally(client, id, message).await.map(Some),
        found => Ok(found),
    }
}

pub(super) async fn position(
    client: &Client,
    conversation: &ConversationId,
    epoch: Epoch,
) -> Result<Position, Failure> {
    let statement = client
        .prepare_cached(
            "SELECT c.last_seq, c.gap,
                (SELECT m.seq FROM message m WHERE m.conversation = c.id ORDER BY m.seq LIMIT 1)
             FROM conversation c WHERE c.name = $1",
        )
        .await?;
    let Some(row) = client.query_opt(&statement, &[&conversation.as_str()]).await? else {
        return Ok(Position::new(1, 0, epoch));
    };
    let last_seq = unsigned(&row, 0)?;
    let first: Option<i64> = row.try_get(2)?;
    let position = Position::new(first.map_or(last_seq + 1, i64::cast_unsigned), last_seq, epoch);
    Ok(position.with_gap(unsigned(&row, 1)?))
}

pub(super) async fn markers(
    client: &Client,
    conversation: &ConversationId,
) -> Result<Vec<Marks>, Failure> {
    let statement = client
        .prepare_cached(
            "SELECT k.person, k.read, k.delivered FROM mark k JOIN conversation c ON c.id = k.conversation
             WHERE c.name = $1 ORDER BY k.person",
        )
        .await?;
    let rows = client.query(&statement, &[&conversation.as_str()]).await?;
    rows.iter().map(marks).collect()
}

/// Reads person, read and delivered
fn marks(row: &Row) -> Result<Marks, Failure> {
    Ok(Marks::new(text(row, 0)?, unsigned(row, 1)?, unsigned(row, 2)?))
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

impl Line {
    async fn of_user(
        client: &Client,
        user: &UserName,
        others: &[ConversationId],
        now: u64,
    ) -> Result<Vec<Self>, Failure> {
        let texts: Vec<&str> = others.iter().map(ConversationId::as_str).collect();
        let statement = client
            .prepare_cached(
                "SELECT c.id, c.name, c.last_seq, c.last_time, c.counted,
                    coalesce(k.read, 0), greatest(coalesce(k.read_counted, 0), c.forgotten),
                    (SELECT count(*) FROM fading f WHERE f.conversation = c.id
                     AND f.seq > coalesce(k.read, 0) AND f.until <= $3)
                 FROM (
                    SELECT conversation AS id FROM party WHERE person = $1
                    UNION SELECT id FROM conversation WHERE name = ANY($2)
                 ) mine JOIN conversation c ON c.id = mine.id AND c.last_seq > 0
                 LEFT JOIN mark k ON k.conversation = c.id AND k.person = $1",
            )
            .await?;
        let rows = client.query(&statement, &[&user.as_str(), &texts, &to_sql(now)]).await?;
        let mut lines = rows
            .iter()
            .map(|row| {
                Ok(Self {
                    id: row.try_get(0)?,
                    name: text(row, 1)?,
                    last_seq: unsigned(row, 2)?,
                    last_time: unsigned(row, 3)?,
                    read: unsigned(row, 5)?,
                    unread: unsigned(row, 4)?.saturating_sub(unsigned(row, 6)? + unsigned(row, 7)?),
                })
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        for name in others.iter().filter(|name| !name.is_broadcast()).cloned() {
            if !lines.iter().any(|line| line.name == name) {
                let silent = Self { id: None, name, last_seq: 0, last_time: 0, read: 0, unread: 0 };
                lines.push(silent);
            }
        }
        Ok(lines)
    }
}

pub(super) async fn conversations(
    client: &Client,
    user: &UserName,
    others: &[ConversationId],
    after: Option<&ConversationCursor>,
    limit: usize,
    now: u64,
) -> Result<Vec<ConversationSummary>, Failure> {
    let mut lines = Line::of_user(client, user, others, now).await?;
    lines.sort_by(|a, b| b.last_time.cmp(&a.last_time).then_with(|| a.name.cmp(&b.name)));
    if let Some(after) = after {
        lines.retain(|line| after.precedes(line.last_time, &line.name));
    }
    lines.truncate(limit);
    let ids: Vec<i64> = lines.iter().filter_map(|line| line.id).collect();
    let told = lines.iter().filter(|line| line.name.is_broadcast());
    let told: Vec<i64> = told.filter_map(|line| line.id).collect();
    let mut markers = markers_of(client, &ids, user, &told).await?;
    let mut last = last_messages(client, &ids).await?;
    Ok(lines
        .into_iter()
        .map(|line| {
            let mut summary = ConversationSummary::new(line.name);
            if let Some(id) = line.id {
                summary.last_seq = line.last_seq;
                summary.last_time = line.last_time;
                summary.last_message = last.remove(&id);
                summary.unread = line.unread;
                summary.markers = markers.remove(&id).unwrap_or_default();
            }
            summary
        })
        .collect())
}

/// The markers in these conversations; in those that are `told` by operators, of `user` only
async fn markers_of(
    client: &Client,
    ids: &[i64],
    user: &UserName,
    told: &[i64],
) -> Result<HashMap<i64, Vec<Marks>>, Failure> {
    let statement = client
        .prepare_cached(
            "SELECT person, read, delivered, conversation FROM mark
             WHERE conversation = ANY($1) AND (person = $2 OR conversation <> ALL($3)) ORDER BY person",
        )
        .await?;
    let mut found: HashMap<i64, Vec<Marks>> = HashMap::new();
    for row in client.query(&statement, &[&ids, &user.as_str(), &told]).await? {
        found.entry(row.try_get(3)?).or_default().push(marks(&row)?);
    }
    Ok(found)
}

async fn last_messages(
    client: &Client,
    ids: &[i64],
) -> Result<HashMap<i64, StoredMessage>, Failure> {
    let statement = client
        .prepare_cached(concat!(
            "SELECT ",
            message_columns!(),
            ", c.name, c.id FROM conversation c
             CROSS JOIN LATERAL (
                SELECT * FROM message WHERE conversation = c.id ORDER BY seq DESC LIMIT 1
             ) m WHERE c.id = ANY($1)"
        ))
        .await?;
    let mut found = HashMap::new();
    for row in client.query(&statement, &[&ids]).await? {
        found.insert(row.try_get(13)?, stored_message(&row, text(&row, 12)?)?);
    }
    Ok(found)
}

pub(super) async fn unread(
    client: &Client,
    user: &UserName,
    others: &[ConversationId],
) -> Result<Vec<UnreadRange>, Failure> {
    let mut lines = Line::of_user(client, user, others, 0).await?;
    lines.retain(|line| line.read < line.last_seq);
    lines.sort_by(|a, b| a.last_time.cmp(&b.last_time).then_with(|| a.name.cmp(&b.name)));
    Ok(lines
        .into_iter()
        .map(|line| UnreadRange::new(line.name, line.read, line.last_seq))
        .collect())
}

pub(super) async fn unpublished(
    client: &Client,
    node: i64,
    after: Option<OutboxId>,
    limit: usize,
) -> Result<Vec<Unpublished>, Failure> {
    let statement = client
        .prepare_cached(concat!(
            "SELECT ",
            message_columns!(),
            ", m.place, m.targets, m.name, m.number, m.copy FROM (
                SELECT m.*, o.id AS place, o.targets, c.name, o.seq AS number, o.copy,
                    sum(coalesce(octet_length(m.body) + octet_length(m.headers), 0)
                        + coalesce(octet_length(o.copy), 0) + 256) OVER
                        (ORDER BY o.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
                FROM (
                    SELECT * FROM outbox mine WHERE node = $4 AND id > $1
                    AND NOT EXISTS (SELECT 1 FROM outbox other WHERE other.node <> $4
                        AND other.conversation = mine.conversation AND other.seq < mine.seq)
                    AND NOT EXISTS (SELECT 1 FROM barrier b WHERE b.node <> $4
                        AND b.conversation = mine.conversation AND b.seq < mine.seq)
                    ORDER BY id LIMIT $2
                ) o
                LEFT JOIN message m ON m.conversation = o.conversation AND m.seq = o.seq
                JOIN conversation c ON c.id = o.conversation
             ) m WHERE coalesce(m.before, 0) < $3 ORDER BY m.place"
        ))
        .await?;
    let after = to_sql(after.map_or(0, OutboxId::get));
    let rows =
        client.query(&statement, &[&after, &to_sql(limit as u64), &MAX_OUTBOX_PART, &node]).await?;
    rows.iter()
        .map(|row| {
            let targets = unpack(row.try_get(13)?).ok_or_else(|| unreadable("damaged targets"))?;
            let conversation = text(row, 14)?;
            let message = match row.try_get::<_, Option<&[u8]>>(16)? {
                Some(copy) => unpack_copy(copy, conversation, unsigned(row, 15)?)
                    .ok_or_else(|| unreadable("damaged message"))?,
                None => stored_message(row, conversation)?,
            };
            Ok(Unpublished::new(OutboxId::new(unsigned(row, 12)?), message, targets))
        })
        .collect()
}
