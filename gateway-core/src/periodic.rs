//! What the gateway does by itself every now and then.

use std::future::Future;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::gateway::Gateway;

impl Gateway {
    /// Does `work` now and each `interval` after, until the gateway stops.
    pub(crate) fn every<W, F>(&self, interval: Duration, work: W)
    where
        W: Fn(Self) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send,
    {
        // Does not keep a gateway alive that nobody else has.
        let inner = std::sync::Arc::downgrade(&self.inner);
        let stop = self.inner.stop.clone();
        self.inner.tasks.spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let repeat = async {
                loop {
                    ticks.tick().await;
                    let Some(inner) = inner.upgrade() else { return };
                    work(Self { inner }).await;
                }
            };
            tokio::select! {
                () = repeat => {}
                () = stop.cancelled() => {}
            }
        });
    }
}
