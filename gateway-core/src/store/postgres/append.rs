//! Everything that writes messages.
//!
//! A batch is a handful of statements, each for all of its messages. Locks are always taken in the same order, those
//! of the idempotency keys before those of the conversations, and each in the order of their names, so that batches
//! of several nodes wait for each other but never in a ring.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use deadpool_postgres::Transaction;

use super::change;
use super::error::Failure;
use super::query::message_id;
use super::search;
use super::value::{text, to_sql, unsigned};
use crate::names::{ConversationId, ConversationKind, UserName};
use crate::store::limits::check;
use crate::store::message::expiry;
use crate::store::pack::{pack, pack_copy, pack_headers};
use crate::store::search::text_of_new;
use crate::store::{
    Appended, DEDUPE_MILLIS, Keep, Marker, Marks, MessageId, NewMessage, OutboxId, StoreError,
};

type Key<'a> = (&'a str, &'a [u8]);

/// The places in the outbox, by conversation and `seq`, and whether another node publishes first
type Places<'a> = HashMap<(&'a str, u64), (OutboxId, bool)>;

pub(super) async fn append(
    transaction: &Transaction<'_>,
    batch: &[NewMessage],
    node: i64,
    now: u64,
) -> Result<Vec<Result<Appended, StoreError>>, Failure> {
    let checked: Vec<Result<(), StoreError>> = batch.iter().map(check).collect();
    let good = || batch.iter().zip(&checked).filter(|(_, checked)| checked.is_ok());
    let keys: BTreeSet<Key<'_>> = good().filter_map(|(message, _)| key_of(message)).collect();
    let mut known = first_uses(transaction, &keys, node, now).await?;
    let new = |message: &&NewMessage| key_of(message).is_none_or(|key| !known.contains_key(&key));
    let names: BTreeSet<&str> = good()
        .map(|(message, _)| message)
        .filter(new)
        .map(|message| message.conversation.as_str())
        .collect();
    let mut conversations = lock_conversations(transaction, &names).await?;

    let mut rows = Rows::default();
    let mut outbox = HashMap::new();
    let mut outcome = Vec::with_capacity(batch.len());
    for (message, checked) in batch.iter().zip(checked) {
        if let Err(refused) = checked {
            outcome.push(Err(refused));
            continue;
        }
        let key = key_of(message);
        if let Some(first) = key.and_then(|key| known.get(&key)) {
            outcome.push(Ok(first.clone().as_duplicate()));
            continue;
        }
        if message.change.is_some() {
            // What it changes may be in this batch: that has to be written before.
            let before = std::mem::take(&mut rows);
            outbox.extend(before.write(transaction, &conversations, node).await?);
        }
        let Some(conversation) = conversations.get_mut(message.conversation.as_str()) else {
            let lost = format!("conversation {} could not be made", message.conversation);
            return Err(StoreError::Unusable(lost).into());
        };
        let mut target = None;
        if let Some(change) = &message.change {
            let (id, seq) = (conversation.id, conversation.last_seq + 1);
            match change::apply(transaction, id, message, change, seq).await? {
                Ok(seq) => target = Some(seq),
                Err(refused) => {
                    outcome.push(Err(refused));
                    continue;
                }
            }
        }
        let appended = rows.add(message, conversation, target, now);
        if let Some(key) = key {
            known.insert(key, appended.clone());
        }
        outcome.push(Ok(appended));
    }
    outbox.extend(rows.write(transaction, &conversations, node).await?);
    forget_keys(transaction, batch.len(), now).await?;
    for appended in outcome.iter_mut().flatten() {
        // Of a repeated key it is known already, unless its first use is in this batch.
        if appended.outbox.is_none() {
            let place = (appended.conversation.as_str(), appended.seq);
            if let Some((id, held)) = outbox.get(&place) {
                appended.outbox = Some(*id);
                appended.held = *held;
            }
        }
    }
    Ok(outcome)
}

fn key_of(message: &NewMessage) -> Option<Key<'_>> {
    message.idempotency_key.as_ref().map(|key| (message.sender.as_str(), key.as_bytes()))
}

