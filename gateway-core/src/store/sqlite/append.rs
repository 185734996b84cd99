//! Everything that writes messages.

use std::collections::HashMap;

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};

use super::index::Texts;
use super::query::message_id;
use super::value::{text, to_sql, unsigned};
use super::{change, outbox, place};
use crate::names::{ConversationId, ConversationKind, UserName};
use crate::store::limits::check;
use crate::store::message::expiry;
use crate::store::pack::{pack_copy, pack_headers};
use crate::store::search::text_of_new;
use crate::store::{
    Appended, ChangeError, DEDUPE_MILLIS, Keep, Marker, Marks, MessageId, NewMessage, OutboxId,
    StoreError,
};

pub(super) fn append(
    connection: &Connection,
    batch: &[NewMessage],
    now: u64,
) -> rusqlite::Result<Vec<Result<Appended, StoreError>>> {
    let mut moved = Moved::default();
    let mut insert = Insert::new(connection)?;
    let outcome = batch
        .iter()
        .map(|message| append_one(connection, &mut moved, &mut insert, message, now))
        .collect::<rusqlite::Result<Vec<_>>>()?;
    moved.store(connection)?;
    forget_keys(connection, batch.len(), now)?;
    Ok(outcome)
}

/// What a batch moves on with each message, and writes once: busy conversations have many messages in a batch
#[derive(Default)]
struct Moved<'a> {
    conversations: HashMap<&'a ConversationId, Conversation>,
    /// By conversation and sender
    progress: HashMap<(i64, &'a UserName), Progress>,
    texts: Texts,
    outbox: outbox::Added,
}

impl Moved<'_> {
    fn conversation(
        &self,
        connection: &Connection,
        name: &ConversationId,
    ) -> rusqlite::Result<Option<Conversation>> {
        match self.conversations.get(name) {
            Some(moved) => Ok(Some(*moved)),
            None => Conversation::find(connection, name),
        }
    }

    fn store(mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.outbox.store(connection)?;
        for conversation in self.conversations.values() {
            conversation.update(connection)?;
        }
        for ((conversation, user), progress) in self.progress {
            progress.store(connection, conversation, user)?;
        }
        self.texts.store(connection)
    }
}

fn append_one<'a>(
    connection: &Connection,
    moved: &mut Moved<'a>,
    insert: &mut Insert<'_>,
    message: &'a NewMessage,
    now: u64,
) -> rusqlite::Result<Result<Appended, StoreError>> {
    if let Err(refused) = check(message) {
        return Ok(Err(refused));
    }
    if let Some(first) = first_use(connection, &moved.outbox, message, now)? {
        return Ok(Ok(first));
    }
    let found = moved.conversation(connection, &message.conversation)?;
    let mut target = None;
    if let Some(change) = &message.change {
        let Some(conversation) = &found else { return Ok(Err(ChangeError::NoTarget.into())) };
        let seq = conversation.last_seq + 1;
        // What it changes may be of this batch.
        moved.outbox.store(connection)?;
        match change::apply(connection, conversation.id, message, change, seq, &mut moved.texts)? {
            Ok(place) => target = Some(place),
            Err(refused) => return Ok(Err(refused)),
        }
    }
    let mut conversation = match found {
        Some(conversation) => conversation,
        None => Conversation::create(connection, &message.conversation)?,
    };
    if conversation.last_seq >= place::MAX_SEQ {
        let full = format!("a conversation has at most {} messages", place::MAX_SEQ);
        return Ok(Err(StoreError::Refused(full)));
    }
    conversation.last_seq += 1;
    conversation.last_time = conversation.last_time.max(now);
    conversation.counted += u64::from(message.counts_as_unread());
    if !message.is_kept_whole() {
        conversation.gap = conversation.last_seq;
    }

    let id = MessageId::generate();
    let place = place::of(conversation.id, conversation.last_seq);
    if message.keep != Keep::Nothing {
        insert.message(message, (place, id, target), &conversation)?;
    }
    if let Some(text) = text_of_new(message) {
        moved.texts.add(place, text);
    }
    if message.counts_as_unread()
        && let Some(until) = expiry(&message.headers)
    {
        change::fade(connection, place, until)?;
    }
    moved.conversations.insert(&message.conversation, conversation);
    let progress = Progress {
        read: conversation.last_seq,
        delivered: conversation.last_seq,
        read_counted: conversation.counted,
    };
    moved.progress.insert((conversation.id, &message.sender), progress);

    let outbox = match message.targets[..] {
        [] => None,
        _ => {
            let copy = || pack_copy(message, id, conversation.last_time);
            let copy = (!message.is_kept_whole()).then(copy);
            Some(moved.outbox.add(connection, place, &message.targets, copy.as_deref())?)
        }
    };
    if let Some(key) = &message.idempotency_key {
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO dedupe (sender, key, place, message_id, time, outbox)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                message.sender.as_str(),
                key,
                place,
                id.to_octets(),
                to_sql(conversation.last_time),
                outbox,
            ])?;
    }
    let outbox = outbox.map(|id| OutboxId::new(id.cast_unsigned()));
    let seq = conversation.last_seq;
    let appended = Appended::new(message.conversation.clone(), seq, id, conversation.last_time);
    Ok(Ok(appended.with_outbox(outbox)))
}

