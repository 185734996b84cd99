//! What the tests are made of.

use std::future::Future;
use std::time::Duration;

use mq_bridge::testkit::servers::{self, NatsVersion};
use mq_bridge::{
    Broker, BrokerError, Confirm, Delivery, Message, Nats, NatsConfig, Publish, RemoteOptions,
    Source, SubscribeOptions, Subscription,
};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn config(url: &str) -> NatsConfig {
    let (min, max) = (Duration::from_millis(10), Duration::from_millis(200));
    NatsConfig::new(url)
        .with_options(RemoteOptions::new().with_backoff(min, max).with_patience(PATIENCE))
}

pub(crate) async fn start() -> servers::Nats {
    servers::Nats::start(NatsVersion::Current).await.unwrap()
}

pub(crate) async fn start_old() -> servers::Nats {
    servers::Nats::start(NatsVersion::Debian).await.unwrap()
}

pub(crate) async fn open(url: &str) -> Nats {
    Nats::open(config(url)).await.unwrap()
}

/// Asks the server.
pub(crate) async fn api(client: &async_nats::Client, call: &str, body: &str) -> Value {
    let subject = format!("$JS.API.{call}");
    let answer = client.request(subject, body.to_owned().into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

/// How many messages a stream keeps.
pub(crate) async fn kept(client: &async_nats::Client, stream: &str) -> u64 {
    let info = api(client, &format!("STREAM.INFO.{stream}"), "").await;
    info["state"]["messages"].as_u64().unwrap()
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

pub(crate) async fn send(broker: &Nats, queue: &str, texts: &[&str]) {
    for text in texts {
        let publish = Publish::to_queue(queue, Message::new((*text).to_owned()));
        confirmed(broker.publish(publish)).await.unwrap();
    }
}

pub(crate) async fn send_topic(broker: &Nats, topic: &str, text: &str) {
    let publish = Publish::to_topic(topic, Message::new(text.to_owned()));
    confirmed(broker.publish(publish)).await.unwrap();
}

pub(crate) async fn consume(broker: &Nats, source: Source, prefetch: u32) -> Subscription {
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

pub(crate) async fn depth(broker: &Nats, source: &Source) -> u64 {
    broker.stats(source).await.unwrap().depth
}
