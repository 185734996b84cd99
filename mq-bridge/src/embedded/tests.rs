//! What is particular to the broker in a file; the promises common to all backends are checked by
//! the conformance kit, and death by `kill -9` in `tests/embedded_kill.rs`.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::{
    Broker, Declaration, Delivery, EndReason, Health, Message, Nack, Overflow, Publish, Source,
    SubscribeOptions, Subscription, Target,
};

const LONG: Duration = Duration::from_secs(20);

pub(super) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

pub(super) async fn open(folder: &TempDir) -> Embedded {
    Embedded::open(EmbeddedConfig::new(folder.path().join("queue.db"))).await.unwrap()
}

pub(super) fn message(body: u32) -> Message {
    Message::new(body.to_string())
}

async fn next(subscription: &mut Subscription) -> Vec<Delivery> {
    timeout(LONG, subscription.recv()).await.expect("a batch in time").expect("a live subscription")
}

/// As many deliveries as asked for, from however many batches.
pub(super) async fn some(subscription: &mut Subscription, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(next(subscription).await);
    }
    assert_eq!(all.len(), count);
    all
}

pub(super) fn bodies(batch: &[Delivery]) -> Vec<u32> {
    batch
        .iter()
        .map(|one| std::str::from_utf8(&one.message.body).unwrap().parse().unwrap())
        .collect()
}

pub(super) fn marks(batch: &[Delivery]) -> Vec<(bool, u32)> {
    batch.iter().map(|one| (one.redelivered, one.delivery_count)).collect()
}

fn is_idle(subscription: &mut Subscription) -> bool {
    futures::FutureExt::now_or_never(subscription.recv()).is_none()
}

pub(super) async fn depth(broker: &Embedded, source: &Source) -> u64 {
    broker.stats(source).await.unwrap().depth
}

