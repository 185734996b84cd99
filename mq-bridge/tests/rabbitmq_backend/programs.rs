//! Other programs on the same broker.

use std::time::{Duration, SystemTime};

use lapin::BasicProperties;
use lapin::options::{BasicGetOptions, BasicPublishOptions};
use lapin::types::{AMQPValue, FieldTable};
use mq_bridge::{
    Broker, Declaration, Headers, Message, Overflow, Publish, Source, SubscribeOptions, Target,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::steps::{Server, ack, confirmed, consume, take, texts};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn what_other_programs_publish_is_read() {
    let server = Server::start().await;
    let broker = server.open().await;
    broker.declare(&Declaration::queue("jobs")).await.unwrap();
    broker.declare(&Declaration::durable("mail", ["news.*"])).await.unwrap();
    let mut jobs = consume(&broker, Source::queue("jobs")).await;
    let mut mail = consume(&broker, Source::durable("mail")).await;
    let mut live = consume(&broker, Source::topic("news.#")).await;

    let client = server.client().await;
    let mut table = FieldTable::default();
    table.insert("count".into(), AMQPValue::LongInt(3));
    table.insert("nested".into(), AMQPValue::FieldTable(FieldTable::default()));
    // What looks like ours and is not poisons nobody.
    for name in ["mq-headers", "mq-order", "mq-spilled", "mq-expires", "mq-dead-letter"] {
        table.insert(name.into(), AMQPValue::LongString("nonsense".into()));
    }
    let properties = BasicProperties::default()
        .with_content_type("text/plain".into())
        .with_correlation_id("7".into())
        .with_headers(table);
    let publish = async |exchange: &str, key: &str, properties: BasicProperties| {
        let options = BasicPublishOptions::default();
        let (exchange, key) = (exchange.into(), key.into());
        client.basic_publish(exchange, key, options, b"hello", properties).await.unwrap();
    };
    publish("", server.name("jobs").as_str(), properties).await;
    publish("", server.name("jobs").as_str(), BasicProperties::default()).await;
    publish(server.name("topics").as_str(), "news.today", BasicProperties::default()).await;
    // Past the exchange of topics.
    publish("", server.name("mq.durable.mail").as_str(), BasicProperties::default()).await;

    let taken = take(&mut jobs, 2).await;
    assert_eq!(texts(&taken), ["hello", "hello"]);
    let headers = &taken[0].message.headers;
    assert_eq!(headers.get_str("content-type"), Some("text/plain"));
    assert_eq!(headers.get_str("correlation-id"), Some("7"));
    assert_eq!(headers.get_str("count"), Some("3"));
    assert_eq!(headers.len(), 3);
    assert!(taken[1].message.headers.is_empty() && !taken[1].message.persistent);
    assert_eq!(taken[0].target, Target::queue("jobs"));
    ack(&jobs, &taken).await;
    let taken = take(&mut mail, 2).await;
    assert_eq!(taken[0].target, Target::topic("news.today"));
    assert_eq!(taken[1].target, Target::topic("mail"));
    assert_eq!(take(&mut live, 1).await[0].target, Target::topic("news.today"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn other_programs_read_what_is_published() {
    let server = Server::start().await;
    let broker = server.open().await;
    broker.declare(&Declaration::queue("jobs")).await.unwrap();
    let headers = Headers::builder()
        .with("x-trace", "abc")
        .with("reply-to", "answers")
        .with("content-type", "application/json")
        .build();
    let message = Message::new("{}")
        .with_headers(headers)
        .with_priority(7)
        .with_expires(SystemTime::now() + Duration::from_secs(600));
    confirmed(broker.publish(Publish::to_queue("jobs", message))).await.unwrap();

    let client = server.client().await;
    let got = client.basic_get(server.name("jobs"), BasicGetOptions::default()).await.unwrap();
    let got = got.expect("the queue is empty").delivery;
    assert_eq!(got.data, b"{}");
    let properties = got.properties;
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!(properties.reply_to().as_ref().unwrap().as_str(), "answers");
    assert_eq!(*properties.priority(), Some(7));
    assert_eq!(*properties.delivery_mode(), Some(2));
    let left: u64 = properties.expiration().as_ref().unwrap().as_str().parse().unwrap();
    assert!((500_000..=600_000).contains(&left), "{left}");
    let table = properties.headers().as_ref().unwrap();
    let AMQPValue::LongString(trace) = &table.inner()["x-trace"] else { panic!("{table:?}") };
    assert_eq!(trace.as_bytes(), b"abc");
}

/// With the exchange that both have without any configuration.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn topics_are_those_of_the_stomp_plugin() {
    let server = Server::start().await;
    let config = server.config(&server.amqp_url()).with_topic_exchange("amq.topic");
    let broker = mq_bridge::RabbitMq::open(config).await.unwrap();
    let mut live = consume(&broker, Source::topic("stomp.plugin.*")).await;

    let mut stomp = TcpStream::connect(server.stomp_addr()).await.unwrap();
    let frames = "CONNECT\naccept-version:1.2\nlogin:guest\npasscode:guest\n\n\0\
                  SUBSCRIBE\nid:0\ndestination:/topic/stomp.plugin.out\nreceipt:live\n\n\0\
                  SEND\ndestination:/topic/stomp.plugin.in\nx-color:red\n\nhello\0";
    stomp.write_all(frames.as_bytes()).await.unwrap();
    let taken = take(&mut live, 1).await;
    assert_eq!(texts(&taken), ["hello"]);
    assert_eq!(taken[0].target, Target::topic("stomp.plugin.in"));
    assert_eq!(taken[0].message.headers.get_str("x-color"), Some("red"));

    // The receipt comes before the message can.
    let mut heard = String::new();
    let mut read = async |until: &str| {
        while !heard.contains(until) {
            let mut buffer = [0; 4096];
            let count = stomp.read(&mut buffer).await.unwrap();
            assert!(count > 0, "{heard:?}");
            heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    };
    read("receipt-id:live").await;
    let message =
        Message::new("goodbye").with_headers(Headers::builder().with("x-color", "blue").build());
    confirmed(broker.publish(Publish::to_topic("stomp.plugin.out", message))).await.unwrap();
    read("goodbye").await;
    assert!(heard.contains("x-color:blue"), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn headers_larger_than_a_frame_are_carried() {
    let server = Server::start().await;
    let broker = server.open().await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let mut consumer = consume(&broker, Source::queue("q")).await;
    for size in [60_000, 64_000, 70_000, 127_000, 130_000, 131_072, 400_000] {
        let headers = Headers::builder().with("large", vec![b'x'; size]).with("a", "b").build();
        let message = Message::new("body").with_headers(headers);
        confirmed(broker.publish(Publish::to_queue("q", message.clone()))).await.unwrap();
        let taken = take(&mut consumer, 1).await;
        assert_eq!(taken[0].message, message, "with {size} octets");
        ack(&consumer, &taken).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn more_topics_than_a_frame_holds_are_all_reached() {
    const COUNT: usize = 1500;
    let server = Server::start().await;
    let broker = server.open().await;
    let topic = |index: usize| format!("{index}.{}", "x".repeat(200));
    let names = [0, 1, COUNT / 2, COUNT - 1].map(topic);
    for name in &names {
        broker.declare(&Declaration::durable(&**name, [&**name])).await.unwrap();
    }
    let options = SubscribeOptions::new().with_buffer(usize::MAX, Overflow::Disconnect);
    let mut live = broker.subscribe(Source::topic(topic(COUNT - 1)), options).await.unwrap();
    let targets = (0..COUNT).map(|index| Target::topic(topic(index))).collect();
    confirmed(broker.publish(Publish::new(targets, Message::new("all")))).await.unwrap();
    assert_eq!(texts(&take(&mut live, 1).await), ["all"]);
    for name in &names {
        assert_eq!(broker.stats(&Source::durable(&**name)).await.unwrap().depth, 1);
        let mut consumer = consume(&broker, Source::durable(&**name)).await;
        assert_eq!(take(&mut consumer, 1).await[0].target, Target::topic(&**name));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn programs_with_other_prefixes_do_not_meet() {
    let server = Server::start().await;
    let here = server.open().await;
    let config = server.config(&server.amqp_url());
    let elsewhere = format!("{}elsewhere.", server.prefix);
    let there = mq_bridge::RabbitMq::open(
        config.with_prefix(&*elsewhere).with_topic_exchange(format!("{elsewhere}topics")),
    )
    .await
    .unwrap();
    for broker in [&here, &there] {
        broker.declare(&Declaration::queue("q")).await.unwrap();
        broker.declare(&Declaration::durable("d", ["t"])).await.unwrap();
    }
    let mut live = consume(&there, Source::topic("t")).await;
    let targets = vec![Target::queue("q"), Target::topic("t")];
    confirmed(here.publish(Publish::new(targets, Message::new("here")))).await.unwrap();
    for source in [Source::queue("q"), Source::durable("d")] {
        assert_eq!(here.stats(&source).await.unwrap().depth, 1);
        assert_eq!(there.stats(&source).await.unwrap().depth, 0);
    }
    confirmed(there.publish(Publish::to_topic("t", Message::new("there")))).await.unwrap();
    assert_eq!(texts(&take(&mut live, 1).await), ["there"]);
}
