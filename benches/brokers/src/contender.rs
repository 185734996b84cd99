//! What a side of the comparison can do.

use std::any::Any;
use std::error::Error;

use async_trait::async_trait;
use bytes::Bytes;

/// What a step gives, or why the measurement cannot go on.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// One way to one broker
#[async_trait]
pub(crate) trait Contender: Send + Sync {
    /// Makes an empty queue, in place of the one before.
    async fn fresh_queue(&self, name: &str) -> Outcome;

    /// Publishes to a queue; ready when the broker has confirmed it.
    async fn publish(&self, queue: &str, body: Bytes) -> Outcome;

    /// Starts to consume a queue.
    async fn consume(&self, queue: &str, prefetch: usize) -> Outcome<Box<dyn Consumer>>;

    /// Makes so many durable subscriptions, each to a topic of its own, numbered from 0.
    async fn subscriptions(&self, count: usize) -> Outcome;

    /// Publishes one message to that many of these topics; ready when the broker has confirmed all.
    async fn publish_to_all(&self, count: usize, body: Bytes) -> Outcome;
}

/// A consumer of a queue
#[async_trait]
pub(crate) trait Consumer: Send {
    /// Waits for messages, acknowledges them without waiting for that, and tells how many there were.
    async fn take(&mut self) -> Outcome<usize>;

    /// Waits until all acknowledgements are confirmed.
    async fn finish(&mut self) -> Outcome;
}

/// The two ways to a broker that was started for the measurement
pub(crate) struct Pair {
    pub(crate) bridge: Box<dyn Contender>,
    pub(crate) bare: Box<dyn Contender>,
    /// Stops on drop.
    pub(crate) _server: Box<dyn Any + Send>,
}
