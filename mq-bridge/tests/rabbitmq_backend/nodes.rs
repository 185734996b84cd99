//! Nodes that are cut off.

use std::time::Duration;

use mq_bridge::{
    Broker, Declaration, EndReason, Message, Publish, QueueType, RabbitMq, Source,
    SubscribeOptions, Subscription,
};

use crate::proxy::{Proxy, Way};
use crate::steps::{Server, ack, confirmed, ended, take, texts, until};

async fn take_over(broker: &RabbitMq) -> Subscription {
    let options = SubscribeOptions::new().with_takeover(true);
    broker.subscribe(Source::durable("d"), options).await.unwrap()
}

async fn publish(broker: &RabbitMq, texts: &[&str]) {
    for text in texts {
        let publish = Publish::to_topic("t", Message::new((*text).to_owned()));
        confirmed(broker.publish(publish)).await.unwrap();
    }
}

/// A node that nobody hears of any more, and one that takes over from it once the broker has missed
/// its heart-beats.
async fn cut_off() -> (Server, Proxy, RabbitMq, Subscription, RabbitMq, Subscription) {
    let server = Server::start().await;
    let proxy = Proxy::to(&server.amqp_url()).await;
    let config = server.config(&proxy.url()).with_heartbeat(Duration::from_secs(1));
    let lonely = RabbitMq::open(config).await.unwrap();
    let other = server.open().await;
    lonely.declare(&Declaration::durable("d", ["t"])).await.unwrap();
    publish(&other, &["1", "2", "3"]).await;
    let mut older = take_over(&lonely).await;
    let taken = take(&mut older, 3).await;
    ack(&older, &taken[..1]).await;
    proxy.set(Way::Cut);
    let mut newer = take_over(&other).await;
    publish(&other, &["4"]).await;
    let taken = take(&mut newer, 3).await;
    assert_eq!(texts(&taken), ["2", "3", "4"]);
    let marks: Vec<_> = taken.iter().map(|one| (one.redelivered, one.delivery_count)).collect();
    assert_eq!(marks, [(true, 2), (true, 2), (false, 1)]);
    ack(&newer, &taken).await;
    (server, proxy, lonely, older, other, newer)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn a_node_that_comes_back_does_not_take_back_what_another_has_taken_over() {
    let (_server, proxy, lonely, mut older, other, mut newer) = cut_off().await;
    proxy.set(Way::Open);
    ended(&mut older).await;
    assert_eq!(older.end_reason(), Some(EndReason::TakenOver));
    until("it is connected again", async || lonely.health().is_up()).await;
    publish(&lonely, &["5"]).await;
    assert_eq!(texts(&take(&mut newer, 1).await), ["5"]);
    assert_eq!(newer.end_reason(), None);
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn a_node_that_comes_back_goes_on_once_the_other_is_gone() {
    let (_server, proxy, _lonely, mut older, other, newer) = cut_off().await;
    drop(newer);
    until("the newer consumer is gone", async || {
        other.stats(&Source::durable("d")).await.unwrap().consumers == 0
    })
    .await;
    proxy.set(Way::Open);
    publish(&other, &["5"]).await;
    assert_eq!(texts(&take(&mut older, 1).await), ["5"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn of_nodes_that_take_over_at_once_one_stays() {
    const NODES: usize = 5;
    let server = Server::start().await;
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(server.open().await);
    }
    nodes[0].declare(&Declaration::durable("d", ["t"])).await.unwrap();
    for round in 0..5 {
        let taking = nodes.iter().map(take_over);
        let mut consumers = futures::future::join_all(taking).await;
        let source = Source::durable("d");
        until("one consumer is left", async || {
            let living = consumers.iter().filter(|one| one.end_reason().is_none()).count();
            living == 1 && nodes[0].stats(&source).await.unwrap().consumers == 1
        })
        .await;
        let text = round.to_string();
        publish(&nodes[0], &[&*text]).await;
        consumers.retain(|one| one.end_reason().is_none());
        assert_eq!(consumers.len(), 1, "several go on");
        let taken = take(&mut consumers[0], 1).await;
        assert_eq!(texts(&taken), [text]);
        ack(&consumers[0], &taken).await;
    }
}

/// The older one leaves a little before, while, or after the newer one comes.
async fn who_takes_over_while_the_other_leaves_gets_all_in_order(kind: QueueType) {
    const MESSAGES: usize = 100;
    const PREFETCH: u32 = 50;
    let server = Server::start().await;
    let config = server.config(&server.amqp_url()).with_queue_type(kind);
    let nodes =
        [RabbitMq::open(config.clone()).await.unwrap(), RabbitMq::open(config).await.unwrap()];
    nodes[0].declare(&Declaration::durable("d", ["t"])).await.unwrap();
    let sent: Vec<_> = (0..MESSAGES).map(|number| number.to_string()).collect();
    publish(&nodes[0], &sent.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let options = SubscribeOptions::new().with_takeover(true).with_prefetch(PREFETCH, usize::MAX);
    let take_over =
        async |node: usize| nodes[node % 2].subscribe(Source::durable("d"), options).await.unwrap();
    let mut subscription = take_over(0).await;
    for round in 1..=20 {
        let taken = take(&mut subscription, PREFETCH as usize).await;
        assert_eq!(texts(&taken), sent[..PREFETCH as usize], "round {round}");
        drop(subscription);
        for _ in 0..(round * 7) % 40 {
            tokio::task::yield_now().await;
        }
        subscription = take_over(round).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn who_takes_a_quorum_queue_over_while_the_other_leaves_gets_all_in_order() {
    who_takes_over_while_the_other_leaves_gets_all_in_order(QueueType::Quorum).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn who_takes_a_classic_queue_over_while_the_other_leaves_gets_all_in_order() {
    who_takes_over_while_the_other_leaves_gets_all_in_order(QueueType::Classic).await;
}
