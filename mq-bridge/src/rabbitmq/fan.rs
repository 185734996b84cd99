//! What comes to this node as such: messages to topics, once for all who listen here, and words of
//! other nodes.

use std::sync::Arc;

use futures::StreamExt;
use lapin::options::{
    BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer, ExchangeKind};
use tokio::sync::mpsc;

use crate::BrokerError;
use crate::remote::Topics;

use super::control::Word;
use super::failure::{Lost, broker_error};
use super::names::Names;
use super::wire;

/// The queue of this node: gone with its connection.
pub(super) struct Fan {
    channel: Channel,
    names: Arc<Names>,
    queue: ShortString,
    lost: Lost,
}

impl Fan {
    /// Makes the exchanges and the queue. The consumer is for [`run`](Self::run).
    pub(super) async fn open(
        connection: &Connection,
        names: Arc<Names>,
        buffer_bytes: usize,
        lost: Lost,
    ) -> Result<(Self, Consumer), BrokerError> {
        let open = Self::declare(connection, &names, buffer_bytes).await;
        let (channel, queue, consumer) = open.map_err(|error| broker_error(&error))?;
        Ok((Self { channel, names, queue, lost }, consumer))
    }

    async fn declare(
        connection: &Connection,
        names: &Names,
        buffer_bytes: usize,
    ) -> lapin::Result<(Channel, ShortString, Consumer)> {
        let channel = connection.create_channel().await?;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let none = FieldTable::default;
        if !names.topics.as_str().starts_with("amq.") {
            let topics = names.topics.clone();
            channel.exchange_declare(topics, ExchangeKind::Topic, durable, none()).await?;
        }
        let control = names.control.clone();
        channel.exchange_declare(control, ExchangeKind::Fanout, durable, none()).await?;

        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        let bound = i64::try_from(buffer_bytes).unwrap_or(i64::MAX);
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(bound));
        arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
        let queue = channel.queue_declare(ShortString::default(), options, arguments).await?;
        let queue = queue.name().clone();
        let (control, key) = (names.control.clone(), ShortString::default());
        let bind = QueueBindOptions::default();
        channel.queue_bind(queue.clone(), control, key, bind, none()).await?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let name = ShortString::from("mq-topics");
        let consumer = channel.basic_consume(queue.clone(), name, options, none()).await?;
        Ok((channel, queue, consumer))
    }

    /// The name of the queue, by which other nodes reach this one.
    pub(super) const fn queue(&self) -> &ShortString {
        &self.queue
    }

    pub(super) async fn listen(&self, pattern: &str) -> Result<(), BrokerError> {
        let (queue, topics) = (self.queue.clone(), self.names.topics.clone());
        let (key, none) = (Names::key(pattern)?, FieldTable::default());
        let bound = self.channel.queue_bind(queue, topics, key, QueueBindOptions::default(), none);
        bound.await.map_err(|error| self.lost.fail(&error))
    }

    pub(super) async fn unlisten(&self, pattern: &str) -> Result<(), BrokerError> {
        let (queue, topics) = (self.queue.clone(), self.names.topics.clone());
        let (key, none) = (Names::key(pattern)?, FieldTable::default());
        let unbound = self.channel.queue_unbind(queue, topics, key, none);
        unbound.await.map_err(|error| self.lost.fail(&error))
    }
}

/// Hands over what comes until the link is lost.
pub(super) async fn run(
    mut consumer: Consumer,
    names: Arc<Names>,
    topics: Arc<Topics>,
    words: mpsc::UnboundedSender<Word>,
    lost: Lost,
) {
    loop {
        match consumer.next().await {
            Some(Ok(delivery)) if delivery.exchange == names.topics => {
                let decoded = wire::decode(delivery, &names);
                topics.deliver(&decoded.topics, &decoded.message, decoded.redelivered);
            }
            Some(Ok(delivery)) => {
                if let Some(word) = Word::read(&delivery.properties) {
                    // Nobody listens any more only when the link is gone.
                    let _ = words.send(word);
                }
            }
            Some(Err(error)) => {
                lost.fail(&error);
                return;
            }
            None => return lost.set("the broker has ended this node's topics"),
        }
    }
}
