//! Several nodes over one server.

use mq_bridge::{
    Broker, BrokerError, Confirm, Declaration, EndReason, Message, Nack, Publish, Source,
    StompRelay, SubscribeOptions,
};

use crate::steps::{Program, confirmed, consume, open, send, start, tags, take, texts, until};

async fn publish(broker: &StompRelay, topic: &str, text: &str) {
    confirmed(broker.publish(Publish::to_topic(topic, Message::new(text.to_owned())))).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs activemq"]
async fn what_one_node_declares_routes_at_once_on_all_and_on_those_to_come() {
    let mut server = start().await;
    let (here, there) = (open(&server).await, open(&server).await);
    for round in 0..50 {
        let name = format!("d{round}");
        here.declare(&Declaration::durable(&*name, [&*format!("t.{round}")])).await.unwrap();
        publish(&there, &format!("t.{round}"), &name).await;
    }
    // Not from memory, but from what the broker keeps.
    drop(here);
    drop(there);
    mq_bridge::testkit::servers::TestServer::restart(&mut server).await.unwrap();
    let later = open(&server).await;
    publish(&later, "t.7", "later").await;
    for round in 0..50 {
        let source = Source::durable(format!("d{round}"));
        let depth = later.stats(&source).await.unwrap().depth;
        assert_eq!(depth, if round == 7 { 2 } else { 1 }, "{source}");
    }
    let missing = later.stats(&Source::durable("d50")).await;
    assert_eq!(missing, Err(BrokerError::not_declared(&Source::durable("d50"))));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs activemq"]
async fn declarations_of_two_nodes_at_once_add_up() {
    let server = start().await;
    let nodes = [open(&server).await, open(&server).await];
    for round in 0..20 {
        let name = format!("d{round}");
        let [one, two] = &nodes;
        let (a, b) = (Declaration::durable(&*name, ["a"]), Declaration::durable(&*name, ["b"]));
        let (a, b) = futures::join!(one.declare(&a), two.declare(&b));
        a.and(b).unwrap();
    }
    for (node, topic) in nodes.iter().zip(["b", "a"]) {
        publish(node, topic, topic).await;
    }
    for round in 0..20 {
        let source = Source::durable(format!("d{round}"));
        let mut consumer = consume(&nodes[0], source, 10, false).await;
        assert_eq!(texts(&take(&mut consumer, 2).await), ["b", "a"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs activemq"]
async fn what_is_deleted_and_declared_again_and_again_stays_small() {
    let server = start().await;
    let broker = open(&server).await;
    for round in 0..30 {
        let patterns = [format!("t.{round}"), "u".to_owned()];
        broker
            .declare(&Declaration::durable("d", patterns.iter().map(String::as_str)))
            .await
            .unwrap();
        publish(&broker, "u", "x").await;
        if round % 3 == 2 {
            broker.delete(&Source::durable("d")).await.unwrap();
        }
    }
    let later = open(&server).await;
    let gone = later.subscribe(Source::durable("d"), SubscribeOptions::new()).await;
    assert!(matches!(gone, Err(BrokerError::NotDeclared { .. })), "{gone:?}");
    let found = Program::connect(&server).browse("/queue/mq-bridge.registry.115");
    assert_eq!(found, 0, "entries are left");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs activemq"]
async fn what_one_node_refuses_another_gets_marked() {
    let server = start().await;
    let (here, there) = (open(&server).await, open(&server).await);
    here.declare(&Declaration::queue("q")).await.unwrap();
    let mut first = consume(&here, Source::queue("q"), 10, false).await;
    send(&here, "q", &["refused", "kept"]).await;
    let taken = take(&mut first, 2).await;
    let mut second = consume(&there, Source::queue("q"), 10, false).await;
    let mut refused = tags(&taken[..1]);
    // The broker offers it to one after the other.
    for _ in 0..50 {
        confirmed(first.acker().nack(&refused, Nack::Requeue)).await;
        let (again, elsewhere) = tokio::select! {
            again = take(&mut first, 1) => (again, false),
            again = take(&mut second, 1) => (again, true),
        };
        assert!(again[0].redelivered && texts(&again) == ["refused"]);
        if elsewhere {
            // What was not refused is still the consumer's.
            confirmed(first.acker().ack(&tags(&taken[1..]))).await;
            confirmed(second.acker().ack(&tags(&again))).await;
            let left = there.stats(&Source::queue("q")).await.unwrap();
            return assert_eq!((left.depth, left.unacked), (0, 0));
        }
        refused = tags(&again);
    }
    panic!("another node never got it");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs activemq"]
async fn of_many_that_take_over_the_last_one_stays_alone() {
    const COUNT: usize = 100;
    let server = start().await;
    let nodes = [open(&server).await, open(&server).await, open(&server).await];
    nodes[0].declare(&Declaration::durable("d", ["t"])).await.unwrap();
    let source = Source::durable("d");
    // One that does not take over goes as well.
    let mut older = vec![consume(&nodes[2], source.clone(), 10, false).await];
    for round in 0..10 {
        let broker = &nodes[round % nodes.len()];
        let newest = consume(broker, source.clone(), 10, true).await;
        for one in &mut older {
            while one.recv().await.is_some() {}
            assert_eq!(one.end_reason(), Some(EndReason::TakenOver));
        }
        older = vec![newest];
    }
    until("one consumer is left", async || nodes[1].stats(&source).await.unwrap().consumers == 1)
        .await;
    let texts: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
    let publishing =
        |text: &String| nodes[0].publish(Publish::to_topic("t", Message::new(text.clone())));
    confirmed(Confirm::all(texts.iter().map(publishing).collect())).await;
    let mut seen = Vec::new();
    while seen.len() < COUNT {
        let taken = take(&mut older[0], 1).await;
        confirmed(older[0].acker().ack(&tags(&taken))).await;
        seen.extend(taken.iter().map(|one| String::from_utf8(one.message.body.to_vec()).unwrap()));
    }
    assert_eq!(seen, texts);
}
