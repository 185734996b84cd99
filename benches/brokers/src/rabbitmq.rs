//! RabbitMQ: durable queues, publisher confirms, several deliveries acknowledged at once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ChannelFlowOptions,
    ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldArray, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use mq_bridge::testkit::servers;
use mq_bridge::{QueueType, RabbitMq, RabbitMqConfig};

use crate::bridge::Bridge;
use crate::contender::{Consumer, Contender, Outcome, Pair};

const TOPICS: &str = "amq.topic";

pub(crate) async fn start(kind: QueueType) -> Outcome<Pair> {
    let server = servers::RabbitMq::start().await?;
    let config = RabbitMqConfig::new(server.amqp_url())
        .with_queue_type(kind)
        // Nothing is killed here.
        .with_new_quorum_delay(Duration::ZERO);
    let bridge = Bridge(Arc::new(RabbitMq::open(config.with_prefix("bridge.")).await?));
    let url = server.amqp_url();
    let connect = || Connection::connect(&url, ConnectionProperties::default());
    let (publishing, consuming) = (connect().await?, connect().await?);
    let publisher = publishing.create_channel().await?;
    publisher.confirm_select(ConfirmSelectOptions::default()).await?;
    let control = consuming.create_channel().await?;
    let bare = Bare { kind, publisher, control, _publishing: publishing, consuming };
    Ok(Pair { bridge: Box::new(bridge), bare: Box::new(bare), _server: Box::new(server) })
}

struct Bare {
    kind: QueueType,
    publisher: Channel,
    control: Channel,
    _publishing: Connection,
    consuming: Connection,
}

impl Bare {
    async fn send(
        &self,
        exchange: &str,
        key: &str,
        headers: FieldTable,
        body: &[u8],
    ) -> lapin::Result<()> {
        let properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let (exchange, key) = (exchange.into(), key.into());
        let sent = self.publisher.basic_publish(exchange, key, options, body, properties).await?;
        sent.await.map(drop)
    }
}

#[async_trait]
impl Contender for Bare {
    async fn fresh_queue(&self, name: &str) -> Outcome {
        let name = ShortString::from(name);
        self.control.queue_delete(name.clone(), QueueDeleteOptions::default()).await?;
        let mut arguments = FieldTable::default();
        if self.kind == QueueType::Quorum {
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        }
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.control.queue_declare(name, options, arguments).await?;
        Ok(())
    }

    async fn publish(&self, queue: &str, body: Bytes) -> Outcome {
        Ok(self.send("", queue, FieldTable::default(), &body).await?)
    }

    async fn consume(&self, queue: &str, prefetch: usize) -> Outcome<Box<dyn Consumer>> {
        let channel = self.consuming.create_channel().await?;
        channel.basic_qos(u16::try_from(prefetch)?, BasicQosOptions::default()).await?;
        let (queue, tag) = (queue.into(), ShortString::from("bench"));
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(queue, tag, options, FieldTable::default()).await?;
        Ok(Box::new(BareConsumer { consumer, channel }))
    }

    async fn subscriptions(&self, count: usize) -> Outcome {
        for number in 0..count {
            let name = format!("bench.{number}");
            self.fresh_queue(&name).await?;
            let (queue, key) = (name.as_str().into(), name.as_str().into());
            let (options, none) = (QueueBindOptions::default(), FieldTable::default());
            self.control.queue_bind(queue, TOPICS.into(), key, options, none).await?;
        }
        Ok(())
    }

    async fn publish_to_all(&self, count: usize, body: Bytes) -> Outcome {
        let others = (1..count).map(|number| format!("bench.{number}"));
        let others: Vec<_> = others.map(|name| AMQPValue::LongString(name.into())).collect();
        let mut headers = FieldTable::default();
        headers.insert("CC".into(), AMQPValue::FieldArray(FieldArray::from(others)));
        Ok(self.send(TOPICS, "bench.0", headers, &body).await?)
    }
}

struct BareConsumer {
    consumer: lapin::Consumer,
    channel: Channel,
}

#[async_trait]
impl Consumer for BareConsumer {
    async fn take(&mut self) -> Outcome<usize> {
        let mut last = self.consumer.next().await.ok_or("the consumer has ended")??;
        let mut count = 1;
        while let Some(Some(next)) = self.consumer.next().now_or_never() {
            last = next?;
            count += 1;
        }
        let options = BasicAckOptions { multiple: true };
        self.channel.basic_ack(last.delivery_tag, options).await?;
        Ok(count)
    }

    async fn finish(&mut self) -> Outcome {
        // The broker does this after all that came before.
        self.channel.channel_flow(ChannelFlowOptions { active: true }).await?;
        Ok(())
    }
}
