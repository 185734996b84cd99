//! Order, prefetch, and consumers that are slow.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use crate::testkit::steps::{
    ack, batch, confirmed, consume, durable, ended, ensure, few, is, numbered, numbers, queue,
    quiet, send, send_queue, send_topic, stats, take, until,
};
use crate::testkit::{Failure, Harness, Outcome};
use crate::{
    Capability, EndReason, Message, Overflow, Publish, Source, SourceStats, SubscribeOptions,
    Target,
};

pub(crate) async fn delivery_is_in_the_order_of_the_calls(harness: &mut dyn Harness) -> Outcome {
    const COUNT: u64 = 600;
    let broker = harness.broker();
    if !broker.capabilities().has(Capability::Order) {
        return Ok(());
    }
    queue(&*broker, "q").await?;
    durable(&*broker, "d", "t").await?;
    let options = SubscribeOptions::new().with_buffer(usize::MAX, Overflow::Disconnect);
    let mut consumers = vec![
        consume(&*broker, Source::queue("q"), 50).await?,
        consume(&*broker, Source::durable("d"), 50).await?,
        broker.subscribe(Source::topic("t"), options).await?,
    ];
    let publish = |message| Publish::new(vec![Target::queue("q"), Target::topic("t")], message);
    send(&*broker, publish, 0..COUNT).await?;
    for consumer in &mut consumers {
        let mut seen = Vec::new();
        while (seen.len() as u64) < COUNT {
            let batch = batch(consumer).await?;
            seen.extend(numbers(&batch));
            ack(consumer, &batch).await?;
        }
        ensure!(
            seen.iter().copied().eq(0..COUNT),
            "messages did not arrive in the order of the calls: {}",
            few(&seen)
        );
    }
    Ok(())
}

pub(crate) async fn the_message_prefetch_is_kept(harness: &mut dyn Harness) -> Outcome {
    let broker = harness.broker();
    queue(&*broker, "q").await?;
    send_queue(&*broker, "q", 0..20).await?;
    let mut consumer = consume(&*broker, Source::queue("q"), 5).await?;
    let taken = take(&mut consumer, 5).await?;
    quiet(&mut consumer, "five are unacknowledged and the prefetch is five").await?;
    ack(&consumer, &taken[1..3]).await?;
    is(&take(&mut consumer, 2).await?, 5..7, "two acknowledgements make room for two")?;
    quiet(&mut consumer, "the prefetch is reached again").await?;
    let five = |found: &SourceStats| found.unacked == 5;
    stats(&*broker, &Source::queue("q"), "has five unacknowledged messages", five).await?;
    // What is published meanwhile keeps to it as well.
    send_queue(&*broker, "q", 20..25).await?;
    quiet(&mut consumer, "the prefetch is still reached").await
}

pub(crate) async fn the_byte_prefetch_is_kept(harness: &mut dyn Harness) -> Outcome {
    const SIZE: usize = 10_000;
    let broker = harness.broker();
    queue(&*broker, "q").await?;
    let large = || Publish::to_queue("q", Message::new(vec![b'x'; SIZE]));
    for _ in 0..10 {
        confirmed(broker.publish(large())).await??;
    }
    let options = SubscribeOptions::new().with_prefetch(100, 3 * SIZE);
    let mut consumer = broker.subscribe(Source::queue("q"), options).await?;
    let mut taken = Vec::new();
    while taken.len() < 3 {
        taken.extend(batch(&mut consumer).await?);
    }
    ensure!(taken.len() == 3, "a prefetch of 3 messages' octets let {} through", taken.len());
    quiet(&mut consumer, "the octets of the prefetch are reached").await?;
    ack(&consumer, &taken).await?;
    drop(consumer);
    // One is always delivered, however large.
    let options = SubscribeOptions::new().with_prefetch(100, 10);
    let mut consumer = broker.subscribe(Source::queue("q"), options).await?;
    for _ in 0..3 {
        let taken = take(&mut consumer, 1).await?;
        quiet(&mut consumer, "one is more than the prefetch").await?;
        ack(&consumer, &taken).await?;
    }
    Ok(())
}

