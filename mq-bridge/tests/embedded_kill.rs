//! P2 and P3 of the embedded broker under `kill -9`: a child process publishes, consumes and
//! acknowledges under load and is killed at a random point, again and again over one file. Whatever
//! it said about confirmations before it died must hold afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mq_bridge::{
    Broker, Declaration, Delivery, Embedded, EmbeddedConfig, Message, Publish, Source,
    SubscribeOptions, Subscription, Target,
};

const ROUNDS: usize = 25;
const PATH: &str = "MQ_BRIDGE_KILL_PATH";
const FIRST: &str = "MQ_BRIDGE_KILL_FIRST";

/// What the child says, one line each, at the moment it is true.
#[derive(Debug)]
enum Said {
    Confirmed(u64),
    Delivered { body: u64, redelivered: bool, count: u32 },
    Acked(u64),
}

fn say(line: std::fmt::Arguments<'_>) {
    // One write per line, so that a line is there whole or recognizably cut.
    let line = format!("{line}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

fn hear(line: &str) -> Option<Said> {
    let mut words = line.strip_suffix('\n')?.split(' ');
    let said = match (words.next()?, words.next()?.parse().ok()?) {
        ("confirmed", body) => Said::Confirmed(body),
        ("acked", body) => Said::Acked(body),
        ("delivered", body) => Said::Delivered {
            body,
            redelivered: words.next()?.parse().ok()?,
            count: words.next()?.parse().ok()?,
        },
        _ => return None,
    };
    Some(said)
}

async fn open(path: &Path) -> Arc<Embedded> {
    let broker = Embedded::open(EmbeddedConfig::new(path)).await.unwrap();
    for name in ["online", "offline"] {
        broker.declare(&Declaration::durable(name, ["news"])).await.unwrap();
    }
    broker.declare(&Declaration::queue("work")).await.unwrap();
    Arc::new(broker)
}

fn body(delivery: &Delivery) -> u64 {
    std::str::from_utf8(&delivery.message.body[..20]).unwrap().trim().parse().unwrap()
}

/// The child: runs until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs as the child of the test below"]
async fn child() {
    let Ok(path) = std::env::var(PATH) else { return };
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let broker = open(Path::new(&path)).await;
    let options = SubscribeOptions::new().with_prefetch(64, usize::MAX);
    let online = broker.subscribe(Source::durable("online"), options).await.unwrap();
    let consumer = tokio::spawn(consume(online));
    let (sender, mut confirms) = tokio::sync::mpsc::channel(32);
    let publisher = tokio::spawn(async move {
        for number in first.. {
            let targets = vec![Target::topic("news"), Target::queue("work")];
            let message = Message::new(format!("{number:<20}{}", "x".repeat(500)));
            let confirm = broker.publish(Publish::new(targets, message));
            sender.send((number, confirm)).await.unwrap();
        }
    });
    while let Some((number, confirm)) = confirms.recv().await {
        confirm.await.unwrap();
        say(format_args!("confirmed {number}"));
    }
    publisher.await.unwrap();
    consumer.await.unwrap();
}

async fn consume(mut subscription: Subscription) {
    let acker = subscription.acker();
    let mut kept = Vec::new();
    while let Some(batch) = subscription.recv().await {
        let mut now = Vec::new();
        for delivery in &batch {
            let number = body(delivery);
            let Delivery { redelivered, delivery_count, .. } = delivery;
            say(format_args!("delivered {number} {redelivered} {delivery_count}"));
            // Some wait a while, so that a death always finds unacknowledged ones.
            if number.is_multiple_of(4) { &mut kept } else { &mut now }
                .push((number, delivery.tag));
        }
        if kept.len() > 40 {
            now.append(&mut kept);
        }
        let tags: Vec<u64> = now.iter().map(|(_, tag)| *tag).collect();
        acker.ack(&tags).await.unwrap();
        for (number, _) in now {
            say(format_args!("acked {number}"));
        }
    }
}

/// Starts a child, kills it after it has said `lines` things, and gives all that it said.
fn run_and_kill(path: &Path, first: u64, lines: usize) -> Vec<Said> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(PATH, path)
        .env(FIRST, first.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stderr.take().unwrap());
    let mut said = Vec::new();
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        said.extend(hear(&line));
        if said.len() == lines {
            child.kill().unwrap();
        }
        line.clear();
    }
    child.wait().unwrap();
    assert!(said.len() >= lines, "the child died by itself: {said:?}");
    said
}

