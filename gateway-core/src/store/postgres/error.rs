//! What a failure of the database means to the caller.

use std::error::Error as _;

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use crate::store::StoreError;

/// Why a piece of work with the database failed
#[derive(Debug)]
pub(crate) enum Failure {
    /// A transaction met another one; the same again will do
    Conflict(String),
    /// Anything else
    Store(StoreError),
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Conflict(text) => Self::Unavailable(text),
            Failure::Store(error) => error,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let text = text(&error);
        let Some(state) = error.code() else {
            // Input and output, and connections that ended; or an answer that cannot be read.
            let away = error.is_closed() || error.source().is_some_and(is_io);
            return Self::Store(match away {
                true => StoreError::Unavailable(text),
                false => StoreError::Unusable(text),
            });
        };
        if [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(state) {
            return Self::Conflict(text);
        }
        // Connection, resources, operator intervention, system; a server that only reads.
        let away = ["08", "53", "57", "58"].iter().any(|class| state.code().starts_with(class))
            || *state == SqlState::READ_ONLY_SQL_TRANSACTION;
        Self::Store(match away {
            true => StoreError::Unavailable(text),
            false if *state == SqlState::PROGRAM_LIMIT_EXCEEDED => StoreError::Refused(text),
            false => StoreError::Unusable(text),
        })
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => match Self::from(error) {
                // Refused at the door, wrong password included: an operator can mend it.
                Self::Store(StoreError::Unusable(text)) => {
                    Self::Store(StoreError::Unavailable(text))
                }
                other => other,
            },
            PoolError::Timeout(_) => Self::Store(StoreError::Overloaded),
            PoolError::Closed => Self::Store(StoreError::Closed),
            other => Self::Store(StoreError::Unavailable(other.to_string())),
        }
    }
}

fn is_io(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some()
}

/// The error with what caused it: the message of the server is one level down
fn text(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(database) => format!("{} ({})", database.message(), database.code().code()),
        None => match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}
