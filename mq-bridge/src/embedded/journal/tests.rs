use std::path::Path;

use crate::embedded::tests::{bodies, depth, folder, marks, message, open, options, rows, some};
use crate::embedded::{Embedded, EmbeddedConfig};
use crate::{Broker, Declaration, Delivery, Message, Nack, Publish, Source, Subscription, Target};

async fn publish(broker: &Embedded, bodies: std::ops::Range<u32>) {
    let batch = bodies.map(|body| Publish::to_queue("q", message(body)));
    broker.publish_batch(batch.collect()).await.unwrap();
}

async fn consumer(broker: &Embedded) -> Subscription {
    broker.declare(&Declaration::queue("q")).await.unwrap();
    broker.subscribe(Source::queue("q"), options(100_000)).await.unwrap()
}

fn tags(seen: &[Delivery]) -> Vec<u64> {
    seen.iter().map(|one| one.tag).collect()
}

/// How many rows the journal has, and how many entries the tables
fn rows_of(path: &Path) -> (i64, i64) {
    assert_eq!(rows(path, "journal"), rows(path, "waiting"));
    (rows(path, "journal"), rows(path, "entry"))
}

#[tokio::test]
async fn what_waits_in_the_journal_is_there_after_a_restart_and_nothing_else() {
    let folder = folder();
    let broker = open(&folder).await;
    let mut subscription = consumer(&broker).await;
    publish(&broker, 0..10).await;
    publish(&broker, 10..20).await;
    let seen = some(&mut subscription, 20).await;
    let acker = subscription.acker();
    acker.ack(&tags(&[&seen[..10], &seen[12..15]].concat())).await.unwrap();
    broker.kill().await;
    drop((broker, subscription));
    assert_eq!(rows_of(folder.path()), (1, 0));

    for _ in 0..2 {
        let broker = open(&folder).await;
        assert_eq!(depth(&broker, &Source::queue("q")).await, 7);
        broker.shutdown().await;
    }
    let broker = open(&folder).await;
    // What is published now goes behind.
    publish(&broker, 20..22).await;
    let mut subscription = consumer(&broker).await;
    let seen = some(&mut subscription, 9).await;
    assert_eq!(bodies(&seen), [10, 11, 15, 16, 17, 18, 19, 20, 21]);
    assert_eq!(marks(&seen)[6..], [(true, 2), (false, 1), (false, 1)]);
    subscription.acker().ack(&tags(&seen)).await.unwrap();
    broker.shutdown().await;
    assert_eq!(rows_of(folder.path()), (0, 0));
}

#[tokio::test]
async fn what_comes_back_to_the_journal_keeps_its_order_and_is_counted() {
    let folder = folder();
    let broker = open(&folder).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    publish(&broker, 0..3).await;
    let mut subscription = consumer(&broker).await;
    publish(&broker, 3..6).await;
    let seen = some(&mut subscription, 6).await;
    subscription.acker().nack(&tags(&seen[3..5]), Nack::Requeue).await.unwrap();
    let again = some(&mut subscription, 2).await;
    assert_eq!((bodies(&again), marks(&again)), (vec![3, 4], vec![(true, 2), (true, 2)]));
    drop(subscription);
    let mut subscription = consumer(&broker).await;
    let seen = some(&mut subscription, 6).await;
    assert_eq!(bodies(&seen), (0..6).collect::<Vec<_>>());
    broker.shutdown().await;
    let broker = open(&folder).await;
    let mut subscription = consumer(&broker).await;
    let seen = some(&mut subscription, 6).await;
    assert_eq!(bodies(&seen), (0..6).collect::<Vec<_>>());
    let counts: Vec<u32> = seen.iter().map(|one| one.delivery_count).collect();
    assert_eq!(counts, [3, 3, 3, 4, 4, 3]);
    subscription.acker().ack(&tags(&seen)).await.unwrap();
    broker.shutdown().await;
    assert_eq!(rows_of(folder.path()), (0, 0));
}

#[tokio::test]
async fn what_a_deleted_source_had_in_the_journal_never_comes_back() {
    let folder = folder();
    let broker = open(&folder).await;
    let mut consumers = Vec::new();
    for name in ["one", "other"] {
        broker.declare(&Declaration::durable(name, ["news"])).await.unwrap();
        consumers.push(broker.subscribe(Source::durable(name), options(10)).await.unwrap());
    }
    for body in 0..4 {
        broker.publish(Publish::to_topic("news", message(body))).await.unwrap();
    }
    broker.delete(&Source::durable("one")).await.unwrap();
    broker.declare(&Declaration::durable("one", ["news"])).await.unwrap();
    broker.shutdown().await;
    assert_eq!(rows_of(folder.path()).1, 0);
    let broker = open(&folder).await;
    assert_eq!(depth(&broker, &Source::durable("one")).await, 0);
    assert_eq!(depth(&broker, &Source::durable("other")).await, 4);
    broker.delete(&Source::durable("other")).await.unwrap();
    broker.shutdown().await;
    assert_eq!(rows_of(folder.path()), (0, 0));
}

