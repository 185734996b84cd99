//! How the kit gets at a broker.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::Broker;

/// A broker that the kit can use, stop, kill and start again
///
/// Made fresh, with an empty broker, for every case. What it started it removes on drop, also when
/// a case panics.
///
/// There are two kinds. Where the broker is part of this process, a broker object ends with it and
/// [`start`](Self::start) makes a new one over the same data. Where it is a server,
/// [`reconnects`](Self::reconnects) says `true`: the broker object stays the same and finds its way
/// back by itself, and [`another`](Self::another) opens a second one.
#[async_trait]
pub trait Harness: Send {
    /// The broker object of now; while the broker is gone, that of before.
    fn broker(&self) -> Arc<dyn Broker>;

    /// Stops the broker in order. It is gone when this returns.
    async fn stop(&mut self);

    /// Kills the broker without any warning, as `kill -9` does. It is gone when this returns.
    async fn kill(&mut self);

    /// Starts the broker again, over the same data, after [`stop`](Self::stop) or
    /// [`kill`](Self::kill). It can be connected to when this returns; broker objects that
    /// reconnect may not have done so yet.
    async fn start(&mut self);

    /// Stops the broker in order and starts it again.
    async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }

    /// Kills the broker and starts it again.
    async fn crash(&mut self) {
        self.kill().await;
        self.start().await;
    }

    /// Whether broker objects outlive the broker and reconnect by themselves.
    fn reconnects(&self) -> bool {
        false
    }

    /// How long to wait for any one thing that must happen before the case counts as failed; 30
    /// seconds unless said otherwise. Where broker objects reconnect it is longer than publishes and
    /// calls wait for the broker by themselves; outages last a tenth of it.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// Opens another broker object over the same broker, as another node would; `None` where only
    /// one can be.
    async fn another(&mut self) -> Option<Arc<dyn Broker>> {
        None
    }

    /// Lets the broker hang, as `SIGSTOP` does: connections stay open and nothing answers. `false`
    /// if that cannot be.
    async fn suspend(&mut self) -> bool {
        false
    }

    /// Ends [`suspend`](Self::suspend).
    async fn resume(&mut self) {}
}
