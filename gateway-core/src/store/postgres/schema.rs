//! Bringing the tables up to date.

use tokio_postgres::{GenericClient, Transaction};

use super::error::Failure;
use super::search;
use super::value::to_sql;
use crate::store::{Epoch, StoreError};

/// Nodes that start at the same time take turns: "STMP"
const LOCK: i64 = 0x5354_4d50;

/// In the order of their numbers; a released one never changes
pub(super) const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "initial", include_str!("migrations/0001_initial.sql")),
    (2, "record", include_str!("migrations/0002_record.sql")),
    (search::MIGRATION, "search", include_str!("migrations/0003_search.sql")),
    (4, "nodes", include_str!("migrations/0004_nodes.sql")),
    (5, "changes", include_str!("migrations/0005_changes.sql")),
    (6, "people", include_str!("migrations/0006_people.sql")),
    (7, "retention", include_str!("migrations/0007_retention.sql")),
    (8, "storage policy", include_str!("migrations/0008_storage_policy.sql")),
    (9, "away", include_str!("migrations/0009_away.sql")),
];

/// Applies what is missing, all or nothing, and gives the epoch of the history in the database
pub(super) async fn migrate(transaction: &Transaction<'_>, now: u64) -> Result<Epoch, Failure> {
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    transaction
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS schema_migration (
                number BIGINT PRIMARY KEY, name TEXT NOT NULL, sql TEXT NOT NULL, applied BIGINT NOT NULL
            )",
        )
        .await?;
    let applied =
        transaction.query("SELECT number, sql FROM schema_migration ORDER BY number", &[]).await?;
    let mut done = Vec::new();
    for row in applied {
        let (number, text): (i64, &str) = (row.try_get(0)?, row.try_get(1)?);
        check(number, text)?;
        done.push(number);
    }
    let mut add_texts = false;
    for (number, name, text) in MIGRATIONS.iter().filter(|(number, ..)| !done.contains(number)) {
        transaction.batch_execute(text).await?;
        add_texts |= *number == search::MIGRATION;
        transaction
            .execute(
                "INSERT INTO schema_migration (number, name, sql, applied) VALUES ($1, $2, $3, $4)",
                &[number, name, text, &to_sql(now)],
            )
            .await?;
    }
    // By code that knows the tables as they are now.
    if add_texts {
        search::add_stored(transaction).await?;
    }
    transaction
        .execute(
            "INSERT INTO meta (key, value) VALUES ('epoch', $1) ON CONFLICT DO NOTHING",
            &[&Epoch::generate().as_str()],
        )
        .await?;
    let row = transaction.query_one("SELECT value FROM meta WHERE key = 'epoch'", &[]).await?;
    Ok(Epoch::from_stored(row.try_get(0)?))
}

/// Refuses tables that a newer version or other migrations made
fn check(number: i64, text: &str) -> Result<(), StoreError> {
    match MIGRATIONS.iter().find(|(known, ..)| *known == number) {
        None => Err(StoreError::Unusable(format!(
            "the database has migration {number}: it was made by a newer version"
        ))),
        Some((_, name, known)) if text != *known => Err(StoreError::Unusable(format!(
            "the database has another migration {number} than ours ({name})"
        ))),
        Some(_) => Ok(()),
    }
}

/// Refuses a server that answers before what it was told is on disk: a receipt would not mean stored.
pub(super) async fn check_durability(client: &impl GenericClient) -> Result<(), Failure> {
    for setting in ["fsync", "synchronous_commit"] {
        let row = client.query_one("SELECT current_setting($1)", &[&setting]).await?;
        if row.try_get::<_, &str>(0)? == "off" {
            let text =
                format!("{setting} is off: what the server confirms may be lost; turn it on");
            return Err(StoreError::Unusable(text).into());
        }
    }
    Ok(())
}
