//! Patterns, many targets, many topics.

use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};

use crate::testkit::steps::{
    ack, confirmed, consume, depth, durable, ensure, is, number, numbered, queue, quiet,
    send_topic, take,
};
use crate::testkit::{Harness, Outcome};
use crate::{
    Confirm, Declaration, Overflow, Publish, Source, SubscribeOptions, Subscription, Target,
    pattern_matches,
};

pub(crate) async fn wildcards_match_words(harness: &mut dyn Harness) -> Outcome {
    const PATTERNS: [&str; 9] = ["a", "a.b", "a.*", "*.b", "a.#", "#.b", "#", "*.*.c", "a.#.c"];
    const TOPICS: [&str; 8] = ["a", "b", "a.b", "a.c", "a.b.c", "a.c.b", "ab", "a.x.y.c"];
    let broker = harness.broker();
    let mut subscribers = Vec::new();
    for pattern in PATTERNS {
        let name = format!("d {pattern}");
        durable(&*broker, &name, pattern).await?;
        let kept = consume(&*broker, Source::durable(name), 100).await?;
        let live = broker.subscribe(Source::topic(pattern), SubscribeOptions::new()).await?;
        subscribers.extend([(pattern, kept), (pattern, live)]);
    }
    for (index, topic) in TOPICS.iter().enumerate() {
        send_topic(&*broker, topic, index as u64..index as u64 + 1).await?;
    }
    for (pattern, subscriber) in &mut subscribers {
        let expected: Vec<&str> =
            TOPICS.into_iter().filter(|topic| pattern_matches(pattern, topic)).collect();
        let taken = take(subscriber, expected.len()).await?;
        let found: Vec<&str> = taken.iter().map(|one| &**one.target.name()).collect();
        ensure!(found == expected, "`{pattern}` gets {expected:?}, but got {found:?}");
    }
    let all_quiet = subscribers
        .iter_mut()
        .map(|(_, subscriber)| quiet(subscriber, "all that matches was delivered"));
    try_join_all(all_quiet).await.map(drop)
}

pub(crate) async fn a_message_reaches_a_subscription_once_however_many_targets_lead_there(
    harness: &mut dyn Harness,
) -> Outcome {
    let broker = harness.broker();
    queue(&*broker, "q").await?;
    broker.declare(&Declaration::durable("d", ["a.*", "a.b", "c"])).await?;
    let mut live = broker.subscribe(Source::topic("#"), SubscribeOptions::new()).await?;
    let mut names: Vec<String> = (0..50).map(|index| format!("inbox.{index}")).collect();
    for name in &names {
        durable(&*broker, name, name).await?;
    }
    let targets = ["a.b", "a.c", "c"].into_iter().map(Target::topic);
    let targets = targets.chain(names.iter().map(|name| Target::topic(name.as_str())));
    let targets = targets.chain([Target::queue("q"), Target::queue("q")]).collect();
    confirmed(broker.publish(Publish::new(targets, numbered(1)))).await??;
    confirmed(broker.publish(Publish::to_topic("nobody", numbered(2)))).await??;
    is(&take(&mut live, 2).await?, 1..3, "the topic subscriber's")?;
    names.push("d".to_owned());
    let sources = names.into_iter().map(Source::durable).chain([Source::queue("q")]);
    for source in sources {
        let what = source.to_string();
        depth(&*broker, &source, 1).await?;
        let mut consumer = consume(&*broker, source, 10).await?;
        is(&take(&mut consumer, 1).await?, 1..2, &what)?;
    }
    Ok(())
}

pub(crate) async fn ten_thousand_topics(harness: &mut dyn Harness) -> Outcome {
    const COUNT: u64 = 10_000;
    let broker = harness.broker();
    let subscribing = stream::iter(0..COUNT).map(|index| {
        broker.subscribe(Source::topic(format!("t.{index}")), SubscribeOptions::new())
    });
    let mut exact: Vec<Subscription> = subscribing.buffered(64).try_collect().await?;
    let options = SubscribeOptions::new().with_buffer(usize::MAX, Overflow::Disconnect);
    let mut all = broker.subscribe(Source::topic("t.*"), options).await?;
    let confirms = stream::iter(0..COUNT)
        .map(|index| broker.publish(Publish::to_topic(format!("t.{index}"), numbered(index))));
    let failed = confirms.buffered(256).filter(|outcome| std::future::ready(outcome.is_err()));
    let failed = failed.count().await;
    ensure!(failed == 0, "{failed} publishes failed");
    for (index, subscriber) in exact.iter_mut().enumerate() {
        let taken = take(subscriber, 1).await?;
        ensure!(number(&taken[0]) == index as u64, "topic {index} got {}", number(&taken[0]));
    }
    is(&take(&mut all, usize::try_from(COUNT).unwrap_or(0)).await?, 0..COUNT, "`t.*` gets all")
}

pub(crate) async fn one_call_reaches_a_thousand_durable_subscriptions(
    harness: &mut dyn Harness,
) -> Outcome {
    const COUNT: u64 = 1000;
    let broker = &*harness.broker();
    let inbox = |index| format!("inbox.{index}");
    let declaring = stream::iter(0..COUNT).map(|index| async move {
        let name = inbox(index);
        durable(broker, &name, &name).await
    });
    declaring.buffered(32).try_collect::<()>().await?;
    let targets = || (0..COUNT).map(|index| Target::topic(inbox(index))).collect();
    let confirms = (0..3).map(|number| broker.publish(Publish::new(targets(), numbered(number))));
    confirmed(Confirm::all(confirms.collect())).await??;
    let reading = stream::iter(0..COUNT).map(|index| async move {
        let name = inbox(index);
        let mut consumer = consume(broker, Source::durable(name.as_str()), 10).await?;
        let taken = take(&mut consumer, 3).await?;
        is(&taken, 0..3, &name)?;
        let target = &taken[0].target;
        ensure!(*target == Target::topic(name.as_str()), "`{name}` got what went to {target:?}");
        ack(&consumer, &taken).await
    });
    reading.buffered(32).try_collect().await
}
