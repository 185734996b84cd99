//! Publishes that wait to be written or confirmed, bounded in octets.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::sync::Notify;

use crate::local::{Counters, lock};
use crate::{BrokerError, Confirm, Confirmer};

use super::Outbound;

/// The most calls that are handed to a link at once.
const BATCH: usize = 512;

#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// Told when something waits, or all is done.
    changed: Notify,
    max_bytes: usize,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Outgoing>,
    /// Taken and not yet confirmed, those waiting included.
    pending: usize,
    pending_bytes: usize,
    /// Refuses what comes.
    closed: Option<BrokerError>,
}

impl Outbox {
    pub(super) fn new(max_bytes: usize, counters: Arc<Counters>) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), max_bytes, counters }
    }

    /// Takes publishes that are confirmed together.
    pub(super) fn push(self: &Arc<Self>, publishes: Vec<Outbound>) -> Confirm {
        let cost = publishes.iter().map(|one| one.message.cost()).sum::<usize>();
        let mut state = lock(&self.state);
        if let Some(error) = &state.closed {
            return Confirm::ready(Err(error.clone()));
        }
        // One is always taken, however large.
        if state.pending > 0 && state.pending_bytes.saturating_add(cost) > self.max_bytes {
            return Confirm::ready(Err(BrokerError::Overloaded { limit: self.max_bytes }));
        }
        self.enqueue(&mut state, publishes, cost)
    }

    /// As [`push`](Self::push), but taken even when closed or full: what the bridge itself moves,
    /// which is bounded by the prefetch of consumers.
    pub(super) fn push_own(self: &Arc<Self>, publish: Outbound) -> Confirm {
        let cost = publish.message.cost();
        self.enqueue(&mut lock(&self.state), vec![publish], cost)
    }

    fn enqueue(
        self: &Arc<Self>,
        state: &mut State,
        publishes: Vec<Outbound>,
        cost: usize,
    ) -> Confirm {
        let (confirmer, confirm) = Confirm::pair();
        let pending = Pending {
            outbox: Arc::clone(self),
            count: publishes.len(),
            cost,
            confirmer: Some(confirmer),
        };
        state.pending += 1;
        state.pending_bytes += cost;
        state.waiting.push_back(Outgoing { publishes, pending });
        self.changed.notify_waiters();
        confirm
    }

    fn finished(&self, count: usize, cost: usize, confirmed: bool) {
        let mut state = lock(&self.state);
        state.pending -= 1;
        state.pending_bytes -= cost;
        let idle = state.pending == 0;
        drop(state);
        let Counters { published, publish_failures, .. } = &*self.counters;
        Counters::add(if confirmed { published } else { publish_failures }, count);
        if idle {
            self.changed.notify_waiters();
        }
    }

    /// Waits for publishes and takes them.
    ///
    /// Cancel safe.
    pub(super) async fn take(&self) -> Vec<Outgoing> {
        loop {
            let changed = self.changed.notified();
            {
                let waiting = &mut lock(&self.state).waiting;
                if !waiting.is_empty() {
                    let count = waiting.len().min(BATCH);
                    return waiting.drain(..count).collect();
                }
            }
            changed.await;
        }
    }

    /// Waits until everything that was taken is confirmed or has failed.
    pub(super) async fn drained(&self) {
        loop {
            let changed = self.changed.notified();
            if lock(&self.state).pending == 0 {
                return;
            }
            changed.await;
        }
    }

    /// Refuses what comes from now on; the first error counts, until it is opened again.
    pub(super) fn close(&self, error: BrokerError) {
        lock(&self.state).closed.get_or_insert(error);
    }

    /// Fails everything that waits to be written.
    pub(super) fn fail(&self, error: &BrokerError) {
        let waiting = std::mem::take(&mut lock(&self.state).waiting);
        for outgoing in waiting {
            outgoing.pending.complete(Err(error.clone()));
        }
    }

    /// Takes again what comes, unless it was shut down.
    pub(super) fn reopen(&self) {
        let closed = &mut lock(&self.state).closed;
        if *closed != Some(BrokerError::ShutDown) {
            *closed = None;
        }
    }

    pub(super) fn shut_down(&self) {
        lock(&self.state).closed = Some(BrokerError::ShutDown);
    }

    pub(super) fn pending_bytes(&self) -> usize {
        lock(&self.state).pending_bytes
    }
}

/// Publishes that are confirmed together.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// At least one. With [`Capability::AtomicBatch`](crate::Capability::AtomicBatch) they are
    /// published whole or not at all, elsewhere in order.
    pub(crate) publishes: Vec<Outbound>,
    pub(crate) pending: Pending,
}

/// A confirmation that somebody waits for; dropped, it fails as `Disconnected`: nobody knows.
#[derive(Debug)]
pub(crate) struct Pending {
    outbox: Arc<Outbox>,
    count: usize,
    cost: usize,
    confirmer: Option<Confirmer>,
}

impl Pending {
    /// Tells who waits what became of the publishes.
    pub(crate) fn complete(mut self, outcome: Result<(), BrokerError>) {
        if let Some(confirmer) = self.confirmer.take() {
            self.outbox.finished(self.count, self.cost, outcome.is_ok());
            confirmer.complete(outcome);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.confirmer.is_some() {
            self.outbox.finished(self.count, self.cost, false);
        }
    }
}
