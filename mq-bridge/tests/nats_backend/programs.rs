//! Other programs on the same server.

use async_nats::HeaderMap;
use futures::StreamExt;
use mq_bridge::{
    Broker, Declaration, EndReason, Headers, Message, Nats, Publish, Source, SubscribeOptions,
    Target,
};

use crate::steps::{
    ack, api, config, confirmed, consume, depth, ended, kept, open, send, send_topic, start,
    start_old, take, texts, until,
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn what_another_program_publishes_is_delivered() {
    let server = start().await;
    let bare = async_nats::connect(server.url()).await.unwrap();
    let broker = open(&server.url()).await;
    broker.declare(&Declaration::queue("orders.new")).await.unwrap();
    broker.declare(&Declaration::durable("d", ["news.*"])).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.append("kind", "note");
    headers.append("Mq-Order", "nonsense kind");
    headers.append("Mq-Block", "?");
    headers.append("Nats-Msg-Id", "1");
    let with_headers = bare.publish_with_headers("mq.q.orders.new", headers, "hello".into());
    with_headers.await.unwrap();
    bare.publish("mq.q.orders.new", "bare".into()).await.unwrap();
    bare.publish("mq.t.news.today._", "to all".into()).await.unwrap();
    bare.flush().await.unwrap();
    let mut consumer = consume(&broker, Source::queue("orders.new"), 10).await;
    let taken = take(&mut consumer, 2).await;
    assert_eq!(texts(&taken), ["hello", "bare"]);
    let headers: Headers = [("kind", "note")].into_iter().collect();
    assert_eq!(taken[0].message.headers, headers);
    assert!(taken[1].message.headers.is_empty());
    assert_eq!(taken[0].target, Target::queue("orders.new"));
    ack(&consumer, &taken).await;
    let mut consumer = consume(&broker, Source::durable("d"), 10).await;
    let taken = take(&mut consumer, 1).await;
    assert_eq!(taken[0].target, Target::topic("news.today"));
    ack(&consumer, &taken).await;
    assert_eq!(kept(&bare, "mq-queues").await + kept(&bare, "mq-topics").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn another_program_hears_topics_and_reads_headers() {
    let server = start().await;
    let bare = async_nats::connect(server.url()).await.unwrap();
    let broker = open(&server.url()).await;
    let mut heard = bare.subscribe("mq.t.news.>").await.unwrap();
    bare.flush().await.unwrap();
    let listening = broker.subscribe(Source::topic("elsewhere"), SubscribeOptions::new()).await;
    drop(listening.unwrap());
    let headers: Headers = [("kind", "note"), ("from", "\u{e4}lice")].into_iter().collect();
    let message = Message::new("hello").with_headers(headers);
    confirmed(broker.publish(Publish::to_topic("news.today", message))).await.unwrap();
    let message = heard.next().await.unwrap();
    assert_eq!((&*message.subject, &*message.payload), ("mq.t.news.today._", &b"hello"[..]));
    let headers = message.headers.unwrap();
    assert_eq!(headers.get("kind").unwrap().as_str(), "note");
    assert_eq!(headers.get("from").unwrap().as_str(), "\u{e4}lice");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn what_another_program_removes_is_gone_here_and_can_be_made_again() {
    let server = start().await;
    let bare = async_nats::connect(server.url()).await.unwrap();
    let broker = open(&server.url()).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    send(&broker, "q", &["x"]).await;
    let mut consumer = consume(&broker, Source::queue("q"), 1).await;
    take(&mut consumer, 1).await;
    api(&bare, "CONSUMER.DELETE.mq-queues.q", "").await;
    ended(&mut consumer).await;
    assert_eq!(consumer.end_reason(), Some(EndReason::Deleted));
    until("publishing fails", || async {
        confirmed(broker.publish(Publish::to_queue("q", Message::new("y")))).await.is_err()
    })
    .await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    assert_eq!(depth(&broker, &Source::queue("q")).await, 0);
    // A whole stream: the link notices, and makes it again with what was declared here.
    api(&bare, "STREAM.DELETE.mq-topics", "").await;
    until("topics are back", || async {
        let publish = Publish::to_topic("t", Message::new("z"));
        confirmed(broker.publish(publish)).await.is_ok()
    })
    .await;
    broker.declare(&Declaration::durable("d", ["t"])).await.unwrap();
    send_topic(&broker, "t", "kept").await;
    assert_eq!(depth(&broker, &Source::durable("d")).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn nothing_stays_of_what_is_deleted_and_topics_keep_only_what_is_wanted() {
    let server = start().await;
    let bare = async_nats::connect(server.url()).await.unwrap();
    let broker = open(&server.url()).await;
    broker.declare(&Declaration::durable("d", ["a.*", "b"])).await.unwrap();
    broker.declare(&Declaration::queue("q").with_dead_letter("dead")).await.unwrap();
    for topic in ["a.x", "b", "c", "a", "d.e"] {
        send_topic(&broker, topic, "x").await;
    }
    send(&broker, "q", &["x"]).await;
    assert_eq!(kept(&bare, "mq-topics").await, 2);
    let mut consumer = consume(&broker, Source::durable("d"), 10).await;
    let taken = take(&mut consumer, 2).await;
    ack(&consumer, &taken[..1]).await;
    assert_eq!(kept(&bare, "mq-topics").await, 1);
    drop(consumer);
    for source in [Source::durable("d"), Source::queue("q"), Source::queue("dead")] {
        broker.delete(&source).await.unwrap();
    }
    for stream in ["mq-topics", "mq-queues", "mq-registry"] {
        until(stream, || async { kept(&bare, stream).await == 0 }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn brokers_with_different_prefixes_know_nothing_of_each_other() {
    let server = start().await;
    let broker = open(&server.url()).await;
    let other = Nats::open(config(&server.url()).with_prefix("other")).await.unwrap();
    for one in [&broker, &other] {
        one.declare(&Declaration::queue("q")).await.unwrap();
    }
    send(&broker, "q", &["x"]).await;
    assert_eq!(depth(&other, &Source::queue("q")).await, 0);
    assert_eq!(depth(&broker, &Source::queue("q")).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn who_takes_over_gets_what_was_given_back_in_the_order_of_the_stream() {
    for server in [start().await, start_old().await] {
        let bare = async_nats::connect(server.url()).await.unwrap();
        let broker = open(&server.url()).await;
        broker.declare(&Declaration::queue("q")).await.unwrap();
        let sent: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        send(&broker, "q", &sent.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let mut replies = bare.subscribe("replies").await.unwrap();
        let request = r#"{"batch":18}"#.into();
        let next = "$JS.API.CONSUMER.MSG.NEXT.mq-queues.q";
        bare.publish_with_reply(next, "replies", request).await.unwrap();
        let mut held = Vec::new();
        while held.len() < 18 {
            held.push(replies.next().await.unwrap().reply.unwrap());
        }
        // One is done; the others come back from the middle on, and then backwards.
        let done = held.remove(3);
        bare.request(done, "+ACK".into()).await.unwrap();
        held.rotate_left(8);
        held[6..].reverse();
        for reply in held {
            bare.request(reply, "-NAK".into()).await.unwrap();
        }
        let options = SubscribeOptions::new().with_prefetch(4, usize::MAX).with_takeover(true);
        let mut consumer = broker.subscribe(Source::queue("q"), options).await.unwrap();
        let mut came = Vec::new();
        while came.len() < 19 {
            let taken = take(&mut consumer, 4.min(19 - came.len())).await;
            came.extend(texts(&taken).iter().map(|text| (*text).to_owned()));
            ack(&consumer, &taken).await;
        }
        let expected: Vec<&String> = sent.iter().filter(|text| *text != "3").collect();
        assert_eq!(came.iter().collect::<Vec<_>>(), expected);
        assert_eq!(depth(&broker, &Source::queue("q")).await, 0);
    }
}
