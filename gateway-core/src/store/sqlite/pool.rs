//! Connections that only read, a few of them, on the runtime's threads for blocking work.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Transaction};
use tokio::sync::Semaphore;

use super::schema::open_reader;
use super::value::store_error;
use crate::store::StoreError;

#[derive(Debug)]
pub(super) struct Pool {
    path: PathBuf,
    free: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    pub(super) fn new(path: PathBuf, size: usize) -> Self {
        Self { path, free: Arc::new(Semaphore::new(size.max(1))), idle: Mutex::default() }
    }

    /// Runs `read` on one snapshot of the database
    pub(super) async fn read<T, F>(self: &Arc<Self>, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let pool = Arc::clone(self);
        let permit = Arc::clone(&self.free).acquire_owned().await;
        let permit = permit.map_err(|_| StoreError::Closed)?;
        let reading = tokio::task::spawn_blocking(move || {
            let mut connection = pool.take()?;
            let answer = connection.transaction().and_then(|snapshot| read(&snapshot))?;
            pool.give_back(connection);
            // Held here, not by the caller: a caller that goes away does not end the reading.
            drop(permit);
            Ok(answer)
        });
        match reading.await {
            Ok(answer) => answer.map_err(|error: rusqlite::Error| store_error(&error)),
            Err(_) => Err(StoreError::Closed),
        }
    }

    fn take(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| open_reader(&self.path), Ok)
    }

    /// A connection that failed is not given back: the next reader opens another
    fn give_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}
