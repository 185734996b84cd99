//! Other programs on the same server, and a server that refuses.

use mq_bridge::testkit::servers::ActiveMq;
use mq_bridge::{
    Broker, BrokerError, Declaration, Headers, Message, Publish, Source, StompRelay,
    StompRelayConfig, Target,
};
use stomp_codec::{Command, Frame};

use crate::steps::{Program, config, confirmed, consume, open, start, tags, take, texts};

fn to(command: Command, destination: &str) -> Frame {
    Frame::new(command).with_header("destination", destination)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs activemq"]
async fn what_another_program_sends_is_delivered_and_acknowledged() {
    let server = start().await;
    let mut program = Program::connect(&server);
    let send = to(Command::Send, "/queue/jobs").with_header("persistent", "true");
    program.ask(send.with_header("kind", "note").with_header("mq-order", "x").with_body("hello"));
    let broker = open(&server).await;
    broker.declare(&Declaration::queue("jobs")).await.unwrap();
    let mut consumer = consume(&broker, Source::queue("jobs"), 10, false).await;
    program.ask(to(Command::Send, "/queue/jobs"));
    let taken = take(&mut consumer, 2).await;
    assert_eq!(texts(&taken), ["hello", ""]);
    assert_eq!(taken[0].target, Target::queue("jobs"));
    assert!(taken[0].message.persistent && !taken[1].message.persistent);
    confirmed(consumer.acker().ack(&tags(&taken))).await;
    assert_eq!(broker.stats(&Source::queue("jobs")).await.unwrap().depth, 0);

    let mut live = consume(&broker, Source::topic("news.*"), 10, false).await;
    program.ask(to(Command::Send, "/topic/news.today").with_body("to all"));
    let heard = take(&mut live, 1).await;
    assert_eq!((texts(&heard), &heard[0].target), (vec!["to all"], &Target::topic("news.today")));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs activemq"]
async fn another_program_gets_what_is_published() {
    let server = start().await;
    let broker = open(&server).await;
    broker.declare(&Declaration::queue("jobs")).await.unwrap();
    let mut program = Program::connect(&server);
    for (id, destination) in [("0", "/queue/jobs"), ("1", "/topic/news.>")] {
        program.ask(to(Command::Subscribe, destination).with_header("id", id));
    }
    let headers: Headers = [("kind", "note: 1"), ("kind", "again")].into_iter().collect();
    let message = Message::new("hello").with_headers(headers).with_priority(7);
    for target in [Target::queue("jobs"), Target::topic("news.today")] {
        let destination = format!(
            "/{}/{}",
            if matches!(target, Target::Queue(_)) { "queue" } else { "topic" },
            target.name()
        );
        confirmed(broker.publish(Publish::new(vec![target], message.clone()))).await;
        let heard = program.hear();
        let header = |name| heard.header(name).map(|value| value.into_owned());
        assert_eq!(header("destination"), Some(destination));
        assert_eq!(header("kind").as_deref(), Some("note: 1"));
        assert_eq!(header("priority").as_deref(), Some("7"));
        assert_eq!(heard.body(), b"hello");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs activemq"]
async fn wrong_credentials_are_refused_at_once() {
    let server = ActiveMq::start_with_users(&[("alice", "s3cret")]).await.unwrap();
    for (user, opens) in [("alice:s3cret", true), ("alice:wrong", false), ("eve", false)] {
        let config = StompRelayConfig::new(format!("stomp://{user}@{}", server.stomp_addr()));
        let outcome = StompRelay::open(config).await;
        assert_eq!(outcome.is_ok(), opens, "{user}");
        if let Err(error) = outcome {
            assert!(matches!(&error, BrokerError::Refused { .. }), "{error}");
            assert!(!error.to_string().contains("wrong"), "{error}");
        }
    }
    let anonymous = StompRelay::open(config(&server)).await.unwrap_err();
    assert!(matches!(&anonymous, BrokerError::Refused { .. }), "{anonymous}");
}
