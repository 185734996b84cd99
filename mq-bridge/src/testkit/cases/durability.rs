//! What survives: a kill, a restart, an absence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::testkit::load::{Consumer, Publisher, Seen, is_in_order, none_is_lost};
use crate::testkit::steps::{
    POLL, ack, confirmed, consume, depth, durable, ensure, is, number, numbered, queue, send_queue,
    send_topic, spawn, stats, take,
};
use crate::testkit::{Failure, Harness, Outcome};
use crate::{Broker, BrokerError, Capability, Publish, Source, Target};

pub(crate) async fn a_confirmed_message_survives_a_kill(harness: &mut dyn Harness) -> Outcome {
    let broker = harness.broker();
    let declared = broker.capabilities().has(Capability::Durable);
    let exact = broker.capabilities().has(Capability::DeliveryCount);
    queue(&*broker, "q").await?;
    durable(&*broker, "d", "t.*").await?;
    send_queue(&*broker, "q", 0..20).await?;
    send_topic(&*broker, "t.a", 0..20).await?;
    harness.crash().await;
    let broker = harness.broker();
    for source in [Source::queue("q"), Source::durable("d")] {
        if declared {
            let mut consumer = consume(&*broker, source.clone(), 100).await?;
            let taken = take(&mut consumer, 20).await?;
            is(&taken, 0..20, "what was confirmed before the kill")?;
            ensure!(
                !exact || taken.iter().all(|one| !one.redelivered),
                "what was never delivered is marked as redelivered"
            );
        } else {
            let kept = broker.stats(&source).await.map_or(0, |stats| stats.depth);
            ensure!(kept == 0, "{source} survived, but `durable` is not declared");
        }
    }
    Ok(())
}

pub(crate) async fn unacknowledged_messages_survive_a_restart_marked(
    harness: &mut dyn Harness,
) -> Outcome {
    let broker = harness.broker();
    if !broker.capabilities().has(Capability::Durable) {
        return Ok(());
    }
    let exact = broker.capabilities().has(Capability::DeliveryCount);
    queue(&*broker, "q").await?;
    send_queue(&*broker, "q", 0..8).await?;
    for round in 1..=4 {
        let broker = harness.broker();
        let mut consumer = consume(&*broker, Source::queue("q"), 4).await?;
        let taken = take(&mut consumer, 4).await?;
        is(&taken, 0..4, "what is unacknowledged")?;
        for one in &taken {
            ensure!(
                one.redelivered == (round > 1),
                "delivery {round}, after restarts, says redelivered:{}",
                one.redelivered
            );
            ensure!(
                !exact || one.delivery_count == round,
                "delivery {round}, after restarts, is counted as {}",
                one.delivery_count
            );
        }
        if round % 2 == 0 {
            harness.stop().await;
        } else {
            harness.kill().await;
        }
        // One that is there when the broker is back would be handed them once more.
        drop(consumer);
        harness.start().await;
    }
    let broker = harness.broker();
    let mut consumer = consume(&*broker, Source::queue("q"), 10).await?;
    let taken = take(&mut consumer, 8).await?;
    is(&taken, 0..8, "everything")?;
    ensure!(
        taken.iter().all(|one| match number(one) {
            0..4 => one.redelivered,
            _ => !exact || !one.redelivered,
        }),
        "what was never delivered is marked, or what was is not"
    );
    Ok(())
}

pub(crate) async fn a_durable_subscription_misses_nothing_while_nobody_consumes(
    harness: &mut dyn Harness,
) -> Outcome {
    let broker = harness.broker();
    let survives = broker.capabilities().has(Capability::Durable);
    let counted = broker.capabilities().has(Capability::Depth);
    durable(&*broker, "d", "t.#").await?;
    let mut consumer = consume(&*broker, Source::durable("d"), 100).await?;
    send_topic(&*broker, "t", 0..5).await?;
    let taken = take(&mut consumer, 5).await?;
    is(&taken, 0..5, "while it is consumed")?;
    ack(&consumer, &taken).await?;
    drop(consumer);
    // A server may not know yet that it is gone, and hand it what comes now.
    stats(&*broker, &Source::durable("d"), "should have no consumer", |one| one.consumers == 0)
        .await?;
    send_topic(&*broker, "t.a", 5..10).await?;
    send_topic(&*broker, "elsewhere", 100..105).await?;
    if survives {
        harness.restart().await;
    }
    let broker = harness.broker();
    send_topic(&*broker, "t.a.b", 10..15).await?;
    let mut consumer = consume(&*broker, Source::durable("d"), 100).await?;
    let taken = take(&mut consumer, 10).await?;
    is(&taken, 5..15, "after the absence")?;
    // Where it cannot be seen that the consumer is gone, it may have been handed something.
    ensure!(
        !counted || taken.iter().all(|one| !one.redelivered),
        "what is new is marked as redelivered"
    );
    ensure!(
        taken[0].target == Target::topic("t.a") && taken[9].target == Target::topic("t.a.b"),
        "the topics are given as {:?} and {:?}",
        taken[0].target,
        taken[9].target
    );
    ack(&consumer, &taken).await
}