/// What the first uses of the keys gave, of those that were used within the time that keys are remembered; and nobody
/// else uses one of them until the end of the transaction
async fn first_uses<'a>(
    transaction: &Transaction<'_>,
    keys: &BTreeSet<Key<'a>>,
    node: i64,
    now: u64,
) -> Result<HashMap<Key<'a>, Appended>, Failure> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let keys: Vec<Key<'a>> = keys.iter().copied().collect();
    let (senders, texts): (Vec<&str>, Vec<&[u8]>) = keys.iter().copied().unzip();
    let lock = transaction
        .prepare_cached(
            "SELECT pg_advisory_xact_lock(lock) FROM (
                SELECT DISTINCT hashtextextended(sender || ' ' || encode(key, 'hex'), 0) AS lock
                FROM unnest($1::text[], $2::bytea[]) AS used (sender, key) ORDER BY lock
             ) AS locks",
        )
        .await?;
    transaction.query(&lock, &[&senders, &texts]).await?;
    let find = transaction
        .prepare_cached(
            "SELECT used.place, c.name, d.seq, d.message_id, d.time, o.id,
                coalesce(o.node <> $4, false)
             FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS used (sender, key, place)
             JOIN dedupe d ON d.sender = used.sender AND d.key = used.key
             JOIN conversation c ON c.id = d.conversation
             LEFT JOIN outbox o ON o.id = d.outbox
             WHERE d.time > $3",
        )
        .await?;
    let mut known = HashMap::new();
    for row in transaction.query(&find, &[&senders, &texts, &forgotten(now), &node]).await? {
        let place = unsigned(&row, 0)?;
        let waiting: Option<i64> = row.try_get(5)?;
        let waiting = waiting.map(|id| OutboxId::new(id.cast_unsigned()));
        let first = Appended::new(
            text(&row, 1)?,
            unsigned(&row, 2)?,
            message_id(&row, 3)?,
            unsigned(&row, 4)?,
        );
        // From 1, in the order of the keys.
        if let Some(key) = keys.get(usize::try_from(place).unwrap_or(0).wrapping_sub(1)) {
            known.insert(*key, first.with_outbox(waiting).with_held(row.try_get(6)?));
        }
    }
    Ok(known)
}

/// A conversation that nobody else appends to until the end of the transaction
pub(super) struct Conversation {
    pub(super) id: i64,
    pub(super) last_seq: u64,
    pub(super) last_time: u64,
    pub(super) counted: u64,
    pub(super) gap: u64,
}

pub(super) async fn lock_conversations<'a>(
    transaction: &Transaction<'_>,
    names: &BTreeSet<&'a str>,
) -> Result<HashMap<&'a str, Conversation>, Failure> {
    let mut found = HashMap::new();
    if names.is_empty() {
        return Ok(found);
    }
    let all: Vec<&str> = names.iter().copied().collect();
    let lock = transaction
        .prepare_cached(
            "SELECT id, name, last_seq, last_time, counted, gap FROM conversation
             WHERE name = ANY($1) ORDER BY name FOR UPDATE",
        )
        .await?;
    // A second time where some were missing: made by us, or by another node that was quicker.
    for attempt in 0..2 {
        found.clear();
        for row in transaction.query(&lock, &[&all]).await? {
            if let Some(name) = names.get(row.try_get::<_, &str>(1)?) {
                let conversation = Conversation {
                    id: row.try_get(0)?,
                    last_seq: unsigned(&row, 2)?,
                    last_time: unsigned(&row, 3)?,
                    counted: unsigned(&row, 4)?,
                    gap: unsigned(&row, 5)?,
                };
                found.insert(*name, conversation);
            }
        }
        if found.len() == names.len() || attempt == 1 {
            break;
        }
        let missing: Vec<&str> =
            all.iter().copied().filter(|name| !found.contains_key(name)).collect();
        create_conversations(transaction, &missing).await?;
    }
    Ok(found)
}

async fn create_conversations(
    transaction: &Transaction<'_>,
    names: &[&str],
) -> Result<(), Failure> {
    let create = transaction
        .prepare_cached(
            "INSERT INTO conversation (name) SELECT name FROM unnest($1::text[]) AS names (name)
             ORDER BY name ON CONFLICT DO NOTHING",
        )
        .await?;
    transaction.execute(&create, &[&names]).await?;
    let (mut people, mut conversations) = (Vec::new(), Vec::new());
    for name in names {
        let conversation = ConversationId::new(name).map_err(super::value::unreadable)?;
        if let ConversationKind::Direct(one, other) = conversation.kind() {
            for person in [one, other] {
                people.push(person.as_str().to_owned());
                conversations.push(*name);
            }
        }
    }
    if !people.is_empty() {
        let join = transaction
            .prepare_cached(
                "INSERT INTO party (person, conversation)
                 SELECT party.person, c.id FROM unnest($1::text[], $2::text[]) AS party (person, name)
                 JOIN conversation c ON c.name = party.name ORDER BY 1, 2 ON CONFLICT DO NOTHING",
            )
            .await?;
        transaction.execute(&join, &[&people, &conversations]).await?;
    }
    Ok(())
}