pub(super) fn rows(path: &Path, table: &str) -> i64 {
    let connection = rusqlite::Connection::open(path.join("queue.db")).unwrap();
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

pub(super) fn options(prefetch: u32) -> SubscribeOptions {
    SubscribeOptions::new().with_prefetch(prefetch, usize::MAX)
}

#[tokio::test]
async fn marks_and_counts_survive_a_restart_and_only_what_was_delivered_is_marked() {
    let folder = folder();
    let broker = open(&folder).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let batch = (0..6).map(|body| Publish::to_queue("q", message(body))).collect();
    broker.publish_batch(batch).await.unwrap();
    let mut subscription = broker.subscribe(Source::queue("q"), options(4)).await.unwrap();
    let seen = some(&mut subscription, 4).await;
    assert_eq!(bodies(&seen), [0, 1, 2, 3]);
    subscription.acker().ack(&[seen[1].tag]).await.unwrap();
    subscription.acker().nack(&[seen[0].tag], Nack::Requeue).await.unwrap();
    // Makes room for two: the refused one again, and the next.
    let again = some(&mut subscription, 2).await;
    assert_eq!(bodies(&again), [0, 4]);
    assert_eq!(marks(&again), [(true, 2), (false, 1)]);
    broker.shutdown().await;
    assert_eq!(timeout(LONG, subscription.recv()).await.unwrap(), None);
    assert_eq!(subscription.end_reason(), Some(EndReason::ShutDown));

    let broker = open(&folder).await;
    let mut subscription = broker.subscribe(Source::queue("q"), options(10)).await.unwrap();
    let seen = some(&mut subscription, 5).await;
    assert_eq!(bodies(&seen), [0, 2, 3, 4, 5]);
    assert_eq!(marks(&seen), [(true, 3), (true, 2), (true, 2), (true, 2), (false, 1)]);
    let tags: Vec<u64> = seen.iter().map(|one| one.tag).collect();
    subscription.acker().ack(&tags).await.unwrap();
    broker.shutdown().await;
    for table in ["entry", "message", "refs", "journal", "waiting"] {
        assert_eq!(rows(folder.path(), table), 0, "{table}");
    }
}

#[tokio::test]
async fn one_message_to_many_targets_is_stored_once_until_the_last_has_it() {
    let folder = folder();
    let broker = open(&folder).await;
    for index in 0..20 {
        let name = format!("inbox.{index}");
        broker.declare(&Declaration::durable(name.clone(), [name, "all.#".into()])).await.unwrap();
    }
    let targets = (0..20).map(|index| Target::topic(format!("inbox.{index}")));
    let targets = targets.chain([Target::topic("all.people")]).collect();
    broker.publish(Publish::new(targets, message(7))).await.unwrap();
    broker.shutdown().await;
    assert_eq!((rows(folder.path(), "message"), rows(folder.path(), "entry")), (1, 20));

    let broker = open(&folder).await;
    for index in 0..20 {
        let source = Source::durable(format!("inbox.{index}"));
        assert_eq!(depth(&broker, &source).await, 1);
        if index % 2 == 0 {
            broker.delete(&source).await.unwrap();
        } else {
            let mut subscription = broker.subscribe(source, options(10)).await.unwrap();
            let seen = some(&mut subscription, 1).await;
            assert_eq!(seen[0].target, Target::topic(format!("inbox.{index}")));
            assert_eq!(seen[0].message.body, "7");
            subscription.acker().ack(&[seen[0].tag]).await.unwrap();
        }
    }
    broker.shutdown().await;
    // What was deleted may be emptied at the next start.
    let broker = open(&folder).await;
    broker.declare(&Declaration::queue("later")).await.unwrap();
    for _ in 0..20 {
        broker.publish(Publish::to_queue("later", message(1))).await.unwrap();
    }
    broker.delete(&Source::queue("later")).await.unwrap();
    broker.declare(&Declaration::queue("other")).await.unwrap();
    broker.declare(&Declaration::queue("another")).await.unwrap();
    broker.shutdown().await;
    for table in ["entry", "message", "refs", "journal", "waiting"] {
        assert_eq!(rows(folder.path(), table), 0, "{table}");
    }
}

/// Acknowledgements of neighbours go together; those of others are in any order, and come once more.
#[tokio::test]
async fn exactly_what_was_acknowledged_goes_whatever_the_order() {
    let folder = folder();
    let broker = open(&folder).await;
    for name in ["one", "other"] {
        broker.declare(&Declaration::durable(name, ["news"])).await.unwrap();
    }
    let publish = |body| Publish::to_topic("news", message(body));
    broker.publish_batch((0..60).map(publish).collect()).await.unwrap();
    let wanted = |name, body: u32| {
        if name == "one" { body % 7 == 3 } else { !(20..=50).contains(&body) }
    };
    for name in ["one", "other"] {
        let mut subscription = broker.subscribe(Source::durable(name), options(100)).await.unwrap();
        let mut seen = some(&mut subscription, 60).await;
        seen.retain(|one| !wanted(name, bodies(std::slice::from_ref(one))[0]));
        let (mut tags, acker) =
            (seen.iter().map(|one| one.tag).collect::<Vec<_>>(), subscription.acker());
        let later = tags.split_off(tags.len() / 2);
        tags.reverse();
        let (first, second) = (acker.ack(&tags), acker.ack(&later));
        first.await.unwrap();
        second.await.unwrap();
    }
    broker.shutdown().await;
    let left = (0..60).filter(|body| wanted("one", *body) || wanted("other", *body)).count();
    assert_eq!(rows(folder.path(), "message"), left as i64);

    let broker = open(&folder).await;
    for name in ["one", "other"] {
        let expected: Vec<u32> = (0..60).filter(|body| wanted(name, *body)).collect();
        let source = Source::durable(name);
        assert_eq!(depth(&broker, &source).await, expected.len() as u64);
        let mut subscription = broker.subscribe(source, options(100)).await.unwrap();
        let seen = some(&mut subscription, expected.len()).await;
        assert_eq!(bodies(&seen), expected, "{name}");
        let tags: Vec<_> = seen.iter().map(|one| one.tag).collect();
        subscription.acker().ack(&tags).await.unwrap();
    }
    broker.shutdown().await;
    for table in ["entry", "message", "refs", "journal", "waiting"] {
        assert_eq!(rows(folder.path(), table), 0, "{table}");
    }
}

#[tokio::test]
async fn topics_without_a_durable_subscriber_are_not_stored() {
    let folder = folder();
    let broker = open(&folder).await;
    let mut live = broker.subscribe(Source::topic("t.*"), SubscribeOptions::new()).await.unwrap();
    broker.publish(Publish::to_topic("t.a", message(1))).await.unwrap();
    broker.declare(&Declaration::durable("d", ["t.b"])).await.unwrap();
    broker.publish(Publish::to_topic("t.b", message(2))).await.unwrap();
    broker.publish(Publish::to_topic("t.a", message(3))).await.unwrap();
    assert_eq!(bodies(&some(&mut live, 3).await), [1, 2, 3]);
    broker.shutdown().await;
    assert_eq!(rows(folder.path(), "message"), 1);
}

/// P3: a publish that needs no disk does not overtake one that does.
#[tokio::test]
async fn topic_subscribers_see_stored_and_unstored_messages_in_order() {
    let folder = folder();
    let broker = open(&folder).await;
    broker.declare(&Declaration::durable("d", ["t.stored"])).await.unwrap();
    let buffer = SubscribeOptions::new().with_buffer(usize::MAX, Overflow::Disconnect);
    let mut live = broker.subscribe(Source::topic("t.#"), buffer).await.unwrap();
    for round in 0..200 {
        let topic = if round % 3 == 0 { "t.stored" } else { "t.other" };
        drop(broker.publish(Publish::to_topic(topic, message(round))));
    }
    let seen = some(&mut live, 200).await;
    assert_eq!(bodies(&seen), (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_consumer_that_is_behind_reads_everything_in_order_while_more_arrives() {
    let folder = folder();
    let broker = open(&folder).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let batch = (0..500).map(|body| Publish::to_queue("q", message(body))).collect();
    broker.publish_batch(batch).await.unwrap();
    let mut subscription = broker.subscribe(Source::queue("q"), options(16)).await.unwrap();
    let acker = subscription.acker();
    let mut seen = Vec::new();
    let mut sent = 500;
    while seen.len() < 1000 {
        let batch = next(&mut subscription).await;
        assert!(batch.len() <= 16);
        assert!(batch.iter().all(|one| !one.redelivered));
        let tags: Vec<u64> = batch.iter().map(|one| one.tag).collect();
        seen.extend(bodies(&batch));
        drop(acker.ack(&tags));
        for _ in 0..batch.len() {
            if sent < 1000 {
                drop(broker.publish(Publish::to_queue("q", message(sent))));
                sent += 1;
            }
        }
    }
    assert_eq!(seen, (0..1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn consumers_that_come_and_go_lose_and_repeat_nothing_they_acknowledged() {
    let folder = folder();
    let broker = open(&folder).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let mut acked = Vec::new();
    let mut sent = 0;
    for round in 0..60_u32 {
        for _ in 0..10 {
            drop(broker.publish(Publish::to_queue("q", message(sent))));
            sent += 1;
        }
        let takeover = options(7).with_takeover(round % 2 == 0);
        let mut subscription = broker.subscribe(Source::queue("q"), takeover).await.unwrap();
        let batch = next(&mut subscription).await;
        let (done, _left) = batch.split_at(batch.len().div_ceil(2));
        acked.extend(bodies(done));
        drop(subscription.acker().ack(&done.iter().map(|one| one.tag).collect::<Vec<_>>()));
    }
    let mut subscription = broker.subscribe(Source::queue("q"), options(100)).await.unwrap();
    while acked.len() < 600 {
        let batch = next(&mut subscription).await;
        acked.extend(bodies(&batch));
        drop(subscription.acker().ack(&batch.iter().map(|one| one.tag).collect::<Vec<_>>()));
    }
    assert_eq!(acked, (0..600).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_full_file_fails_publishes_retryably_and_acknowledging_makes_room() {
    let folder = folder();
    let config = EmbeddedConfig::new(folder.path().join("queue.db")).with_max_file_bytes(1 << 20);
    let broker = Embedded::open(config).await.unwrap();
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let large = |body: u32| Message::new(format!("{body:0>30000}"));
    let mut confirmed = 0;
    let error = loop {
        match broker.publish(Publish::to_queue("q", large(confirmed))).await {
            Ok(()) => confirmed += 1,
            Err(error) => break error,
        }
    };
    assert!(error.is_retryable() && matches!(error, BrokerError::Storage { .. }), "{error}");
    assert!(confirmed > 10, "{confirmed}");
    assert!(matches!(broker.health(), Health::Degraded { .. }));
    let mut subscription = broker.subscribe(Source::queue("q"), options(1000)).await.unwrap();
    let seen = some(&mut subscription, confirmed as usize).await;
    assert_eq!(bodies(&seen), (0..confirmed).collect::<Vec<_>>());
    let tags: Vec<u64> = seen.iter().map(|one| one.tag).collect();
    subscription.acker().ack(&tags).await.unwrap();
    broker.publish(Publish::to_queue("q", large(confirmed))).await.unwrap();
    assert_eq!(bodies(&some(&mut subscription, 1).await), [confirmed]);
    assert!(broker.health().is_up());
}

/// P2: the disk fails under load and recovers. What was confirmed arrives, in order, once; what
/// failed arrives nowhere; acknowledgements made meanwhile count.
#[tokio::test]
async fn writes_that_fail_for_a_while_lose_nothing_confirmed() {
    let folder = folder();
    let broker = open(&folder).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let mut subscription = broker.subscribe(Source::queue("q"), options(1000)).await.unwrap();
    let mut confirmed = Vec::new();
    let mut failed = 0;
    for round in 0..6_u32 {
        broker.failing.store(round % 2 == 1, Relaxed);
        let confirms: Vec<_> = (round * 100..round * 100 + 100)
            .map(|body| (body, broker.publish(Publish::to_queue("q", message(body)))))
            .collect();
        for (body, confirm) in confirms {
            match confirm.await {
                Ok(()) => confirmed.push(body),
                Err(error) => {
                    assert!(error.is_retryable());
                    failed += 1;
                }
            }
        }
        assert_eq!(broker.health().is_up(), round % 2 == 0);
    }
    assert_eq!((confirmed.len(), failed), (300, 300));
    let seen = some(&mut subscription, 300).await;
    assert_eq!(bodies(&seen), confirmed);
    // Still failing: the acknowledgements wait for the disk.
    let waiting = subscription.acker().ack(&seen.iter().map(|one| one.tag).collect::<Vec<_>>());
    broker.failing.store(false, Relaxed);
    timeout(LONG, waiting).await.unwrap().unwrap();
    broker.shutdown().await;
    assert_eq!((rows(folder.path(), "entry"), rows(folder.path(), "message")), (0, 0));
}

#[tokio::test]
async fn more_than_may_wait_is_refused_as_overload() {
    let folder = folder();
    let config = EmbeddedConfig::new(folder.path().join("queue.db")).with_max_pending_bytes(10_000);
    let broker = Embedded::open(config).await.unwrap();
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let confirms: Vec<_> = (0..1000)
        .map(|_| broker.publish(Publish::to_queue("q", Message::new(vec![0; 5000]))))
        .collect();
    let mut overloaded = 0;
    for confirm in confirms {
        match confirm.await {
            Ok(()) => {}
            Err(BrokerError::Overloaded { limit: 10_000 }) => overloaded += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(overloaded > 0);
    assert_eq!(broker.metrics().pending_bytes, 0);
    broker.publish(Publish::to_queue("q", message(1))).await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_on_the_machine_can_read_the_messages() {
    use std::os::unix::fs::PermissionsExt;

    let folder = folder();
    let broker = open(&folder).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
        files += 1;
    }
    assert!(files >= 2, "the file and its log");
}

#[tokio::test]
async fn the_file_belongs_to_one_broker_and_strangers_are_refused() {
    let folder = folder();
    let path = folder.path().join("notes.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("CREATE TABLE note (text TEXT)").unwrap();
    drop(connection);
    let error = Embedded::open(EmbeddedConfig::new(&path)).await.unwrap_err();
    assert!(error.to_string().contains("not a message queue of this crate"), "{error}");

    let broker = open(&folder).await;
    let config = EmbeddedConfig::new(folder.path().join("queue.db"));
    let error = Embedded::open(config.with_open_timeout(Duration::ZERO)).await;
    assert!(matches!(error, Err(BrokerError::Storage { .. })));
    broker.shutdown().await;
    open(&folder).await;
}

#[tokio::test]
async fn after_the_shutdown_everything_is_refused_and_said() {
    let folder = folder();
    let broker = open(&folder).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let waiting: Vec<_> =
        (0..50).map(|body| broker.publish(Publish::to_queue("q", message(body)))).collect();
    broker.shutdown().await;
    for confirm in waiting {
        confirm.await.unwrap();
    }
    let refused = broker.publish(Publish::to_queue("q", message(1))).await;
    assert_eq!(refused, Err(BrokerError::ShutDown));
    let refused = broker.subscribe(Source::queue("q"), SubscribeOptions::new()).await.map(drop);
    assert_eq!(refused, Err(BrokerError::ShutDown));
    assert_eq!(broker.declare(&Declaration::queue("r")).await, Err(BrokerError::ShutDown));
    broker.shutdown().await;
    drop(broker);
    let broker = open(&folder).await;
    assert_eq!(depth(&broker, &Source::queue("q")).await, 50);
}

#[tokio::test]
async fn expired_messages_go_away_without_being_delivered() {
    let folder = folder();
    let broker = open(&folder).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let past = std::time::SystemTime::now() - Duration::from_secs(1);
    for body in 0..4 {
        let message = message(body);
        let message = if body % 2 == 0 { message.with_expires(past) } else { message };
        broker.publish(Publish::to_queue("q", message)).await.unwrap();
    }
    let mut subscription = broker.subscribe(Source::queue("q"), options(10)).await.unwrap();
    let seen = some(&mut subscription, 2).await;
    assert_eq!(bodies(&seen), [1, 3]);
    assert!(is_idle(&mut subscription));
    subscription.acker().ack(&[seen[0].tag, seen[1].tag]).await.unwrap();
    broker.shutdown().await;
    assert_eq!(broker.metrics().expired, 2);
    assert_eq!((rows(folder.path(), "entry"), rows(folder.path(), "message")), (0, 0));
}

#[tokio::test]
async fn consumers_that_keep_up_share_what_they_derive_from_a_message() {
    let folder = folder();
    let broker = open(&folder).await;
    let mut consumers = Vec::new();
    for name in ["a", "b", "c"] {
        broker.declare(&Declaration::durable(name, ["t"])).await.unwrap();
        consumers.push(broker.subscribe(Source::durable(name), options(10)).await.unwrap());
    }
    broker.publish(Publish::to_topic("t", message(7))).await.unwrap();
    let mut made = 0;
    for consumer in &mut consumers {
        let seen = some(consumer, 1).await;
        let derived = seen[0].derived.get_or_make(|| {
            made += 1;
            seen[0].message.body.len()
        });
        assert_eq!(*derived, 1);
    }
    assert_eq!(made, 1);
}