pub(crate) async fn confirmed_messages_survive_kills_under_load(
    harness: &mut dyn Harness,
) -> Outcome {
    const KILLS: usize = 10;
    if !harness.broker().capabilities().has(Capability::Durable) {
        return Ok(());
    }
    let broker = harness.broker();
    durable(&*broker, "d", "t").await?;
    let mut consumers = Vec::new();
    if harness.reconnects() {
        // One that lives through all of it.
        consumers.push(Consumer::start(consume(&*broker, Source::durable("d"), 500).await?));
    }
    let mut sent = BTreeSet::new();
    let mut next = 0;
    for _ in 0..KILLS {
        let topic = |message| Publish::to_topic("t", message);
        let mut publisher = Publisher::start(harness.broker(), next, topic);
        // Some way into the stream, wherever that is.
        publisher.progress().await?;
        harness.crash().await;
        let published = publisher.stop().await?;
        sent.extend(published.confirmed);
        next = published.next;
    }
    let broker = harness.broker();
    if consumers.is_empty() {
        consumers.push(Consumer::start(consume(&*broker, Source::durable("d"), 500).await?));
    }
    none_is_lost(&consumers, &sent).await?;
    if broker.capabilities().has(Capability::Order) {
        consumers.iter().try_for_each(is_in_order)?;
    }
    Ok(())
}

pub(crate) async fn batches_keep_their_order_across_failures(harness: &mut dyn Harness) -> Outcome {
    const FAILURES: usize = 3;
    let capabilities = harness.broker().capabilities();
    if !capabilities.has(Capability::Durable) || !capabilities.has(Capability::Order) {
        return Ok(());
    }
    queue(&*harness.broker(), "q").await?;
    let mut at = Place::default();
    for round in 0..=FAILURES {
        let (progress, mut enough) = mpsc::channel(1);
        let publisher = spawn(publish_batches(harness.broker(), at, progress));
        if enough.recv().await.is_none() {
            return Err(Failure::new("no batch was confirmed"));
        }
        if round < FAILURES {
            harness.crash().await;
        }
        drop(enough);
        at = publisher.await.map_err(|error| Failure::new(error.to_string()))??;
    }
    let broker = harness.broker();
    let consumers = [Consumer::start(consume(&*broker, Source::queue("q"), 500).await?)];
    none_is_lost(&consumers, &(0..at.batch * BATCH).collect()).await?;
    depth(&*broker, &Source::queue("q"), 0).await?;
    consumers.iter().try_for_each(is_in_order)?;
    if capabilities.has(Capability::AtomicBatch) {
        let mut counts: BTreeMap<u64, [u32; BATCH as usize]> = BTreeMap::new();
        for Seen { number, .. } in consumers.iter().flat_map(Consumer::seen) {
            counts.entry(number / BATCH).or_default()[(number % BATCH) as usize] += 1;
        }
        let broken = counts.iter().find(|(_, counts)| counts.iter().any(|one| *one != counts[0]));
        ensure!(broken.is_none(), "a batch was not published whole: {broken:?}");
    }
    Ok(())
}

/// The messages of a batch.
const BATCH: u64 = 5;

/// Where a publisher of batches is.
#[derive(Clone, Copy, Default)]
struct Place {
    batch: u64,
    /// Whether this batch may have been published already.
    again: bool,
}

/// Publishes as the documentation says for who needs order across failures: each batch when the
/// last one is confirmed, and again, marked, when that failed.
async fn publish_batches(
    broker: Arc<dyn Broker>,
    mut at: Place,
    progress: mpsc::Sender<()>,
) -> Result<Place, Failure> {
    loop {
        let numbers = at.batch * BATCH..(at.batch + 1) * BATCH;
        let batch = numbers
            .map(|number| Publish::to_queue("q", numbered(number)).with_redelivered(at.again))
            .collect();
        match confirmed(broker.publish_batch(batch)).await? {
            Ok(()) => {
                at = Place { batch: at.batch + 1, again: false };
                if at.batch.is_multiple_of(8) {
                    let _ = progress.try_send(());
                }
            }
            Err(error) => {
                let known = error.is_retryable() || error == BrokerError::ShutDown;
                ensure!(known, "a batch failed for good: {error}");
                at.again = true;
                sleep(POLL).await;
            }
        }
        if progress.is_closed() {
            return Ok(at);
        }
    }
}
