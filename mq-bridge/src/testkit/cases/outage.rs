//! A broker that is gone for some time and comes back, for broker objects that reconnect.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use tokio::time::sleep;

use crate::testkit::load::{Consumer, Publisher, is_in_order, none_is_lost};
use crate::testkit::steps::{
    Times, ack, confirmed, consume, depth, durable, ended, ensure, is, numbered, queue, quiet,
    send_queue, send_topic, spawn, take, until,
};
use crate::testkit::{Failure, Harness, Outcome};
use crate::{
    Broker, BrokerError, Capability, Confirm, Declaration, EndReason, Message, Publish, Source,
    SubscribeOptions, Target,
};

fn kept_and_live(message: Message) -> Publish {
    Publish::new(vec![Target::queue("q"), Target::topic("t")], message)
}

/// What is declared and consumed while the broker goes and comes.
struct Scene {
    broker: Arc<dyn Broker>,
    publisher: Publisher,
    /// Of the queue, and of the durable subscription.
    consumers: [Consumer; 2],
}

impl Scene {
    async fn start(broker: Arc<dyn Broker>) -> Result<Self, Failure> {
        queue(&*broker, "q").await?;
        durable(&*broker, "d", "t").await?;
        let consumers = [
            Consumer::start(consume(&*broker, Source::queue("q"), 50).await?),
            Consumer::start(consume(&*broker, Source::durable("d"), 50).await?),
        ];
        let mut publisher = Publisher::start(Arc::clone(&broker), 0, kept_and_live);
        publisher.progress().await?;
        Ok(Self { broker, publisher, consumers })
    }

    /// The broker is back: publishing gets on, and nothing that was confirmed is missing.
    async fn finish(mut self) -> Outcome {
        self.publisher.progress().await?;
        self.publisher.progress().await?;
        let published = self.publisher.stop().await?;
        for consumer in &self.consumers {
            none_is_lost(std::slice::from_ref(consumer), &published.confirmed).await?;
            if self.broker.capabilities().has(Capability::Order) {
                is_in_order(consumer)?;
            }
        }
        Ok(())
    }
}

async fn is_down(broker: &dyn Broker) -> Outcome {
    until("the broker is gone, but its health is up", || !broker.health().is_up()).await
}

async fn is_up(broker: &dyn Broker) -> Outcome {
    until("the broker is back, but its health is not up", || broker.health().is_up()).await
}

pub(crate) async fn an_outage_under_load_loses_nothing_that_was_confirmed(
    harness: &mut dyn Harness,
) -> Outcome {
    if !harness.reconnects() || !harness.broker().capabilities().has(Capability::Durable) {
        return Ok(());
    }
    let scene = Scene::start(harness.broker()).await?;
    for kill in [true, false] {
        if kill {
            harness.kill().await;
        } else {
            harness.stop().await;
        }
        is_down(&*scene.broker).await?;
        sleep(Times::get().outage).await;
        harness.start().await;
        is_up(&*scene.broker).await?;
    }
    scene.finish().await
}

pub(crate) async fn subscriptions_resume_by_themselves(harness: &mut dyn Harness) -> Outcome {
    if !harness.reconnects() {
        return Ok(());
    }
    let broker = harness.broker();
    queue(&*broker, "q").await?;
    durable(&*broker, "d", "t.*").await?;
    let mut subscriptions = vec![
        consume(&*broker, Source::queue("q"), 10).await?,
        consume(&*broker, Source::durable("d"), 10).await?,
        consume(&*broker, Source::topic("t.a"), 10).await?,
        consume(&*broker, Source::topic("#"), 10).await?,
    ];
    let durable_ack = broker.capabilities().has(Capability::DurableAck);
    for round in 0..3 {
        if round > 0 {
            if durable_ack {
                harness.kill().await;
            } else {
                harness.stop().await;
            }
            is_down(&*broker).await?;
            harness.start().await;
            is_up(&*broker).await?;
        }
        let targets = vec![Target::queue("q"), Target::topic("t.a")];
        confirmed(broker.publish(Publish::new(targets, numbered(round)))).await??;
        for subscription in &mut subscriptions {
            let taken = take(subscription, 1).await?;
            is(&taken, round..round + 1, &format!("after outage {round}"))?;
            ack(subscription, &taken).await?;
        }
    }
    for subscription in &mut subscriptions {
        quiet(subscription, "everything was delivered and acknowledged").await?;
    }
    Ok(())
}

pub(crate) async fn an_outage_that_outlasts_the_bridge_fails_what_waits(
    harness: &mut dyn Harness,
) -> Outcome {
    const COUNT: usize = 4096;
    if !harness.reconnects() {
        return Ok(());
    }
    let broker = harness.broker();
    queue(&*broker, "q").await?;
    harness.kill().await;
    is_down(&*broker).await?;
    // A gibibyte, but for those who share the octets.
    let body = Bytes::from(vec![b'x'; 256 << 10]);
    let publish = || broker.publish(Publish::to_queue("q", Message::new(body.clone())));
    let outcomes = join_all((0..COUNT).map(|_| confirmed(publish()))).await;
    let mut refused = 0;
    for outcome in outcomes {
        match outcome? {
            Ok(()) => return Err(Failure::new("confirmed by a broker that is gone")),
            Err(BrokerError::Overloaded { .. }) => refused += 1,
            Err(error) => ensure!(error.is_retryable(), "a publish failed for good: {error}"),
        }
    }
    ensure!(refused > 0, "a gibibyte was taken to wait for a broker that is gone");
    until("what failed still waits", || broker.metrics().pending_bytes == 0).await?;
    harness.start().await;
    is_up(&*broker).await?;
    queue(&*broker, "q").await?;
    // What is kept would come first.
    if broker.capabilities().has(Capability::Depth) {
        let before = broker.stats(&Source::queue("q")).await?.depth;
        ensure!(before == 0, "{before} of the publishes that failed were published after all");
    }
    send_queue(&*broker, "q", 0..10).await?;
    let mut consumer = consume(&*broker, Source::queue("q"), 10).await?;
    is(&take(&mut consumer, 10).await?, 0..10, "after the outage")
}

