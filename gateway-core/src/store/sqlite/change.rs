//! Edits, recalls and reactions.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::index::{self, Texts};
use super::query::{message_columns, stored_message};
use super::value::to_sql;
use super::{outbox, place};
use crate::names::ConversationId;
use crate::store::change::{Change, Target, check_change, edited, has_copy, react, wiped_headers};
use crate::store::pack::{pack_headers, pack_reactions};
use crate::store::search::text_of_stored;
use crate::store::{MessageId, MessageKind, NewMessage, StoreError, StoredMessage};

/// The message of a conversation with this id, and its place
pub(super) fn find(
    connection: &Connection,
    conversation: i64,
    name: &ConversationId,
    id: MessageId,
) -> rusqlite::Result<Option<(i64, StoredMessage)>> {
    connection
        .prepare_cached(concat!(
            "SELECT ",
            message_columns!(),
            " FROM message m WHERE m.id = ?1 AND m.place > ?2 AND m.place < ?3"
        ))?
        .query_row(
            params![id.to_octets(), place::of(conversation, 0), place::of(conversation + 1, 0)],
            |row| Ok((row.get(0)?, stored_message(row, name.clone())?)),
        )
        .optional()
}

/// Makes the change of a message that gets the number `seq`; gives the place of what it changes
pub(super) fn apply(
    connection: &Connection,
    conversation: i64,
    message: &NewMessage,
    change: &Change,
    seq: u64,
    texts: &mut Texts,
) -> rusqlite::Result<Result<i64, StoreError>> {
    let found = find(connection, conversation, &message.conversation, change.target)?;
    let target = found.as_ref().map(|(_, target)| Target::from(target));
    if let Err(refused) = check_change(change, &message.sender, target.as_ref()) {
        return Ok(Err(refused));
    }
    let Some((place, mut target)) = found else { return Ok(Ok(0)) };
    match message.kind {
        MessageKind::Edit => {
            let keep = if message.is_kept_whole() {
                "INSERT OR IGNORE INTO original (place, headers, body)
                 SELECT place, headers, body FROM message WHERE place = ?1"
            } else {
                "DELETE FROM original WHERE place = ?1"
            };
            connection.prepare_cached(keep)?.execute([place])?;
            (target.headers, target.body) = edited(target.headers, message);
            index::remove(connection, place)?;
            if let Some(text) = text_of_stored(&target) {
                texts.add(place, text);
            }
            let headers = pack_headers(&target.headers);
            connection
                .prepare_cached(
                    "UPDATE message SET headers = ?2, body = ?3, edited = ?4 WHERE place = ?1",
                )?
                .execute(params![place, headers, &*target.body, to_sql(seq)])?;
        }
        MessageKind::Recall => {
            let wipe =
                "UPDATE message SET headers = ?2, body = x'', reactions = NULL WHERE place = ?1";
            let edits = connection
                .prepare_cached("SELECT place FROM message WHERE target = ?1 AND kind = ?2")?
                .query_map(params![place, MessageKind::Edit.as_str()], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<i64>>>()?;
            let about = wiped_headers(message.headers.clone());
            let copies = has_copy(&target.headers);
            let drop_copy = |of: i64| {
                if copies { outbox::drop_copy(connection, of) } else { Ok(()) }
            };
            drop_copy(place)?;
            for edit in edits {
                connection.prepare_cached(wipe)?.execute(params![edit, pack_headers(&about)])?;
                drop_copy(edit)?;
            }
            let headers = pack_headers(&wiped_headers(target.headers));
            connection.prepare_cached(wipe)?.execute(params![place, headers])?;
            connection
                .prepare_cached("UPDATE message SET recalled = ?2 WHERE place = ?1")?
                .execute(params![place, to_sql(seq)])?;
            index::remove(connection, place)?;
            connection.prepare_cached("DELETE FROM original WHERE place = ?1")?.execute([place])?;
            fade(connection, place, 0)?;
        }
        MessageKind::Reaction => match react(target.reactions, message) {
            Ok(reactions) => {
                connection
                    .prepare_cached("UPDATE message SET reactions = ?2 WHERE place = ?1")?
                    .execute(params![place, pack_reactions(&reactions)])?;
            }
            Err(refused) => return Ok(Err(refused)),
        },
        _ => {}
    }
    Ok(Ok(place))
}

/// Lets a message count as unread only until a time
pub(super) fn fade(connection: &Connection, place: i64, until: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO fading (place, until) VALUES (?1, ?2)")?
        .execute(params![place, to_sql(until)])?;
    Ok(())
}

/// Headers and body of a message before its first edit, in the place of those that it has now
pub(super) fn originally(
    connection: &Connection,
    place: i64,
    mut message: StoredMessage,
) -> rusqlite::Result<StoredMessage> {
    let found = connection
        .prepare_cached("SELECT headers, body FROM original WHERE place = ?1")?
        .query_row([place], |row| Ok((super::query::headers(row, 0)?, row.get::<_, Vec<u8>>(1)?)))
        .optional()?;
    if let Some((headers, body)) = found {
        message.headers = headers;
        message.body = body.into();
        message.edited = None;
    }
    Ok(message)
}
