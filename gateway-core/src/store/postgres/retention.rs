//! Forgetting old messages.

use deadpool_postgres::{Client, Transaction};

use super::error::Failure;
use super::value::{text, to_sql, unsigned};
use crate::names::ConversationId;
use crate::store::{Cut, Extent};

pub(super) async fn survey(
    client: &Client,
    after: Option<&ConversationId>,
    limit: usize,
) -> Result<Vec<Extent>, Failure> {
    let statement = client
        .prepare_cached(
            "SELECT c.name, m.seq, m.time, c.last_seq FROM conversation c
             CROSS JOIN LATERAL (
                SELECT seq, time FROM message WHERE conversation = c.id ORDER BY seq LIMIT 1
             ) m WHERE c.name > $1 ORDER BY c.name LIMIT $2",
        )
        .await?;
    let after = after.map_or("", ConversationId::as_str);
    let rows = client.query(&statement, &[&after, &to_sql(limit as u64)]).await?;
    rows.iter()
        .map(|row| {
            Ok(Extent::new(text(row, 0)?, unsigned(row, 1)?, unsigned(row, 2)?, unsigned(row, 3)?))
        })
        .collect()
}

pub(super) async fn forget(
    transaction: &Transaction<'_>,
    conversation: &ConversationId,
    cut: Cut,
    limit: usize,
) -> Result<u64, Failure> {
    let find = transaction.prepare_cached("SELECT id FROM conversation WHERE name = $1").await?;
    let Some(row) = transaction.query_opt(&find, &[&conversation.as_str()]).await? else {
        return Ok(0);
    };
    let id: i64 = row.try_get(0)?;
    let delete = transaction
        .prepare_cached(
            "WITH old AS (
                SELECT seq, time FROM message WHERE conversation = $1 AND seq < coalesce(
                    (SELECT min(seq) FROM outbox WHERE conversation = $1), 9223372036854775807)
                ORDER BY seq LIMIT $4
             ), stays AS (
                SELECT min(seq) AS seq FROM old WHERE NOT (seq < $2 OR time < $3)
             )
             DELETE FROM message WHERE conversation = $1 AND seq IN (
                SELECT old.seq FROM old, stays WHERE stays.seq IS NULL OR old.seq < stays.seq
             ) RETURNING counted",
        )
        .await?;
    let (seq, time) = (to_sql(cut.before_seq), to_sql(cut.before_time));
    let gone = transaction.query(&delete, &[&id, &seq, &time, &to_sql(limit as u64)]).await?;
    let counted = gone.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    if let Some(counted) = counted.iter().max() {
        let update = transaction
            .prepare_cached("UPDATE conversation SET forgotten = $2 WHERE id = $1")
            .await?;
        transaction.execute(&update, &[&id, counted]).await?;
    }
    Ok(counted.len() as u64)
}
