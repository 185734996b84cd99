//! What the backends over a network share: one supervisor for all of them.
//!
//! A backend writes a [`Driver`], which connects, and a [`Link`], which is one connected session
//! with the broker and knows its wire protocol. A [`Bridge`] makes a [`Broker`](crate::Broker) of them:
//! it reconnects with jittered backoff, attaches subscriptions to the new link, bounds what waits,
//! keeps the prefetch in messages and octets, hands one topic subscription of the broker to all
//! subscribers in this process, dead-letters, drops what has expired, and knows health and metrics.

mod backoff;
mod bridge;
mod inbox;
mod link;
mod options;
mod outbox;
mod settle;
mod supervisor;
#[cfg(all(test, feature = "memory", feature = "testkit"))]
mod tests;
mod topics;

pub(crate) use bridge::Bridge;
pub(crate) use inbox::{Inbox, Incoming};
pub(crate) use link::{DeadLetter, Driver, Held, Link, Outbound, Settlement, Verdict};
pub use options::RemoteOptions;
pub(crate) use outbox::{Outgoing, Pending};
pub(crate) use topics::Topics;

/// Implements [`Broker`](crate::Broker) for a type with a [`Bridge`] in its field `bridge`.
macro_rules! delegate_broker {
    ($broker:ty) => {
        #[async_trait::async_trait]
        impl crate::Broker for $broker {
            fn publish(&self, publish: crate::Publish) -> crate::Confirm {
                self.bridge.publish(publish)
            }

            fn publish_batch(&self, batch: Vec<crate::Publish>) -> crate::Confirm {
                self.bridge.publish_batch(batch)
            }

            async fn declare(
                &self,
                declaration: &crate::Declaration,
            ) -> Result<(), crate::BrokerError> {
                self.bridge.declare(declaration).await
            }

            async fn delete(&self, source: &crate::Source) -> Result<(), crate::BrokerError> {
                self.bridge.delete(source).await
            }

            async fn subscribe(
                &self,
                source: crate::Source,
                options: crate::SubscribeOptions,
            ) -> Result<crate::Subscription, crate::BrokerError> {
                self.bridge.subscribe(source, options).await
            }

            fn capabilities(&self) -> crate::Capabilities {
                self.bridge.capabilities()
            }

            fn health(&self) -> crate::Health {
                self.bridge.health()
            }

            fn metrics(&self) -> crate::Metrics {
                self.bridge.metrics()
            }

            async fn stats(
                &self,
                source: &crate::Source,
            ) -> Result<crate::SourceStats, crate::BrokerError> {
                self.bridge.stats(source).await
            }

            async fn shutdown(&self) {
                self.bridge.shutdown().await;
            }
        }
    };
}
pub(crate) use delegate_broker;
