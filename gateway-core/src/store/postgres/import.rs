//! Messages of another store.

use std::collections::BTreeSet;

use deadpool_postgres::Transaction;

use super::append::{Conversation, lock_conversations};
use super::error::Failure;
use super::value::to_sql;
use super::{change, search};
use crate::names::ConversationId;
use crate::store::import::taken;
use crate::store::pack::{pack_headers, pack_reactions};
use crate::store::search::text_of_stored;
use crate::store::{Imported, StoreError};

pub(super) async fn import(
    transaction: &Transaction<'_>,
    name: &ConversationId,
    batch: &[Imported],
) -> Result<u64, Failure> {
    let mut found = lock_conversations(transaction, &BTreeSet::from([name.as_str()])).await?;
    let Some(mut conversation) = found.remove(name.as_str()) else {
        return Err(StoreError::Unusable(format!("conversation {name} could not be made")).into());
    };
    let here = transaction
        .prepare_cached("SELECT 1 FROM message WHERE conversation = $1 AND seq = $2 AND id = $3")
        .await?;
    let before = conversation.last_seq;
    let mut new = 0;
    for one in batch {
        let (seq, id) = (to_sql(one.message.seq), one.message.message_id.to_octets());
        if one.message.seq > before {
            insert(transaction, name, &mut conversation, one).await?;
            new += 1;
            continue;
        }
        let found = transaction.query_opt(&here, &[&conversation.id, &seq, &id.as_slice()]).await?;
        if found.is_none() {
            return Err(taken(one.message.seq).into());
        }
    }
    let update = transaction
        .prepare_cached(
            "UPDATE conversation SET last_seq = $2, last_time = $3, counted = $4, gap = $5 WHERE id = $1",
        )
        .await?;
    let Conversation { id, last_seq, last_time, counted, gap } = conversation;
    let (last_seq, last_time) = (to_sql(last_seq), to_sql(last_time));
    let (counted, gap) = (to_sql(counted), to_sql(gap));
    transaction.execute(&update, &[&id, &last_seq, &last_time, &counted, &gap]).await?;
    Ok(new)
}

async fn insert(
    transaction: &Transaction<'_>,
    name: &ConversationId,
    conversation: &mut Conversation,
    one: &Imported,
) -> Result<(), Failure> {
    let message = &one.message;
    conversation.gap = one.gap_after(conversation.last_seq).unwrap_or(conversation.gap);
    let (counts, until) = one.counts();
    conversation.counted += u64::from(counts);
    conversation.last_seq = message.seq;
    conversation.last_time = conversation.last_time.max(message.timestamp);
    let target = match one.target() {
        Some(target) => change::find(transaction, conversation.id, name, target).await?,
        None => None,
    };
    let (id, seq) = (conversation.id, to_sql(message.seq));
    let words = text_of_stored(message).and_then(|text| search::vector(id, text));
    let insert = transaction
        .prepare_cached(
            "INSERT INTO message
                (conversation, seq, id, time, sender, device, kind, key, counted, headers, body,
                 words, target, edited, recalled, reactions)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::text::tsvector, $13, $14, $15, $16)",
        )
        .await?;
    transaction
        .execute(
            &insert,
            &[
                &id,
                &seq,
                &message.message_id.to_octets().as_slice(),
                &to_sql(message.timestamp),
                &message.sender.as_str(),
                &message.device.as_ref().map(AsRef::<str>::as_ref),
                &message.kind.as_str(),
                &message.idempotency_key.as_ref().map(String::as_bytes),
                &to_sql(conversation.counted),
                &pack_headers(&message.headers),
                &&*message.body,
                &words,
                &target.map(|target| to_sql(target.seq)),
                &message.edited.map(to_sql),
                &message.recalled.map(to_sql),
                &pack_reactions(&message.reactions),
            ],
        )
        .await?;
    if let Some(until) = until {
        change::fade(transaction, &[id], &[seq], &[to_sql(until)]).await?;
    }
    if let Some(original) = &one.original {
        let keep = transaction
            .prepare_cached(
                "INSERT INTO original (conversation, seq, headers, body) VALUES ($1, $2, $3, $4)",
            )
            .await?;
        let (headers, body) = (pack_headers(&original.headers), &*original.body);
        transaction.execute(&keep, &[&id, &seq, &headers, &body]).await?;
    }
    Ok(())
}
