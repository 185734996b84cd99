//! One message to very many topics.

use mq_bridge::{
    Broker, Declaration, Message, Overflow, Publish, Source, SubscribeOptions, Target,
};

use crate::steps::{ack, confirmed, consume, depth, open, start, take, texts};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn a_message_to_a_thousand_inboxes_comes_once_to_each_and_to_who_hears_all() {
    const COUNT: usize = 1000;
    let server = start().await;
    let broker = open(&server.url()).await;
    let unbounded = SubscribeOptions::new().with_buffer(usize::MAX, Overflow::Disconnect);
    let mut live = broker.subscribe(Source::topic("inbox.*"), unbounded).await.unwrap();
    broker.declare(&Declaration::durable("audit", ["#"])).await.unwrap();
    let mut audit = consume(&broker, Source::durable("audit"), 100).await;
    let mut inboxes = Vec::new();
    for index in [0, 1, 500, COUNT - 1] {
        let name = format!("inbox.{index}.phone");
        let patterns = [format!("inbox.{index}"), format!("device.{index}.phone")];
        broker.declare(&Declaration::durable(&*name, patterns)).await.unwrap();
        inboxes.push(Source::durable(name));
    }
    for text in ["one", "two"] {
        let targets = (0..COUNT).map(|index| Target::topic(format!("inbox.{index}"))).collect();
        confirmed(broker.publish(Publish::new(targets, Message::new(text)))).await.unwrap();
    }
    for inbox in inboxes {
        assert_eq!(depth(&broker, &inbox).await, 2);
        let mut consumer = consume(&broker, inbox, 10).await;
        let taken = take(&mut consumer, 2).await;
        assert_eq!(texts(&taken), ["one", "two"]);
        assert!(taken.iter().all(|one| !one.redelivered));
        ack(&consumer, &taken).await;
    }
    for hears_all in [&mut live, &mut audit] {
        let taken = take(hears_all, 2).await;
        assert_eq!(texts(&taken), ["one", "two"]);
        assert!(taken.iter().all(|one| !one.redelivered));
        assert!(taken.iter().all(|one| one.target == Target::topic("inbox.0")));
        ack(hears_all, &taken).await;
    }
    confirmed(broker.publish(Publish::to_topic("inbox.7", Message::new("three")))).await.unwrap();
    assert_eq!(texts(&take(&mut audit, 1).await), ["three"]);
    assert_eq!(texts(&take(&mut live, 1).await), ["three"]);
}
