//! Names that mean something to NATS, and ones that it does not take.

use mq_bridge::{
    Broker, Declaration, MAX_NAME, Message, Publish, Source, SubscribeOptions, Target,
};

use crate::steps::{ack, confirmed, consume, open, send, start, start_old, take, texts};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn any_name_is_a_queue_of_its_own() {
    for server in [start().await, start_old().await] {
        let broker = open(&server.url()).await;
        let long = "\u{e9}".repeat(MAX_NAME / 2);
        let longer = format!("{}x", &long[2..]);
        let names = [
            "a",
            "a.b",
            "a..b",
            ".",
            "*",
            ">",
            "a.*",
            "a.>",
            "a b",
            "%s %d",
            "=sentinel",
            "=",
            "~",
            "%",
            "_",
            "$JS.API.>",
            "a/b\\c",
            "\u{1f980}",
            &long,
            &longer,
        ];
        for name in names {
            broker.declare(&Declaration::queue(name)).await.unwrap();
        }
        for name in names {
            send(&broker, name, &[name]).await;
        }
        for name in names {
            let mut consumer = consume(&broker, Source::queue(name), 10).await;
            let taken = take(&mut consumer, 1).await;
            assert_eq!(texts(&taken), [name]);
            assert_eq!(taken[0].target, Target::queue(name));
            ack(&consumer, &taken).await;
        }
        for name in names {
            broker.delete(&Source::queue(name)).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn any_topic_is_told_apart_and_given_as_it_is() {
    for server in [start().await, start_old().await] {
        let broker = open(&server.url()).await;
        let long = "\u{e9}".repeat(MAX_NAME / 2 - 10);
        let deep = "a.".repeat(MAX_NAME / 2 - 10);
        let topics: Vec<String> = ["_", "_._", ">", "a >.b", "%2E", "~x", "\u{1f980}"]
            .into_iter()
            .map(str::to_owned)
            .chain([
                format!("x.{long}"),
                format!("x.{long}.y"),
                format!("{deep}b"),
                format!("{deep}c"),
            ])
            .collect();
        let mut all = broker.subscribe(Source::topic("#"), SubscribeOptions::new()).await.unwrap();
        let mut exact = Vec::new();
        for (index, topic) in topics.iter().enumerate() {
            let name = format!("d{index}");
            broker.declare(&Declaration::durable(&*name, [&**topic])).await.unwrap();
            exact.push(consume(&broker, Source::durable(&*name), 10).await);
        }
        for topic in &topics {
            let publish = Publish::to_topic(&**topic, Message::new(topic.clone()));
            confirmed(broker.publish(publish)).await.unwrap();
        }
        let heard = take(&mut all, topics.len()).await;
        assert_eq!(texts(&heard), topics);
        assert!(heard.iter().zip(&topics).all(|(one, topic)| **one.target.name() == **topic));
        for (consumer, topic) in exact.iter_mut().zip(&topics) {
            let taken = take(consumer, 1).await;
            assert_eq!(taken[0].target, Target::topic(&**topic));
            ack(consumer, &taken).await;
        }
    }
}
