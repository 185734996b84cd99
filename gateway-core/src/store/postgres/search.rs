//! The full-text index: text vectors that are made here, not by a configuration of the server, so that all stores
//! find the same.

use std::fmt::Write as _;

use deadpool_postgres::Client;
use tokio_postgres::Row;

use super::error::Failure;
use super::query::{message_columns, stored_message};
use super::value::{text, to_sql, unsigned};
use crate::names::ConversationId;
use crate::store::search::{text_of_stored, words};
use crate::store::{Search, SearchTerms, StoredMessage};

/// The migration that makes the index
pub(super) const MIGRATION: i64 = 3;

/// PostgreSQL counts positions to here
const MAX_POSITION: usize = 16_383;

/// The text vector of a message, in the form in which the server reads it
pub(super) fn vector(conversation: i64, text: &str) -> Option<String> {
    let words = words(text);
    if words.is_empty() {
        return None;
    }
    let mut vector = format!("'@{conversation}'");
    for (index, word) in words.split_ascii_whitespace().enumerate() {
        // A word has no quotation mark and no backslash. Writing to a string cannot fail.
        let _ = write!(vector, " '{word}':{}", (index + 1).min(MAX_POSITION));
    }
    Some(vector)
}

/// Adds the texts of all messages that were stored before there was an index
pub(super) async fn add_stored(
    transaction: &tokio_postgres::Transaction<'_>,
) -> Result<(), Failure> {
    const PART: i64 = 1000;
    let mut last = (0_i64, 0_i64);
    loop {
        let rows = transaction
            .query(
                concat!(
                    "SELECT ",
                    message_columns!(),
                    ", c.name, c.id FROM message m JOIN conversation c ON c.id = m.conversation
                     WHERE (m.conversation, m.seq) > ($1, $2) AND m.kind = 'message'
                     ORDER BY m.conversation, m.seq LIMIT $3"
                ),
                &[&last.0, &last.1, &PART],
            )
            .await?;
        let (mut conversations, mut seqs, mut vectors) = (Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let message = stored_message(row, text(row, 12)?)?;
            last = (row.try_get(13)?, to_sql(message.seq));
            if let Some(vector) = text_of_stored(&message).and_then(|text| vector(last.0, text)) {
                conversations.push(last.0);
                seqs.push(last.1);
                vectors.push(vector);
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        transaction
            .execute(
                "UPDATE message m SET words = new.words::tsvector
                 FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS new (conversation, seq, words)
                 WHERE m.conversation = new.conversation AND m.seq = new.seq",
                &[&conversations, &seqs, &vectors],
            )
            .await?;
    }
}

/// A conversation that is looked in
struct Scope {
    id: i64,
    after_seq: i64,
    last_time: u64,
}

pub(super) async fn search(
    client: &Client,
    search: &Search,
) -> Result<Vec<StoredMessage>, Failure> {
    /// Conversations looked at in one round trip: those with the latest messages mostly have all that is asked for
    const PART: usize = 64;
    let scopes = scopes(client, search).await?;
    let mut found: Vec<(u64, ConversationId, u64)> = Vec::new();
    for part in scopes.chunks(PART) {
        let newest = part.first().map_or(0, |scope| scope.last_time);
        let oldest = found.last().filter(|_| found.len() >= search.limit);
        if oldest.is_some_and(|(time, ..)| *time > newest) {
            break;
        }
        found.extend(find_in(client, search, part).await?);
        found.sort_unstable_by(|one, other| other.cmp(one));
        found.truncate(search.limit);
    }
    messages(client, &found, search.max_octets).await
}

/// The conversations to look in, the one with the latest message first
async fn scopes(client: &Client, search: &Search) -> Result<Vec<Scope>, Failure> {
    let (names, floors): (Vec<&str>, Vec<i64>) = search
        .within
        .iter()
        .map(|scope| (scope.conversation.as_str(), to_sql(scope.after_seq)))
        .unzip();
    let user = search.direct_of.as_ref().map(|user| user.as_str());
    let find = client
        .prepare_cached(
            "SELECT c.id, s.floor, c.last_time FROM unnest($1::text[], $2::bigint[]) AS s (name, floor)
             JOIN conversation c ON c.name = s.name
             UNION ALL SELECT c.id, 0, c.last_time FROM party p
             JOIN conversation c ON c.id = p.conversation WHERE p.person = $3
             ORDER BY 3 DESC",
        )
        .await?;
    let rows = client.query(&find, &[&names, &floors, &user]).await?;
    let scope = |row: &Row| {
        let (id, after_seq) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Scope { id, after_seq, last_time: unsigned(row, 2)? })
    };
    rows.iter().map(scope).collect()
}

/// Timestamp, conversation and `seq` of the newest matches in each of some conversations
async fn find_in(
    client: &Client,
    search: &Search,
    scopes: &[Scope],
) -> Result<Vec<(u64, ConversationId, u64)>, Failure> {
    let (ids, floors): (Vec<i64>, Vec<i64>) =
        scopes.iter().map(|scope| (scope.id, scope.after_seq)).unzip();
    let (time, name, seq) = match &search.after {
        Some(cursor) => {
            (to_sql(cursor.timestamp), cursor.conversation.as_str(), to_sql(cursor.seq))
        }
        None => (i64::MAX, "", 0),
    };
    // Not a prepared statement: after some uses the server would plan it without looking at what is asked for.
    let rows = client
        .query(
            "SELECT m.time, c.name, m.seq FROM unnest($1::bigint[], $2::bigint[]) AS s (id, floor)
             JOIN conversation c ON c.id = s.id
             CROSS JOIN LATERAL (
                SELECT time, seq FROM message
                WHERE words @@ ((quote_literal('@' || s.id))::tsquery && $3::text::tsquery)
                    AND seq > s.floor AND (time, c.name, seq) < ($4, $5, $6)
                ORDER BY seq DESC LIMIT $7
             ) m",
            &[
                &ids,
                &floors,
                &expression(&search.terms),
                &time,
                &name,
                &seq,
                &to_sql(search.limit as u64),
            ],
        )
        .await?;
    rows.iter().map(|row| Ok((unsigned(row, 0)?, text(row, 1)?, unsigned(row, 2)?))).collect()
}

/// The messages at these places, in this order, as far as they fit
async fn messages(
    client: &Client,
    places: &[(u64, ConversationId, u64)],
    max_octets: usize,
) -> Result<Vec<StoredMessage>, Failure> {
    let (names, seqs): (Vec<&str>, Vec<i64>) =
        places.iter().map(|(_, name, seq)| (name.as_str(), to_sql(*seq))).unzip();
    // The window is over the octets before each row: one message always fits.
    let statement = client
        .prepare_cached(concat!(
            "SELECT ",
            message_columns!(),
            ", m.name FROM (
                SELECT message.*, c.name, s.place,
                    sum(octet_length(body) + octet_length(headers) + 256) OVER
                        (ORDER BY s.place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
                FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS s (name, seq, place)
                JOIN conversation c ON c.name = s.name
                JOIN message ON message.conversation = c.id AND message.seq = s.seq
             ) m WHERE coalesce(m.before, 0) < $3 ORDER BY m.place"
        ))
        .await?;
    let octets = to_sql(max_octets.max(1) as u64);
    let rows = client.query(&statement, &[&names, &seqs, &octets]).await?;
    rows.iter().map(|row| stored_message(row, text(row, 12)?)).collect()
}

/// What is looked for, as a query of the server
fn expression(terms: &SearchTerms) -> String {
    let phrases = terms.phrases().iter().map(|phrase| {
        let open = if phrase.open { ":*" } else { "" };
        format!("('{}'{open})", phrase.words.join("'<->'"))
    });
    phrases.collect::<Vec<_>>().join("&")
}
