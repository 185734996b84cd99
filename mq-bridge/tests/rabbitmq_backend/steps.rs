//! What the tests are made of.

use std::future::Future;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use lapin::{Channel, Connection, ConnectionProperties};
use mq_bridge::testkit::servers;
use mq_bridge::{
    Broker, BrokerError, Confirm, Delivery, Message, Publish, RabbitMq, RabbitMqConfig,
    RemoteOptions, Source, SubscribeOptions, Subscription,
};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

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
        let (min, max) = (Duration::from_millis(10), Duration::from_millis(200));
        RabbitMqConfig::new(url)
            .with_prefix(&*self.prefix)
            .with_topic_exchange(format!("{}topics", self.prefix))
            .with_new_quorum_delay(Duration::ZERO)
            .with_remote(RemoteOptions::new().with_backoff(min, max).with_patience(PATIENCE))
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

pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "still not: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn confirmed(confirm: Confirm) -> Result<(), BrokerError> {
    timeout(PATIENCE, confirm).await.expect("a confirmation neither came nor failed")
}

pub(crate) async fn send(broker: &RabbitMq, queue: &str, texts: &[&str]) {
    for text in texts {
        let publish = Publish::to_queue(queue, Message::new((*text).to_owned()));
        confirmed(broker.publish(publish)).await.unwrap();
    }
}

pub(crate) async fn consume(broker: &RabbitMq, source: Source) -> Subscription {
    broker.subscribe(source, SubscribeOptions::new()).await.unwrap()
}

pub(crate) async fn take(subscription: &mut Subscription, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        match timeout(PATIENCE, subscription.recv()).await {
            Ok(Some(batch)) => all.extend(batch),
            Ok(None) => panic!("it ended: {:?}", subscription.end_reason()),
            Err(_) => panic!("of {count} only {:?} came", texts(&all)),
        }
    }
    assert_eq!(all.len(), count, "{:?}", texts(&all));
    all
}

pub(crate) async fn ended(subscription: &mut Subscription) {
    let ending = async { while subscription.recv().await.is_some() {} };
    timeout(PATIENCE, ending).await.expect("it does not end");
}

pub(crate) async fn ack(subscription: &Subscription, deliveries: &[Delivery]) {
    let tags: Vec<u64> = deliveries.iter().map(|one| one.tag).collect();
    confirmed(subscription.acker().ack(&tags)).await.unwrap();
}

pub(crate) fn texts(deliveries: &[Delivery]) -> Vec<String> {
    let text = |one: &Delivery| String::from_utf8_lossy(&one.message.body).into_owned();
    deliveries.iter().map(text).collect()
}
