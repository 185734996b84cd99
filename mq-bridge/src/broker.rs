//! The one trait over every backend.

use std::fmt;

use async_trait::async_trait;

use crate::{
    BrokerError, Capabilities, Confirm, Declaration, Health, Metrics, Publish, Source, SourceStats,
    SubscribeOptions, Subscription,
};

/// A message queue
///
/// Object safe; used as `Arc<dyn Broker>`. Per message nothing is boxed and nothing awaits: a
/// publish is enqueued and gives back a [`Confirm`], deliveries come in batches, acknowledgements
/// are enqueued. Control calls are async.
///
/// # Order
///
/// Publishes of one caller to one destination are delivered in the order of the calls, where the
/// backend declares [`Capability::Order`](crate::Capability::Order). A publish that failed and is
/// tried again comes after those that succeeded meanwhile: who needs order across failures
/// publishes a batch, and the next batch only when the confirmation of the last has come.
#[async_trait]
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// Publishes a message to all its targets.
    ///
    /// Stored for every declared queue that is named and for every durable subscription that has a
    /// matching pattern at this moment; handed to every live topic subscription that matches. A
    /// topic without any subscription is no error.
    ///
    /// # Errors
    ///
    /// The confirmation fails with [`NotDeclared`](BrokerError::NotDeclared) if a named queue does
    /// not exist, with [`Overloaded`](BrokerError::Overloaded) when too much waits already, and
    /// with whatever else the backend meets. After `Disconnected` the outcome is unknown; after any
    /// other error the message went nowhere.
    fn publish(&self, publish: Publish) -> Confirm;

    /// Publishes messages in order, with one confirmation for all of them.
    ///
    /// # Errors
    ///
    /// As for [`publish`](Self::publish), with the first error in order. Where the backend declares
    /// [`Capability::AtomicBatch`](crate::Capability::AtomicBatch) an error other than
    /// `Disconnected` means that none was published; elsewhere any of them may have been.
    fn publish_batch(&self, batch: Vec<Publish>) -> Confirm {
        Confirm::all(batch.into_iter().map(|publish| self.publish(publish)).collect())
    }

    /// Makes a queue or durable subscription, durably; no error if it exists.
    ///
    /// # Errors
    ///
    /// [`InvalidName`](BrokerError::InvalidName), or what the backend meets.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready it may or may not have happened; calling again is harmless.
    async fn declare(&self, declaration: &Declaration) -> Result<(), BrokerError>;

    /// Removes a queue or durable subscription with all that it keeps; ends its consumers. No error
    /// if there is none.
    ///
    /// # Errors
    ///
    /// [`NotApplicable`](BrokerError::NotApplicable) for a topic, or what the backend meets.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready it may or may not have happened; calling again is harmless.
    async fn delete(&self, source: &Source) -> Result<(), BrokerError>;

    /// Starts to consume. The subscription is live when this returns: nothing that is published
    /// after it is missed (P5).
    ///
    /// # Errors
    ///
    /// [`NotDeclared`](BrokerError::NotDeclared), [`InvalidName`](BrokerError::InvalidName) for a
    /// pattern, [`Unsupported`](BrokerError::Unsupported) for a takeover that the backend does not
    /// declare, or what the backend meets.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready nothing stays subscribed.
    async fn subscribe(
        &self,
        source: Source,
        options: SubscribeOptions,
    ) -> Result<Subscription, BrokerError>;

    /// What this backend can do.
    fn capabilities(&self) -> Capabilities;

    /// Whether it can be used now.
    fn health(&self) -> Health;

    /// What it has done.
    fn metrics(&self) -> Metrics;

    /// Depth and consumers of one source.
    ///
    /// # Errors
    ///
    /// [`NotDeclared`](BrokerError::NotDeclared), [`Unsupported`](BrokerError::Unsupported) for a
    /// queue or durable subscription where the backend does not declare
    /// [`Capability::Depth`](crate::Capability::Depth), or what the backend meets.
    async fn stats(&self, source: &Source) -> Result<SourceStats, BrokerError>;

    /// Takes nothing new, finishes and confirms what it has taken, ends the subscriptions with
    /// [`EndReason::ShutDown`](crate::EndReason::ShutDown) and lets go of what it holds. Calling it
    /// again is harmless.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready it goes on by itself.
    async fn shutdown(&self);
}
