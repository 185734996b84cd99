//! What survives: a kill, a restart, an absence.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::testkit::steps::{
    ack, batch, confirmed, consume, durable, ensure, is, number, numbered, numbers, queue, quiet,
    send_queue, send_topic, stats, take,
};
use crate::testkit::{Failure, Harness, Outcome};
use crate::{Broker, BrokerError, Capability, Publish, Source, Target};

pub(crate) async fn a_confirmed_message_survives_a_kill(harness: &mut dyn Harness) -> Outcome {
    let broker = harness.broker();
    let declared = broker.capabilities().has(Capability::Durable);
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
                taken.iter().all(|one| !one.redelivered),
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
        taken.iter().all(|one| one.redelivered == (number(one) < 4)),
        "what was never delivered is marked, or what was is not"
    );
    Ok(())
}

pub(crate) async fn a_durable_subscription_misses_nothing_while_nobody_consumes(
    harness: &mut dyn Harness,
) -> Outcome {
    let broker = harness.broker();
    let survives = broker.capabilities().has(Capability::Durable);
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
    ensure!(taken.iter().all(|one| !one.redelivered), "what is new is marked as redelivered");
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
    durable(&*harness.broker(), "d", "t").await?;
    let mut sent = BTreeSet::new();
    let mut next = 0;
    for _ in 0..KILLS {
        let broker = harness.broker();
        let (sender, mut enough) = tokio::sync::mpsc::channel(1);
        let publisher = tokio::spawn(publish_until_it_fails(Arc::clone(&broker), next, sender));
        // Some way into the stream, wherever that is.
        if enough.recv().await.is_none() {
            return Err(Failure::new("publishing failed before the kill"));
        }
        harness.crash().await;
        drop(enough);
        let (confirmed, last) =
            publisher.await.map_err(|error| Failure::new(error.to_string()))??;
        sent.extend(confirmed);
        next = last + 1;
    }
    let broker = harness.broker();
    let mut consumer = consume(&*broker, Source::durable("d"), 500).await?;
    // The last one tells the end.
    send_topic(&*broker, "t", next..next + 1).await?;
    sent.insert(next);
    let mut seen = Vec::new();
    while !sent.is_empty() {
        let batch = batch(&mut consumer).await.map_err(|failure| {
            Failure::new(format!("confirmed before a kill and lost: {sent:?} ({failure})"))
        })?;
        let numbers = numbers(&batch);
        sent.retain(|number| !numbers.contains(number));
        seen.extend(numbers);
        ack(&consumer, &batch).await?;
    }
    quiet(&mut consumer, "the last one was delivered").await?;
    if broker.capabilities().has(Capability::Order) {
        ensure!(seen.is_sorted_by(|a, b| a < b), "out of order, or twice: {seen:?}");
    }
    Ok(())
}

/// Publishes numbers, a few at a time, until a confirmation fails or nobody listens any more; gives
/// those that were confirmed, and the last number used.
async fn publish_until_it_fails(
    broker: Arc<dyn Broker>,
    first: u64,
    progress: tokio::sync::mpsc::Sender<()>,
) -> Result<(Vec<u64>, u64), Failure> {
    let mut sent = Vec::new();
    let mut next = first;
    loop {
        let group: Vec<_> = (next..next + 10)
            .map(|number| (number, broker.publish(Publish::to_topic("t", numbered(number)))))
            .collect();
        next += 10;
        let mut failed = progress.is_closed();
        for (number, confirm) in group {
            match confirmed(confirm).await? {
                Ok(()) => sent.push(number),
                Err(error) => {
                    ensure!(
                        error.is_retryable() || error == BrokerError::ShutDown,
                        "a publish in flight failed for good: {error}"
                    );
                    failed = true;
                }
            }
        }
        if failed {
            return Ok((sent, next));
        }
        if sent.len() > 30 {
            let _ = progress.try_send(());
        }
    }
}
