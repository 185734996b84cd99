//! Several broker objects over one broker, as the nodes of a program have them.

use std::collections::BTreeSet;

use crate::testkit::load::{Consumer, none_is_lost};
use crate::testkit::node::Node;
use crate::testkit::steps::{
    ack, batch, confirmed, consume, durable, ended, ensure, is, number, numbered, numbers, queue,
    quiet, send_queue, send_topic, tags, take,
};
use crate::testkit::{Harness, Outcome};
use crate::{Broker, BrokerError, Capability, EndReason, Publish, Source, SubscribeOptions};

pub(crate) async fn two_nodes_share_a_queue(harness: &mut dyn Harness) -> Outcome {
    const COUNT: u64 = 200;
    let Some(node) = Node::start(harness).await? else { return Ok(()) };
    let here = harness.broker();
    queue(&*here, "q").await?;
    // Before there is anything, so that each can have its share.
    let consumers = [
        Consumer::start(consume(&*here, Source::queue("q"), 5).await?),
        Consumer::start(
            node.call(async |there| consume(&*there, Source::queue("q"), 5).await).await??,
        ),
    ];
    send_queue(&*here, "q", 0..COUNT).await?;
    node.call(async |there| send_queue(&*there, "q", COUNT..2 * COUNT).await).await??;
    none_is_lost(&consumers, &(0..2 * COUNT).collect::<BTreeSet<u64>>()).await?;
    let counts = consumers.each_ref().map(|one| one.seen().len());
    ensure!(
        counts.iter().sum::<usize>() as u64 == 2 * COUNT,
        "of {} messages two nodes got {counts:?}",
        2 * COUNT
    );
    ensure!(counts.iter().all(|count| *count > 0), "one of two nodes starves: {counts:?}");
    Ok(())
}

pub(crate) async fn topics_and_durable_subscriptions_span_nodes(
    harness: &mut dyn Harness,
) -> Outcome {
    let Some(node) = Node::start(harness).await? else { return Ok(()) };
    let here = harness.broker();
    durable(&*here, "d", "t.*").await?;
    let mut live_here = consume(&*here, Source::topic("t.*"), 10).await?;
    let mut live_there =
        node.call(async |there| consume(&*there, Source::topic("t.a"), 10).await).await??;
    node.call(async |there| send_topic(&*there, "t.a", 0..1).await).await??;
    send_topic(&*here, "t.a", 1..2).await?;
    is(&take(&mut live_here, 2).await?, 0..2, "a topic's subscriber here")?;
    is(&take(&mut live_there, 2).await?, 0..2, "a topic's subscriber on the other node")?;
    let mut kept =
        node.call(async |there| consume(&*there, Source::durable("d"), 10).await).await??;
    let taken = take(&mut kept, 2).await?;
    is(&taken, 0..2, "a durable subscription on the other node")?;
    ack(&kept, &taken).await?;
    drop(kept);
    // What was done with there is done with here.
    send_topic(&*here, "t.b", 2..3).await?;
    let mut kept = consume(&*here, Source::durable("d"), 10).await?;
    is(&take(&mut kept, 1).await?, 2..3, "the durable subscription here")?;
    is(&take(&mut live_here, 1).await?, 2..3, "a topic's subscriber here")?;
    quiet(&mut kept, "everything was delivered").await?;
    quiet(&mut live_there, "`t.a` does not match `t.b`").await
}

pub(crate) async fn a_consumer_takes_over_from_another_node(harness: &mut dyn Harness) -> Outcome {
    let here = harness.broker();
    if !here.capabilities().has(Capability::Takeover) {
        return Ok(());
    }
    let Some(node) = Node::start(harness).await? else { return Ok(()) };
    let takeover = SubscribeOptions::new().with_takeover(true);
    let subscribe =
        async |broker: &dyn Broker| broker.subscribe(Source::durable("d"), takeover).await;
    durable(&*here, "d", "t").await?;
    send_topic(&*here, "t", 0..5).await?;
    let mut older = subscribe(&*here).await?;
    let taken = take(&mut older, 5).await?;
    ack(&older, &taken[..2]).await?;
    let mut newer = node.call(async |there| subscribe(&*there).await).await??;
    ended(&mut older).await?;
    ensure!(
        older.end_reason() == Some(EndReason::TakenOver),
        "the older consumer ended with {:?}",
        older.end_reason()
    );
    // Too late.
    confirmed(older.acker().ack(&tags(&taken))).await??;
    send_topic(&*here, "t", 5..7).await?;
    let seen = take(&mut newer, 5).await?;
    is(&seen, 2..7, "what the newer consumer gets")?;
    let marks: Vec<bool> = seen.iter().map(|one| one.redelivered).collect();
    ensure!(marks == [true, true, true, false, false], "its marks are {marks:?}");
    ack(&newer, &seen).await?;
    // And back.
    let mut newest = subscribe(&*here).await?;
    ended(&mut newer).await?;
    send_topic(&*here, "t", 7..8).await?;
    is(&take(&mut newest, 1).await?, 7..8, "the newest consumer")
}

pub(crate) async fn deleting_on_one_node_ends_consumers_on_another(
    harness: &mut dyn Harness,
) -> Outcome {
    let Some(node) = Node::start(harness).await? else { return Ok(()) };
    let here = harness.broker();
    queue(&*here, "q").await?;
    let mut consumer = consume(&*here, Source::queue("q"), 10).await?;
    node.call(async |there| there.delete(&Source::queue("q")).await).await??;
    ended(&mut consumer).await?;
    ensure!(
        consumer.end_reason() == Some(EndReason::Deleted),
        "the consumer ended with {:?}",
        consumer.end_reason()
    );
    let outcome = confirmed(here.publish(Publish::to_queue("q", numbered(0)))).await?;
    ensure!(
        matches!(outcome, Err(BrokerError::NotDeclared { .. })),
        "a queue that another node has deleted takes messages: {outcome:?}"
    );
    Ok(())
}

pub(crate) async fn a_node_that_dies_leaves_what_it_held_to_the_others(
    harness: &mut dyn Harness,
) -> Outcome {
    let Some(node) = Node::start(harness).await? else { return Ok(()) };
    let here = harness.broker();
    queue(&*here, "q").await?;
    send_queue(&*here, "q", 0..10).await?;
    let mut there =
        node.call(async |there| consume(&*there, Source::queue("q"), 6).await).await??;
    let taken = take(&mut there, 6).await?;
    is(&taken, 0..6, "what the other node takes")?;
    node.call(async |_| ack(&there, &taken[..2]).await).await??;
    // It may get two more for those; the rest is for this one.
    let mut survivor = consume(&*here, Source::queue("q"), 100).await?;
    let mut seen = batch(&mut survivor).await?;
    node.die();
    drop(there);
    while seen.len() < 8 {
        seen.extend(batch(&mut survivor).await?);
    }
    seen.sort_by_key(number);
    is(&seen, 2..10, "what the dead node did not acknowledge")?;
    ensure!(
        seen[..4].iter().all(|one| one.redelivered),
        "what a dead node held comes back unmarked: {:?}",
        numbers(&seen[..4])
    );
    ack(&survivor, &seen).await?;
    quiet(&mut survivor, "everything was acknowledged").await
}
