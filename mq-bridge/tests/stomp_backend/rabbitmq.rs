//! Over RabbitMQ's STOMP plugin.

use futures::future::join_all;
use mq_bridge::testkit::servers::{RabbitMq, TestServer};
use mq_bridge::{
    Broker, BrokerError, Capability, Declaration, EndReason, Headers, Message, Nack, Publish,
    Source, StompRelay, StompRelayConfig, SubscribeOptions, Target,
};
use stomp_codec::{Command, Frame};
use tokio::runtime::Builder;

use crate::steps::{Program, config_of, confirmed, consume, send, tags, take, texts, until};

async fn start() -> RabbitMq {
    RabbitMq::start().await.unwrap()
}

async fn open(server: &RabbitMq) -> StompRelay {
    StompRelay::open(config_of(&server.stomp_url())).await.unwrap()
}

fn to(command: Command, destination: &str) -> Frame {
    Frame::new(command).with_header("destination", destination)
}

async fn publish(broker: &StompRelay, topic: &str, text: &str) {
    confirmed(broker.publish(Publish::to_topic(topic, Message::new(text.to_owned())))).await;
}

/// How many messages a queue holds, which has no consumer.
fn count(server: &RabbitMq, queue: &str) -> usize {
    let mut program = Program::connect_to(server.stomp_addr());
    let subscribe = to(Command::Subscribe, &format!("/amq/queue/{queue}")).with_header("id", "0");
    program.say(&subscribe.with_header("ack", "client"));
    let marker = to(Command::Send, &format!("/amq/queue/{queue}")).with_body("the last");
    program.say(&marker);
    let mut count = 0;
    loop {
        let heard = program.hear();
        if heard.body() == b"the last" {
            return count;
        }
        count += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn what_another_program_sends_is_delivered_and_what_is_published_it_gets() {
    let server = start().await;
    let broker = open(&server).await;
    for name in ["jobs", "a/b c"] {
        broker.declare(&Declaration::queue(name)).await.unwrap();
    }
    let mut program = Program::connect_to(server.stomp_addr());
    let send = to(Command::Send, "/amq/queue/jobs").with_header("persistent", "true");
    program.ask(send.with_header("kind", "note").with_header("mq-order", "x").with_body("hello"));
    let mut consumer = consume(&broker, Source::queue("jobs"), 10, false).await;
    let taken = take(&mut consumer, 1).await;
    assert_eq!((texts(&taken), &taken[0].target), (vec!["hello"], &Target::queue("jobs")));
    assert!(taken[0].message.persistent);
    confirmed(consumer.acker().ack(&tags(&taken))).await;
    drop(consumer);

    let mut live = consume(&broker, Source::topic("news.*"), 10, false).await;
    program.ask(to(Command::Send, "/topic/news.a%2Fb").with_body("to all"));
    let heard = take(&mut live, 1).await;
    assert_eq!((texts(&heard), &heard[0].target), (vec!["to all"], &Target::topic("news.a/b")));
    drop(live);

    let places = ["/amq/queue/jobs", "/amq/queue/a%2Fb%20c", "/topic/news.*"];
    for (id, destination) in places.into_iter().enumerate() {
        program.ask(to(Command::Subscribe, destination).with_header("id", &id.to_string()));
    }
    let headers: Headers = [("kind", "note: 1"), ("kind", "again")].into_iter().collect();
    let message = Message::new("hello").with_headers(headers).with_priority(7);
    for target in [Target::queue("jobs"), Target::queue("a/b c"), Target::topic("news.today")] {
        confirmed(broker.publish(Publish::new(vec![target], message.clone()))).await;
        let heard = program.hear();
        let header = |name| heard.header(name).map(|value| value.into_owned());
        assert_eq!(header("kind").as_deref(), Some("note: 1"));
        assert_eq!(header("priority").as_deref(), Some("7"));
        assert_eq!(heard.body(), b"hello");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn what_is_refused_says_why_and_harms_nobody() {
    let server = start().await;
    let broker = open(&server).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let mut consumer = consume(&broker, Source::queue("q"), 10, false).await;

    let mut program = Program::connect_to(server.stomp_addr());
    let other = to(Command::Subscribe, "/topic/x").with_header("id", "0");
    let other = other.with_header("durable", "true").with_header("auto-delete", "false");
    let other = other.with_header("x-queue-name", "jobs").with_header("x-queue-type", "quorum");
    program.ask(other.with_header("ack", "client").with_header("prefetch-count", "1"));
    match broker.declare(&Declaration::queue("jobs")).await.unwrap_err() {
        BrokerError::Refused { reason } => {
            assert!(reason.contains("x-queue-type") && reason.contains("jobs"), "{reason}");
        }
        other => panic!("{other}"),
    }
    for name in ["amq.mine", &"x".repeat(300)] {
        let outcome = broker.declare(&Declaration::queue(name)).await;
        let refused =
            matches!(outcome, Err(BrokerError::Refused { .. } | BrokerError::InvalidName { .. }));
        assert!(refused, "{outcome:?}");
    }
    let numbers = broker.stats(&Source::queue("q")).await;
    assert_eq!(numbers, Err(BrokerError::Unsupported(Capability::Depth)));
    // On the same link.
    assert!(broker.health().is_up());
    send(&broker, "q", &["still here"]).await;
    let taken = take(&mut consumer, 1).await;
    assert!(!taken[0].redelivered);

    for (user, opens) in [("guest:guest", true), ("guest:wrong", false), ("eve", false)] {
        let config = StompRelayConfig::new(format!("stomp://{user}@{}", server.stomp_addr()));
        let outcome = StompRelay::open(config).await;
        assert_eq!(outcome.is_ok(), opens, "{user}");
        if let Err(error) = outcome {
            assert!(matches!(&error, BrokerError::Refused { .. }), "{error}");
            assert!(!error.to_string().contains("wrong"), "{error}");
        }
    }
    let elsewhere = StompRelay::open(config_of(&format!("{}/nowhere", server.stomp_url()))).await;
    assert!(matches!(elsewhere, Err(BrokerError::Refused { .. })), "{elsewhere:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn what_is_declared_is_known_to_all_and_stays_small() {
    let mut server = start().await;
    let (here, there) = (open(&server).await, open(&server).await);
    for round in 0..30 {
        let patterns = [format!("t.{round}"), "u".to_owned()];
        let declaration = Declaration::durable("d", patterns.iter().map(String::as_str));
        here.declare(&declaration).await.unwrap();
        publish(&there, &patterns[0], "routed at once").await;
        if round % 3 == 2 {
            let mut consumer = consume(&there, Source::durable("d"), 10, false).await;
            take(&mut consumer, 3).await;
            here.delete(&Source::durable("d")).await.unwrap();
        }
    }
    for round in 0..10 {
        let name = format!("e{round}");
        let (a, b) = (Declaration::durable(&*name, ["a"]), Declaration::durable(&*name, ["b"]));
        let (a, b) = futures::join!(here.declare(&a), there.declare(&b));
        a.and(b).unwrap();
    }
    publish(&here, "b", "b").await;
    drop(here);
    drop(there);
    // Not from memory, but from what the broker keeps.
    server.restart().await.unwrap();
    let later = open(&server).await;
    let gone = later.subscribe(Source::durable("d"), SubscribeOptions::new()).await;
    assert!(matches!(gone, Err(BrokerError::NotDeclared { .. })), "{gone:?}");
    publish(&later, "a", "a").await;
    for round in 0..10 {
        let source = Source::durable(format!("e{round}"));
        let mut consumer = consume(&later, source, 10, false).await;
        assert_eq!(texts(&take(&mut consumer, 2).await), ["b", "a"]);
    }
    later.shutdown().await;
    // Ten names that two nodes declared, the nodes, the first one.
    let left = count(&server, "mq-bridge.registry");
    assert!(left < 40, "{left} entries are left of some 100");
    let again = open(&server).await;
    assert!(again.declare(&Declaration::queue("q")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn a_node_that_died_holds_up_no_takeover() {
    let server = start().await;
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let url = server.stomp_url();
    let dying = runtime.spawn(async move {
        let broker = StompRelay::open(config_of(&url)).await.unwrap();
        broker.declare(&Declaration::durable("d", ["t"])).await.unwrap();
        publish(&broker, "t", "held").await;
        let mut consumer = consume(&broker, Source::durable("d"), 10, true).await;
        take(&mut consumer, 1).await;
        (broker, consumer)
    });
    let held = dying.await.unwrap();
    runtime.shutdown_background();
    let broker = open(&server).await;
    let mut consumer = consume(&broker, Source::durable("d"), 10, true).await;
    let taken = take(&mut consumer, 1).await;
    assert!(taken[0].redelivered && texts(&taken) == ["held"]);
    drop(held);
    // It is known to be dead, and asked no more.
    broker.delete(&Source::durable("d")).await.unwrap();
    while consumer.recv().await.is_some() {}
    assert_eq!(consumer.end_reason(), Some(EndReason::Deleted));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn of_many_that_take_over_one_stays_alone() {
    const ROUNDS: usize = 10;
    let server = start().await;
    let nodes = [open(&server).await, open(&server).await, open(&server).await];
    nodes[0].declare(&Declaration::durable("d", ["t"])).await.unwrap();
    let source = Source::durable("d");
    // One that does not take over goes as well.
    let mut before = vec![consume(&nodes[2], source.clone(), 10, false).await];
    for round in 0..ROUNDS {
        let taking = nodes.iter().map(|node| consume(node, source.clone(), 10, true));
        let after = join_all(taking).await;
        for one in &mut before {
            while one.recv().await.is_some() {}
            assert_eq!(one.end_reason(), Some(EndReason::TakenOver));
        }
        before = after;
        until("one consumer is left", async || {
            before.iter().filter(|one| one.end_reason().is_none()).count() == 1
        })
        .await;
        let text = round.to_string();
        publish(&nodes[round % 3], "t", &text).await;
        let live = before.iter_mut().find(|one| one.end_reason().is_none()).unwrap();
        let taken = take(live, 1).await;
        assert_eq!(texts(&taken), [text.as_str()]);
        confirmed(live.acker().ack(&tags(&taken))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn consumers_come_and_go_under_load_and_nothing_is_lost() {
    const COUNT: usize = 2000;
    let server = start().await;
    let broker = open(&server).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let mut heard = consume(&broker, Source::topic("#"), 10, false).await;
    let sending = (0..COUNT).map(|number| {
        let targets = vec![Target::queue("q"), Target::topic("t")];
        broker.publish(Publish::new(targets, Message::new(number.to_string())))
    });
    let confirms = mq_bridge::Confirm::all(sending.collect());
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < COUNT {
        let mut consumer = consume(&broker, Source::queue("q"), 50, false).await;
        let batch = take(&mut consumer, 1).await;
        let (done, refused) = batch.split_at(batch.len().div_ceil(2));
        confirmed(consumer.acker().nack(&tags(refused), Nack::Requeue)).await;
        confirmed(consumer.acker().ack(&tags(done))).await;
        for text in texts(done) {
            assert!(seen.insert(text.parse::<usize>().unwrap()), "{text} was acknowledged");
        }
        // Others come and go on topics meanwhile.
        drop(consume(&broker, Source::topic("t"), 10, false).await);
    }
    confirmed(confirms).await;
    take(&mut heard, 1).await;
    assert!(broker.health().is_up());
}
