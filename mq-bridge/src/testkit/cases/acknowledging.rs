//! What comes back, to whom, how it is marked, and where it ends.

use crate::testkit::steps::{
    ack, confirmed, consume, ensure, is, number, numbers, queue, quiet, send_queue, soon, tags,
    take,
};
use crate::testkit::{Harness, Outcome};
use crate::{Capability, DeadLetterReason, Declaration, Nack, Source};

pub(crate) async fn unacknowledged_messages_come_back_in_order(
    harness: &mut dyn Harness,
) -> Outcome {
    let broker = harness.broker();
    queue(&*broker, "q").await?;
    send_queue(&*broker, "q", 0..20).await?;
    let mut first = consume(&*broker, Source::queue("q"), 10).await?;
    let taken = take(&mut first, 10).await?;
    is(&taken, 0..10, "the first consumer's")?;
    // Some done, some refused, most neither.
    let (done, open): (Vec<_>, Vec<_>) =
        taken.into_iter().partition(|one| [2, 5].contains(&number(one)));
    ack(&first, &done).await?;
    drop(open);
    drop(first);
    let mut second = consume(&*broker, Source::queue("q"), 100).await?;
    let rest = take(&mut second, 18).await?;
    let expected: Vec<u64> = (0..20).filter(|number| ![2, 5].contains(number)).collect();
    ensure!(
        numbers(&rest) == expected,
        "what was not acknowledged goes to the front in order: got {:?}",
        numbers(&rest)
    );
    quiet(&mut second, "everything was delivered").await
}

pub(crate) async fn unacknowledged_messages_come_back_marked(harness: &mut dyn Harness) -> Outcome {
    let broker = harness.broker();
    let exact = broker.capabilities().has(Capability::DeliveryCount);
    queue(&*broker, "q").await?;
    send_queue(&*broker, "q", 0..5).await?;
    for round in 1..=4 {
        let mut consumer = consume(&*broker, Source::queue("q"), 3).await?;
        let taken = take(&mut consumer, 3).await?;
        is(&taken, 0..3, "each round's")?;
        for one in &taken {
            ensure!(
                one.redelivered == (round > 1),
                "delivery {round} of a message says redelivered:{}",
                one.redelivered
            );
            // Who cannot count says only whether it is a repeat.
            let count = if exact { round } else { round.min(2) };
            ensure!(
                one.delivery_count == count,
                "delivery {round} of a message is counted as {}",
                one.delivery_count
            );
        }
    }
    let mut consumer = consume(&*broker, Source::queue("q"), 10).await?;
    let all = take(&mut consumer, 5).await?;
    let marks: Vec<bool> = all.iter().map(|one| one.redelivered).collect();
    ensure!(
        marks == [true, true, true, false, false],
        "what was never delivered is not marked, the rest is: got {marks:?}"
    );
    Ok(())
}

pub(crate) async fn acknowledged_messages_never_come_back(harness: &mut dyn Harness) -> Outcome {
    let broker = harness.broker();
    queue(&*broker, "q").await?;
    send_queue(&*broker, "q", 0..10).await?;
    let mut consumer = consume(&*broker, Source::queue("q"), 100).await?;
    let taken = take(&mut consumer, 10).await?;
    let acker = consumer.acker();
    ack(&consumer, &taken[..8]).await?;
    // Again, and unknown ones: passed over.
    ack(&consumer, &taken[..8]).await?;
    confirmed(acker.ack(&[u64::MAX])).await??;
    drop(consumer);
    // Too late: what this names belongs to the next consumer.
    confirmed(acker.ack(&tags(&taken[8..]))).await??;
    let capabilities = broker.capabilities();
    if capabilities.has(Capability::DurableAck) {
        harness.crash().await;
    } else if capabilities.has(Capability::Durable) {
        harness.restart().await;
    }
    let broker = harness.broker();
    let mut consumer = consume(&*broker, Source::queue("q"), 100).await?;
    let rest = take(&mut consumer, 2).await?;
    is(&rest, 8..10, "what was not acknowledged in time")?;
    quiet(&mut consumer, "all others were acknowledged").await?;
    if capabilities.has(Capability::Durable) && !capabilities.has(Capability::DurableAck) {
        ack(&consumer, &rest).await?;
        drop(consumer);
        harness.crash().await;
        let broker = harness.broker();
        let mut consumer = consume(&*broker, Source::queue("q"), 100).await?;
        while let Some(again) = soon(&mut consumer).await {
            let marked = again.iter().all(|one| one.redelivered);
            ensure!(marked, "what was acknowledged comes back unmarked after a crash");
        }
    }
    Ok(())
}