/// What a batch writes, column by column
#[derive(Default)]
struct Rows<'a> {
    conversation: Vec<i64>,
    name: Vec<&'a str>,
    seq: Vec<i64>,
    id: Vec<Vec<u8>>,
    time: Vec<i64>,
    sender: Vec<&'a str>,
    device: Vec<Option<&'a str>>,
    kind: Vec<&'static str>,
    key: Vec<Option<&'a [u8]>>,
    counted: Vec<i64>,
    headers: Vec<Vec<u8>>,
    body: Vec<&'a [u8]>,
    words: Vec<Option<String>>,
    /// What it changes
    target: Vec<Option<i64>>,
    targets: Vec<Option<Vec<u8>>>,
    /// Something of it is stored
    kept: Vec<bool>,
    /// All of it, for the outbox, where that is not stored
    copy: Vec<Option<Vec<u8>>>,
    /// Conversation, seq and time of those that expire
    fading: Vec<(i64, i64, i64)>,
}

impl<'a> Rows<'a> {
    fn add(
        &mut self,
        message: &'a NewMessage,
        conversation: &mut Conversation,
        target: Option<u64>,
        now: u64,
    ) -> Appended {
        conversation.last_seq += 1;
        conversation.last_time = conversation.last_time.max(now);
        conversation.counted += u64::from(message.counts_as_unread());
        let whole = message.is_kept_whole();
        if !whole {
            conversation.gap = conversation.last_seq;
        }
        let id = MessageId::generate();
        if message.counts_as_unread()
            && let Some(until) = expiry(&message.headers)
        {
            self.fading.push((conversation.id, to_sql(conversation.last_seq), to_sql(until)));
        }
        let targets = || pack(message.targets.iter().map(String::as_str));
        self.conversation.push(conversation.id);
        self.name.push(message.conversation.as_str());
        self.seq.push(to_sql(conversation.last_seq));
        self.id.push(id.to_octets().to_vec());
        self.time.push(to_sql(conversation.last_time));
        self.sender.push(message.sender.as_str());
        self.device.push(message.device.as_ref().map(AsRef::as_ref));
        self.kind.push(message.kind.as_str());
        self.key.push(message.idempotency_key.as_ref().map(String::as_bytes));
        self.counted.push(to_sql(conversation.counted));
        self.headers.push(if whole {
            pack_headers(&message.headers)
        } else {
            pack_headers(&message.stored_headers())
        });
        self.body.push(if whole { &message.body } else { &[] });
        self.kept.push(message.keep != Keep::Nothing);
        let copy = || pack_copy(message, id, conversation.last_time);
        self.copy.push((!whole && !message.targets.is_empty()).then(copy));
        let words = |text| search::vector(conversation.id, text);
        self.words.push(text_of_new(message).and_then(words));
        self.target.push(target.map(to_sql));
        self.targets.push((!message.targets.is_empty()).then(targets));
        let seq = conversation.last_seq;
        Appended::new(message.conversation.clone(), seq, id, conversation.last_time)
    }

