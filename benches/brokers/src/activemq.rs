//! ActiveMQ through the STOMP relay beside a plain STOMP client: persistent messages with receipts, `ack:client`, and
//! durable subscriptions of one client id.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;
use mq_bridge::testkit::servers::ActiveMq;
use mq_bridge::{StompRelay, StompRelayConfig};
use stomp_codec::server::AckMode;
use stomp_ws::client::{Client, ConnectOptions, PendingReceipt, Subscription};

use crate::bridge::Bridge;
use crate::contender::{Consumer, Contender, Outcome, Pair};

pub(crate) async fn start() -> Outcome<Pair> {
    let server = ActiveMq::start_to_measure().await?;
    let url = format!("stomp://{}", server.stomp_addr());
    let bridge = StompRelay::open(StompRelayConfig::new(&url)).await?;
    let client = Client::connect(&url, ConnectOptions::new()).await?;
    let bare = Bare { client, url, queues: AtomicUsize::new(0) };
    Ok(Pair {
        bridge: Box::new(Bridge(Arc::new(bridge))),
        bare: Box::new(bare),
        _server: Box::new(server),
    })
}

struct Bare {
    client: Client,
    url: String,
    /// How many queues were made: nothing in STOMP empties one.
    queues: AtomicUsize,
}

impl Bare {
    fn queue(&self, name: &str) -> String {
        format!("/queue/bare.{name}.{}", self.queues.load(Relaxed))
    }

    async fn send(&self, destination: &str, body: Bytes) -> Outcome<PendingReceipt> {
        Ok(self.client.send(destination, body).header("persistent", "true").receipt().await?)
    }
}

#[async_trait]
impl Contender for Bare {
    async fn fresh_queue(&self, _: &str) -> Outcome {
        self.queues.fetch_add(1, Relaxed);
        Ok(())
    }

    async fn publish(&self, queue: &str, body: Bytes) -> Outcome {
        self.send(&self.queue(queue), body).await?.await?;
        Ok(())
    }

    async fn consume(&self, queue: &str, prefetch: usize) -> Outcome<Box<dyn Consumer>> {
        let (queue, prefetch) = (self.queue(queue), prefetch.to_string());
        let subscribe = self.client.subscribe(&queue).ack(AckMode::Client);
        let subscribe = subscribe.header("activemq.prefetchSize", &prefetch);
        let (subscription, _) = subscribe.confirmed().await?;
        Ok(Box::new(BareConsumer { client: self.client.clone(), subscription, ack: None }))
    }

    async fn subscriptions(&self, count: usize) -> Outcome {
        let options = ConnectOptions::new().header("client-id", "bare");
        let client = Client::connect(&self.url, options).await?;
        for number in 0..count {
            let (topic, name) = (format!("/topic/bare.{number}"), format!("bare-{number}"));
            let subscribe = client.subscribe(&topic).header("activemq.subscriptionName", &name);
            subscribe.confirmed().await?;
        }
        client.disconnect().await;
        Ok(())
    }

    async fn publish_to_all(&self, count: usize, body: Bytes) -> Outcome {
        let mut receipts = Vec::with_capacity(count);
        for number in 0..count {
            receipts.push(self.send(&format!("/topic/bare.{number}"), body.clone()).await?);
        }
        try_join_all(receipts).await?;
        Ok(())
    }
}

struct BareConsumer {
    client: Client,
    subscription: Subscription,
    ack: Option<PendingReceipt>,
}

#[async_trait]
impl Consumer for BareConsumer {
    async fn take(&mut self) -> Outcome<usize> {
        let mut last = self.subscription.recv().await?;
        let mut count = 1;
        while let Some(next) = self.subscription.try_recv() {
            last = next;
            count += 1;
        }
        // It is for all before it too, and so is its receipt.
        self.ack = Some(self.client.ack(&last).receipt().await?);
        Ok(count)
    }

    async fn finish(&mut self) -> Outcome {
        if let Some(ack) = self.ack.take() {
            ack.await?;
        }
        Ok(())
    }
}
