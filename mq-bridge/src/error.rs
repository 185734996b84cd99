//! What can go wrong, whose fault it is and what to do.

use std::sync::Arc;

use crate::{Capability, Source};

/// Why a broker did not do what it was asked
///
/// [`is_retryable`](Self::is_retryable) says whether the same call may succeed later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The caller's fault: the name of a queue, topic, pattern or durable subscription is not
    /// allowed.
    #[error("invalid name {name:?}: {reason}")]
    InvalidName {
        /// The name as it was given.
        name: Arc<str>,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The caller's fault: a queue or durable subscription was used that is not declared.
    #[error("there is no {kind} named {name:?}: declare it first")]
    NotDeclared {
        /// `queue` or `durable subscription`.
        kind: &'static str,
        /// Its name.
        name: Arc<str>,
    },
    /// The caller's fault: the message is larger than the backend takes.
    #[error("message of {size} octets exceeds the limit of {limit}")]
    TooLarge {
        /// Headers and body, in octets.
        size: usize,
        /// The backend's limit, in octets.
        limit: usize,
    },
    /// The caller's fault: the call does not apply to what it names.
    #[error("not applicable: {reason}")]
    NotApplicable {
        /// What does not apply.
        reason: &'static str,
    },
    /// The configuration's fault: the backend lacks what is asked of it.
    #[error("this broker lacks the capability `{0}`")]
    Unsupported(Capability),
    /// The configuration's fault, or the operator's: the broker refuses it, for example for wrong
    /// credentials, missing permissions, or a queue that exists with other settings.
    #[error("the broker refused: {reason}")]
    Refused {
        /// What the broker said.
        reason: Arc<str>,
    },
    /// Too much waits to be confirmed, or the store of the broker has reached its configured size.
    /// Nothing was published. Retry when less is waiting.
    #[error("the broker is overloaded: its limit of {limit} octets is reached")]
    Overloaded {
        /// The bound that was reached, in octets.
        limit: usize,
    },
    /// The broker's storage refused the write, for example because the disk is full. Nothing was
    /// published. Retry later.
    #[error("the broker could not store: {reason}")]
    Storage {
        /// What the storage said.
        reason: Arc<str>,
    },
    /// The connection to the broker was lost before the outcome was known. It may have happened:
    /// retry, marked as redelivered.
    #[error("the connection to the broker was lost: {reason}")]
    Disconnected {
        /// What ended the connection.
        reason: Arc<str>,
    },
    /// The broker object was shut down.
    #[error("the broker has been shut down")]
    ShutDown,
}

impl BrokerError {
    /// `source` was used and is not declared; for a topic, that it cannot be.
    #[must_use]
    pub fn not_declared(source: &Source) -> Self {
        let kind = match source {
            Source::Queue(_) => "queue",
            Source::Durable(_) => "durable subscription",
            Source::Topic(_) => return Self::NotApplicable { reason: "a topic keeps nothing" },
        };
        Self::NotDeclared { kind, name: Arc::clone(source.name()) }
    }

    /// Whether the same call may succeed later without any change by the caller.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Overloaded { .. } | Self::Storage { .. } | Self::Disconnected { .. })
    }
}
