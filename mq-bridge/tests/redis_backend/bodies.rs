//! A large body that goes to many is stored once, and goes with the last of them.

use std::time::Duration;

use mq_bridge::{
    Broker, Declaration, Delivery, Headers, Message, Nack, Publish, Redis, Source, Target,
};
use redis::aio::MultiplexedConnection;

use crate::steps::{
    ack, client, config, confirmed, consume, depth, open, run, start, tags, take, until,
};

const COUNT: usize = 20;

async fn bodies(bare: &mut MultiplexedConnection) -> usize {
    run::<Vec<String>>(bare, "KEYS {mq}:b:*").await.len()
}

fn name(number: usize) -> String {
    format!("d{number}")
}

fn message() -> Message {
    let body: Vec<u8> = (0..5000_u32).map(|octet| (octet % 251) as u8).collect();
    let headers: Headers = [("kind", "large"), ("mq-shared", "1 x")].into_iter().collect();
    Message::new(body).with_headers(headers)
}

/// Publishes the message to many durable subscriptions and a queue.
async fn publish(broker: &Redis) {
    broker.declare(&Declaration::queue("q")).await.unwrap();
    for number in 0..COUNT {
        broker.declare(&Declaration::durable(name(number), [name(number)])).await.unwrap();
    }
    let topics = (0..COUNT).map(|number| Target::topic(name(number)));
    let targets = topics.chain([Target::queue("q")]).collect();
    confirmed(broker.publish(Publish::new(targets, message()))).await.unwrap();
}

async fn next(broker: &Redis, source: Source) -> (mq_bridge::Subscription, Vec<Delivery>) {
    let mut consumer = consume(broker, source, 10).await;
    let deliveries = take(&mut consumer, 1).await;
    assert_eq!(deliveries[0].message, message());
    (consumer, deliveries)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn it_is_there_until_the_last_has_acknowledged_it() {
    let server = start().await;
    let mut bare = client(&server.url()).await;
    let broker = open(&server.url()).await;
    publish(&broker).await;
    assert_eq!(bodies(&mut bare).await, 1);
    let (consumer, deliveries) = next(&broker, Source::queue("q")).await;
    confirmed(consumer.acker().nack(&tags(&deliveries), Nack::Requeue)).await.unwrap();
    drop(consumer);
    let (consumer, deliveries) = next(&broker, Source::queue("q")).await;
    assert!(deliveries[0].redelivered);
    ack(&consumer, &deliveries).await;
    for number in 0..COUNT {
        assert_eq!(bodies(&mut bare).await, 1);
        let (consumer, deliveries) = next(&broker, Source::durable(name(number))).await;
        assert_eq!(deliveries[0].target, Target::topic(name(number)));
        // Twice counts once.
        ack(&consumer, &deliveries).await;
        ack(&consumer, &deliveries).await;
    }
    assert_eq!(bodies(&mut bare).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn who_is_deleted_holds_it_no_longer() {
    let server = start().await;
    let mut bare = client(&server.url()).await;
    let often = config(&server.url()).with_poll_interval(Duration::from_millis(50));
    let broker = Redis::open(often).await.unwrap();
    publish(&broker).await;
    publish(&broker).await;
    for number in 0..COUNT {
        broker.delete(&Source::durable(name(number))).await.unwrap();
    }
    assert_eq!(bodies(&mut bare).await, 2);
    broker.delete(&Source::queue("q")).await.unwrap();
    // It happens in the background.
    until("nothing is left", || {
        let mut bare = bare.clone();
        async move { bodies(&mut bare).await == 0 }
    })
    .await;
    let trash: u64 = run(&mut bare, "EXISTS {mq}:trash {mq}:sharing").await;
    assert_eq!(trash, 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_message_whose_body_somebody_has_removed_is_gone_and_no_other() {
    let server = start().await;
    let mut bare = client(&server.url()).await;
    let broker = open(&server.url()).await;
    publish(&broker).await;
    let removed: Vec<String> = run(&mut bare, "KEYS {mq}:b:*").await;
    run::<()>(&mut bare, &format!("DEL {}", removed[0])).await;
    publish(&broker).await;
    let (consumer, deliveries) = next(&broker, Source::queue("q")).await;
    ack(&consumer, &deliveries).await;
    assert_eq!(depth(&broker, &Source::queue("q")).await, 0);
}
