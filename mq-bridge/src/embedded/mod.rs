//! The durable broker in one SQLite file.

mod journal;
mod schema;
mod sqlite;
mod store;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::BrokerError;
use crate::delegate::delegate_broker;
use crate::storage::{StorageBroker, StorageOptions};

use sqlite::Sqlite;

/// Where and how an [`Embedded`] broker keeps its messages
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmbeddedConfig {
    /// The file; made if it does not exist. Its folder must exist. SQLite keeps a second file
    /// beside it, of the same name with `-wal` at the end.
    pub path: PathBuf,
    /// The most octets of publishes that wait to be written. Beyond it a publish fails with
    /// [`BrokerError::Overloaded`]. Default 64 MiB.
    pub max_pending_bytes: usize,
    /// The largest message, headers and body together. Default 64 MiB.
    pub max_message: usize,
    /// The most octets that the file may grow to, rounded up to whole pages; a publish that does
    /// not fit fails with [`BrokerError::Storage`] and may be tried again when messages were
    /// acknowledged. Default `None`: as much as the disk has.
    pub max_file_bytes: Option<u64>,
    /// How long to wait for another broker to let go of the file, which may be finishing its last
    /// write. Default 5 seconds.
    pub open_timeout: Duration,
}

impl EmbeddedConfig {
    /// The defaults with this file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            max_pending_bytes: 64 << 20,
            max_message: 64 << 20,
            max_file_bytes: None,
            open_timeout: Duration::from_secs(5),
        }
    }

    /// Sets the most octets that wait to be written.
    #[must_use]
    pub const fn with_max_pending_bytes(mut self, bytes: usize) -> Self {
        self.max_pending_bytes = bytes;
        self
    }

    /// Sets the largest message, in octets.
    #[must_use]
    pub const fn with_max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// Sets how long to wait for another broker to let go of the file.
    #[must_use]
    pub const fn with_open_timeout(mut self, timeout: Duration) -> Self {
        self.open_timeout = timeout;
        self
    }

    /// Sets the most octets that the file may grow to.
    #[must_use]
    pub const fn with_max_file_bytes(mut self, bytes: u64) -> Self {
        self.max_file_bytes = Some(bytes);
        self
    }
}

/// The durable broker in one SQLite file
///
/// A confirmed publish is on the disk (write-ahead log, `synchronous=FULL`): it survives `kill -9`
/// and power loss. One thread owns the file and writes what has gathered meanwhile in one
/// transaction. A message is stored once, however many durable subscriptions it waits in. What a
/// consumer has room for goes to it from memory after the commit, and what of that is acknowledged
/// soon costs the file little; the rest stays in the file and is read when there is room. Topic subscribers are served in this process and nothing is stored for
/// them.
///
/// Only one process, and one `Embedded` in it, can have the file open.
///
/// Dropped without [`shutdown`](crate::Broker::shutdown) it finishes what it has taken in the background.
#[derive(Debug)]
pub struct Embedded {
    bridge: StorageBroker,
    /// Lets writes fail, for tests.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests let writes fail"))]
    failing: Arc<AtomicBool>,
}

impl Embedded {
    /// Opens the file and starts the thread that owns it.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Storage`] if the file cannot be opened, is open elsewhere, is not ours or is of another version.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready the file is closed again.
    pub async fn open(config: EmbeddedConfig) -> Result<Self, BrokerError> {
        let options = StorageOptions::new()
            .with_max_pending_bytes(config.max_pending_bytes)
            .with_max_message(config.max_message);
        let failing = Arc::<AtomicBool>::default();
        let fault = Arc::clone(&failing);
        let bridge = StorageBroker::open(move || Sqlite::open(&config, fault), options).await?;
        Ok(Self { bridge, failing })
    }

    /// Stops at once, as a killed process does: nothing more is written, and what was not confirmed
    /// fails as [`BrokerError::Disconnected`]. For tests.
    #[cfg(any(test, feature = "testkit"))]
    pub async fn kill(&self) {
        self.bridge.kill().await;
    }
}

delegate_broker!(Embedded);