pub(crate) async fn a_slow_topic_subscriber_is_bounded_and_its_losses_are_counted(
    harness: &mut dyn Harness,
) -> Outcome {
    const COUNT: u64 = 500;
    let broker = harness.broker();
    let message = Message::new(vec![b'x'; 1000]);
    let bound = 10 * message.cost();
    let options = |overflow| SubscribeOptions::new().with_buffer(bound, overflow);
    let mut slow = broker.subscribe(Source::topic("t"), options(Overflow::DropOldest)).await?;
    let mut ending = broker.subscribe(Source::topic("t"), options(Overflow::Disconnect)).await?;
    let large = SubscribeOptions::new().with_buffer(usize::MAX, Overflow::Disconnect);
    let mut quick = broker.subscribe(Source::topic("t"), large).await?;
    for _ in 0..COUNT {
        confirmed(broker.publish(Publish::to_topic("t", message.clone()))).await??;
    }
    let count = usize::try_from(COUNT).unwrap_or(0);
    ensure!(
        take(&mut quick, count).await?.len() == count && quick.dropped() == 0,
        "a subscriber with room lost messages because of another"
    );
    let mut kept = 0_u64;
    // All was confirmed, but a broker far away may still be handing it over.
    while kept + slow.dropped() < COUNT {
        kept += batch(&mut slow).await?.len() as u64;
    }
    ensure!(
        kept + slow.dropped() == COUNT,
        "{kept} were delivered and {} counted as dropped, of {COUNT}",
        slow.dropped()
    );
    ensure!(slow.dropped() > 0, "a bound of 10 messages kept all of {COUNT}");
    ended(&mut ending).await?;
    ensure!(
        ending.end_reason() == Some(EndReason::Overflow),
        "a slow subscriber was disconnected with {:?}",
        ending.end_reason()
    );
    // It still lives, and hears what comes now.
    send_topic(&*broker, "t", 7..8).await?;
    is(&take(&mut slow, 1).await?, 7..8, "the slow subscriber's next")
}

pub(crate) async fn a_subscription_is_live_when_it_is_returned(
    harness: &mut dyn Harness,
) -> Outcome {
    let broker = harness.broker();
    for round in 0..50 {
        let topic = format!("t.{round}");
        let pattern = if round % 2 == 0 { topic.clone() } else { "t.*".to_owned() };
        let mut consumer =
            broker.subscribe(Source::topic(pattern), SubscribeOptions::new()).await?;
        drop(broker.publish(Publish::to_topic(topic, numbered(round))));
        let first = take(&mut consumer, 1).await.map_err(|failure| {
            Failure::new(format!("what was published after subscribing is missing: {failure}"))
        })?;
        is(&first, round..round + 1, "right after subscribing")?;
    }
    Ok(())
}

pub(crate) async fn a_slow_consumer_costs_no_memory_beyond_its_bound(
    harness: &mut dyn Harness,
) -> Outcome {
    const COUNT: usize = 1000;
    const PREFETCH: u32 = 10;
    let broker = &*harness.broker();
    queue(broker, "q").await?;
    durable(broker, "d", "t").await?;
    let alive = Arc::new(());
    let message = |number: usize| {
        let mut body = vec![b'x'; 8 << 10];
        body.extend_from_slice(number.to_string().as_bytes());
        Message::new(Bytes::from_owner(Tracked { body, _alive: Arc::clone(&alive) }))
    };
    let bound = PREFETCH as usize * message(COUNT).cost();
    let options = SubscribeOptions::new().with_buffer(bound, Overflow::DropOldest);
    let octets = options.with_prefetch(PREFETCH, bound);
    let mut kept = [
        consume(broker, Source::queue("q"), PREFETCH).await?,
        broker.subscribe(Source::durable("d"), octets).await?,
    ];
    let mut live = broker.subscribe(Source::topic("t"), options).await?;
    let targets = || vec![Target::queue("q"), Target::topic("t")];
    let publishing = stream::iter(0..COUNT)
        .map(|number| broker.publish(Publish::new(targets(), message(number))));
    publishing.buffered(64).try_collect::<()>().await?;
    // Nobody has read anything. Only a broker that has no other place keeps it all in this process.
    if harness.reconnects() || broker.capabilities().has(Capability::Durable) {
        let few = 3 * PREFETCH as usize;
        until("messages that wait for slow consumers stay in memory", || {
            let metrics = broker.metrics();
            let stored = metrics.stored_bytes + metrics.pending_bytes;
            Arc::strong_count(&alive) <= 1 + few && stored <= few as u64 * bound as u64
        })
        .await?;
    }
    for (source, consumer) in [Source::queue("q"), Source::durable("d")].into_iter().zip(&mut kept)
    {
        let within = |found: &SourceStats| found.unacked <= u64::from(PREFETCH);
        stats(broker, &source, "has no more with a consumer than its prefetch", within).await?;
        let mut count = 0;
        while count < COUNT {
            let batch = batch(consumer).await?;
            count += batch.len();
            ack(consumer, &batch).await?;
        }
        ensure!(count == COUNT, "{source} had {count} messages of {COUNT} for a slow consumer");
    }
    let mut read = 0;
    while read + live.dropped() < COUNT as u64 {
        read += batch(&mut live).await?.len() as u64;
    }
    // Some may have been on their way to the reader.
    ensure!(read <= 2 * u64::from(PREFETCH), "a bound of {PREFETCH} messages kept {read}");
    let counted = broker.metrics().dropped;
    ensure!(counted == live.dropped(), "{} were dropped, but {counted} counted", live.dropped());
    Ok(())
}

/// A body whose owner can tell whether it is still there.
struct Tracked {
    body: Vec<u8>,
    _alive: Arc<()>,
}

impl AsRef<[u8]> for Tracked {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}
