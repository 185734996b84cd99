//! The lease on this node's part of the outbox, where several nodes share the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::Worker;
use crate::store::{MessageStore, SharedOutbox};

/// How soon a renewal that failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// The task that renews the lease.
#[derive(Debug, Default)]
pub(super) struct Lease {
    task: Option<AbortOnDropHandle<()>>,
    orphans: Arc<Notify>,
}

impl Lease {
    /// There is something of a node that is gone to take over. Cancel safe.
    pub(super) async fn orphans(&self) {
        self.orphans.notified().await;
    }
}

impl Worker {
    /// Under which number this node may publish; none while it may not. A store that is not shared has but one.
    pub(super) fn lease(&self) -> Option<u64> {
        self.store.shared().map_or(Some(0), SharedOutbox::lease)
    }

    /// Takes the lease, and keeps it from then on.
    pub(super) async fn join(&mut self) {
        let store = Arc::clone(&self.store);
        let Some(shared) = store.shared() else { return };
        let next = loop {
            match shared.renew().await {
                Ok(renewal) => break renewal.next,
                Err(error) => tracing::warn!(%error, "this node cannot join the others yet"),
            }
            sleep(AGAIN).await;
        };
        let orphans = Arc::clone(&self.lease.orphans);
        let task = tokio::spawn(keep(Arc::clone(&store), next, orphans));
        self.lease.task = Some(AbortOnDropHandle::new(task));
        self.adopt().await;
    }

    /// Takes over what nodes that are gone have left. It is published before anything that is stored from now on.
    pub(super) async fn adopt(&mut self) {
        let Some(shared) = self.store.shared() else { return };
        match shared.adopt().await {
            Ok(0) => {}
            Ok(count) => {
                tracing::info!(count, "took over what another node had stored and not published");
                self.broken = true;
            }
            Err(error) => tracing::warn!(%error, "nothing could be taken over"),
        }
    }

    /// Leaves the rest to the other nodes.
    pub(super) async fn resign(&mut self) {
        if let Some(task) = self.lease.task.take() {
            task.abort();
            let _ = task.await;
        }
        if let Some(shared) = self.store.shared()
            && let Err(error) = shared.resign().await
        {
            tracing::warn!(%error, "the lease could not be given up; it runs out by itself");
        }
    }
}

async fn keep(store: Arc<dyn MessageStore>, mut next: Duration, orphans: Arc<Notify>) {
    let Some(shared) = store.shared() else { return };
    loop {
        sleep(next).await;
        next = match shared.renew().await {
            Ok(renewal) => {
                if renewal.orphans {
                    orphans.notify_one();
                }
                renewal.next
            }
            Err(error) => {
                tracing::warn!(%error, "the lease of this node could not be renewed");
                AGAIN
            }
        };
    }
}
