//! What every store refuses, and how it counts.

use bytes::Bytes;

use super::{NewMessage, StoreError, StoredMessage};

/// The longest idempotency key, in octets
pub const MAX_KEY_OCTETS: usize = 128;

/// What a message costs beside its texts: rows, pointers, indexes
const OVERHEAD: usize = 256;

pub(crate) fn check(message: &NewMessage) -> Result<(), StoreError> {
    match &message.idempotency_key {
        Some(key) if key.is_empty() || key.len() > MAX_KEY_OCTETS => {
            Err(StoreError::Refused(format!("an idempotency key has 1 to {MAX_KEY_OCTETS} octets")))
        }
        _ => Ok(()),
    }
}

pub(crate) fn octets_of(message: &NewMessage) -> usize {
    count(&message.headers, &message.body)
}

pub(crate) fn octets_of_stored(message: &StoredMessage) -> usize {
    count(&message.headers, &message.body)
}

fn count(headers: &[(String, String)], body: &Bytes) -> usize {
    let headers: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    OVERHEAD + headers + body.len()
}
