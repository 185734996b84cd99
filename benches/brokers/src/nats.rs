//! NATS JetStream: a work-queue stream and a pull consumer as a queue, an interest stream and a
//! consumer with a filter as a durable subscription.

use std::future::IntoFuture;
use std::sync::Arc;

use async_nats::jetstream::consumer::pull::{self, Stream};
use async_nats::jetstream::stream::RetentionPolicy;
use async_nats::jetstream::{self, Context, stream};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;
use futures::{FutureExt, StreamExt};
use mq_bridge::testkit::servers::{self, NatsVersion};
use mq_bridge::{Nats, NatsConfig};
use tokio::task::JoinHandle;

use crate::bridge::Bridge;
use crate::contender::{Consumer, Contender, Outcome, Pair};

pub(crate) async fn start() -> Outcome<Pair> {
    let server = servers::Nats::start(NatsVersion::Current).await?;
    let bridge = Bridge(Arc::new(Nats::open(NatsConfig::new(server.url())).await?));
    let context = jetstream::new(async_nats::connect(server.url()).await?);
    for (name, retention) in
        [("bare-queues", RetentionPolicy::WorkQueue), ("bare-topics", RetentionPolicy::Interest)]
    {
        let subjects = vec![format!("{name}.>")];
        let config = stream::Config {
            name: name.to_owned(),
            subjects,
            retention,
            ..stream::Config::default()
        };
        context.create_stream(config).await?;
    }
    Ok(Pair {
        bridge: Box::new(bridge),
        bare: Box::new(Bare { context }),
        _server: Box::new(server),
    })
}

struct Bare {
    context: Context,
}

fn consumer(name: &str, filter: String) -> pull::Config {
    pull::Config {
        durable_name: Some(name.to_owned()),
        filter_subject: filter,
        max_ack_pending: -1,
        ..pull::Config::default()
    }
}

#[async_trait]
impl Contender for Bare {
    async fn fresh_queue(&self, name: &str) -> Outcome {
        let queues = self.context.get_stream("bare-queues").await?;
        // There is none the first time.
        let _ = queues.delete_consumer(name).await;
        queues.purge().await?;
        queues.create_consumer(consumer(name, format!("bare-queues.{name}"))).await?;
        Ok(())
    }

    async fn publish(&self, queue: &str, body: Bytes) -> Outcome {
        self.context.publish(format!("bare-queues.{queue}"), body).await?.await?;
        Ok(())
    }

    async fn consume(&self, queue: &str, prefetch: usize) -> Outcome<Box<dyn Consumer>> {
        let queues = self.context.get_stream("bare-queues").await?;
        let consumer = queues.get_consumer::<pull::Config>(queue).await?;
        let messages = consumer.stream().max_messages_per_batch(prefetch).messages().await?;
        Ok(Box::new(BareConsumer { messages, prefetch, ack: None }))
    }

    async fn subscriptions(&self, count: usize) -> Outcome {
        let topics = self.context.get_stream("bare-topics").await?;
        for number in 0..count {
            let filter = format!("bare-topics.{number}");
            topics.create_consumer(consumer(&format!("bench-{number}"), filter)).await?;
        }
        Ok(())
    }

    async fn publish_to_all(&self, count: usize, body: Bytes) -> Outcome {
        let mut acks = Vec::with_capacity(count);
        for number in 0..count {
            let publish = self.context.publish(format!("bare-topics.{number}"), body.clone());
            acks.push(publish.await?.into_future());
        }
        try_join_all(acks).await?;
        Ok(())
    }
}

struct BareConsumer {
    messages: Stream,
    prefetch: usize,
    ack: Option<JoinHandle<Outcome>>,
}

#[async_trait]
impl Consumer for BareConsumer {
    async fn take(&mut self) -> Outcome<usize> {
        let first = self.messages.next().await.ok_or("the consumer has ended")??;
        let mut batch = vec![first];
        while batch.len() < self.prefetch
            && let Some(Some(next)) = self.messages.next().now_or_never()
        {
            batch.push(next?);
        }
        let count = batch.len();
        self.finish().await?;
        self.ack = Some(tokio::spawn(async move {
            let last = batch.pop();
            for message in batch {
                message.ack().await?;
            }
            // The server goes through them in order.
            match last {
                Some(last) => last.double_ack().await,
                None => Ok(()),
            }
        }));
        Ok(count)
    }

    async fn finish(&mut self) -> Outcome {
        match self.ack.take() {
            Some(ack) => ack.await?,
            None => Ok(()),
        }
    }
}