/// A consumer that acknowledges little, beside one that does.
#[tokio::test]
async fn what_waits_for_long_goes_to_the_tables_and_is_lost_or_repeated_nowhere() {
    let folder = folder();
    let broker = open(&folder).await;
    for name in ["slow", "fast"] {
        broker.declare(&Declaration::durable(name, ["news"])).await.unwrap();
    }
    let slow = broker.subscribe(Source::durable("slow"), options(100_000)).await;
    let fast = broker.subscribe(Source::durable("fast"), options(100_000)).await;
    let (mut slow, mut fast) = (slow.unwrap(), fast.unwrap());
    let large = |body: u32| Message::new(format!("{body:0>4000}"));
    let mut kept = Vec::new();
    let mut fast_seen = Vec::new();
    for round in 0..120 {
        let batch = (round * 20..round * 20 + 20)
            .map(|body| Publish::to_topic("news", large(body)))
            .collect();
        broker.publish_batch(batch).await.unwrap();
        fast_seen.extend(some(&mut fast, 20).await);
        if round % 2 == 0 {
            let tags = tags(&fast_seen);
            fast_seen.clear();
            fast.acker().ack(&tags).await.unwrap();
        }
        let seen = some(&mut slow, 20).await;
        kept.extend(bodies(&seen[..7]));
        slow.acker().ack(&tags(&seen[7..])).await.unwrap();
        if round == 0 {
            // Handed out twice before it goes to the tables.
            slow.acker().nack(&tags(&seen[..7]), Nack::Requeue).await.unwrap();
            assert_eq!(bodies(&some(&mut slow, 7).await), kept);
        }
    }
    broker.kill().await;
    drop((broker, slow, fast));
    let (journal, entries) = rows_of(folder.path());
    assert!((1..110).contains(&journal) && entries > 70, "{journal} {entries}");
    assert_eq!(rows(folder.path(), "refs"), 0);

    let broker = open(&folder).await;
    let mut slow = broker.subscribe(Source::durable("slow"), options(100_000)).await.unwrap();
    let seen = some(&mut slow, kept.len()).await;
    assert_eq!(bodies(&seen), kept);
    assert!(marks(&seen[..7]).iter().all(|mark| *mark == (true, 3)));
    assert!(marks(&seen[7..]).iter().all(|mark| *mark == (true, 2)));
    assert_eq!(seen[0].target, Target::topic("news"));
    slow.acker().ack(&tags(&seen)).await.unwrap();
    let mut fast = broker.subscribe(Source::durable("fast"), options(100_000)).await.unwrap();
    let seen = some(&mut fast, 20).await;
    assert_eq!(bodies(&seen), (119 * 20..120 * 20).collect::<Vec<_>>());
    fast.acker().ack(&tags(&seen)).await.unwrap();
    broker.shutdown().await;
    for table in ["entry", "message", "refs", "journal", "waiting"] {
        assert_eq!(rows(folder.path(), table), 0, "{table}");
    }
}

/// P2: what was handed out can be acknowledged, and is handed out again, where nothing more fits.
#[tokio::test]
async fn in_a_full_file_the_journal_is_read_and_acknowledged() {
    let folder = folder();
    let config =
        || EmbeddedConfig::new(folder.path().join("queue.db")).with_max_file_bytes(1 << 20);
    let broker = Embedded::open(config()).await.unwrap();
    let mut subscription = consumer(&broker).await;
    let large = |body: u32| Message::new(format!("{body:0>3000}"));
    let mut confirmed = 0;
    while broker.publish(Publish::to_queue("q", large(confirmed))).await.is_ok() {
        confirmed += 1;
    }
    assert!(confirmed > 100, "{confirmed}");
    let seen = some(&mut subscription, confirmed as usize).await;
    subscription.acker().ack(&tags(&seen[..1])).await.unwrap();
    drop(subscription);
    let mut subscription = consumer(&broker).await;
    let seen = some(&mut subscription, confirmed as usize - 1).await;
    assert_eq!(bodies(&seen), (1..confirmed).collect::<Vec<_>>());
    drop(subscription);
    broker.shutdown().await;
    let broker = Embedded::open(config()).await.unwrap();
    let mut subscription = consumer(&broker).await;
    let seen = some(&mut subscription, confirmed as usize - 1).await;
    subscription.acker().ack(&tags(&seen)).await.unwrap();
    broker.publish(Publish::to_queue("q", large(7))).await.unwrap();
    assert_eq!(bodies(&some(&mut subscription, 1).await), [7]);
}

#[tokio::test]
async fn a_file_of_the_version_before_gets_a_journal() {
    let folder = folder();
    let broker = open(&folder).await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    publish(&broker, 0..3).await;
    broker.shutdown().await;
    drop(broker);
    let connection = rusqlite::Connection::open(folder.path().join("queue.db")).unwrap();
    let before = "DROP TABLE journal; DROP TABLE waiting; PRAGMA user_version = 1";
    connection.execute_batch(before).unwrap();
    drop(connection);
    let broker = open(&folder).await;
    let mut subscription = consumer(&broker).await;
    assert_eq!(bodies(&some(&mut subscription, 3).await), [0, 1, 2]);
    publish(&broker, 3..4).await;
    assert_eq!(bodies(&some(&mut subscription, 1).await), [3]);
    broker.shutdown().await;
    assert_eq!(rows_of(folder.path()), (1, 3));
}