pub(crate) async fn a_refused_message_comes_again(harness: &mut dyn Harness) -> Outcome {
    let broker = harness.broker();
    queue(&*broker, "q").await?;
    send_queue(&*broker, "q", 0..3).await?;
    let mut consumer = consume(&*broker, Source::queue("q"), 100).await?;
    let taken = take(&mut consumer, 3).await?;
    ack(&consumer, &taken[1..]).await?;
    confirmed(consumer.acker().nack(&tags(&taken[..1]), Nack::Requeue)).await??;
    let again = take(&mut consumer, 1).await?;
    is(&again, 0..1, "the refused message")?;
    ensure!(again[0].redelivered, "a refused message that comes again is not marked");
    ack(&consumer, &again).await?;
    quiet(&mut consumer, "everything was acknowledged").await
}

pub(crate) async fn a_dead_lettered_message_goes_to_the_dead_letter_queue(
    harness: &mut dyn Harness,
) -> Outcome {
    let broker = harness.broker();
    broker.declare(&Declaration::queue("q").with_dead_letter("dead")).await?;
    send_queue(&*broker, "q", 0..3).await?;
    let mut consumer = consume(&*broker, Source::queue("q"), 100).await?;
    let taken = take(&mut consumer, 3).await?;
    confirmed(consumer.acker().nack(&tags(&taken[..2]), Nack::DeadLetter)).await??;
    ack(&consumer, &taken[2..]).await?;
    if !broker.capabilities().has(Capability::DeadLetter) {
        let kept = broker.stats(&Source::queue("dead")).await.map_or(0, |stats| stats.depth);
        ensure!(kept == 0, "dead letters are kept, but the capability is not declared");
        return Ok(());
    }
    let mut dead = consume(&*broker, Source::queue("dead"), 100).await?;
    let letters = take(&mut dead, 2).await?;
    is(&letters, 0..2, "the dead letters")?;
    for letter in &letters {
        ensure!(
            letter.dead_letter == Some(DeadLetterReason::Rejected),
            "a dead letter gives as its reason {:?}",
            letter.dead_letter
        );
    }
    ack(&dead, &letters).await?;
    quiet(&mut consumer, "everything was settled").await
}

pub(crate) async fn a_poisonous_message_is_dead_lettered_after_its_last_delivery(
    harness: &mut dyn Harness,
) -> Outcome {
    let mut broker = harness.broker();
    let declaration = Declaration::queue("q").with_max_deliveries(3).with_dead_letter("dead");
    broker.declare(&declaration).await?;
    send_queue(&*broker, "q", 0..2).await?;
    let capabilities = broker.capabilities();
    let declared =
        capabilities.has(Capability::DeadLetter) && capabilities.has(Capability::DeliveryCount);
    for round in 1..=3 {
        let mut consumer = consume(&*broker, Source::queue("q"), 1).await?;
        is(&take(&mut consumer, 1).await?, 0..1, "the poisonous message")?;
        drop(consumer);
        // Deliveries before a restart count.
        if round == 2 && broker.capabilities().has(Capability::Durable) {
            harness.restart().await;
            broker = harness.broker();
        }
    }
    let mut consumer = consume(&*broker, Source::queue("q"), 1).await?;
    let next = take(&mut consumer, 1).await?;
    if !declared {
        return is(&next, 0..1, "a poisonous message without dead-lettering");
    }
    is(&next, 1..2, "after three deliveries the next message")?;
    let mut dead = consume(&*broker, Source::queue("dead"), 1).await?;
    let letters = take(&mut dead, 1).await?;
    is(&letters, 0..1, "the dead letter")?;
    ensure!(
        letters[0].dead_letter == Some(DeadLetterReason::MaxDeliveries),
        "a poisonous message gives as its reason {:?}",
        letters[0].dead_letter
    );
    Ok(())
}