/// The statement that every message needs, looked up once for a batch
struct Insert<'a>(CachedStatement<'a>);

impl<'a> Insert<'a> {
    fn new(connection: &'a Connection) -> rusqlite::Result<Self> {
        Ok(Self(connection.prepare_cached(
            "INSERT INTO message (place, id, time, sender, device, kind, key, counted, headers, body, target)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?))
    }

    /// Writes what is stored of a message
    fn message(
        &mut self,
        message: &NewMessage,
        (place, id, target): (i64, MessageId, Option<i64>),
        conversation: &Conversation,
    ) -> rusqlite::Result<()> {
        let (headers, body) = if message.is_kept_whole() {
            (pack_headers(&message.headers), &*message.body)
        } else {
            (pack_headers(&message.stored_headers()), [].as_slice())
        };
        self.0.execute(params![
            place,
            id.to_octets(),
            to_sql(conversation.last_time),
            message.sender.as_str(),
            message.device.as_ref().map(AsRef::<str>::as_ref),
            message.kind.as_str(),
            message.idempotency_key,
            to_sql(conversation.counted),
            headers,
            body,
            target,
        ])?;
        Ok(())
    }
}

/// What the first use of the message's key gave, if that was within the time that keys are remembered
fn first_use(
    connection: &Connection,
    outbox: &outbox::Added,
    message: &NewMessage,
    now: u64,
) -> rusqlite::Result<Option<Appended>> {
    let Some(key) = &message.idempotency_key else { return Ok(None) };
    let found = connection
        .prepare_cached(
            "SELECT c.name, d.place, d.message_id, d.time, d.outbox FROM dedupe d
             JOIN conversation c ON c.id = d.place >> 32
             WHERE d.sender = ?1 AND d.key = ?2 AND d.time > ?3",
        )?
        .query_row(params![message.sender.as_str(), key, forgotten(now)], |row| {
            let seq = place::seq(row.get(1)?);
            let first = Appended::new(text(row, 0)?, seq, message_id(row, 2)?, unsigned(row, 3)?);
            Ok((first, row.get::<_, Option<i64>>(4)?))
        })
        .optional()?;
    let Some((first, waiting)) = found else { return Ok(None) };
    let waiting = match waiting {
        Some(number) if outbox.has(connection, number)? => Some(number),
        _ => None,
    };
    let waiting = waiting.map(|number| OutboxId::new(number.cast_unsigned()));
    Ok(Some(first.with_outbox(waiting).as_duplicate()))
}

/// Forgets old keys, a few with every batch, so that no batch has to forget many
fn forget_keys(connection: &Connection, batch: usize, now: u64) -> rusqlite::Result<()> {
    let limit = to_sql(batch as u64).saturating_mul(2);
    connection
        .prepare_cached(
            "DELETE FROM dedupe WHERE (sender, key) IN
             (SELECT sender, key FROM dedupe WHERE time <= ?1 ORDER BY time LIMIT ?2)",
        )?
        .execute(params![forgotten(now), limit])?;
    Ok(())
}

/// Keys used at this time or before are forgotten
fn forgotten(now: u64) -> i64 {
    to_sql(now) - to_sql(DEDUPE_MILLIS)
}

#[derive(Clone, Copy)]
pub(super) struct Conversation {
    pub(super) id: i64,
    pub(super) last_seq: u64,
    pub(super) last_time: u64,
    pub(super) counted: u64,
    pub(super) gap: u64,
}

impl Conversation {
    pub(super) fn find(
        connection: &Connection,
        name: &ConversationId,
    ) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached(
                "SELECT id, last_seq, last_time, counted, gap FROM conversation WHERE name = ?1",
            )?
            .query_row([name.as_str()], |row| {
                Ok(Self {
                    id: row.get(0)?,
                    last_seq: unsigned(row, 1)?,
                    last_time: unsigned(row, 2)?,
                    counted: unsigned(row, 3)?,
                    gap: unsigned(row, 4)?,
                })
            })
            .optional()
    }

    pub(super) fn update(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "UPDATE conversation SET last_seq = ?2, last_time = ?3, counted = ?4, gap = ?5
                 WHERE id = ?1",
            )?
            .execute(params![
                self.id,
                to_sql(self.last_seq),
                to_sql(self.last_time),
                to_sql(self.counted),
                to_sql(self.gap),
            ])?;
        Ok(())
    }

    pub(super) fn create(connection: &Connection, name: &ConversationId) -> rusqlite::Result<Self> {
        let id = connection
            .prepare_cached(
                "INSERT INTO conversation (name, last_seq, last_time, counted) VALUES (?1, 0, 0, 0)",
            )?
            .insert([name.as_str()])?;
        if let ConversationKind::Direct(one, other) = name.kind() {
            for user in [one, other] {
                connection
                    .prepare_cached(
                        "INSERT OR IGNORE INTO party (user, conversation) VALUES (?1, ?2)",
                    )?
                    .execute(params![user.as_str(), id])?;
            }
        }
        Ok(Self { id, last_seq: 0, last_time: 0, counted: 0, gap: 0 })
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Progress {
    read: u64,
    delivered: u64,
    /// `conversation.counted` as it was at `read`
    read_counted: u64,
}

impl Progress {
    fn find(connection: &Connection, conversation: i64, user: &UserName) -> rusqlite::Result<Self> {
        let found = connection
            .prepare_cached(
                "SELECT read, delivered, read_counted FROM mark WHERE conversation = ?1 AND user = ?2",
            )?
            .query_row(params![conversation, user.as_str()], |row| {
                Ok(Self {
                    read: unsigned(row, 0)?,
                    delivered: unsigned(row, 1)?,
                    read_counted: unsigned(row, 2)?,
                })
            })
            .optional()?;
        Ok(found.unwrap_or_default())
    }

    fn store(
        self,
        connection: &Connection,
        conversation: i64,
        user: &UserName,
    ) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "INSERT INTO mark (conversation, user, read, delivered, read_counted)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET read = excluded.read, delivered = excluded.delivered,
                     read_counted = excluded.read_counted",
            )?
            .execute(params![
                conversation,
                user.as_str(),
                to_sql(self.read),
                to_sql(self.delivered),
                to_sql(self.read_counted),
            ])?;
        Ok(())
    }
}

pub(super) fn mark(
    connection: &Connection,
    conversation: &ConversationId,
    user: &UserName,
    marker: Marker,
    up_to: u64,
) -> rusqlite::Result<Marks> {
    let Some(conversation) = Conversation::find(connection, conversation)? else {
        return Ok(Marks::new(user.clone(), 0, 0));
    };
    let up_to = up_to.min(conversation.last_seq);
    let before = Progress::find(connection, conversation.id, user)?;
    let mut after = before;
    after.delivered = before.delivered.max(up_to);
    if marker == Marker::Read && up_to > before.read {
        after.read = up_to;
        let counted = connection
            .prepare_cached(
                "SELECT counted FROM message WHERE place > ?1 AND place <= ?2
                 ORDER BY place DESC LIMIT 1",
            )?
            .query_row(
                params![place::of(conversation.id, 0), place::of(conversation.id, up_to)],
                |row| unsigned(row, 0),
            )
            .optional()?;
        // Without one, all of it is forgotten and counts no more.
        after.read_counted = counted.unwrap_or(before.read_counted);
    }
    if after != before {
        after.store(connection, conversation.id, user)?;
    }
    Ok(Marks::new(user.clone(), after.read, after.delivered).with_moved(after != before))
}
