//! Several consumers of one source.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::select_all;

use crate::testkit::load::{Consumer, Publisher, none_is_lost};
use crate::testkit::steps::{
    ack, batch, consume, durable, ended, ensure, is, number, numbers, queue, quiet, send_queue,
    send_topic, tags, take,
};
use crate::testkit::{Failure, Harness, Outcome};
use crate::{BrokerError, Capability, EndReason, Publish, Source, SubscribeOptions, Subscription};

pub(crate) async fn a_new_consumer_with_takeover_ends_the_older_one(
    harness: &mut dyn Harness,
) -> Outcome {
    let broker = harness.broker();
    durable(&*broker, "d", "t").await?;
    send_topic(&*broker, "t", 0..5).await?;
    let takeover = SubscribeOptions::new().with_takeover(true);
    if !broker.capabilities().has(Capability::Takeover) {
        let mut older = consume(&*broker, Source::durable("d"), 5).await?;
        take(&mut older, 5).await?;
        let refused = broker.subscribe(Source::durable("d"), takeover).await.map(drop);
        ensure!(
            refused == Err(BrokerError::Unsupported(Capability::Takeover)),
            "takeover is not declared, but a consumer that asks for it gets {refused:?}"
        );
        return quiet(&mut older, "nobody took over").await;
    }
    let mut older = broker.subscribe(Source::durable("d"), takeover).await?;
    let taken = take(&mut older, 5).await?;
    ack(&older, &taken[..2]).await?;
    let mut newer = broker.subscribe(Source::durable("d"), takeover).await?;
    // The older one is over, with its acknowledgements, before the newer one gets anything.
    drop(older.acker().ack(&tags(&taken)));
    send_topic(&*broker, "t", 5..7).await?;
    let seen = take(&mut newer, 5).await?;
    is(&seen, 2..7, "what the newer consumer gets")?;
    let marks: Vec<bool> = seen.iter().map(|one| one.redelivered).collect();
    ensure!(marks == [true, true, true, false, false], "its marks are {marks:?}");
    ended(&mut older).await?;
    ensure!(
        older.end_reason() == Some(EndReason::TakenOver),
        "the older consumer ended with {:?}",
        older.end_reason()
    );
    drop(older);
    ack(&newer, &seen).await?;
    send_topic(&*broker, "t", 7..8).await?;
    is(&take(&mut newer, 1).await?, 7..8, "after the older one is gone the newer one")
}

pub(crate) async fn competing_consumers_share_and_none_starves(
    harness: &mut dyn Harness,
) -> Outcome {
    const COUNT: u64 = 400;
    let broker = harness.broker();
    queue(&*broker, "q").await?;
    let mut consumers = Vec::new();
    for _ in 0..4 {
        consumers.push(consume(&*broker, Source::queue("q"), 5).await?);
    }
    send_queue(&*broker, "q", 0..COUNT).await?;
    // Nobody acknowledges yet: everyone gets a share, and no more than the prefetch.
    let mut open = Vec::new();
    for consumer in &mut consumers {
        let share = batch(consumer).await.map_err(|failure| {
            Failure::new(format!("with much waiting, one consumer of several starves: {failure}"))
        })?;
        ensure!(share.len() <= 5, "a prefetch of 5 let {} through", share.len());
        open.push(share);
    }
    // The first keeps what it has and does nothing more: the others get the rest.
    let mut idle = consumers.remove(0);
    let mut kept = open.remove(0);
    let mut seen = Vec::new();
    for (consumer, share) in consumers.iter().zip(&open) {
        seen.extend(numbers(share));
        ack(consumer, share).await?;
    }
    share_out(&mut consumers, &mut seen, COUNT - 5).await?;
    // Its prefetch bounds what the idle one may hold back; when it goes, the others get that too.
    while let Some(Some(more)) = batch(&mut idle).now_or_never().map(Result::ok) {
        kept.extend(more);
    }
    ensure!(kept.len() <= 5, "a prefetch of 5 let {} through", kept.len());
    drop(idle);
    share_out(&mut consumers, &mut seen, COUNT).await?;
    seen.sort_unstable();
    ensure!(
        seen.iter().copied().eq(0..COUNT),
        "each of {COUNT} messages goes to one consumer; got {seen:?}"
    );
    Ok(())
}

/// Lets the consumers take and acknowledge until `count` messages have been seen.
async fn share_out(consumers: &mut [Subscription], seen: &mut Vec<u64>, count: u64) -> Outcome {
    while (seen.len() as u64) < count {
        let waiting = consumers.iter_mut().map(|consumer| Box::pin(batch(consumer)));
        let (next, index, rest) = select_all(waiting).await;
        drop(rest);
        let next = next?;
        seen.extend(numbers(&next));
        if let Some(consumer) = consumers.get(index) {
            ack(consumer, &next).await?;
        }
    }
    Ok(())
}

pub(crate) async fn consumers_that_die_leave_what_they_held_to_the_others(
    harness: &mut dyn Harness,
) -> Outcome {
    const DEATHS: usize = 10;
    let broker = harness.broker();
    queue(&*broker, "q").await?;
    let steady = Consumer::start(consume(&*broker, Source::queue("q"), 100).await?);
    let to_queue = |message| Publish::to_queue("q", message);
    let mut publisher = Publisher::start(Arc::clone(&broker), 0, to_queue);
    let (mut done, mut held) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..DEATHS {
        let mut dying = consume(&*broker, Source::queue("q"), 10).await?;
        publisher.progress().await?;
        let taken = batch(&mut dying).await?;
        let (first, rest) = taken.split_at(taken.len().div_ceil(2));
        ack(&dying, first).await?;
        done.extend(first.iter().map(number));
        held.extend(rest.iter().map(number));
    }
    let published = publisher.stop().await?;
    let expected = published.confirmed.difference(&done).copied().collect();
    let steady = [steady];
    none_is_lost(&steady, &expected).await?;
    for one in steady.iter().flat_map(Consumer::seen) {
        ensure!(!done.contains(&one.number), "{} was acknowledged and came again", one.number);
        ensure!(
            one.redelivered || done.contains(&one.number) || !held.contains(&one.number),
            "{} was held by a consumer that died, and came again unmarked",
            one.number
        );
    }
    Ok(())
}
