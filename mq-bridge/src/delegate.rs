//! Brokers that are made of another.

/// Implements [`Broker`](crate::Broker) for a type that has one, or all but one in name, in its field
/// `bridge`.
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
