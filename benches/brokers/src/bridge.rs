//! Any broker through the bridge.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use mq_bridge::{
    Broker, Confirm, Declaration, Message, Publish, Source, SubscribeOptions, Subscription, Target,
};

use crate::contender::{Consumer, Contender, Outcome};

pub(crate) struct Bridge(pub(crate) Arc<dyn Broker>);

struct BridgeConsumer {
    subscription: Subscription,
    /// The last one: they are confirmed in order.
    ack: Option<Confirm>,
}

#[async_trait]
impl Contender for Bridge {
    async fn fresh_queue(&self, name: &str) -> Outcome {
        self.0.delete(&Source::queue(name)).await?;
        Ok(self.0.declare(&Declaration::queue(name)).await?)
    }

    async fn publish(&self, queue: &str, body: Bytes) -> Outcome {
        Ok(self.0.publish(Publish::to_queue(queue, Message::new(body))).await?)
    }

    async fn consume(&self, queue: &str, prefetch: usize) -> Outcome<Box<dyn Consumer>> {
        let prefetch = u32::try_from(prefetch)?;
        let options = SubscribeOptions::new().with_prefetch(prefetch, usize::MAX);
        let subscription = self.0.subscribe(Source::queue(queue), options).await?;
        Ok(Box::new(BridgeConsumer { subscription, ack: None }))
    }

    async fn subscriptions(&self, count: usize) -> Outcome {
        for number in 0..count {
            let (name, topic) = (format!("bench {number}"), format!("bench.{number}"));
            self.0.delete(&Source::durable(name.as_str())).await?;
            self.0.declare(&Declaration::durable(name, [topic])).await?;
        }
        Ok(())
    }

    async fn publish_to_all(&self, count: usize, body: Bytes) -> Outcome {
        let targets = (0..count).map(|number| Target::topic(format!("bench.{number}"))).collect();
        Ok(self.0.publish(Publish::new(targets, Message::new(body))).await?)
    }
}

#[async_trait]
impl Consumer for BridgeConsumer {
    async fn take(&mut self) -> Outcome<usize> {
        let batch = self.subscription.recv().await.ok_or("the subscription has ended")?;
        let tags: Vec<u64> = batch.iter().map(|delivery| delivery.tag).collect();
        self.ack = Some(self.subscription.acker().ack(&tags));
        Ok(batch.len())
    }

    async fn finish(&mut self) -> Outcome {
        match self.ack.take() {
            Some(ack) => Ok(ack.await?),
            None => Ok(()),
        }
    }
}
