use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, Row, params};

use super::{Record, RecordKind, Registry};
use crate::store::{SqliteStore, StoreError};

/// What a write of names holds, in octets
const SMALL: usize = 512;

#[async_trait]
impl Registry for SqliteStore {
    async fn insert(&self, kind: RecordKind, record: &Record) -> Result<bool, StoreError> {
        let record = record.clone();
        self.write(SMALL + record.content.len(), move |tx| {
            let made = tx
                .prepare_cached(
                    "INSERT OR IGNORE INTO record (kind, id, content) VALUES (?1, ?2, ?3)",
                )?
                .execute([kind.as_str(), &record.id, &record.content])?;
            Ok(made == 1)
        })
        .await
    }

    async fn replace(&self, kind: RecordKind, record: &Record) -> Result<bool, StoreError> {
        let record = record.clone();
        self.write(SMALL + record.content.len(), move |tx| {
            let changed = tx
                .prepare_cached("UPDATE record SET content = ?3 WHERE kind = ?1 AND id = ?2")?
                .execute([kind.as_str(), &record.id, &record.content])?;
            Ok(changed == 1)
        })
        .await
    }

    async fn remove(&self, kind: RecordKind, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.write(SMALL, move |tx| {
            let removed = tx
                .prepare_cached("DELETE FROM record WHERE kind = ?1 AND id = ?2")?
                .execute([kind.as_str(), &id])?;
            Ok(removed == 1)
        })
        .await
    }

    async fn get(&self, kind: RecordKind, id: &str) -> Result<Option<Record>, StoreError> {
        let id = id.to_owned();
        self.read(move |tx| {
            tx.prepare_cached("SELECT id, content FROM record WHERE kind = ?1 AND id = ?2")?
                .query_row([kind.as_str(), &id], record)
                .optional()
        })
        .await
    }

    async fn list(
        &self,
        kind: RecordKind,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let after = after.to_owned();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(move |tx| {
            tx.prepare_cached(
                "SELECT id, content FROM record WHERE kind = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
            )?
            .query_map(params![kind.as_str(), after, limit], record)?
            .collect()
        })
        .await
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record { id: row.get(0)?, content: row.get(1)? })
}
