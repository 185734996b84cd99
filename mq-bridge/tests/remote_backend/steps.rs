//! Steps that are the same for every backend.

use std::future::Future;
use std::time::Duration;

use mq_bridge::{
    Broker, BrokerError, Confirm, Delivery, Message, Publish, RemoteOptions, Source,
    SubscribeOptions, Subscription,
};
use tokio::time::{Instant, sleep, timeout};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Connects again at once, and waits as long as a busy machine takes.
pub(crate) fn patient() -> RemoteOptions {
    let (min, max) = (Duration::from_millis(10), Duration::from_millis(200));
    RemoteOptions::new().with_backoff(min, max).with_patience(PATIENCE)
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

pub(crate) async fn send(broker: &dyn Broker, queue: &str, texts: &[&str]) {
    for text in texts {
        let publish = Publish::to_queue(queue, Message::new((*text).to_owned()));
        confirmed(broker.publish(publish)).await.unwrap();
    }
}

pub(crate) async fn send_topic(broker: &dyn Broker, topic: &str, text: &str) {
    let publish = Publish::to_topic(topic, Message::new(text.to_owned()));
    confirmed(broker.publish(publish)).await.unwrap();
}

pub(crate) async fn consume(broker: &dyn Broker, source: Source, prefetch: u32) -> Subscription {
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

pub(crate) async fn depth(broker: &dyn Broker, source: &Source) -> u64 {
    broker.stats(source).await.unwrap().depth
}
