//! What the tests are made of.

use std::future::Future;
use std::time::Duration;

use mq_bridge::testkit::servers;
use mq_bridge::{
    Broker, BrokerError, Confirm, Delivery, Message, Publish, Redis, RedisConfig, RemoteOptions,
    Source, SubscribeOptions, Subscription,
};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, cmd};
use tokio::time::{Instant, sleep, timeout};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn config(url: &str) -> RedisConfig {
    let (min, max) = (Duration::from_millis(10), Duration::from_millis(200));
    RedisConfig::new(url)
        .with_options(RemoteOptions::new().with_backoff(min, max).with_patience(PATIENCE))
        .with_response_timeout(PATIENCE)
}

/// For tests where a node dies: soon enough to be waited for, long enough for a busy machine.
pub(crate) fn short_lived(url: &str) -> RedisConfig {
    config(url).with_lease(Duration::from_secs(3))
}

pub(crate) async fn start() -> servers::Redis {
    servers::Redis::start().await.unwrap()
}

pub(crate) async fn open(url: &str) -> Redis {
    Redis::open(config(url)).await.unwrap()
}

/// A bare client, as another program has.
pub(crate) async fn client(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).unwrap();
    let patient = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    client.get_multiplexed_async_connection_with_config(&patient).await.unwrap()
}

pub(crate) async fn run<T: FromRedisValue>(client: &mut MultiplexedConnection, command: &str) -> T {
    let mut words = command.split(' ');
    let mut call = cmd(words.next().unwrap());
    words.for_each(|word| {
        call.arg(word);
    });
    call.query_async(client).await.unwrap()
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

pub(crate) async fn send(broker: &Redis, queue: &str, texts: &[&str]) {
    for text in texts {
        let publish = Publish::to_queue(queue, Message::new((*text).to_owned()));
        confirmed(broker.publish(publish)).await.unwrap();
    }
}

pub(crate) async fn send_topic(broker: &Redis, topic: &str, text: &str) {
    let publish = Publish::to_topic(topic, Message::new(text.to_owned()));
    confirmed(broker.publish(publish)).await.unwrap();
}

pub(crate) async fn consume(broker: &Redis, source: Source, prefetch: u32) -> Subscription {
    let options = SubscribeOptions::new().with_prefetch(prefetch, usize::MAX);
    broker.subscribe(source, options).await.unwrap()
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
    confirmed(subscription.acker().ack(&tags(deliveries))).await.unwrap();
}

pub(crate) fn tags(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|one| one.tag).collect()
}

pub(crate) fn texts(deliveries: &[Delivery]) -> Vec<String> {
    let text = |one: &Delivery| String::from_utf8_lossy(&one.message.body).into_owned();
    deliveries.iter().map(text).collect()
}

pub(crate) async fn depth(broker: &Redis, source: &Source) -> u64 {
    broker.stats(source).await.unwrap().depth
}
