//! The promise that a publish or an acknowledgement gives back.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::future::{FusedFuture, JoinAll, join_all};
use tokio::sync::oneshot;

use crate::BrokerError;

/// Resolves when the broker has taken responsibility for what was handed to it
///
/// For a publish: stored for every queue and durable subscription that it reaches, as durably as
/// the backend declares, and handed to the ephemeral subscriptions. For an acknowledgement: it will
/// not be delivered again, restart included, and crash too where the backend declares
/// [`Capability::DurableAck`](crate::Capability::DurableAck).
///
/// The work goes on whether or not the confirmation is awaited; dropping it loses only the answer.
///
/// # Errors
///
/// Any [`BrokerError`]; ask [`is_retryable`](BrokerError::is_retryable).
///
/// # Cancel safety
///
/// It may be polled, dropped and put into a `select!` at any time.
#[must_use = "a publish that is not confirmed may have been lost"]
pub struct Confirm {
    state: State,
}

enum State {
    Ready(Result<(), BrokerError>),
    Waiting(oneshot::Receiver<Result<(), BrokerError>>),
    All(Pin<Box<JoinAll<Confirm>>>),
    Done,
}

impl Confirm {
    /// A confirmation that is already decided.
    pub const fn ready(outcome: Result<(), BrokerError>) -> Self {
        Self { state: State::Ready(outcome) }
    }

    /// A confirmation and the handle that decides it.
    pub fn pair() -> (Confirmer, Self) {
        let (sender, receiver) = oneshot::channel();
        (Confirmer { sender: Some(sender) }, Self { state: State::Waiting(receiver) })
    }

    /// Resolves when all of `confirms` have; with the first error in their order, if any.
    pub fn all(mut confirms: Vec<Self>) -> Self {
        match confirms.len() {
            0 => Self::ready(Ok(())),
            1 => confirms.swap_remove(0),
            _ => Self { state: State::All(Box::pin(join_all(confirms))) },
        }
    }
}

impl Future for Confirm {
    type Output = Result<(), BrokerError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = match &mut self.state {
            State::Ready(outcome) => std::mem::replace(outcome, Ok(())),
            State::Waiting(receiver) => ready!(Pin::new(receiver).poll(cx)).unwrap_or_else(|_| {
                Err(BrokerError::Disconnected { reason: "the broker went away".into() })
            }),
            State::All(all) => ready!(all.as_mut().poll(cx)).into_iter().collect(),
            State::Done => return Poll::Pending,
        };
        self.state = State::Done;
        Poll::Ready(outcome)
    }
}

impl FusedFuture for Confirm {
    fn is_terminated(&self) -> bool {
        matches!(self.state, State::Done)
    }
}

impl fmt::Debug for Confirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Ready(outcome) => return f.debug_tuple("Confirm").field(outcome).finish(),
            State::Waiting(_) | State::All(_) => "waiting",
            State::Done => "done",
        };
        f.debug_tuple("Confirm").field(&state).finish()
    }
}

/// Decides a [`Confirm`]
///
/// Dropped without a decision it says [`BrokerError::Disconnected`]: the outcome is unknown.
#[derive(Debug)]
pub struct Confirmer {
    sender: Option<oneshot::Sender<Result<(), BrokerError>>>,
}

impl Confirmer {
    /// Decides the confirmation. That nobody waits any more is no error.
    pub fn complete(mut self, outcome: Result<(), BrokerError>) {
        if let Some(sender) = self.sender.take() {
            let _ = sender.send(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dropped_confirmer_says_that_the_outcome_is_unknown() {
        let (confirmer, confirm) = Confirm::pair();
        drop(confirmer);
        let error = confirm.await.unwrap_err();
        assert!(matches!(error, BrokerError::Disconnected { .. }) && error.is_retryable());
    }

    #[tokio::test]
    async fn all_waits_for_every_part_and_gives_the_first_error_in_order() {
        let (slow, waiting) = Confirm::pair();
        let mut all = Confirm::all(vec![
            Confirm::ready(Ok(())),
            waiting,
            Confirm::ready(Err(BrokerError::ShutDown)),
        ]);
        assert!(futures::poll!(&mut all).is_pending());
        slow.complete(Err(BrokerError::Overloaded { limit: 1 }));
        assert_eq!(all.await, Err(BrokerError::Overloaded { limit: 1 }));
    }
}
