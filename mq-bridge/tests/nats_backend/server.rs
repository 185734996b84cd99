//! Servers that are full, suspended, or not what was asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mq_bridge::testkit::servers::{self, TestServer};
use mq_bridge::{
    Broker, BrokerError, Declaration, Headers, Message, Nats, NatsConfig, Publish, RemoteOptions,
    Source, Subscription, Target,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::steps::{
    ack, api, config, confirmed, consume, depth, open, send, send_topic, start, start_old, take,
    texts, until,
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

/// As a server does that is killed while it replaces the last file of a stream: it has no message any
/// more, and forgets how many there were.
async fn lose_its_place(server: &mut servers::Nats, stream: &str) {
    server.stop().await.unwrap();
    let folder = server.store().join("$G/streams").join(stream).join("msgs");
    for file in fs::read_dir(folder).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    TestServer::start(server).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server, and the one from Python's packages"]
async fn what_is_confirmed_after_a_stream_has_lost_its_place_is_delivered() {
    // Places that can be filled, and more than that.
    for count in [20, 12_000] {
        for mut server in [start().await, start_old().await] {
            let broker = open(&server.url()).await;
            broker.declare(&Declaration::queue("q")).await.unwrap();
            broker.declare(&Declaration::durable("d", ["#"])).await.unwrap();
            broker.declare(&Declaration::durable("idle", ["#"])).await.unwrap();
            let targets = || vec![Target::queue("q"), Target::topic("t")];
            let before = (0..count).map(|_| Publish::new(targets(), Message::new("before")));
            confirmed(broker.publish_batch(before.collect())).await.unwrap();
            for source in [Source::queue("q"), Source::durable("d")] {
                let mut consumer = consume(&broker, source, 20_000).await;
                let taken = take(&mut consumer, count).await;
                // The first is held when the server stops: all that came after it may be forgotten.
                ack(&consumer, &taken[1..]).await;
            }
            drop(broker);
            for stream in ["mq-queues", "mq-topics"] {
                lose_its_place(&mut server, stream).await;
            }
            // A node that remembers nothing.
            let broker = open(&server.url()).await;
            let after = ["one", "two", "three"];
            send(&broker, "q", &after).await;
            for text in after {
                send_topic(&broker, "t", text).await;
            }
            assert_eq!(depth(&broker, &Source::durable("idle")).await, 3);
            for source in [Source::queue("q"), Source::durable("d"), Source::durable("idle")] {
                let mut consumer = consume(&broker, source, 10).await;
                let taken = take(&mut consumer, after.len()).await;
                assert_eq!(texts(&taken), after);
                assert!(taken.iter().all(|one| !one.redelivered));
            }
        }
    }
}

/// A server whose consumer of the queue `q` has delivered three messages to `broker`, and where that is
/// written down. An older message keeps the server from passing over what is gone.
async fn delivered(server: &mut servers::Nats, broker: &Nats) -> (Subscription, PathBuf, Vec<u8>) {
    broker.declare(&Declaration::queue("other")).await.unwrap();
    send(broker, "other", &["older"]).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let mut consumer = consume(broker, Source::queue("q"), 10).await;
    send(broker, "q", &["a", "b", "c"]).await;
    take(&mut consumer, 3).await;
    server.stop().await.unwrap();
    let path = server.store().join("$G/streams/mq-queues/obs/q/o.dat");
    let state = fs::read(&path).unwrap();
    TestServer::start(server).await.unwrap();
    (consumer, path, state)
}

/// Puts the server back to where it has written down what is no longer so.
async fn forget(server: &mut servers::Nats, path: &Path, state: &[u8]) {
    server.stop().await.unwrap();
    fs::write(path, state).unwrap();
    TestServer::start(server).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server"]
async fn what_is_held_and_gone_from_its_stream_is_not_waited_for() {
    let mut server = start_old().await;
    let broker = open(&server.url()).await;
    let (mut consumer, path, state) = delivered(&mut server, &broker).await;
    take(&mut consumer, 3).await;
    let bare = async_nats::connect(server.url()).await.unwrap();
    for seq in 2..=4 {
        let deleted = format!("{{\"seq\":{seq}}}");
        api(&bare, "STREAM.MSG.DELETE.mq-queues", &deleted).await;
    }
    forget(&mut server, &path, &state).await;
    until("nothing waits", || async { depth(&broker, &Source::queue("q")).await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server"]
async fn what_was_acknowledged_stays_so_however_often_the_server_forgets_it() {
    let mut server = start_old().await;
    let broker = open(&server.url()).await;
    let (mut consumer, path, state) = delivered(&mut server, &broker).await;
    let taken = take(&mut consumer, 3).await;
    ack(&consumer, &taken).await;
    for _ in 0..2 {
        forget(&mut server, &path, &state).await;
        until("nothing waits", || async { depth(&broker, &Source::queue("q")).await == 0 }).await;
    }
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
