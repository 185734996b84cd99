//! What the tests are made of.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use lapin::{Channel, Connection, ConnectionProperties};
use mq_bridge::testkit::servers;
use mq_bridge::{Broker, RabbitMq, RabbitMqConfig, Source, SubscribeOptions, Subscription};
use tokio::sync::Mutex;

pub(crate) use crate::remote_backend::steps::*;

/// A server that the tests share, each under names of its own.
#[derive(Clone)]
pub(crate) struct Server {
    server: Arc<servers::RabbitMq>,
    pub(crate) prefix: String,
}

impl Deref for Server {
    type Target = servers::RabbitMq;

    fn deref(&self) -> &servers::RabbitMq {
        &self.server
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        static SHARED: Mutex<Weak<servers::RabbitMq>> = Mutex::const_new(Weak::new());
        static TESTS: AtomicU32 = AtomicU32::new(0);
        let mut shared = SHARED.lock().await;
        let server = match shared.upgrade() {
            Some(server) => server,
            None => Arc::new(servers::RabbitMq::start().await.unwrap()),
        };
        *shared = Arc::downgrade(&server);
        Self { server, prefix: format!("test{}.", TESTS.fetch_add(1, Relaxed)) }
    }

    /// Nothing here is killed, so a queue need not wait until that would do no harm.
    pub(crate) fn config(&self, url: &str) -> RabbitMqConfig {
        RabbitMqConfig::new(url)
            .with_prefix(&*self.prefix)
            .with_topic_exchange(format!("{}topics", self.prefix))
            .with_new_quorum_delay(Duration::ZERO)
            .with_remote(patient())
    }

    pub(crate) async fn open(&self) -> RabbitMq {
        RabbitMq::open(self.config(&self.amqp_url())).await.unwrap()
    }

    /// What a queue is called for other programs.
    pub(crate) fn name(&self, name: &str) -> lapin::types::ShortString {
        format!("{}{name}", self.prefix).into()
    }

    /// A bare client, as another program has.
    pub(crate) async fn client(&self) -> Client {
        let properties = ConnectionProperties::default();
        let connection = Connection::connect(&self.amqp_url(), properties).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        Client { channel, _connection: connection }
    }
}

pub(crate) struct Client {
    channel: Channel,
    _connection: Connection,
}

impl Deref for Client {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.channel
    }
}

pub(crate) async fn consume(broker: &RabbitMq, source: Source) -> Subscription {
    broker.subscribe(source, SubscribeOptions::new()).await.unwrap()
}