pub(crate) async fn what_is_asked_during_an_outage_waits_or_may_be_tried_again(
    harness: &mut dyn Harness,
) -> Outcome {
    if !harness.reconnects() {
        return Ok(());
    }
    let broker = harness.broker();
    queue(&*broker, "q").await?;
    harness.kill().await;
    is_down(&*broker).await?;
    let asking = Arc::clone(&broker);
    let answers = spawn(async move {
        let (declared, queue) = (Declaration::durable("d", ["t"]), Source::queue("q"));
        let options = SubscribeOptions::new();
        futures::join!(
            asking.declare(&declared),
            asking.stats(&queue),
            asking.subscribe(queue.clone(), options),
            asking.subscribe(Source::topic("t"), options),
        )
    });
    sleep(Times::get().outage).await;
    harness.start().await;
    let answers = tokio::time::timeout(Times::get().patience, answers).await;
    let Ok(Ok((declared, stats, queue, topic))) = answers else {
        return Err(Failure::new("a call neither ended nor failed"));
    };
    let unsupported = BrokerError::Unsupported(Capability::Depth);
    let stats = stats
        .err()
        .filter(|error| broker.capabilities().has(Capability::Depth) || *error != unsupported);
    let subscribed = [queue.as_ref().err().cloned(), topic.as_ref().err().cloned()];
    for error in [declared.err(), stats].into_iter().chain(subscribed) {
        let fault = error.filter(|error| !error.is_retryable());
        // A broker that keeps nothing has forgotten the queue.
        let gone = matches!(fault, Some(BrokerError::NotDeclared { .. }))
            && !broker.capabilities().has(Capability::Durable);
        ensure!(fault.is_none() || gone, "a call failed for good: {fault:?}");
    }
    is_up(&*broker).await?;
    // Those that were made are live.
    if let Ok(mut consumer) = queue {
        send_queue(&*broker, "q", 0..1).await?;
        is(&take(&mut consumer, 1).await?, 0..1, "a consumer that came during the outage")?;
    }
    if let Ok(mut subscriber) = topic {
        send_topic(&*broker, "t", 1..2).await?;
        is(&take(&mut subscriber, 1).await?, 1..2, "a subscriber that came during the outage")?;
    }
    Ok(())
}

pub(crate) async fn what_is_deleted_during_an_outage_does_not_come_back(
    harness: &mut dyn Harness,
) -> Outcome {
    if !harness.reconnects() {
        return Ok(());
    }
    let broker = harness.broker();
    let source = Source::durable("d");
    durable(&*broker, "d", "t").await?;
    send_topic(&*broker, "t", 0..3).await?;
    let mut consumer = consume(&*broker, source.clone(), 10).await?;
    take(&mut consumer, 3).await?;
    harness.kill().await;
    is_down(&*broker).await?;
    let (deleting, deleted) = (Arc::clone(&broker), source.clone());
    let outcome = spawn(async move { deleting.delete(&deleted).await });
    sleep(Times::get().outage).await;
    harness.start().await;
    match outcome.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.is_retryable() => broker.delete(&source).await?,
        other => return Err(Failure::new(format!("deleting failed for good: {other:?}"))),
    }
    ended(&mut consumer).await?;
    ensure!(
        consumer.end_reason() == Some(EndReason::Deleted),
        "the consumer ended with {:?}",
        consumer.end_reason()
    );
    // The next outage does not bring it back either: a crash only where what is done is on the disk.
    let crashes = broker.capabilities().has(Capability::DurableAck);
    for _ in 0..2 {
        let found = broker.subscribe(source.clone(), SubscribeOptions::new()).await;
        ensure!(
            matches!(found, Err(BrokerError::NotDeclared { .. })),
            "{source} was deleted, but can be consumed"
        );
        if crashes {
            harness.crash().await;
        } else {
            harness.restart().await;
        }
    }
    durable(&*broker, "d", "t").await?;
    depth(&*broker, &source, 0).await
}

pub(crate) async fn a_broker_that_hangs_and_goes_on_loses_nothing(
    harness: &mut dyn Harness,
) -> Outcome {
    if !harness.reconnects() {
        return Ok(());
    }
    let scene = Scene::start(harness.broker()).await?;
    durable(&*scene.broker, "e", "elsewhere").await?;
    if !harness.suspend().await {
        return Ok(());
    }
    let during: Vec<Confirm> = (0..10)
        .map(|number| scene.broker.publish(Publish::to_topic("elsewhere", numbered(number))))
        .collect();
    sleep(Times::get().outage).await;
    harness.resume().await;
    let mut expected = BTreeSet::new();
    for (number, confirm) in (0..).zip(during) {
        match confirmed(confirm).await? {
            Ok(()) => {
                expected.insert(number);
            }
            Err(error) => ensure!(error.is_retryable(), "a publish failed for good: {error}"),
        }
    }
    is_up(&*scene.broker).await?;
    let kept = Consumer::start(consume(&*scene.broker, Source::durable("e"), 10).await?);
    none_is_lost(&[kept], &expected).await?;
    scene.finish().await
}
