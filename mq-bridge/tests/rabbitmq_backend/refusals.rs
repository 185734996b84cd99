//! What the broker refuses, and what it cannot do at the moment.

use std::time::Duration;

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use mq_bridge::{
    Broker, BrokerError, Declaration, Health, Message, Publish, RabbitMq, RemoteOptions, Source,
    SubscribeOptions, Target,
};
use tokio::time::{Instant, timeout};

use crate::proxy::Proxy;
use crate::steps::{PATIENCE, Server, confirmed, consume, send, take, texts, until};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn wrong_credentials_are_refused_at_once_and_not_shown() {
    let server = Server::start().await;
    let url = server.amqp_url();
    for url in [url.replace("guest:guest", "guest:hunter2"), url.replace("%2f", "nowhere")] {
        let patient = RemoteOptions::new().with_connect_timeout(Duration::from_secs(600));
        let config = server.config(&url).with_remote(patient);
        let opening = timeout(PATIENCE, RabbitMq::open(config)).await;
        let error = opening.expect("it is tried again and again").unwrap_err();
        assert!(matches!(error, BrokerError::Refused { .. }), "{error:?}");
        assert!(!error.is_retryable() && !format!("{error:?} {error}").contains("hunter2"));
    }
    let shown = format!("{:?}", server.open().await);
    assert!(!shown.contains("guest"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn a_queue_of_another_kind_is_refused_and_disturbs_nothing() {
    let server = Server::start().await;
    let broker = server.open().await;
    broker.declare(&Declaration::queue("ours")).await.unwrap();
    let mut consumer = consume(&broker, Source::queue("ours")).await;
    let client = server.client().await;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    client.queue_declare(server.name("theirs"), durable, FieldTable::default()).await.unwrap();
    let error = broker.declare(&Declaration::queue("theirs")).await.unwrap_err();
    assert!(matches!(&error, BrokerError::Refused { reason } if reason.contains("x-queue-type")));
    assert!(!error.is_retryable());
    // It can be used all the same.
    send(&broker, "theirs", &["a"]).await;
    let mut theirs = consume(&broker, Source::queue("theirs")).await;
    assert_eq!(texts(&take(&mut theirs, 1).await), ["a"]);
    send(&broker, "ours", &["b"]).await;
    assert_eq!(texts(&take(&mut consumer, 1).await), ["b"]);
    assert!(consumer.end_reason().is_none() && broker.health().is_up());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn names_that_amqp_cannot_hold_are_refused() {
    let server = Server::start().await;
    let broker = server.open().await;
    let long = "x".repeat(300);
    let invalid = |outcome: Result<(), BrokerError>| {
        let error = outcome.unwrap_err();
        assert!(matches!(error, BrokerError::InvalidName { .. }), "{error:?}");
    };
    broker.declare(&Declaration::queue("q")).await.unwrap();
    invalid(broker.declare(&Declaration::queue(&*long)).await);
    invalid(broker.declare(&Declaration::durable("d", [&*long])).await);
    invalid(broker.subscribe(Source::queue(&*long), SubscribeOptions::new()).await.map(drop));
    invalid(broker.subscribe(Source::topic(&*long), SubscribeOptions::new()).await.map(drop));
    let targets = vec![Target::queue("q"), Target::topic(&*long)];
    invalid(confirmed(broker.publish(Publish::new(targets, Message::new("x")))).await);
    assert_eq!(broker.stats(&Source::queue("q")).await.unwrap().depth, 0, "it went somewhere");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn a_message_with_a_missing_queue_among_its_targets_goes_nowhere() {
    let server = Server::start().await;
    let broker = server.open().await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    broker.declare(&Declaration::durable("d", ["t"])).await.unwrap();
    let targets = vec![Target::queue("q"), Target::topic("t"), Target::queue("missing")];
    let publish = Publish::new(targets, Message::new("x"));
    let outcome = confirmed(broker.publish(publish)).await;
    assert!(matches!(outcome, Err(BrokerError::NotDeclared { .. })), "{outcome:?}");
    for source in [Source::queue("q"), Source::durable("d")] {
        assert_eq!(broker.stats(&source).await.unwrap().depth, 0);
    }
}

/// The client library gives returned messages out with whichever confirmation comes next.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn of_many_publishes_exactly_those_to_a_queue_that_vanished_fail() {
    const COUNT: usize = 300;
    let server = Server::start().await;
    let broker = server.open().await;
    let client = server.client().await;
    for round in 0..5 {
        let vanishing = format!("vanishing{round}");
        for name in ["kept", &*vanishing] {
            broker.declare(&Declaration::queue(name)).await.unwrap();
            send(&broker, name, &["known"]).await;
        }
        let name = server.name(&vanishing);
        client.queue_delete(name, QueueDeleteOptions::default()).await.unwrap();
        let confirms: Vec<_> = (0..COUNT)
            .map(|index| {
                let name = if index % 3 == 1 { &*vanishing } else { "kept" };
                (name, broker.publish(Publish::to_queue(name, Message::new("x"))))
            })
            .collect();
        for (index, (name, confirm)) in confirms.into_iter().enumerate() {
            let outcome = confirmed(confirm).await;
            if name == "kept" {
                assert_eq!(outcome, Ok(()), "round {round}, publish {index}");
            } else {
                let missing = matches!(outcome, Err(BrokerError::NotDeclared { .. }));
                assert!(missing, "round {round}, publish {index}: {outcome:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rabbitmq-server"]
async fn health_says_that_the_broker_takes_no_messages() {
    /// `connection.blocked` and `connection.unblocked`, as they come when memory runs low.
    const BLOCKED: &[u8] = b"\x01\0\0\0\0\0\x0f\0\x0a\0\x3c\x0alow memory\xce";
    const UNBLOCKED: &[u8] = b"\x01\0\0\0\0\0\x04\0\x0a\0\x3d\xce";
    let server = Server::start().await;
    let proxy = Proxy::to(&server.amqp_url()).await;
    let broker = RabbitMq::open(server.config(&proxy.url())).await.unwrap();
    broker.declare(&Declaration::queue("q")).await.unwrap();
    send(&broker, "q", &["before"]).await;
    assert_eq!(broker.health(), Health::Up);
    proxy.say(BLOCKED).await;
    until("degraded", async || match broker.health() {
        Health::Degraded { reason } => reason.contains("low memory"),
        _ => false,
    })
    .await;
    let waiting = broker.publish(Publish::to_queue("q", Message::new("waits")));
    let asked = Instant::now();
    proxy.say(UNBLOCKED).await;
    until("up", async || broker.health().is_up()).await;
    confirmed(waiting).await.unwrap();
    assert!(asked.elapsed() < PATIENCE);
}