    /// Writes everything; gives the places in the outbox
    async fn write(
        &self,
        transaction: &Transaction<'_>,
        conversations: &HashMap<&str, Conversation>,
        node: i64,
    ) -> Result<Places<'a>, Failure> {
        if self.seq.is_empty() {
            return Ok(HashMap::new());
        }
        let insert = transaction
            .prepare_cached(
                "INSERT INTO message
                    (conversation, seq, id, time, sender, device, kind, key, counted, headers, body,
                     words, target)
                 SELECT conversation, seq, id, time, sender, device, kind, key, counted, headers, body,
                    words::tsvector, target
                 FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bigint[], $5::text[],
                    $6::text[], $7::text[], $8::bytea[], $9::bigint[], $10::bytea[], $11::bytea[],
                    $12::text[], $13::bigint[], $14::bool[])
                    AS new (conversation, seq, id, time, sender, device, kind, key, counted, headers,
                        body, words, target, kept) WHERE kept",
            )
            .await?;
        transaction
            .execute(
                &insert,
                &[
                    &self.conversation,
                    &self.seq,
                    &self.id,
                    &self.time,
                    &self.sender,
                    &self.device,
                    &self.kind,
                    &self.key,
                    &self.counted,
                    &self.headers,
                    &self.body,
                    &self.words,
                    &self.target,
                    &self.kept,
                ],
            )
            .await?;
        if !self.fading.is_empty() {
            let (mut id, mut seq, mut until) = (Vec::new(), Vec::new(), Vec::new());
            for (conversation, number, time) in &self.fading {
                id.push(*conversation);
                seq.push(*number);
                until.push(*time);
            }
            change::fade(transaction, &id, &seq, &until).await?;
        }
        self.write_conversations(transaction, conversations).await?;
        self.write_marks(transaction).await?;
        let outbox = self.write_outbox(transaction, node).await?;
        self.write_keys(transaction, &outbox).await?;
        Ok(outbox)
    }

    async fn write_conversations(
        &self,
        transaction: &Transaction<'_>,
        conversations: &HashMap<&str, Conversation>,
    ) -> Result<(), Failure> {
        let update = transaction
            .prepare_cached(
                "UPDATE conversation SET last_seq = now.last_seq, last_time = now.last_time,
                    counted = now.counted, gap = now.gap
                 FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
                    AS now (id, last_seq, last_time, counted, gap) WHERE conversation.id = now.id",
            )
            .await?;
        let column = |value: fn(&Conversation) -> i64| -> Vec<i64> {
            conversations.values().map(value).collect()
        };
        let id = column(|one| one.id);
        let last_seq = column(|one| to_sql(one.last_seq));
        let last_time = column(|one| to_sql(one.last_time));
        let counted = column(|one| to_sql(one.counted));
        let gap = column(|one| to_sql(one.gap));
        transaction.execute(&update, &[&id, &last_seq, &last_time, &counted, &gap]).await?;
        Ok(())
    }

    /// The senders have what they have said
    async fn write_marks(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        let mut last: BTreeMap<(i64, &str), usize> = BTreeMap::new();
        for (index, (conversation, sender)) in
            self.conversation.iter().zip(&self.sender).enumerate()
        {
            last.insert((*conversation, sender), index);
        }
        let column = |column: &[i64]| -> Vec<i64> {
            last.values().filter_map(|index| column.get(*index).copied()).collect()
        };
        let people: Vec<&str> = last.keys().map(|(_, sender)| *sender).collect();
        let upsert = transaction
            .prepare_cached(
                "INSERT INTO mark (conversation, person, read, delivered, read_counted)
                 SELECT conversation, person, seq, seq, counted
                 FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[])
                    AS now (conversation, person, seq, counted)
                 ON CONFLICT (conversation, person) DO UPDATE SET read = excluded.read,
                    delivered = excluded.delivered, read_counted = excluded.read_counted",
            )
            .await?;
        let (conversation, seq) = (column(&self.conversation), column(&self.seq));
        let counted = column(&self.counted);
        transaction.execute(&upsert, &[&conversation, &people, &seq, &counted]).await?;
        Ok(())
    }

    async fn write_outbox(
        &self,
        transaction: &Transaction<'_>,
        node: i64,
    ) -> Result<Places<'a>, Failure> {
        let mut outbox = HashMap::new();
        if self.targets.iter().all(Option::is_none) {
            return Ok(outbox);
        }
        let insert = transaction
            .prepare_cached(
                // The conversations are locked: nothing comes between the look and the insert.
                "WITH new AS (
                    INSERT INTO outbox (conversation, seq, targets, copy, node)
                    SELECT conversation, seq, targets, copy, $4
                    FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $5::bytea[]) WITH ORDINALITY
                        AS now (conversation, seq, targets, copy, place)
                    WHERE targets IS NOT NULL ORDER BY place RETURNING id, conversation, seq
                 ) SELECT id, conversation, seq,
                    EXISTS (SELECT 1 FROM outbox o
                        WHERE o.conversation = new.conversation AND o.node <> $4)
                    OR EXISTS (SELECT 1 FROM barrier b
                        WHERE b.conversation = new.conversation AND b.node <> $4)
                 FROM new",
            )
            .await?;
        let rows = transaction
            .query(&insert, &[&self.conversation, &self.seq, &self.targets, &node, &self.copy])
            .await?;
        let names: HashMap<i64, &'a str> =
            self.conversation.iter().copied().zip(self.name.iter().copied()).collect();
        for row in rows {
            let conversation: i64 = row.try_get(1)?;
            if let Some(name) = names.get(&conversation) {
                let id = OutboxId::new(unsigned(&row, 0)?);
                outbox.insert((*name, unsigned(&row, 2)?), (id, row.try_get(3)?));
            }
        }
        Ok(outbox)
    }

    async fn write_keys(
        &self,
        transaction: &Transaction<'_>,
        outbox: &Places<'_>,
    ) -> Result<(), Failure> {
        if self.key.iter().all(Option::is_none) {
            return Ok(());
        }
        let waiting: Vec<Option<i64>> = self
            .name
            .iter()
            .zip(&self.seq)
            .map(|(name, seq)| outbox.get(&(*name, seq.cast_unsigned())))
            .map(|place| place.map(|(id, _)| to_sql(id.get())))
            .collect();
        let upsert = transaction
            .prepare_cached(
                "INSERT INTO dedupe (sender, key, conversation, seq, message_id, time, outbox)
                 SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bytea[],
                    $6::bigint[], $7::bigint[]) AS used (sender, key) WHERE key IS NOT NULL
                 ON CONFLICT (sender, key) DO UPDATE SET conversation = excluded.conversation,
                    seq = excluded.seq, message_id = excluded.message_id, time = excluded.time,
                    outbox = excluded.outbox",
            )
            .await?;
        transaction
            .execute(
                &upsert,
                &[
                    &self.sender,
                    &self.key,
                    &self.conversation,
                    &self.seq,
                    &self.id,
                    &self.time,
                    &waiting,
                ],
            )
            .await?;
        Ok(())
    }
}

