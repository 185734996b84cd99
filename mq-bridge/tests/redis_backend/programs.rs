//! Other programs on the same server.

use std::time::Duration;

use mq_bridge::{
    Broker, Declaration, Headers, Message, Publish, Redis, Source, SubscribeOptions, Target,
};
use redis::cmd;

use crate::steps::{
    ack, client, config, confirmed, consume, depth, open, run, send, send_topic, start, take, texts,
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn what_another_program_adds_to_a_stream_is_delivered() {
    let server = start().await;
    let mut bare = client(&server.url()).await;
    // Before anybody has declared it, too.
    run::<()>(&mut bare, "XADD {mq}:q:q * body early").await;
    let rarely = config(&server.url()).with_poll_interval(Duration::from_secs(3600));
    let broker = Redis::open(rarely).await.unwrap();
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let mut consumer = consume(&broker, Source::queue("q"), 10).await;
    assert_eq!(texts(&take(&mut consumer, 1).await), ["early"]);
    run::<()>(&mut bare, "XADD {mq}:q:q * kind note body hello").await;
    run::<()>(&mut bare, "XADD {mq}:q:q * only fields").await;
    cmd("PUBLISH").arg("{mq}:n:q:q").arg("").query_async::<()>(&mut bare).await.unwrap();
    let deliveries = take(&mut consumer, 2).await;
    assert_eq!(texts(&deliveries), ["hello", ""]);
    assert_eq!(deliveries[0].message.headers.get_str("kind"), Some("note"));
    assert_eq!(deliveries[1].message.headers.get_str("only"), Some("fields"));
    assert_eq!(deliveries[0].target, Target::queue("q"));
    ack(&consumer, &deliveries).await;
    assert_eq!(depth(&broker, &Source::queue("q")).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn what_is_added_without_a_notice_is_found_a_little_later() {
    let server = start().await;
    let mut bare = client(&server.url()).await;
    let often = config(&server.url()).with_poll_interval(Duration::from_millis(50));
    let broker = Redis::open(often).await.unwrap();
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let mut consumer = consume(&broker, Source::queue("q"), 10).await;
    for text in ["one", "two"] {
        run::<()>(&mut bare, &format!("XADD {{mq}}:q:q * body {text}")).await;
        assert_eq!(texts(&take(&mut consumer, 1).await), [text]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn another_program_reads_headers_and_body_as_fields() {
    let server = start().await;
    let mut bare = client(&server.url()).await;
    let broker = open(&server.url()).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let headers: Headers = [("kind", "note"), ("kind", "again")].into_iter().collect();
    let message = Message::new("hello").with_headers(headers);
    confirmed(broker.publish(Publish::to_queue("q", message))).await.unwrap();
    let entries: Vec<(String, Vec<String>)> = run(&mut bare, "XRANGE {mq}:q:q - +").await;
    let fields: Vec<&str> = entries[0].1.iter().map(String::as_str).collect();
    assert_eq!(fields, ["mq", "- 4 - q:q", "kind", "note", "kind", "again", "body", "hello"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn plain_topic_messages_are_plain_payloads() {
    let server = start().await;
    let broker = open(&server.url()).await;
    let mut bare = client(&server.url()).await;
    let mut listening = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let heard = std::thread::spawn(move || {
        let mut heard = String::new();
        let mut channel = listening.as_pubsub();
        channel.subscribe("{mq}:t:news").unwrap();
        heard.push_str(&channel.get_message().unwrap().get_payload::<String>().unwrap());
        heard
    });
    crate::steps::until("somebody listens", || async {
        let mut bare = client(&server.url()).await;
        let count: Vec<redis::Value> = run(&mut bare, "PUBSUB NUMSUB {mq}:t:news").await;
        count.get(1) == Some(&redis::Value::Int(1))
    })
    .await;
    send_topic(&broker, "news", "to all").await;
    assert_eq!(heard.join().unwrap(), "to all");

    let source = Source::topic("news");
    let mut subscriber = broker.subscribe(source, SubscribeOptions::new()).await.unwrap();
    run::<()>(&mut bare, "PUBLISH {mq}:t:news from-elsewhere").await;
    assert_eq!(texts(&take(&mut subscriber, 1).await), ["from-elsewhere"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn brokers_with_different_prefixes_know_nothing_of_each_other() {
    let server = start().await;
    let broker = open(&server.url()).await;
    let other = Redis::open(config(&server.url()).with_prefix("other")).await.unwrap();
    for one in [&broker, &other] {
        one.declare(&Declaration::queue("q")).await.unwrap();
    }
    send(&broker, "q", &["x"]).await;
    assert_eq!(depth(&other, &Source::queue("q")).await, 0);
}
