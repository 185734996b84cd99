//! Servers that are full, demoted, suspended, forgetful, or not what was asked for.

use std::time::Duration;

use mq_bridge::testkit::servers::TestServer;
use mq_bridge::{
    Broker, BrokerError, Capability, Declaration, EndReason, Message, Publish, Redis, RedisConfig,
    RedisDurability, RemoteOptions, Source,
};
use redis::cmd;

use crate::steps::{
    ack, client, config, confirmed, consume, depth, ended, open, patient, run, send, send_topic,
    start, take, texts, until,
};

fn large(queue: &str) -> Publish {
    Publish::to_queue(queue, Message::new(vec![b'x'; 100_000]))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_full_server_refuses_for_now_and_can_be_emptied() {
    let server = start().await;
    let mut bare = client(&server.url()).await;
    let broker = open(&server.url()).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    confirmed(broker.publish(large("q"))).await.unwrap();
    run::<()>(&mut bare, "CONFIG SET maxmemory 2mb").await;
    let error = loop {
        if let Err(error) = confirmed(broker.publish(large("q"))).await {
            break error;
        }
    };
    assert!(matches!(error, BrokerError::Storage { .. }) && error.is_retryable(), "{error}");
    // A node that comes now can consume, and so make room.
    let other = open(&server.url()).await;
    let mut consumer = consume(&other, Source::queue("q"), 100).await;
    while depth(&other, &Source::queue("q")).await > 0 {
        let batch = consumer.recv().await.unwrap();
        ack(&consumer, &batch).await;
    }
    run::<()>(&mut bare, "CONFIG SET maxmemory 0").await;
    confirmed(broker.publish(large("q"))).await.unwrap();
    assert_eq!(take(&mut consumer, 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_demoted_server_is_down_until_there_is_a_primary() {
    let (server, primary) = (start().await, start().await);
    let mut bare = client(&server.url()).await;
    // Once the broker counts as down, a publish waits no longer than the test does.
    let remote = patient().with_patience(Duration::from_secs(1));
    let broker = Redis::open(config(&server.url()).with_options(remote)).await.unwrap();
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let host = primary.url().replace("redis://", "").replace(':', " ");
    run::<()>(&mut bare, &format!("REPLICAOF {host}")).await;
    let error = loop {
        let outcome = confirmed(broker.publish(Publish::to_queue("q", Message::new("x")))).await;
        if let Err(error) = outcome {
            break error;
        }
    };
    assert!(matches!(error, BrokerError::Disconnected { .. }), "{error}");
    until("it is down", || async { !broker.health().is_up() }).await;
    run::<()>(&mut bare, "REPLICAOF NO ONE").await;
    until("it is up", || async { broker.health().is_up() }).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    send(&broker, "q", &["y"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_suspended_server_is_noticed_and_found_again() {
    let mut server = start().await;
    let impatient = config(&server.url()).with_response_timeout(Duration::from_secs(2));
    let broker = Redis::open(impatient.with_lease(Duration::from_secs(3))).await.unwrap();
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
#[ignore = "needs redis-server"]
async fn flushed_scripts_are_loaded_again_in_order() {
    let server = start().await;
    let mut bare = client(&server.url()).await;
    let broker = open(&server.url()).await;
    broker.declare(&Declaration::durable("d", ["t.*"])).await.unwrap();
    let mut consumer = consume(&broker, Source::durable("d"), 1000).await;
    let mut sent = Vec::new();
    let mut confirms = Vec::new();
    for round in 0..20 {
        run::<()>(&mut bare, "SCRIPT FLUSH").await;
        for number in 0..20 {
            let text = format!("{round}.{number}");
            confirms.push(broker.publish(Publish::to_topic("t.1", Message::new(text.clone()))));
            sent.push(text);
        }
    }
    for confirm in confirms {
        confirmed(confirm).await.unwrap();
    }
    let deliveries = take(&mut consumer, sent.len()).await;
    assert_eq!(texts(&deliveries), sent);
    run::<()>(&mut bare, "SCRIPT FLUSH").await;
    ack(&consumer, &deliveries).await;
    assert_eq!(depth(&broker, &Source::durable("d")).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn durable_is_declared_where_it_is_true_and_stays_so() {
    let mut server = start().await;
    let mut bare = client(&server.url()).await;
    let durable = |broker: &Redis| broker.capabilities().has(Capability::Durable);
    let open_with = |durability| Redis::open(config(&server.url()).with_durability(durability));
    let detected = open_with(RedisDurability::Detected).await.unwrap();
    assert!(durable(&detected));
    run::<()>(&mut bare, "CONFIG SET appendfsync everysec").await;
    assert!(!durable(&open_with(RedisDurability::Detected).await.unwrap()));
    assert!(durable(&open_with(RedisDurability::Assumed).await.unwrap()));
    let refused = open_with(RedisDurability::Required).await.unwrap_err();
    assert_eq!(refused, BrokerError::Unsupported(Capability::Durable));
    // What was declared to be durable is not used otherwise.
    run::<()>(&mut bare, "CLIENT KILL TYPE normal SKIPME yes").await;
    until("it is down", || async { !detected.health().is_up() }).await;
    let health = format!("{:?}", detected.health());
    until("it says why", || async { format!("{:?}", detected.health()).contains("durable") }).await;
    assert!(durable(&detected), "{health}");
    run::<()>(&mut bare, "CONFIG SET appendfsync always").await;
    until("it is up", || async { detected.health().is_up() }).await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_confirmation_can_wait_for_replicas() {
    let (server, replica) = (start().await, start().await);
    let replicated = config(&server.url()).with_replicas(1, Duration::from_millis(200));
    let broker = Redis::open(replicated).await.unwrap();
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let alone = confirmed(broker.publish(Publish::to_queue("q", Message::new("x")))).await;
    let Err(BrokerError::Disconnected { reason }) = alone else { panic!("{alone:?}") };
    assert_eq!(&*reason, "0 of 1 replicas have it");
    let host = server.url().replace("redis://", "").replace(':', " ");
    run::<()>(&mut client(&replica.url()).await, &format!("REPLICAOF {host}")).await;
    until("the replica has it", || async {
        confirmed(broker.publish(Publish::to_queue("q", Message::new("y")))).await.is_ok()
    })
    .await;
    let kept: u64 = run(&mut client(&replica.url()).await, "XLEN {mq}:q:q").await;
    assert_eq!(kept, depth(&broker, &Source::queue("q")).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn wrong_credentials_and_missing_permissions_are_refused_at_once() {
    let server = start().await;
    let mut bare = client(&server.url()).await;
    let patient = RemoteOptions::new().with_connect_timeout(Duration::from_secs(600));
    let open_as = |user: &str| {
        let url = server.url().replace("redis://", &format!("redis://{user}@"));
        Redis::open(RedisConfig::new(url).with_options(patient))
    };
    let rules = [
        ("good", &["~*", "&*", "+@all"][..]),
        // As hosted servers have it.
        ("modest", &["~{mq}:*", "&{mq}:*", "+@all", "-@admin", "-config"]),
        ("keyless", &["~other:*", "&*", "+@all"]),
        ("mute", &["~*", "&*", "+@all", "-@scripting"]),
    ];
    for (name, rules) in rules {
        let mut call = cmd("ACL");
        call.arg("SETUSER").arg(name).arg("on").arg(">secret").arg(rules);
        call.query_async::<()>(&mut bare).await.unwrap();
    }
    for user in ["good:wrong", "keyless:secret", "mute:secret"] {
        let error = open_as(user).await.unwrap_err();
        assert!(matches!(error, BrokerError::Refused { .. }), "{user}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    assert!(open_as("good:secret").await.unwrap().capabilities().has(Capability::Durable));
    let modest = open_as("modest:secret").await.unwrap();
    assert!(!modest.capabilities().has(Capability::Durable));
    modest.declare(&Declaration::durable("d", ["a.*"])).await.unwrap();
    send_topic(&modest, "a.b", "x").await;
    let mut consumer = consume(&modest, Source::durable("d"), 1).await;
    assert_eq!(texts(&take(&mut consumer, 1).await), ["x"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn one_key_that_somebody_has_spoiled_harms_no_other() {
    let server = start().await;
    let mut bare = client(&server.url()).await;
    let broker = open(&server.url()).await;
    for name in ["good", "bad"] {
        broker.declare(&Declaration::queue(name)).await.unwrap();
    }
    run::<()>(&mut bare, "SET {mq}:q:bad spoiled").await;
    let publish = |name| broker.publish(Publish::to_queue(name, Message::new("x")));
    let confirms: Vec<_> = (0..100).flat_map(|_| [publish("good"), publish("bad")]).collect();
    for (index, confirm) in confirms.into_iter().enumerate() {
        match confirmed(confirm).await {
            Ok(()) => assert_eq!(index % 2, 0),
            Err(error) => {
                assert!(matches!(error, BrokerError::Refused { .. }), "{error}");
                assert_eq!(index % 2, 1, "{error}");
            }
        }
    }
    assert_eq!(depth(&broker, &Source::queue("good")).await, 100);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_stream_that_somebody_has_removed_is_made_anew() {
    let server = start().await;
    let mut bare = client(&server.url()).await;
    let broker = open(&server.url()).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let mut consumer = consume(&broker, Source::queue("q"), 10).await;
    run::<()>(&mut bare, "DEL {mq}:q:q").await;
    send(&broker, "q", &["x"]).await;
    ended(&mut consumer).await;
    assert!(matches!(consumer.end_reason(), Some(EndReason::Broker(_))));
    drop(consumer);
    let mut consumer = consume(&broker, Source::queue("q"), 10).await;
    assert_eq!(texts(&take(&mut consumer, 1).await), ["x"]);
}
