//! How values lie in the file.

use std::error::Error;

use rusqlite::types::Type;
use rusqlite::{ErrorCode, Row};

use crate::store::StoreError;

/// SQLite's integers have a sign; ours stay far below the difference.
pub(crate) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(index)?;
    u64::try_from(number).map_err(|error| unreadable(index, error))
}

/// Reads a text that was checked before it was written
pub(crate) fn text<T>(row: &Row<'_>, index: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr<Err: Error + Send + Sync + 'static>,
{
    let text = row.get_ref(index)?.as_str()?;
    text.parse().map_err(|error| unreadable(index, error))
}

pub(crate) fn unreadable(
    index: usize,
    error: impl Into<Box<dyn Error + Send + Sync>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, Type::Null, error.into())
}

pub(crate) fn store_error(error: &rusqlite::Error) -> StoreError {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(
            ErrorCode::CannotOpen
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::OutOfMemory
            | ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly
            | ErrorCode::SystemIoFailure,
        ) => StoreError::Unavailable(text),
        Some(ErrorCode::TooBig) => StoreError::Refused(text),
        _ => StoreError::Unusable(text),
    }
}

/// Writes texts one after the other, each after its length in octets as four octets, lowest first
pub(crate) fn pack<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut packed = Vec::new();
    for text in texts {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        packed.extend_from_slice(&length.to_le_bytes());
        packed.extend_from_slice(text.as_bytes());
    }
    packed
}

/// Reads what [`pack`] wrote
pub(crate) fn unpack(mut packed: &[u8]) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    while !packed.is_empty() {
        let (length, rest) = packed.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (text, rest) = rest.split_at_checked(length)?;
        texts.push(String::from_utf8(text.to_vec()).ok()?);
        packed = rest;
    }
    Some(texts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packed_texts_unpack_to_the_same(texts in prop::collection::vec(".*", 0..5)) {
            let packed = pack(texts.iter().map(String::as_str));
            prop_assert_eq!(unpack(&packed), Some(texts));
        }

        #[test]
        fn no_octets_make_unpacking_panic(octets in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = unpack(&octets);
        }
    }
}
