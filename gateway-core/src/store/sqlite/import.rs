//! Messages of another store.

use rusqlite::{Connection, params};

use super::append::Conversation;
use super::index::Texts;
use super::value::to_sql;
use super::{change, place};
use crate::names::ConversationId;
use crate::store::import::taken;
use crate::store::pack::{pack_headers, pack_reactions};
use crate::store::search::text_of_stored;
use crate::store::{Imported, MessageId, StoreError};

pub(super) fn import(
    connection: &Connection,
    name: &ConversationId,
    batch: &[Imported],
) -> rusqlite::Result<Result<u64, StoreError>> {
    let found = Conversation::find(connection, name)?;
    let before = found.as_ref().map_or(0, |conversation| conversation.last_seq);
    for one in batch.iter().map(|one| &one.message) {
        let id = found.as_ref().map_or(0, |conversation| conversation.id);
        if one.seq > place::MAX_SEQ
            || one.seq <= before && !is_here(connection, id, one.seq, one.message_id)?
        {
            return Ok(Err(taken(one.seq)));
        }
    }
    let mut conversation = match found {
        Some(conversation) => conversation,
        None => Conversation::create(connection, name)?,
    };
    let (mut new, mut texts) = (0, Texts::default());
    for one in batch.iter().filter(|one| one.message.seq > before) {
        insert(connection, name, &mut conversation, &mut texts, one)?;
        new += 1;
    }
    conversation.update(connection)?;
    texts.store(connection)?;
    Ok(Ok(new))
}

fn is_here(
    connection: &Connection,
    conversation: i64,
    seq: u64,
    id: MessageId,
) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM message WHERE place = ?1 AND id = ?2")?
        .exists(params![place::of(conversation, seq), id.to_octets()])
}

fn insert(
    connection: &Connection,
    name: &ConversationId,
    conversation: &mut Conversation,
    texts: &mut Texts,
    one: &Imported,
) -> rusqlite::Result<()> {
    let message = &one.message;
    conversation.gap = one.gap_after(conversation.last_seq).unwrap_or(conversation.gap);
    let (counts, until) = one.counts();
    conversation.counted += u64::from(counts);
    conversation.last_seq = message.seq;
    conversation.last_time = conversation.last_time.max(message.timestamp);
    let place = place::of(conversation.id, message.seq);
    let target = match one.target() {
        Some(target) => change::find(connection, conversation.id, name, target)?,
        None => None,
    };
    connection
        .prepare_cached(
            "INSERT INTO message (place, id, time, sender, device, kind, key, counted, headers, body,
                target, edited, recalled, reactions)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            place,
            message.message_id.to_octets(),
            to_sql(message.timestamp),
            message.sender.as_str(),
            message.device.as_ref().map(AsRef::<str>::as_ref),
            message.kind.as_str(),
            message.idempotency_key,
            to_sql(conversation.counted),
            pack_headers(&message.headers),
            &*message.body,
            target.map(|(place, _)| place),
            message.edited.map(to_sql),
            message.recalled.map(to_sql),
            pack_reactions(&message.reactions),
        ])?;
    if let Some(text) = text_of_stored(message) {
        texts.add(place, text);
    }
    if let Some(until) = until {
        change::fade(connection, place, until)?;
    }
    if let Some(original) = &one.original {
        connection
            .prepare_cached("INSERT INTO original (place, headers, body) VALUES (?1, ?2, ?3)")?
            .execute(params![place, pack_headers(&original.headers), &*original.body])?;
    }
    Ok(())
}
