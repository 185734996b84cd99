//! Two nodes over one server.

use std::time::Duration;

use mq_bridge::{Broker, Declaration, EndReason, Message, Nack, Nats, Publish, Source, Target};

use crate::remote_backend::nodes::{self, takeover};
use crate::remote_backend::proxy::{Proxy, Way};
use crate::steps::{
    ack, config, confirmed, consume, depth, ended, open, send, send_topic, start, start_old, tags,
    take, texts, until,
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn a_topic_reaches_both_nodes_and_each_subscriber_once() {
    let server = start().await;
    let (a, b) = (open(&server.url()).await, open(&server.url()).await);
    nodes::a_topic_reaches_both_nodes_and_each_subscriber_once(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn two_nodes_that_declare_at_once_both_get_their_patterns() {
    let server = start().await;
    let (a, b) = (open(&server.url()).await, open(&server.url()).await);
    for round in 0..20 {
        let name = format!("d{round}");
        let there = Declaration::durable(&*name, ["x", "y.*"]);
        let here = Declaration::durable(&*name, ["*.z", "x"]);
        let (one, other) = tokio::join!(a.declare(&there), b.declare(&here));
        one.unwrap();
        other.unwrap();
        for topic in ["x", "y.1", "y.z", "q.z"] {
            send_topic(&b, topic, topic).await;
        }
        let mut consumer = consume(&a, Source::durable(&*name), 10).await;
        let taken = take(&mut consumer, 4).await;
        assert_eq!(texts(&taken), ["x", "y.1", "y.z", "q.z"], "in round {round}");
        ack(&consumer, &taken).await;
        a.delete(&Source::durable(&*name)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn a_pattern_that_another_node_declares_counts_from_then_on_for_a_consumer_here() {
    for server in [start().await, start_old().await] {
        let (a, b) = (open(&server.url()).await, open(&server.url()).await);
        a.declare(&Declaration::durable("d", ["x"])).await.unwrap();
        // Somebody keeps what the other one does not want.
        a.declare(&Declaration::durable("all", ["#"])).await.unwrap();
        let mut consumer = consume(&a, Source::durable("d"), 10).await;
        for round in 0..10 {
            let topic = format!("y.{round}");
            send_topic(&b, &topic, "before").await;
            b.declare(&Declaration::durable("d", [&*topic])).await.unwrap();
            send_topic(&b, &topic, "after").await;
            send_topic(&b, "x", "always").await;
            let taken = take(&mut consumer, 2).await;
            assert_eq!(texts(&taken), ["after", "always"], "in round {round}");
            ack(&consumer, &taken).await;
        }
        assert_eq!(depth(&a, &Source::durable("d")).await, 0);
        assert_eq!(depth(&a, &Source::durable("all")).await, 30);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn of_those_who_take_over_at_once_one_stays() {
    let server = start().await;
    let nodes = [open(&server.url()).await, open(&server.url()).await, open(&server.url()).await];
    nodes[0].declare(&Declaration::durable("d", ["t"])).await.unwrap();
    for round in 0..10 {
        let subscribing = nodes.iter().map(|node| node.subscribe(Source::durable("d"), takeover()));
        let mut consumers: Vec<_> =
            futures::future::join_all(subscribing).await.into_iter().map(Result::unwrap).collect();
        until("one is left", || async {
            consumers.iter().filter(|one| one.end_reason().is_none()).count() == 1
        })
        .await;
        send_topic(&nodes[1], "t", "for the one").await;
        let (gone, mut left): (Vec<_>, Vec<_>) =
            consumers.drain(..).partition(|one| one.end_reason().is_some());
        assert!(gone.iter().all(|one| one.end_reason() == Some(EndReason::TakenOver)));
        let taken = take(&mut left[0], 1).await;
        assert!(!taken[0].redelivered, "in round {round}");
        ack(&left[0], &taken).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn who_was_cut_off_does_not_take_back_what_was_taken_over() {
    let server = start().await;
    let proxy = Proxy::to(&server.url()).await;
    let (a, b) = (open(&proxy.url()).await, open(&server.url()).await);
    nodes::who_was_cut_off_does_not_take_back_what_was_taken_over(&a, &b, &proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn a_takeover_does_not_wait_for_a_node_that_hangs_and_keeps_the_order() {
    for server in [start().await, start_old().await] {
        let proxy = Proxy::to(&server.url()).await;
        let patient = |url: &str| config(url).with_ack_wait(Duration::from_secs(600));
        let a = Nats::open(patient(&proxy.url())).await.unwrap();
        let b = Nats::open(patient(&server.url())).await.unwrap();
        a.declare(&Declaration::durable("d", ["t.*"])).await.unwrap();
        for text in ["0", "1", "2", "3"] {
            send_topic(&b, &format!("t.{text}"), text).await;
        }
        let mut older = a.subscribe(Source::durable("d"), takeover()).await.unwrap();
        let held = take(&mut older, 4).await;
        ack(&older, &held[1..2]).await;
        proxy.set(Way::Stuck);
        let mut newer = b.subscribe(Source::durable("d"), takeover()).await.unwrap();
        send_topic(&b, "t.4", "4").await;
        let seen = take(&mut newer, 4).await;
        assert_eq!(texts(&seen), ["0", "2", "3", "4"]);
        let counts: Vec<u32> = seen.iter().map(|one| one.delivery_count).collect();
        // The last one too may have been on its way to the node that hangs.
        assert_eq!(counts[..3], [2, 2, 2]);
        proxy.set(Way::Open);
        ended(&mut older).await;
        assert_eq!(older.end_reason(), Some(EndReason::TakenOver));
        ack(&newer, &seen).await;
        assert_eq!(depth(&b, &Source::durable("d")).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn what_a_dead_node_held_comes_to_the_others_marked() {
    let server = start().await;
    let proxy = Proxy::to(&server.url()).await;
    let quick = |url: &str| config(url).with_ack_wait(Duration::from_secs(2));
    let a = Nats::open(quick(&proxy.url())).await.unwrap();
    let b = Nats::open(quick(&server.url())).await.unwrap();
    b.declare(&Declaration::queue("q")).await.unwrap();
    send(&b, "q", &["0", "1", "2"]).await;
    let mut on_a = consume(&a, Source::queue("q"), 3).await;
    let held = take(&mut on_a, 3).await;
    ack(&on_a, &held[1..2]).await;
    let mut on_b = consume(&b, Source::queue("q"), 10).await;
    proxy.set(Way::Cut);
    let inherited = take(&mut on_b, 2).await;
    // Each comes when its own time is over.
    let mut seen = texts(&inherited);
    seen.sort();
    assert_eq!(seen, ["0", "2"]);
    assert!(inherited.iter().all(|one| one.redelivered && one.delivery_count >= 2));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn what_a_living_node_holds_stays_with_it_however_long() {
    let server = start().await;
    let quick = config(&server.url()).with_ack_wait(Duration::from_secs(1));
    let (a, b) = (Nats::open(quick.clone()).await.unwrap(), Nats::open(quick).await.unwrap());
    a.declare(&Declaration::queue("q")).await.unwrap();
    send(&a, "q", &["0", "1"]).await;
    let mut on_a = consume(&a, Source::queue("q"), 2).await;
    let held = take(&mut on_a, 2).await;
    let mut on_b = consume(&b, Source::queue("q"), 2).await;
    // Three times as long as the server waits for a sign of life.
    let waiting = tokio::time::timeout(Duration::from_secs(3), on_b.recv()).await;
    assert!(waiting.is_err(), "{waiting:?}");
    ack(&on_a, &held).await;
    assert_eq!(depth(&b, &Source::queue("q")).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn what_is_changed_on_one_node_is_so_on_the_other() {
    let server = start().await;
    let (a, b) = (open(&server.url()).await, open(&server.url()).await);
    a.declare(&Declaration::queue("q")).await.unwrap();
    let mut consumer = consume(&b, Source::queue("q"), 1).await;
    let strict = Declaration::queue("q").with_max_deliveries(1).with_dead_letter("dead");
    a.declare(&strict).await.unwrap();
    send(&a, "q", &["poison"]).await;
    let taken = take(&mut consumer, 1).await;
    confirmed(consumer.acker().nack(&tags(&taken), Nack::Requeue)).await.unwrap();
    let dead = Source::queue("dead");
    // It is the reader's poll that finds it.
    let reading = tokio::spawn(async move { consumer.recv().await });
    until("it is dead", || async { depth(&b, &dead).await == 1 }).await;
    reading.abort();
    let mut consumer = consume(&b, dead, 1).await;
    assert_eq!(take(&mut consumer, 1).await[0].target, Target::queue("q"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn a_consumer_that_goes_while_messages_come_leaves_none_of_them_behind() {
    let server = start().await;
    let broker = open(&server.url()).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let mut expected = Vec::new();
    let mut seen = Vec::new();
    for round in 0..30 {
        let names: Vec<String> = (0..20).map(|number| format!("{round}.{number}")).collect();
        let confirms: Vec<_> = names
            .iter()
            .map(|name| broker.publish(Publish::to_queue("q", Message::new(name.clone()))))
            .collect();
        // It goes at any moment, and with it what it has not read yet.
        let mut consumer = consume(&broker, Source::queue("q"), 7).await;
        let some = take_some(&mut consumer).await;
        ack(&consumer, &some).await;
        seen.extend(texts(&some));
        drop(consumer);
        for confirm in confirms {
            confirmed(confirm).await.unwrap();
        }
        expected.extend(names);
    }
    let mut last = consume(&broker, Source::queue("q"), 1000).await;
    let rest = take(&mut last, expected.len() - seen.len()).await;
    seen.extend(texts(&rest));
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

async fn take_some(consumer: &mut mq_bridge::Subscription) -> Vec<mq_bridge::Delivery> {
    consumer.recv().await.unwrap()
}
