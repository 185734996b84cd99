use std::io;

/// Why a run could not be made, or had to be given up
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The target is not written as it must be
    #[error("{address:?} is no target: {problem}")]
    Target {
        /// What was given
        address: String,
        /// What is wrong with it
        problem: &'static str,
    },
    /// A scenario cannot be run as it was asked for
    #[error("{0}")]
    Plan(String),
    /// The server refused, or said something that it may not say
    #[error("the server: {0}")]
    Server(String),
    /// The server took too long
    #[error("no answer in time: {0}")]
    TimedOut(String),
    /// A connection was lost
    #[error("a connection was lost: {0}")]
    Lost(String),
    /// The system failed
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<rustix::io::Errno> for LoadError {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}
