//! What is particular to the memory broker and to the consumer groups it shares with others; the
//! promises common to all backends are checked by the conformance kit.

use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::{Delivery, Message, Nack, Overflow};

const LONG: Duration = Duration::from_secs(10);

async fn queue(broker: &Memory, name: &str) {
    broker.declare(&Declaration::queue(name)).await.unwrap();
}

async fn send(broker: &Memory, queue: &str, bodies: std::ops::Range<u32>) {
    for body in bodies {
        broker.publish(Publish::to_queue(queue, Message::new(body.to_string()))).await.unwrap();
    }
}

async fn next(subscription: &mut Subscription) -> Vec<Delivery> {
    timeout(LONG, subscription.recv()).await.expect("a batch in time").expect("a live subscription")
}

fn bodies(batch: &[Delivery]) -> Vec<u32> {
    batch
        .iter()
        .map(|one| std::str::from_utf8(&one.message.body).unwrap().parse().unwrap())
        .collect()
}

fn is_idle(subscription: &mut Subscription) -> bool {
    futures::FutureExt::now_or_never(subscription.recv()).is_none()
}

#[tokio::test]
async fn what_a_consumer_leaves_unacknowledged_goes_to_the_front_in_order() {
    let broker = Memory::default();
    queue(&broker, "q").await;
    send(&broker, "q", 0..6).await;
    let options = SubscribeOptions::new().with_prefetch(4, usize::MAX);
    let mut first = broker.subscribe(Source::queue("q"), options).await.unwrap();
    let batch = next(&mut first).await;
    assert_eq!(bodies(&batch), [0, 1, 2, 3]);
    first.acker().ack(&[batch[1].tag]).await.unwrap();
    drop(first);
    let mut second = broker.subscribe(Source::queue("q"), SubscribeOptions::new()).await.unwrap();
    let batch = next(&mut second).await;
    assert_eq!(bodies(&batch), [0, 2, 3, 4, 5]);
    let marks: Vec<_> = batch.iter().map(|one| (one.redelivered, one.delivery_count)).collect();
    assert_eq!(marks, [(true, 2), (true, 2), (true, 2), (false, 1), (false, 1)]);
}

#[tokio::test]
async fn a_takeover_ends_the_older_consumer_and_gets_its_messages_first() {
    let broker = Memory::default();
    queue(&broker, "q").await;
    send(&broker, "q", 0..3).await;
    let mut older = broker.subscribe(Source::queue("q"), SubscribeOptions::new()).await.unwrap();
    let taken = next(&mut older).await;
    let mut newer = broker
        .subscribe(Source::queue("q"), SubscribeOptions::new().with_takeover(true))
        .await
        .unwrap();
    send(&broker, "q", 3..4).await;
    assert_eq!(timeout(LONG, older.recv()).await.unwrap(), None);
    assert_eq!(older.end_reason(), Some(EndReason::TakenOver));
    // Too late: the newer consumer will get them.
    older.acker().ack(&[taken[0].tag]).await.unwrap();
    let batch = next(&mut newer).await;
    assert_eq!(bodies(&batch), [0, 1, 2, 3]);
    assert!(batch[2].redelivered && !batch[3].redelivered);
    // The end of the older one does not touch the newer one.
    drop(older);
    send(&broker, "q", 4..5).await;
    assert_eq!(bodies(&next(&mut newer).await), [4]);
    assert_eq!(newer.end_reason(), None);
}

#[tokio::test]
async fn an_acknowledgement_makes_room_for_a_waiting_consumer() {
    let broker = Memory::default();
    queue(&broker, "q").await;
    send(&broker, "q", 0..5).await;
    let options = SubscribeOptions::new().with_prefetch(2, usize::MAX);
    let mut subscription = broker.subscribe(Source::queue("q"), options).await.unwrap();
    let batch = next(&mut subscription).await;
    assert_eq!(bodies(&batch), [0, 1]);
    assert!(is_idle(&mut subscription));
    let acker = subscription.acker();
    let waiting = tokio::spawn(async move { next(&mut subscription).await });
    tokio::task::yield_now().await;
    acker.ack(&[batch[0].tag]).await.unwrap();
    assert_eq!(bodies(&waiting.await.unwrap()), [2]);
}

#[tokio::test]
async fn a_refused_message_keeps_its_place() {
    let broker = Memory::default();
    queue(&broker, "q").await;
    send(&broker, "q", 0..4).await;
    let options = SubscribeOptions::new().with_prefetch(2, usize::MAX);
    let mut subscription = broker.subscribe(Source::queue("q"), options).await.unwrap();
    let batch = next(&mut subscription).await;
    let acker = subscription.acker();
    acker.nack(&[batch[1].tag], Nack::Requeue).await.unwrap();
    acker.ack(&[batch[0].tag]).await.unwrap();
    assert_eq!(bodies(&next(&mut subscription).await), [1, 2]);
}

