//! Edits, recalls and reactions.

use deadpool_postgres::{GenericClient, Transaction};

use super::error::Failure;
use super::query::{headers, message_columns, stored_message};
use super::search;
use super::value::to_sql;
use crate::names::ConversationId;
use crate::store::change::{Change, Target, check_change, edited, has_copy, react, wiped_headers};
use crate::store::pack::{pack_headers, pack_reactions};
use crate::store::search::text_of_stored;
use crate::store::{MessageId, MessageKind, NewMessage, StoreError, StoredMessage};

/// The message of a conversation with this id
pub(super) async fn find(
    client: &impl GenericClient,
    conversation: i64,
    name: &ConversationId,
    id: MessageId,
) -> Result<Option<StoredMessage>, Failure> {
    let find = client
        .prepare_cached(concat!(
            "SELECT ",
            message_columns!(),
            " FROM message m WHERE m.id = $1 AND m.conversation = $2"
        ))
        .await?;
    let row = client.query_opt(&find, &[&id.to_octets().as_slice(), &conversation]).await?;
    row.map(|row| stored_message(&row, name.clone())).transpose()
}

/// Makes the change of a message that gets the number `seq`, in a conversation that is locked; gives the `seq` of what it
/// changes
pub(super) async fn apply(
    transaction: &Transaction<'_>,
    conversation: i64,
    message: &NewMessage,
    change: &Change,
    seq: u64,
) -> Result<Result<u64, StoreError>, Failure> {
    let found = find(transaction, conversation, &message.conversation, change.target).await?;
    let target = found.as_ref().map(Target::from);
    if let Err(refused) = check_change(change, &message.sender, target.as_ref()) {
        return Ok(Err(refused));
    }
    let Some(mut target) = found else { return Ok(Ok(0)) };
    let (place, seq) = (to_sql(target.seq), to_sql(seq));
    match message.kind {
        MessageKind::Edit => {
            let keep = if message.is_kept_whole() {
                "INSERT INTO original (conversation, seq, headers, body)
                 SELECT conversation, seq, headers, body FROM message
                 WHERE conversation = $1 AND seq = $2 ON CONFLICT DO NOTHING"
            } else {
                "DELETE FROM original WHERE conversation = $1 AND seq = $2"
            };
            let keep = transaction.prepare_cached(keep).await?;
            transaction.execute(&keep, &[&conversation, &place]).await?;
            (target.headers, target.body) = edited(target.headers, message);
            let words = text_of_stored(&target).and_then(|text| search::vector(conversation, text));
            let headers = pack_headers(&target.headers);
            let update = transaction
                .prepare_cached(
                    "UPDATE message SET headers = $3, body = $4, edited = $5, words = $6::text::tsvector
                     WHERE conversation = $1 AND seq = $2",
                )
                .await?;
            transaction
                .execute(&update, &[&conversation, &place, &headers, &&*target.body, &seq, &words])
                .await?;
        }
        MessageKind::Recall => {
            let edits = transaction
                .prepare_cached(
                    "UPDATE message SET headers = $3, body = '', reactions = NULL
                     WHERE conversation = $1 AND target = $2 AND kind = $4",
                )
                .await?;
            let about = pack_headers(&wiped_headers(message.headers.clone()));
            let kind = MessageKind::Edit.as_str();
            transaction.execute(&edits, &[&conversation, &place, &about, &kind]).await?;
            let wipe = transaction
                .prepare_cached(
                    "UPDATE message SET headers = $3, body = '', reactions = NULL, words = NULL,
                        recalled = $4
                     WHERE conversation = $1 AND seq = $2",
                )
                .await?;
            if has_copy(&target.headers) {
                drop_copies(transaction, conversation, place).await?;
            }
            let headers = pack_headers(&wiped_headers(target.headers));
            transaction.execute(&wipe, &[&conversation, &place, &headers, &seq]).await?;
            let forget = transaction
                .prepare_cached("DELETE FROM original WHERE conversation = $1 AND seq = $2")
                .await?;
            transaction.execute(&forget, &[&conversation, &place]).await?;
            fade(transaction, &[conversation], &[place], &[0]).await?;
        }
        MessageKind::Reaction => match react(target.reactions, message) {
            Ok(reactions) => {
                let update = transaction
                    .prepare_cached(
                        "UPDATE message SET reactions = $3 WHERE conversation = $1 AND seq = $2",
                    )
                    .await?;
                let reactions = pack_reactions(&reactions);
                transaction.execute(&update, &[&conversation, &place, &reactions]).await?;
            }
            Err(refused) => return Ok(Err(refused)),
        },
        _ => {}
    }
    Ok(Ok(target.seq))
}

/// What the outbox has of a message and of its edits beside what is stored
async fn drop_copies(
    transaction: &Transaction<'_>,
    conversation: i64,
    seq: i64,
) -> Result<(), Failure> {
    let drop = transaction
        .prepare_cached(
            "UPDATE outbox SET copy = NULL WHERE conversation = $1 AND (seq = $2 OR seq IN (
                SELECT seq FROM message WHERE conversation = $1 AND target = $2 AND kind = $3))",
        )
        .await?;
    transaction.execute(&drop, &[&conversation, &seq, &MessageKind::Edit.as_str()]).await?;
    Ok(())
}

/// Lets messages count as unread only until a time
pub(super) async fn fade(
    transaction: &Transaction<'_>,
    conversation: &[i64],
    seq: &[i64],
    until: &[i64],
) -> Result<(), Failure> {
    let upsert = transaction
        .prepare_cached(
            "INSERT INTO fading (conversation, seq, until)
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])
             ON CONFLICT (conversation, seq) DO UPDATE SET until = excluded.until",
        )
        .await?;
    transaction.execute(&upsert, &[&conversation, &seq, &until]).await?;
    Ok(())
}

/// A message as it was before its first edit
pub(super) async fn originally(
    client: &impl GenericClient,
    conversation: i64,
    mut message: StoredMessage,
) -> Result<StoredMessage, Failure> {
    let find = client
        .prepare_cached("SELECT headers, body FROM original WHERE conversation = $1 AND seq = $2")
        .await?;
    let found = client.query_opt(&find, &[&conversation, &to_sql(message.seq)]).await?;
    if let Some(row) = found {
        message.headers = headers(&row, 0)?;
        message.body = row.try_get::<_, Vec<u8>>(1)?.into();
        message.edited = None;
    }
    Ok(message)
}
