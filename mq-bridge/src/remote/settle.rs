//! What consumers tell the broker: settlements, grouped over all of them, and that they are gone.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::local::Counters;
use crate::{BrokerError, Confirm, Confirmer, DeadLetterReason, Target};

use super::bridge::{Current, HandleOf, Shared, guarded};
use super::inbox::Settled;
use super::topics::Listened;
use super::{DeadLetter, Driver, Inbox, Link, Outbound, Settlement, Verdict};

/// The most calls that are settled at once.
const BATCH: usize = 1024;

pub(super) enum Command<H> {
    Settle(Settling<H>),
    Stop(Arc<Inbox<H>>),
    Unlisten(Arc<Listened>),
}

/// Settlements for the link with number `epoch`.
pub(super) struct Settling<H> {
    epoch: u64,
    settlement: Settlement<H>,
    confirmer: Option<Confirmer>,
}

/// Carries out commands until the bridge is gone: settlements in groups, in the order of the calls.
/// What was settled before a stop is settled when it begins.
pub(super) async fn run<D: Driver>(
    shared: Arc<Shared<D>>,
    mut commands: mpsc::UnboundedReceiver<Command<HandleOf<D>>>,
) {
    let mut calls = Vec::new();
    loop {
        tokio::select! {
            count = commands.recv_many(&mut calls, BATCH) => if count == 0 { return },
            () = shared.stopped() => return,
        }
        let mut batch = Vec::new();
        for call in calls.drain(..) {
            match call {
                Command::Settle(settling) => batch.push(settling),
                Command::Stop(inbox) => {
                    settle(&shared, std::mem::take(&mut batch)).await;
                    // Not awaited here: acknowledgements of others do not wait for it.
                    tokio::spawn(stop(Arc::clone(&shared), inbox));
                }
                Command::Unlisten(listened) => {
                    tokio::spawn(unlisten(Arc::clone(&shared), listened));
                }
            }
        }
        settle(&shared, batch).await;
    }
}

async fn settle<D: Driver>(shared: &Arc<Shared<D>>, batch: Vec<Settling<HandleOf<D>>>) {
    if batch.is_empty() {
        return;
    }
    let current = shared.current();
    let mut settlements = Vec::with_capacity(batch.len());
    let mut confirmers = Vec::new();
    for Settling { epoch, settlement, confirmer } in batch {
        match &current {
            Ok(current) if current.epoch == epoch => {
                settlements.push(settlement);
                confirmers.extend(confirmer);
            }
            // The link that it belongs to is lost: the broker delivers it again. The dropped
            // confirmer says so.
            _ => drop(confirmer),
        }
    }
    let (Ok(current), false) = (current, settlements.is_empty()) else { return };
    let outcome = guarded(&*current.link, current.link.settle(settlements)).await;
    for confirmer in confirmers {
        confirmer.complete(outcome.clone());
    }
}

async fn stop<D: Driver>(shared: Arc<Shared<D>>, inbox: Arc<Inbox<HandleOf<D>>>) {
    let mut attached = inbox.attached.lock().await;
    if let Ok(Current { epoch, link }) = shared.current()
        && *attached == Some(epoch)
        && let Err(error) = guarded(&*link, async {
            // Settled while the link still knows the consumer.
            inbox.buried().await;
            link.stop(&inbox).await
        })
        .await
        && !matches!(error, BrokerError::Disconnected { .. })
    {
        tracing::warn!(source = %inbox.source, %error, "could not end a consumer in order");
    }
    *attached = None;
    inbox.give_back();
    drop(attached);
    shared.forget(&inbox);
    inbox.is_gone();
}

async fn unlisten<D: Driver>(shared: Arc<Shared<D>>, listened: Arc<Listened>) {
    let mut epoch = listened.epoch.lock().await;
    if listened.is_wanted() {
        return;
    }
    if let Ok(current) = shared.current()
        && epoch.take() == Some(current.epoch)
        && let Err(error) = guarded(&*current.link, current.link.unlisten(&listened.pattern)).await
        && !matches!(error, BrokerError::Disconnected { .. })
    {
        tracing::warn!(pattern = %listened.pattern, %error, "could not end a subscription in order");
    }
    shared.topics.forget(&listened);
}

impl<D: Driver> Shared<D> {
    pub(super) fn acknowledge(
        &self,
        inbox: &Arc<Inbox<HandleOf<D>>>,
        settled: Vec<Settled<HandleOf<D>>>,
        verdict: Verdict,
    ) -> Confirm {
        let Some(epoch) = settled.first().map(|one| one.epoch) else {
            return Confirm::ready(Ok(()));
        };
        let (confirmer, confirm) = Confirm::pair();
        let handles = settled.into_iter().map(|one| one.handle).collect();
        self.settle(inbox, epoch, handles, verdict, Some(confirmer));
        confirm
    }

    pub(super) fn settle(
        &self,
        inbox: &Arc<Inbox<HandleOf<D>>>,
        epoch: u64,
        handles: Vec<HandleOf<D>>,
        verdict: Verdict,
        confirmer: Option<Confirmer>,
    ) {
        let settlement = Settlement { inbox: Arc::clone(inbox), handles, verdict };
        self.command(Command::Settle(Settling { epoch, settlement, confirmer }));
    }

    /// Publishes to the dead-letter queue, and acknowledges what has arrived there. A failure in
    /// between repeats, and never loses.
    pub(super) fn dead_letter(
        self: &Arc<Self>,
        inbox: &Arc<Inbox<HandleOf<D>>>,
        dead: Vec<Settled<HandleOf<D>>>,
        reason: DeadLetterReason,
    ) -> Confirm {
        Counters::add(&self.counters.dead_lettered, dead.len());
        let Some(queue) = inbox.settings().dead_letter else {
            return self.acknowledge(inbox, dead, Verdict::Ack);
        };
        let arrivals: Vec<_> = dead
            .into_iter()
            .map(|one| {
                let arrival = self.outbox.push_own(Outbound {
                    targets: vec![Target::Queue(Arc::clone(&queue))],
                    message: one.message,
                    redelivered: false,
                    dead_letter: Some(DeadLetter { reason, target: one.target }),
                });
                (one.epoch, one.handle, arrival)
            })
            .collect();
        let (confirmer, confirm) = Confirm::pair();
        let (shared, inbox) = (Arc::clone(self), Arc::clone(inbox));
        let burial = inbox.bury();
        self.spawn(async move {
            let mut failure = None;
            let mut settled = Vec::new();
            for (epoch, handle, arrival) in arrivals {
                let verdict = match arrival.await {
                    Ok(()) => Verdict::Ack,
                    Err(error) => {
                        tracing::warn!(source = %inbox.source, %error, "could not dead-letter");
                        failure.get_or_insert(error);
                        Verdict::Requeue
                    }
                };
                let (confirmer, confirm) = Confirm::pair();
                shared.settle(&inbox, epoch, vec![handle], verdict, Some(confirmer));
                settled.push(confirm);
            }
            let outcome = Confirm::all(settled).await;
            drop(burial);
            confirmer.complete(failure.map_or(outcome, Err));
        });
        confirm
    }
}