/// Forgets old keys, a few with every batch, so that no batch has to forget many
async fn forget_keys(transaction: &Transaction<'_>, batch: usize, now: u64) -> Result<(), Failure> {
    let limit = to_sql(batch as u64).saturating_mul(2);
    let forget = transaction
        .prepare_cached(
            "DELETE FROM dedupe WHERE (sender, key) IN
             (SELECT sender, key FROM dedupe WHERE time <= $1 ORDER BY time LIMIT $2
              FOR UPDATE SKIP LOCKED)",
        )
        .await?;
    transaction.execute(&forget, &[&forgotten(now), &limit]).await?;
    Ok(())
}

/// Keys used at this time or before are forgotten
fn forgotten(now: u64) -> i64 {
    to_sql(now) - to_sql(DEDUPE_MILLIS)
}

pub(super) async fn mark(
    transaction: &Transaction<'_>,
    conversation: &ConversationId,
    user: &UserName,
    marker: Marker,
    up_to: u64,
) -> Result<Marks, Failure> {
    let find =
        transaction.prepare_cached("SELECT id, last_seq FROM conversation WHERE name = $1").await?;
    let Some(row) = transaction.query_opt(&find, &[&conversation.as_str()]).await? else {
        return Ok(Marks::new(user.clone(), 0, 0));
    };
    let (id, last_seq): (i64, u64) = (row.try_get(0)?, unsigned(&row, 1)?);
    let up_to = up_to.min(last_seq);
    if up_to > 0 {
        let begin = transaction
            .prepare_cached(
                "INSERT INTO mark (conversation, person, read, delivered, read_counted)
                 VALUES ($1, $2, 0, 0, 0) ON CONFLICT DO NOTHING",
            )
            .await?;
        transaction.execute(&begin, &[&id, &user.as_str()]).await?;
    }
    let lock = transaction
        .prepare_cached(
            "SELECT read, delivered, read_counted FROM mark
             WHERE conversation = $1 AND person = $2 FOR UPDATE",
        )
        .await?;
    let Some(row) = transaction.query_opt(&lock, &[&id, &user.as_str()]).await? else {
        return Ok(Marks::new(user.clone(), 0, 0));
    };
    let before = (unsigned(&row, 0)?, unsigned(&row, 1)?);
    let mut counted: i64 = row.try_get(2)?;
    let (mut read, delivered) = (before.0, before.1.max(up_to));
    if marker == Marker::Read && up_to > read {
        read = up_to;
        let find = transaction
            .prepare_cached(
                "SELECT counted FROM message WHERE conversation = $1 AND seq <= $2
                 ORDER BY seq DESC LIMIT 1",
            )
            .await?;
        if let Some(row) = transaction.query_opt(&find, &[&id, &to_sql(up_to)]).await? {
            counted = row.try_get(0)?;
        }
    }
    let moved = (read, delivered) != before;
    if moved {
        let update = transaction
            .prepare_cached(
                "UPDATE mark SET read = $3, delivered = $4, read_counted = $5
                 WHERE conversation = $1 AND person = $2",
            )
            .await?;
        let (read, delivered) = (to_sql(read), to_sql(delivered));
        transaction.execute(&update, &[&id, &user.as_str(), &read, &delivered, &counted]).await?;
    }
    Ok(Marks::new(user.clone(), read, delivered).with_moved(moved))
}

pub(super) async fn mark_published(
    transaction: &Transaction<'_>,
    ids: &[i64],
) -> Result<(), Failure> {
    if !ids.is_empty() {
        let delete = transaction.prepare_cached("DELETE FROM outbox WHERE id = ANY($1)").await?;
        transaction.execute(&delete, &[&ids]).await?;
    }
    Ok(())
}
