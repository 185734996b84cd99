//! What is handed to the writer thread, and the queue it comes through.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::local::{Entry, Group, Live, Matched, lock};
use crate::{BrokerError, Confirmer, DeadLetterReason, Declaration, Publish, Source};

/// One publish with the places that it goes to.
#[derive(Debug)]
pub(super) struct Routed {
    pub(super) publish: Publish,
    pub(super) matched: Matched,
}

impl Routed {
    pub(super) fn is_stored(&self) -> bool {
        !self.matched.groups.is_empty()
    }

    /// Hands the message to the topic subscribers, which keep nothing.
    pub(super) fn hand_to_live(&self) {
        let Publish { targets, message, redelivered } = &self.publish;
        for (live, index) in &self.matched.live {
            if let Some(target) = targets.get(*index) {
                Live::push(live, message, target, *redelivered);
            }
        }
    }

    /// What it counts for against the bound of what waits.
    pub(super) fn cost(&self) -> usize {
        self.publish.message.cost() + 32 * (self.matched.groups.len() + self.matched.live.len())
    }
}

#[derive(Debug)]
pub(super) enum Op {
    Publish {
        routed: Vec<Routed>,
        cost: usize,
        confirmer: Confirmer,
    },
    /// Entries that are done with.
    Settle {
        group: Arc<Group>,
        ids: Vec<u64>,
        confirmer: Confirmer,
    },
    DeadLetter {
        group: Arc<Group>,
        entries: Vec<Entry>,
        why: DeadLetterReason,
        confirmer: Confirmer,
    },
    Expire {
        group: Arc<Group>,
        ids: Vec<u64>,
    },
    Recount {
        group: Arc<Group>,
        counts: Vec<(u64, u32)>,
    },
    Fetch {
        group: Arc<Group>,
        generation: u64,
    },
    Declare {
        declaration: Declaration,
        confirmer: Confirmer,
    },
    Delete {
        source: Source,
        confirmer: Confirmer,
    },
    Shutdown,
}

impl Op {
    /// Says how it ended to whoever waits for it.
    pub(super) fn complete(self, outcome: Result<(), BrokerError>) {
        match self {
            Self::Publish { confirmer, .. }
            | Self::Settle { confirmer, .. }
            | Self::DeadLetter { confirmer, .. }
            | Self::Declare { confirmer, .. }
            | Self::Delete { confirmer, .. } => confirmer.complete(outcome),
            Self::Expire { .. } | Self::Recount { .. } | Self::Fetch { .. } | Self::Shutdown => {}
        }
    }
}

/// The queue to the writer thread. Publishes are bounded by their octets; everything else is
/// bounded by what was delivered before.
#[derive(Debug)]
pub(super) struct OpQueue {
    max_pending: usize,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ops: Vec<Op>,
    /// Octets of publishes that are not confirmed yet.
    pending: usize,
    /// Publishes not yet confirmed that topic subscribers will get.
    pending_live: usize,
    /// No publish is taken any more.
    stopped: bool,
    /// Nothing is taken any more.
    closed: bool,
}

/// What became of a publish that was offered to the queue.
pub(super) enum Offered {
    Queued,
    /// Nothing of it is stored and nothing before it waits: to be handed out at once.
    HandOut(Vec<Routed>),
    Refused(BrokerError),
}

impl OpQueue {
    pub(super) fn new(max_pending: usize) -> Self {
        Self { max_pending, state: Mutex::default(), wake: Condvar::new() }
    }

    /// Takes a publish; the confirmer is made only if it is needed.
    pub(super) fn offer(
        &self,
        routed: Vec<Routed>,
        confirmer: impl FnOnce() -> Confirmer,
    ) -> Offered {
        let has_live = routed.iter().any(|one| !one.matched.live.is_empty());
        let mut state = lock(&self.state);
        if state.stopped {
            return Offered::Refused(BrokerError::ShutDown);
        }
        if !routed.iter().any(Routed::is_stored) && (!has_live || state.pending_live == 0) {
            return Offered::HandOut(routed);
        }
        let cost = routed.iter().map(Routed::cost).sum();
        if state.pending + cost > self.max_pending {
            return Offered::Refused(BrokerError::Overloaded { limit: self.max_pending });
        }
        state.pending += cost;
        state.pending_live += usize::from(has_live);
        self.enqueue(&mut state, Op::Publish { routed, cost, confirmer: confirmer() });
        Offered::Queued
    }

    /// Takes anything else; after the end its confirmation says so.
    pub(super) fn push(&self, op: Op) {
        let mut state = lock(&self.state);
        if state.closed {
            drop(state);
            op.complete(Err(BrokerError::ShutDown));
        } else {
            self.enqueue(&mut state, op);
        }
    }

    fn enqueue(&self, state: &mut State, op: Op) {
        state.ops.push(op);
        // The writer takes everything at once, so only the first has to wake it.
        if state.ops.len() == 1 {
            self.wake.notify_one();
        }
    }

    /// A publish was confirmed, or failed.
    pub(super) fn release(&self, cost: usize, has_live: bool) {
        let mut state = lock(&self.state);
        state.pending = state.pending.saturating_sub(cost);
        state.pending_live = state.pending_live.saturating_sub(usize::from(has_live));
    }

    pub(super) fn pending(&self) -> usize {
        lock(&self.state).pending
    }

    /// Takes no publish any more. Whether it did before.
    pub(super) fn stop(&self) -> bool {
        std::mem::replace(&mut lock(&self.state).stopped, true)
    }

    pub(super) fn is_stopped(&self) -> bool {
        lock(&self.state).stopped
    }

    /// All that waits, or nothing once `patience` is over.
    pub(super) fn take(&self, patience: Duration) -> Vec<Op> {
        let state = lock(&self.state);
        let (mut state, _) = self
            .wake
            .wait_timeout_while(state, patience, |state| state.ops.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.ops)
    }

    /// Takes nothing any more; gives what still waits.
    pub(super) fn close(&self) -> Vec<Op> {
        let mut state = lock(&self.state);
        state.stopped = true;
        state.closed = true;
        std::mem::take(&mut state.ops)
    }
}
