//! How the kit gets at a broker.

use std::sync::Arc;

use async_trait::async_trait;

use crate::Broker;

/// A broker that the kit can use, restart and kill
///
/// Made fresh, with an empty broker, for every case. What it started it removes on drop, also when
/// a case panics.
#[async_trait]
pub trait Harness: Send {
    /// The broker object of now. Asked again after every restart and kill; it may be the same as
    /// before, reconnecting by itself, or a new one over the same data.
    fn broker(&self) -> Arc<dyn Broker>;

    /// Stops the broker in order and starts it again over the same data.
    async fn restart(&mut self);

    /// Kills the broker without any warning, as `kill -9` does, and starts it again over the same
    /// data.
    async fn kill(&mut self);
}
