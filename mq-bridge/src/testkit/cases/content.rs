//! What a message carries.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::testkit::steps::{
    ack, confirmed, consume, depth, ensure, is, number, numbered, numbers, queue, send_queue, take,
};
use crate::testkit::{Failure, Harness, Outcome};
use crate::{BrokerError, Capability, Headers, Message, Publish, Source};

pub(crate) async fn empty_bodies_and_any_octets_are_carried(harness: &mut dyn Harness) -> Outcome {
    let broker = harness.broker();
    queue(&*broker, "q").await?;
    let octets: Vec<u8> = (0..=255).collect();
    let headers = Headers::builder()
        .with("plain", "value")
        .with("octets", &octets)
        .with("empty", "")
        .with("name with spaces: and \u{1f980}\n", "x")
        .with("repeated", "first")
        .with("repeated", "second")
        .with("", "no name")
        .build();
    let messages = [
        Message::new(Bytes::new()),
        Message::new(octets).with_headers(headers),
        Message::new(vec![0; 3]),
    ];
    for message in &messages {
        confirmed(broker.publish(Publish::to_queue("q", message.clone()))).await??;
    }
    // From memory, and again from wherever the broker keeps it.
    for _ in 0..2 {
        let broker = harness.broker();
        let mut consumer = consume(&*broker, Source::queue("q"), 10).await?;
        for (message, delivery) in messages.iter().zip(take(&mut consumer, 3).await?) {
            ensure!(
                delivery.message.body == message.body,
                "a body of {} octets arrived with {}",
                message.body.len(),
                delivery.message.body.len()
            );
            ensure!(
                delivery.message.headers == message.headers,
                "headers arrived as {:?} instead of {:?}",
                delivery.message.headers,
                message.headers
            );
        }
        drop(consumer);
        if broker.capabilities().has(Capability::Durable) {
            harness.restart().await;
        }
    }
    Ok(())
}

pub(crate) async fn a_large_message_is_carried_and_a_too_large_one_refused(
    harness: &mut dyn Harness,
) -> Outcome {
    let broker = harness.broker();
    queue(&*broker, "q").await?;
    let body: Bytes = (0..1_u32 << 20).map(|index| (index % 251) as u8).collect();
    confirmed(broker.publish(Publish::to_queue("q", Message::new(body.clone())))).await??;
    let mut consumer = consume(&*broker, Source::queue("q"), 10).await?;
    let taken = take(&mut consumer, 1).await?;
    ensure!(taken[0].message.body == body, "a body of 1 MiB arrived changed");
    ack(&consumer, &taken).await?;
    let limit = broker.capabilities().max_message();
    if limit > 256 << 20 {
        return Ok(());
    }
    let too_large = Message::new(vec![0; limit + 1]);
    match confirmed(broker.publish(Publish::to_queue("q", too_large))).await? {
        Err(BrokerError::TooLarge { .. }) => {}
        other => {
            return Err(Failure::new(format!("a message over the limit of {limit}: {other:?}")));
        }
    }
    send_queue(&*broker, "q", 1..2).await?;
    is(&take(&mut consumer, 1).await?, 1..2, "after the refusal")
}

pub(crate) async fn expired_messages_are_not_delivered(harness: &mut dyn Harness) -> Outcome {
    let broker = harness.broker();
    queue(&*broker, "q").await?;
    let now = SystemTime::now();
    let past = now - Duration::from_secs(60);
    let future = now + Duration::from_secs(3600);
    for count in 0..4 {
        let expires = if count % 2 == 0 { past } else { future };
        let message = numbered(count).with_expires(expires);
        confirmed(broker.publish(Publish::to_queue("q", message))).await??;
    }
    let mut consumer = consume(&*broker, Source::queue("q"), 10).await?;
    if !broker.capabilities().has(Capability::Expiry) {
        return is(&take(&mut consumer, 4).await?, 0..4, "without expiry everything");
    }
    let taken = take(&mut consumer, 2).await?;
    ensure!(
        taken.iter().all(|one| number(one) % 2 == 1),
        "expired messages were delivered: {:?}",
        numbers(&taken)
    );
    ack(&consumer, &taken).await?;
    depth(&*broker, &Source::queue("q"), 0).await
}

pub(crate) async fn priority_is_what_is_declared(harness: &mut dyn Harness) -> Outcome {
    let broker = harness.broker();
    queue(&*broker, "q").await?;
    for count in 0..3 {
        // Later ones are more urgent.
        let message = numbered(count).with_priority(u8::try_from(count).unwrap_or(0) * 4);
        confirmed(broker.publish(Publish::to_queue("q", message))).await??;
    }
    let mut consumer = consume(&*broker, Source::queue("q"), 1).await?;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let taken = take(&mut consumer, 1).await?;
        ensure!(
            taken[0].message.priority == u8::try_from(number(&taken[0])).unwrap_or(0) * 4,
            "the priority of a message was changed to {}",
            taken[0].message.priority
        );
        seen.extend(numbers(&taken));
        ack(&consumer, &taken).await?;
    }
    let expected =
        if broker.capabilities().has(Capability::Priority) { [2, 1, 0] } else { [0, 1, 2] };
    ensure!(seen == expected, "priorities 0, 4, 8 were delivered as {seen:?}");
    Ok(())
}
