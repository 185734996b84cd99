//! Declaring, deleting, batches, shutting down.

use crate::testkit::steps::{
    confirmed, consume, depth, durable, ended, ensure, is, numbered, queue, quiet, send_queue,
    send_topic, take,
};
use crate::testkit::{Failure, Harness, Outcome};
use crate::{
    BrokerError, Capability, Confirm, Declaration, EndReason, Publish, Source, SubscribeOptions,
};

pub(crate) async fn declaring_again_changes_nothing_and_adds_patterns(
    harness: &mut dyn Harness,
) -> Outcome {
    let broker = harness.broker();
    queue(&*broker, "q").await?;
    durable(&*broker, "d", "a").await?;
    send_queue(&*broker, "q", 0..2).await?;
    send_topic(&*broker, "a", 0..1).await?;
    send_topic(&*broker, "b", 99..100).await?;
    queue(&*broker, "q").await?;
    durable(&*broker, "d", "b.*").await?;
    durable(&*broker, "d", "b").await?;
    send_topic(&*broker, "a", 1..2).await?;
    send_topic(&*broker, "b", 2..3).await?;
    send_topic(&*broker, "b.c", 3..4).await?;
    let mut consumer = consume(&*broker, Source::queue("q"), 10).await?;
    is(&take(&mut consumer, 2).await?, 0..2, "the queue's")?;
    let mut consumer = consume(&*broker, Source::durable("d"), 10).await?;
    is(&take(&mut consumer, 4).await?, 0..4, "what matches either pattern")?;
    quiet(&mut consumer, "everything was delivered").await?;
    drop(consumer);
    if broker.capabilities().has(Capability::Durable) {
        harness.restart().await;
        let broker = harness.broker();
        send_topic(&*broker, "a", 4..5).await?;
        send_topic(&*broker, "b", 5..6).await?;
        let mut consumer = consume(&*broker, Source::durable("d"), 10).await?;
        is(&take(&mut consumer, 6).await?, 0..6, "after the restart")?;
    }
    Ok(())
}

pub(crate) async fn a_deleted_source_ends_its_consumers_and_forgets(
    harness: &mut dyn Harness,
) -> Outcome {
    let broker = harness.broker();
    for (source, declaration) in [
        (Source::queue("x"), Declaration::queue("x")),
        (Source::durable("x"), Declaration::durable("x", ["t"])),
    ] {
        broker.declare(&declaration).await?;
        let publish = |number| match source {
            Source::Queue(_) => Publish::to_queue("x", numbered(number)),
            _ => Publish::to_topic("t", numbered(number)),
        };
        for number in 0..5 {
            confirmed(broker.publish(publish(number))).await??;
        }
        let mut consumer = consume(&*broker, source.clone(), 2).await?;
        take(&mut consumer, 2).await?;
        broker.delete(&source).await?;
        ended(&mut consumer).await?;
        ensure!(
            consumer.end_reason() == Some(EndReason::Deleted),
            "the consumer of a deleted {source} ended with {:?}",
            consumer.end_reason()
        );
        let refused = broker.subscribe(source.clone(), SubscribeOptions::new()).await;
        ensure!(
            matches!(refused, Err(BrokerError::NotDeclared { .. })),
            "a deleted {source} can be consumed"
        );
        // No error, there is none.
        broker.delete(&source).await?;
        broker.declare(&declaration).await?;
        confirmed(broker.publish(publish(7))).await??;
        let mut consumer = consume(&*broker, source, 10).await?;
        is(&take(&mut consumer, 1).await?, 7..8, "made anew it keeps only what is new")?;
    }
    Ok(())
}

pub(crate) async fn publishing_to_an_undeclared_queue_fails(harness: &mut dyn Harness) -> Outcome {
    let broker = harness.broker();
    let outcome = confirmed(broker.publish(Publish::to_queue("missing", numbered(0)))).await?;
    let Err(error) = outcome else {
        return Err(Failure::new("a message to nowhere was confirmed"));
    };
    ensure!(matches!(error, BrokerError::NotDeclared { .. }), "it failed with {error}");
    ensure!(!error.is_retryable(), "trying again would not help");
    let found = broker.stats(&Source::queue("missing")).await;
    ensure!(
        matches!(found, Err(BrokerError::NotDeclared { .. })),
        "the numbers of a queue that is not declared are {found:?}"
    );
    // A topic without subscribers is something else.
    send_topic(&*broker, "nobody", 0..1).await
}

pub(crate) async fn a_batch_is_published_whole_or_not_at_all(harness: &mut dyn Harness) -> Outcome {
    let broker = harness.broker();
    queue(&*broker, "q").await?;
    let whole = (0..50).map(|number| Publish::to_queue("q", numbered(number))).collect();
    confirmed(broker.publish_batch(whole)).await??;
    let mut consumer = consume(&*broker, Source::queue("q"), 100).await?;
    is(&take(&mut consumer, 50).await?, 0..50, "the batch")?;
    let mut broken: Vec<_> =
        (50..60).map(|number| Publish::to_queue("q", numbered(number))).collect();
    broken.push(Publish::to_queue("missing", numbered(60)));
    let outcome = confirmed(broker.publish_batch(broken)).await?;
    ensure!(outcome.is_err(), "a batch with a message to nowhere was confirmed");
    if broker.capabilities().has(Capability::AtomicBatch) {
        quiet(&mut consumer, "nothing of a batch that failed is published").await?;
    }
    Ok(())
}

pub(crate) async fn shutdown_finishes_what_was_taken(harness: &mut dyn Harness) -> Outcome {
    const COUNT: u64 = 300;
    let broker = harness.broker();
    queue(&*broker, "q").await?;
    queue(&*broker, "other").await?;
    let mut consumer = consume(&*broker, Source::queue("other"), 10).await?;
    let confirms =
        (0..COUNT).map(|number| broker.publish(Publish::to_queue("q", numbered(number)))).collect();
    broker.shutdown().await;
    let outcome = confirmed(Confirm::all(confirms)).await?;
    ensure!(outcome.is_ok(), "what was taken before the shutdown failed: {outcome:?}");
    ended(&mut consumer).await?;
    ensure!(
        consumer.end_reason() == Some(EndReason::ShutDown),
        "a subscription ended with {:?}",
        consumer.end_reason()
    );
    let late = confirmed(broker.publish(Publish::to_queue("q", numbered(COUNT)))).await?;
    ensure!(late == Err(BrokerError::ShutDown), "a publish after the shutdown: {late:?}");
    ensure!(!broker.health().is_up(), "a broker that was shut down is up");
    broker.shutdown().await;
    let mut next = harness.another().await;
    if next.is_none() && broker.capabilities().has(Capability::Durable) {
        harness.restart().await;
        next = Some(harness.broker());
    }
    if let Some(broker) = next {
        depth(&*broker, &Source::queue("q"), COUNT).await?;
        let mut consumer = consume(&*broker, Source::queue("q"), 1000).await?;
        is(&take(&mut consumer, usize::try_from(COUNT).unwrap_or(0)).await?, 0..COUNT, "all")?;
    }
    Ok(())
}
