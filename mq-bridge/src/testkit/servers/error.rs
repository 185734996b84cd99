//! Why a server is not as a test wants it.

use std::process::ExitStatus;
use std::time::Duration;
use std::{fmt, io};

/// Why a server could not be started, stopped or signalled
///
/// `Debug` prints the same text as `Display`, so that a test's `unwrap` shows the server's log.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The server is not installed.
    #[error("{server} is not installed: there is no {program}. {remedy}, or run .ci/install")]
    Missing {
        /// Which server.
        server: &'static str,
        /// What was looked for.
        program: String,
        /// What installs it.
        remedy: &'static str,
    },
    /// The system refused a file, a port, a process or a signal.
    #[error("{server}: {action}: {source}")]
    Io {
        /// Which server.
        server: &'static str,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The server ended while it started.
    #[error("{server} ended while it started: {status}. The end of its log:\n{log}")]
    Ended {
        /// Which server.
        server: &'static str,
        /// How its process ended.
        status: ExitStatus,
        /// The last lines that it logged.
        log: String,
    },
    /// The server did not answer in time.
    #[error("{server} was not ready within {waited:?}: {last}. The end of its log:\n{log}")]
    NotReady {
        /// Which server.
        server: &'static str,
        /// How long it was given.
        waited: Duration,
        /// What the last attempt to talk with it found.
        last: io::Error,
        /// The last lines that it logged.
        log: String,
    },
    /// The server was told to stop and went on.
    #[error("{server} did not stop within {waited:?} and was killed. The end of its log:\n{log}")]
    NotStopped {
        /// Which server.
        server: &'static str,
        /// How long it was given.
        waited: Duration,
        /// The last lines that it logged.
        log: String,
    },
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
