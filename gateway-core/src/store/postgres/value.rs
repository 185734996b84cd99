//! How values lie in the database.

use std::error::Error;
use std::str::FromStr;

use tokio_postgres::Row;

use super::error::Failure;
use crate::store::StoreError;

/// PostgreSQL's integers have a sign; ours stay far below the difference.
pub(crate) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(row: &Row, index: usize) -> Result<u64, Failure> {
    let number: i64 = row.try_get(index)?;
    u64::try_from(number).map_err(unreadable)
}

/// Reads a text that was checked before it was written
pub(crate) fn text<T>(row: &Row, index: usize) -> Result<T, Failure>
where
    T: FromStr<Err: Error>,
{
    let text: &str = row.try_get(index)?;
    text.parse().map_err(unreadable)
}

pub(crate) fn unreadable(error: impl std::fmt::Display) -> Failure {
    Failure::Store(StoreError::Unusable(format!("unreadable value: {error}")))
}
