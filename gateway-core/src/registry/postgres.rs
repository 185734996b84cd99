use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::{Record, RecordKind, Registry};
use crate::store::postgres::Failure;
use crate::store::{PostgresStore, StoreError};

impl PostgresStore {
    /// Whether a statement changed the one record that it names
    async fn changed(
        &self,
        statement: &str,
        about: &[&(dyn ToSql + Sync)],
    ) -> Result<bool, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(statement).await.map_err(Failure::from)?;
        Ok(client.execute(&statement, about).await.map_err(Failure::from)? == 1)
    }

    async fn records(
        &self,
        statement: &str,
        about: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Record>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(statement).await.map_err(Failure::from)?;
        let rows = client.query(&statement, about).await.map_err(Failure::from)?;
        Ok(rows.iter().map(record).collect::<Result<_, _>>()?)
    }
}

fn record(row: &Row) -> Result<Record, Failure> {
    Ok(Record { id: row.try_get(0)?, content: row.try_get(1)? })
}

#[async_trait]
impl Registry for PostgresStore {
    async fn insert(&self, kind: RecordKind, record: &Record) -> Result<bool, StoreError> {
        let statement = "INSERT INTO record (kind, id, content) VALUES ($1, $2, $3)
             ON CONFLICT DO NOTHING";
        self.changed(statement, &[&kind.as_str(), &record.id, &record.content]).await
    }

    async fn replace(&self, kind: RecordKind, record: &Record) -> Result<bool, StoreError> {
        let statement = "UPDATE record SET content = $3 WHERE kind = $1 AND id = $2";
        self.changed(statement, &[&kind.as_str(), &record.id, &record.content]).await
    }

    async fn remove(&self, kind: RecordKind, id: &str) -> Result<bool, StoreError> {
        let statement = "DELETE FROM record WHERE kind = $1 AND id = $2";
        self.changed(statement, &[&kind.as_str(), &id]).await
    }

    async fn get(&self, kind: RecordKind, id: &str) -> Result<Option<Record>, StoreError> {
        let statement = "SELECT id, content FROM record WHERE kind = $1 AND id = $2";
        Ok(self.records(statement, &[&kind.as_str(), &id]).await?.pop())
    }

    async fn list(
        &self,
        kind: RecordKind,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let statement = "SELECT id, content FROM record WHERE kind = $1 AND id > $2
             ORDER BY id LIMIT $3";
        self.records(statement, &[&kind.as_str(), &after, &limit]).await
    }
}
