//! Two nodes over one server.

use std::collections::BTreeSet;

use mq_bridge::{Broker, Declaration, EndReason, Nack, Redis, Source, SubscribeOptions};

use crate::remote_backend::nodes::{self, takeover};
use crate::remote_backend::proxy::{Proxy, Way};
use crate::steps::{
    ack, client, confirmed, consume, depth, ended, open, run, send, send_topic, short_lived, start,
    tags, take, texts, until,
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn consumers_on_two_nodes_share_a_queue() {
    let server = start().await;
    let (a, b) = (open(&server.url()).await, open(&server.url()).await);
    a.declare(&Declaration::queue("q")).await.unwrap();
    let mut on_a = consume(&a, Source::queue("q"), 5).await;
    let mut on_b = consume(&b, Source::queue("q"), 5).await;
    let names: Vec<String> = (0..40).map(|number| format!("{number:02}")).collect();
    let sent: Vec<&str> = names.iter().map(String::as_str).collect();
    send(&a, "q", &sent).await;
    let mut seen = BTreeSet::new();
    let (mut got_a, mut got_b) = (0, 0);
    while seen.len() < sent.len() {
        let (batch, from, got) = tokio::select! {
            batch = on_a.recv() => (batch.unwrap(), &on_a, &mut got_a),
            batch = on_b.recv() => (batch.unwrap(), &on_b, &mut got_b),
        };
        *got += batch.len();
        ack(from, &batch).await;
        seen.extend(texts(&batch));
    }
    assert!(got_a >= 5 && got_b >= 5, "{got_a} and {got_b}");
    assert_eq!(got_a + got_b, sent.len(), "some came twice");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_topic_reaches_both_nodes_and_each_subscriber_once() {
    let server = start().await;
    let (a, b) = (open(&server.url()).await, open(&server.url()).await);
    nodes::a_topic_reaches_both_nodes_and_each_subscriber_once(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_durable_subscription_misses_nothing_that_another_node_publishes() {
    let server = start().await;
    let (a, b) = (open(&server.url()).await, open(&server.url()).await);
    for round in 0..20 {
        // Whatever the publisher knew before, it knows of this.
        let name = format!("d{round}");
        a.declare(&Declaration::durable(&*name, ["x.*", "exact"])).await.unwrap();
        send_topic(&b, "x.1", "wild").await;
        send_topic(&b, "exact", "exact").await;
        let mut consumer = consume(&a, Source::durable(&*name), 10).await;
        let deliveries = take(&mut consumer, 2).await;
        assert_eq!(texts(&deliveries), ["wild", "exact"]);
        ack(&consumer, &deliveries).await;
        if round % 2 == 0 {
            a.delete(&Source::durable(&*name)).await.unwrap();
        }
    }
    // More changes than the server remembers one by one.
    for round in 0..30 {
        a.declare(&Declaration::durable(format!("many{round}"), ["y.*"])).await.unwrap();
    }
    run::<()>(&mut client(&server.url()).await, "XTRIM {mq}:log MAXLEN 3").await;
    send_topic(&b, "y.1", "all").await;
    for round in 0..30 {
        assert_eq!(depth(&a, &Source::durable(format!("many{round}"))).await, 1);
    }
    // It has been there since round 1.
    assert_eq!(depth(&a, &Source::durable("d1")).await, 2 * 18);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_takeover_ends_the_consumer_on_the_other_node() {
    let server = start().await;
    let (a, b) = (open(&server.url()).await, open(&server.url()).await);
    a.declare(&Declaration::durable("d", ["t"])).await.unwrap();
    for text in ["0", "1", "2"] {
        send_topic(&a, "t", text).await;
    }
    let mut older = a.subscribe(Source::durable("d"), takeover()).await.unwrap();
    let taken = take(&mut older, 3).await;
    ack(&older, &taken[..1]).await;
    let mut newer = b.subscribe(Source::durable("d"), takeover()).await.unwrap();
    // Too late, whether or not the older node knows it yet.
    let late = older.acker().ack(&tags(&taken));
    let _ = confirmed(late).await;
    let seen = take(&mut newer, 2).await;
    assert_eq!(texts(&seen), ["1", "2"]);
    assert!(seen.iter().all(|one| one.redelivered && one.delivery_count == 2));
    ended(&mut older).await;
    assert_eq!(older.end_reason(), Some(EndReason::TakenOver));
    send_topic(&a, "t", "3").await;
    assert_eq!(texts(&take(&mut newer, 1).await), ["3"]);
    assert_eq!(b.stats(&Source::durable("d")).await.unwrap().consumers, 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn who_was_cut_off_does_not_take_back_what_was_taken_over() {
    let server = start().await;
    let proxy = Proxy::to(&server.url()).await;
    let (a, b) = (open(&proxy.url()).await, open(&server.url()).await);
    nodes::who_was_cut_off_does_not_take_back_what_was_taken_over(&a, &b, &proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn what_a_dead_node_held_comes_to_the_others_marked() {
    let server = start().await;
    let proxy = Proxy::to(&server.url()).await;
    let a = Redis::open(short_lived(&proxy.url())).await.unwrap();
    let b = Redis::open(short_lived(&server.url())).await.unwrap();
    b.declare(&Declaration::queue("q")).await.unwrap();
    send(&b, "q", &["0", "1", "2"]).await;
    let mut on_a = consume(&a, Source::queue("q"), 3).await;
    let held = take(&mut on_a, 3).await;
    ack(&on_a, &held[1..2]).await;
    let mut on_b = consume(&b, Source::queue("q"), 10).await;
    proxy.set(Way::Cut);
    let inherited = take(&mut on_b, 2).await;
    assert_eq!(texts(&inherited), ["0", "2"]);
    assert!(inherited.iter().all(|one| one.redelivered && one.delivery_count == 2));
    assert_eq!(b.stats(&Source::queue("q")).await.unwrap().consumers, 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_node_that_was_taken_for_dead_settles_nothing() {
    let server = start().await;
    let proxy = Proxy::to(&server.url()).await;
    let a = Redis::open(short_lived(&proxy.url())).await.unwrap();
    let b = Redis::open(short_lived(&server.url())).await.unwrap();
    b.declare(&Declaration::queue("q")).await.unwrap();
    send(&b, "q", &["0", "1"]).await;
    let mut on_a = consume(&a, Source::queue("q"), 10).await;
    let held = take(&mut on_a, 2).await;
    let mut on_b = consume(&b, Source::queue("q"), 1).await;
    proxy.set(Way::Stuck);
    let late = on_a.acker().ack(&tags(&held));
    assert_eq!(texts(&take(&mut on_b, 1).await), ["0"]);
    proxy.set(Way::Open);
    let _ = confirmed(late).await;
    // It finds its way back, and takes part again.
    assert_eq!(texts(&take(&mut on_a, 1).await), ["1"]);
    assert_eq!(depth(&b, &Source::queue("q")).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn what_is_deleted_or_changed_on_one_node_is_so_on_the_other() {
    let server = start().await;
    let (a, b) = (open(&server.url()).await, open(&server.url()).await);
    for source in [Source::queue("x"), Source::durable("x")] {
        let declaration = match source {
            Source::Queue(_) => Declaration::queue("x"),
            _ => Declaration::durable("x", ["t"]),
        };
        a.declare(&declaration).await.unwrap();
        let mut consumer = consume(&b, source.clone(), 10).await;
        a.delete(&source).await.unwrap();
        ended(&mut consumer).await;
        assert_eq!(consumer.end_reason(), Some(EndReason::Deleted));
    }
    a.declare(&Declaration::queue("q")).await.unwrap();
    let mut consumer = consume(&b, Source::queue("q"), 1).await;
    a.declare(&Declaration::queue("q").with_max_deliveries(1).with_dead_letter("dead"))
        .await
        .unwrap();
    send(&a, "q", &["poison"]).await;
    let taken = take(&mut consumer, 1).await;
    let again = Nack::Requeue;
    confirmed(consumer.acker().nack(&tags(&taken), again)).await.unwrap();
    let dead = Source::queue("dead");
    // It is the reader's poll that finds it.
    let reading = tokio::spawn(async move { consumer.recv().await });
    until("it is dead", || async { depth(&a, &dead).await == 1 }).await;
    reading.abort();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_node_has_three_connections_and_leaves_nothing_behind() {
    let server = start().await;
    let mut bare = client(&server.url()).await;
    let broker = open(&server.url()).await;
    let mut consumers = Vec::new();
    for number in 0..100 {
        let name = format!("q{number}");
        broker.declare(&Declaration::queue(&*name)).await.unwrap();
        consumers.push(consume(&broker, Source::queue(&*name), 10).await);
        let topic = Source::topic(format!("t.{number}.*"));
        consumers.push(broker.subscribe(topic, SubscribeOptions::new()).await.unwrap());
        send(&broker, &name, &["x"]).await;
    }
    let clients: String = run(&mut bare, "CLIENT LIST").await;
    assert_eq!(clients.lines().count(), 1 + 3, "{clients}");
    drop(consumers);
    for number in 0..100 {
        broker.delete(&Source::queue(format!("q{number}"))).await.unwrap();
    }
    broker.declare(&Declaration::durable("d", ["a", "b.*"])).await.unwrap();
    broker.delete(&Source::durable("d")).await.unwrap();
    broker.shutdown().await;
    let mut keys: Vec<String> = run(&mut bare, "KEYS *").await;
    keys.sort();
    assert_eq!(keys, ["{mq}:log", "{mq}:version"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn what_was_refused_before_its_consumer_went_is_a_dead_letter_and_nothing_else() {
    let server = start().await;
    let broker = open(&server.url()).await;
    let (queue, dead) = (Source::queue("q"), Source::queue("dead"));
    broker.declare(&Declaration::queue("q").with_dead_letter("dead")).await.unwrap();
    for round in 1..=20 {
        send(&broker, "q", &["x"]).await;
        let mut consumer = consume(&broker, queue.clone(), 1).await;
        let taken = take(&mut consumer, 1).await;
        assert!(!taken[0].redelivered, "{round} came again");
        drop(consumer.acker().nack(&tags(&taken), Nack::DeadLetter));
        drop(consumer);
        until("it is dead", || async { depth(&broker, &dead).await >= round }).await;
        until("it is gone", || async { depth(&broker, &queue).await == 0 }).await;
        assert_eq!(depth(&broker, &dead).await, round);
    }
}