/// What is left in a source.
async fn drain(broker: &Embedded, source: Source) -> Vec<Delivery> {
    let count = broker.stats(&source).await.unwrap().depth;
    let options = SubscribeOptions::new().with_prefetch(u32::MAX, usize::MAX);
    let mut subscription = broker.subscribe(source, options).await.unwrap();
    let mut all = Vec::new();
    while (all.len() as u64) < count {
        let batch = tokio::time::timeout(Duration::from_secs(30), subscription.recv());
        all.extend(batch.await.expect("what is stored is delivered").unwrap());
    }
    all
}

fn assert_ascending(bodies: &[u64], what: &str) {
    assert!(bodies.is_sorted_by(|a, b| a < b), "{what} out of order: {bodies:?}");
}

#[tokio::test]
async fn what_was_confirmed_survives_kill_9_and_what_was_unacked_comes_back_marked_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let mut confirmed = BTreeSet::new();
    let mut acked = BTreeSet::new();
    let mut deliveries: BTreeMap<u64, u32> = BTreeMap::new();
    let mut first = 0;
    for round in 0..ROUNDS {
        let lines = 20 + RandomState::new().hash_one(round) as usize % 700;
        let mut of_round = Vec::new();
        for said in run_and_kill(&path, first, lines) {
            match said {
                Said::Confirmed(body) => {
                    confirmed.insert(body);
                    first = first.max(body + 1);
                }
                Said::Acked(body) => {
                    acked.insert(body);
                }
                Said::Delivered { body, redelivered, count } => {
                    assert!(!acked.contains(&body), "{body} was acknowledged, and came again");
                    let before = deliveries.insert(body, count).unwrap_or(0);
                    assert!(count > before, "delivery {count} of {body} after {before}");
                    assert_eq!(redelivered, count > 1, "delivery {count} of {body}");
                    of_round.push(body);
                }
            }
        }
        // More may have been stored than the child could say.
        first += 1000;
        assert_ascending(&of_round, "deliveries of a round");
    }
    assert!(!acked.is_empty() && confirmed.len() > ROUNDS);

    let broker = open(&path).await;
    let left = drain(&broker, Source::durable("online")).await;
    assert_ascending(&left.iter().map(body).collect::<Vec<_>>(), "what is left");
    for delivery in &left {
        let number = body(delivery);
        let before = deliveries.insert(number, delivery.delivery_count).unwrap_or(0);
        assert!(!acked.contains(&number));
        assert!(before == 0 || delivery.redelivered, "{number} is not marked");
        assert!(delivery.delivery_count > before);
    }
    let missing: Vec<_> = confirmed.iter().filter(|one| !deliveries.contains_key(one)).collect();
    assert!(missing.is_empty(), "confirmed and lost: {missing:?}");

    // Nobody ever consumed these: all there, and none of them marked.
    for source in [Source::durable("offline"), Source::queue("work")] {
        let all = drain(&broker, source).await;
        let bodies: Vec<_> = all.iter().map(body).collect();
        assert_ascending(&bodies, "what nobody consumed");
        assert!(all.iter().all(|one| !one.redelivered && one.delivery_count == 1));
        let bodies: BTreeSet<_> = bodies.into_iter().collect();
        assert!(confirmed.is_subset(&bodies));
    }
    broker.shutdown().await;
}
