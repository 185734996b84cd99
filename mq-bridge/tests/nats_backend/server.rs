//! Servers that are full, suspended, or not what was asked for.

use std::time::Duration;

use mq_bridge::testkit::servers::TestServer;
use mq_bridge::{
    Broker, BrokerError, Declaration, Headers, Message, Nats, NatsConfig, Publish, RemoteOptions,
    Source,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::steps::{
    ack, api, config, confirmed, consume, depth, open, send, start, take, texts, until,
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn a_full_stream_refuses_for_now_and_can_be_emptied() {
    let server = start().await;
    let bare = async_nats::connect(server.url()).await.unwrap();
    let broker = open(&server.url()).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let mut settings = api(&bare, "STREAM.INFO.mq-queues", "").await["config"].take();
    settings["max_bytes"] = 1_000_000.into();
    let updated = api(&bare, "STREAM.UPDATE.mq-queues", &settings.to_string()).await;
    assert!(updated["error"].is_null(), "{updated}");
    let large = || Publish::to_queue("q", Message::new(vec![b'x'; 100_000]));
    let error = loop {
        if let Err(error) = confirmed(broker.publish(large())).await {
            break error;
        }
    };
    assert!(matches!(error, BrokerError::Storage { .. }) && error.is_retryable(), "{error}");
    assert!(broker.health().is_up());
    let stored = usize::try_from(depth(&broker, &Source::queue("q")).await).unwrap();
    let mut consumer = consume(&broker, Source::queue("q"), 100).await;
    let taken = take(&mut consumer, stored).await;
    ack(&consumer, &taken).await;
    confirmed(broker.publish(large())).await.unwrap();
    assert_eq!(take(&mut consumer, 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn a_suspended_server_is_noticed_and_found_again() {
    let mut server = start().await;
    let broker = open(&server.url()).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let mut consumer = consume(&broker, Source::queue("q"), 10).await;
    server.suspend().unwrap();
    until("it is down", || async { !broker.health().is_up() }).await;
    server.resume().unwrap();
    until("it is up", || async { broker.health().is_up() }).await;
    send(&broker, "q", &["x"]).await;
    assert_eq!(texts(&take(&mut consumer, 1).await), ["x"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn headers_that_grow_on_the_wire_are_refused_before_they_are_sent() {
    let server = start().await;
    let broker = open(&server.url()).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let limit = broker.capabilities().max_message();
    // Octets that are no text take a third more.
    let octets = vec![0xff; limit - 100];
    let headers: Headers = [("octets", octets)].into_iter().collect();
    let message = Message::new("x").with_headers(headers);
    let outcome = confirmed(broker.publish(Publish::to_queue("q", message))).await;
    assert!(matches!(outcome, Err(BrokerError::TooLarge { .. })), "{outcome:?}");
    // As much as fits does.
    confirmed(broker.publish(Publish::to_queue("q", Message::new(vec![b'x'; limit]))))
        .await
        .unwrap();
    send(&broker, "q", &["next"]).await;
    assert_eq!(depth(&broker, &Source::queue("q")).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server from Python's packages"]
async fn a_stream_that_is_something_else_is_refused_and_left_alone() {
    let server = start().await;
    let bare = async_nats::connect(server.url()).await.unwrap();
    let other = r#"{"name":"mq-topics","subjects":["mine"],"retention":"limits","storage":"file"}"#;
    api(&bare, "STREAM.CREATE.mq-topics", other).await;
    let error = Nats::open(config(&server.url())).await.unwrap_err();
    assert!(matches!(error, BrokerError::Refused { .. }), "{error}");
    let found = api(&bare, "STREAM.INFO.mq-topics", "").await;
    assert_eq!(found["config"]["subjects"][0], "mine");
}

/// A server that says this to whoever connects, and that once it has been spoken to.
async fn pretend(info: &'static str, then: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (reading, mut writing) = client.split();
                let greeting = format!("INFO {info}\r\n");
                let _ = writing.write_all(greeting.as_bytes()).await;
                let mut lines = BufReader::new(reading).lines();
                while let Ok(Some(_)) = lines.next_line().await {
                    let _ = writing.write_all(then.as_bytes()).await;
                }
            });
        }
    });
    address.to_string()
}

const INFO: &str =
    r#"{"server_id":"x","version":"2.12.0","max_payload":1048576,"headers":true,"jetstream":true}"#;

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_refused_at_once() {
    let address = pretend(INFO, "-ERR 'Authorization Violation'\r\n").await;
    let patient = RemoteOptions::new().with_connect_timeout(Duration::from_secs(600));
    let config = NatsConfig::new(format!("nats://user:secret@{address}")).with_options(patient);
    let error = Nats::open(config).await.unwrap_err();
    assert!(matches!(error, BrokerError::Refused { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_at_once() {
    for config in [
        NatsConfig::new("redis://localhost"),
        NatsConfig::new("tls://localhost"),
        NatsConfig::new("nats://local host"),
        NatsConfig::new("nats://localhost").with_prefix("a.b"),
        NatsConfig::new("nats://localhost").with_prefix(""),
        NatsConfig::new("nats://localhost").with_ack_wait(Duration::ZERO),
    ] {
        let shown = format!("{config:?}");
        let error = Nats::open(config).await.unwrap_err();
        assert!(matches!(error, BrokerError::Refused { .. }), "{shown}: {error}");
    }
    let wants_tls = r#"{"server_id":"x","version":"2.12.0","max_payload":1048576,"headers":true,"tls_required":true}"#;
    let address = pretend(wants_tls, "").await;
    // Whether the client has TLS depends on what else the program is built of; this server has not.
    Nats::open(NatsConfig::new(format!("nats://{address}"))).await.unwrap_err();
}