#[tokio::test]
async fn one_message_in_many_subscriptions_is_charged_once_and_overload_is_said() {
    let message = Message::new(vec![0; 1000]);
    let broker = Memory::new(MemoryConfig::new().with_max_bytes(2 * message.cost()));
    for name in ["a", "b", "c"] {
        broker.declare(&Declaration::durable(name, ["t"])).await.unwrap();
    }
    broker.publish(Publish::to_topic("t", message.clone())).await.unwrap();
    assert_eq!(broker.metrics().stored_bytes, message.cost() as u64);
    broker.publish(Publish::to_topic("t", message.clone())).await.unwrap();
    let error = broker.publish(Publish::to_topic("t", message.clone())).await.unwrap_err();
    assert!(matches!(error, BrokerError::Overloaded { .. }) && error.is_retryable());
    for name in ["a", "b", "c"] {
        broker.delete(&Source::durable(name)).await.unwrap();
    }
    assert_eq!(broker.metrics().stored_bytes, 0);
}

#[tokio::test]
async fn what_expired_in_a_queue_without_consumers_makes_room() {
    let message = Message::new(vec![0; 1000]);
    let broker = Memory::new(MemoryConfig::new().with_max_bytes(3 * message.cost()));
    queue(&broker, "q").await;
    let expired = message.clone().with_expires(SystemTime::now());
    for one in [expired.clone(), message.clone(), expired] {
        broker.publish(Publish::to_queue("q", one)).await.unwrap();
    }
    broker.publish(Publish::to_queue("q", message.clone())).await.unwrap();
    assert_eq!(broker.stats(&Source::queue("q")).await.unwrap().depth, 2);
    assert_eq!(broker.metrics().expired, 2);
}

#[tokio::test]
async fn a_batch_is_published_whole_or_not_at_all() {
    let broker = Memory::default();
    queue(&broker, "q").await;
    let batch = vec![
        Publish::to_queue("q", Message::new("1")),
        Publish::to_queue("missing", Message::new("2")),
    ];
    let error = broker.publish_batch(batch).await.unwrap_err();
    assert!(matches!(error, BrokerError::NotDeclared { .. }));
    assert_eq!(broker.stats(&Source::queue("q")).await.unwrap().depth, 0);
}

#[tokio::test]
async fn each_overflow_policy_drops_what_it_says_and_counts_it() {
    let broker = Memory::default();
    let bound = 3 * Message::new("0").cost();
    let mut seen = Vec::new();
    for overflow in [Overflow::DropOldest, Overflow::DropNewest, Overflow::Disconnect] {
        let options = SubscribeOptions::new().with_buffer(bound, overflow);
        seen.push(broker.subscribe(Source::topic("t.#"), options).await.unwrap());
    }
    for body in 0..5 {
        broker.publish(Publish::to_topic("t", Message::new(body.to_string()))).await.unwrap();
    }
    assert_eq!(bodies(&next(&mut seen[0]).await), [2, 3, 4]);
    assert_eq!(bodies(&next(&mut seen[1]).await), [0, 1, 2]);
    assert_eq!(bodies(&next(&mut seen[2]).await), [0, 1, 2]);
    assert_eq!(timeout(LONG, seen[2].recv()).await.unwrap(), None);
    assert_eq!(seen[2].end_reason(), Some(EndReason::Overflow));
    assert_eq!(seen.iter().map(Subscription::dropped).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(broker.metrics().dropped, 5);
}

#[tokio::test]
async fn a_message_larger_than_the_buffer_is_counted_as_dropped_and_harms_nothing() {
    let broker = Memory::default();
    let options = SubscribeOptions::new().with_buffer(100, Overflow::DropOldest);
    let mut subscription = broker.subscribe(Source::topic("t"), options).await.unwrap();
    broker.publish(Publish::to_topic("t", Message::new(vec![b'x'; 1000]))).await.unwrap();
    broker.publish(Publish::to_topic("t", Message::new("1"))).await.unwrap();
    assert_eq!(bodies(&next(&mut subscription).await), [1]);
    assert_eq!(subscription.dropped(), 1);
}

#[tokio::test]
async fn a_dropped_subscriber_leaves_nothing_behind() {
    let broker = Memory::default();
    let subscription =
        broker.subscribe(Source::topic("t.*"), SubscribeOptions::new()).await.unwrap();
    assert_eq!(broker.stats(&Source::topic("t.*")).await.unwrap().consumers, 1);
    drop(subscription);
    assert_eq!(broker.stats(&Source::topic("t.*")).await.unwrap().consumers, 0);
}
