use std::time::Instant;

use super::SubscriptionId;
use super::subscription::Covered;
use crate::{ByteStr, view};

/// One step of an open transaction
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "sends are the common case")]
pub(super) enum Step<T> {
    Send(view::Send),
    Settle { nack: bool, subscription: SubscriptionId, covered: Covered<T> },
}

/// One open transaction
#[derive(Debug)]
pub(super) struct Transaction<T> {
    name: ByteStr,
    pub(super) begun: Instant,
    pub(super) steps: Vec<Step<T>>,
    octets: usize,
}

/// Beside its frames a step costs this much.
const STEP_OCTETS: usize = 64;

/// The open transactions of a session, oldest first
#[derive(Debug)]
pub(super) struct Transactions<T> {
    open: Vec<Transaction<T>>,
}

impl<T> Transactions<T> {
    pub(super) const fn new() -> Self {
        Self { open: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.open.iter().any(|transaction| transaction.name == *name)
    }

    pub(super) fn begin(&mut self, name: ByteStr, now: Instant) {
        let octets = name.as_bytes().len() + STEP_OCTETS;
        self.open.push(Transaction { name, begun: now, steps: Vec::new(), octets });
    }

    /// The number of steps of an open transaction
    pub(super) fn steps(&self, name: &str) -> Option<usize> {
        self.open.iter().find(|it| it.name == *name).map(|it| it.steps.len())
    }

    pub(super) fn add(&mut self, name: &str, step: Step<T>) {
        if let Some(transaction) = self.open.iter_mut().find(|it| it.name == *name) {
            transaction.octets += STEP_OCTETS
                + match &step {
                    Step::Send(send) => send.frame().size(),
                    Step::Settle { covered, .. } => covered.len() * size_of::<(u64, T)>(),
                };
            transaction.steps.push(step);
        }
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Transaction<T>> {
        let index = self.open.iter().position(|it| it.name == *name)?;
        Some(self.open.remove(index))
    }

    /// Octets that all of them hold
    pub(super) fn octets(&self) -> usize {
        self.open.iter().map(|it| it.octets).sum()
    }

    /// When the oldest one was begun
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.open.first().map(|it| it.begun)
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Transaction<T>> + use<T> {
        std::mem::take(&mut self.open).into_iter()
    }
}
