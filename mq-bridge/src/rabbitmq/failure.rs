//! What the client's errors mean, and the end of a link.

use std::sync::Arc;

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use tokio::sync::watch;

use crate::BrokerError;

/// What the broker said no to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no such queue.
    NotFound,
    /// Another connection has it for itself.
    Locked,
    /// Not allowed, or it exists with other properties.
    Other,
}

/// Why a call was refused, if it was: its channel is closed then, and nothing else.
pub(super) fn refusal(error: &lapin::Error) -> Option<Refusal> {
    let ErrorKind::ProtocolError(error) = error.kind() else { return None };
    Some(match error.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => Refusal::NotFound,
        AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED) => Refusal::Locked,
        AMQPErrorKind::Soft(_) => Refusal::Other,
        AMQPErrorKind::Hard(_) => return None,
    })
}

/// The error of a call on a channel that may be closed.
pub(super) fn broker_error(error: &lapin::Error) -> BrokerError {
    match error.kind() {
        ErrorKind::ProtocolError(why) if refusal(error).is_some() => {
            BrokerError::Refused { reason: why.get_message().as_str().into() }
        }
        _ => BrokerError::Disconnected { reason: error.to_string().into() },
    }
}

/// The error of an attempt to connect.
pub(super) fn connect_error(error: &lapin::Error) -> BrokerError {
    match error.kind() {
        // Credentials, virtual host: the broker answered.
        ErrorKind::ProtocolError(why) if matches!(why.get_id(), 403 | 530) => {
            BrokerError::Refused { reason: why.get_message().as_str().into() }
        }
        ErrorKind::AuthProviderError(why) => BrokerError::Refused { reason: why.as_str().into() },
        _ => BrokerError::Disconnected { reason: error.to_string().into() },
    }
}

/// Why a link cannot be used any more, once it cannot.
#[derive(Clone, Debug)]
pub(super) struct Lost {
    reason: Arc<watch::Sender<Option<Arc<str>>>>,
}

impl Lost {
    pub(super) fn new() -> Self {
        Self { reason: Arc::new(watch::Sender::new(None)) }
    }

    /// The first reason counts.
    pub(super) fn set(&self, reason: impl Into<Arc<str>>) {
        self.reason.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(reason.into());
            }
            first
        });
    }

    /// Says that the link is lost unless the error is a mere refusal; gives it as a broker's.
    pub(super) fn check(&self, error: &lapin::Error) -> BrokerError {
        let error = broker_error(error);
        if let BrokerError::Disconnected { reason } = &error {
            self.set(Arc::clone(reason));
        }
        error
    }

    /// Says that the link is lost, since a channel that others need has failed.
    pub(super) fn fail(&self, error: &lapin::Error) -> BrokerError {
        let reason: Arc<str> = error.to_string().into();
        self.set(Arc::clone(&reason));
        BrokerError::Disconnected { reason }
    }

    /// Resolves with the reason as soon as there is one.
    pub(super) async fn wait(&self) -> Arc<str> {
        let mut known = self.reason.subscribe();
        let found = known.wait_for(Option::is_some).await;
        found.ok().and_then(|reason| reason.clone()).unwrap_or_else(|| "closed".into())
    }
}
