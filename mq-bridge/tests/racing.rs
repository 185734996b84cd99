//! Random operations on the embedded broker that do not wait for each other: whatever is under way
//! in its thread meanwhile, an acknowledged message never comes again, every repeat is marked and
//! counted, each consumer sees its messages in order, and in the end everything has been delivered.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::FutureExt;
use mq_bridge::{
    Broker, Declaration, Delivery, Embedded, EmbeddedConfig, Message, Nack, Publish, Source,
    SubscribeOptions, Subscription,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    /// One more consumer; with takeover the only one.
    Subscribe {
        prefetch: u32,
        takeover: bool,
    },
    /// The consumer takes what is there and settles it: 0 and 1 acknowledge, 2 refuses, 3 keeps.
    Read {
        consumer: usize,
        choices: Vec<u8>,
    },
    Leave {
        consumer: usize,
    },
    /// Waits until all before is written.
    Sync,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let choices = || prop::collection::vec(0..4_u8, 1..8);
    prop_oneof![
        4 => (1..20_u8).prop_map(Step::Publish),
        3 => (1..9_u32, any::<bool>())
            .prop_map(|(prefetch, takeover)| Step::Subscribe { prefetch, takeover }),
        8 => (0..3_usize, choices())
            .prop_map(|(consumer, choices)| Step::Read { consumer, choices }),
        2 => (0..3_usize).prop_map(|consumer| Step::Leave { consumer }),
        2 => Just(Step::Sync),
        1 => Just(Step::Restart),
    ]
}

#[derive(Default)]
struct Seen {
    deliveries: BTreeMap<u64, u32>,
    acked: BTreeSet<u64>,
}

struct Consumer {
    subscription: Subscription,
    last: u64,
}

impl Seen {
    /// Checks a batch against everything before it.
    fn check(&mut self, consumer: &mut Consumer, batch: &[Delivery]) {
        for delivery in batch {
            let number = number(delivery);
            assert!(!self.acked.contains(&number), "{number} was acknowledged and came again");
            let count = self.deliveries.entry(number).or_insert(0);
            *count += 1;
            assert_eq!(delivery.delivery_count, *count, "count of {number}");
            assert_eq!(delivery.redelivered, *count > 1, "mark of {number}");
            assert!(*count > 1 || number > consumer.last, "{number} after {}", consumer.last);
            consumer.last = consumer.last.max(number);
        }
    }
}

fn number(delivery: &Delivery) -> u64 {
    std::str::from_utf8(&delivery.message.body).unwrap().parse().unwrap()
}

async fn check(steps: Vec<Step>) {
    let folder = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig::new(folder.path().join("queue.db"));
    let mut broker = Embedded::open(config.clone()).await.unwrap();
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let mut seen = Seen::default();
    let mut consumers: Vec<Consumer> = Vec::new();
    let mut sent = 0;
    for step in steps {
        match step {
            Step::Publish(count) => {
                for _ in 0..count {
                    sent += 1;
                    drop(broker.publish(Publish::to_queue("q", Message::new(sent.to_string()))));
                }
            }
            Step::Subscribe { prefetch, takeover } => {
                let options = SubscribeOptions::new().with_prefetch(prefetch, usize::MAX);
                let options = options.with_takeover(takeover);
                let subscription = broker.subscribe(Source::queue("q"), options).await.unwrap();
                if takeover {
                    consumers.clear();
                }
                consumers.push(Consumer { subscription, last: 0 });
            }
            Step::Read { consumer, choices } => {
                let Some(consumer) = consumers.get_mut(consumer) else { continue };
                let Some(Some(batch)) = consumer.subscription.recv().now_or_never() else {
                    continue;
                };
                seen.check(consumer, &batch);
                let acker = consumer.subscription.acker();
                for (delivery, choice) in batch.iter().zip(choices) {
                    match choice {
                        0 | 1 => {
                            drop(acker.ack(&[delivery.tag]));
                            seen.acked.insert(number(delivery));
                        }
                        2 => drop(acker.nack(&[delivery.tag], Nack::Requeue)),
                        _ => {}
                    }
                }
            }
            Step::Leave { consumer } if consumer < consumers.len() => {
                drop(consumers.swap_remove(consumer));
            }
            Step::Leave { .. } => {}
            Step::Sync => broker.delete(&Source::queue("unknown")).await.unwrap(),
            Step::Restart => {
                broker.shutdown().await;
                consumers.clear();
                broker = Embedded::open(config.clone()).await.unwrap();
            }
        }
    }
    consumers.clear();
    let subscription = broker.subscribe(Source::queue("q"), SubscribeOptions::new()).await.unwrap();
    let mut consumer = Consumer { subscription, last: 0 };
    while (seen.acked.len() as u64) < sent {
        let batch = tokio::time::timeout(Duration::from_secs(20), consumer.subscription.recv());
        let Ok(Some(batch)) = batch.await else {
            let missing: Vec<_> = (1..=sent).filter(|one| !seen.acked.contains(one)).collect();
            panic!("not delivered: {missing:?}");
        };
        seen.check(&mut consumer, &batch);
        let tags: Vec<u64> = batch.iter().map(|one| one.tag).collect();
        drop(consumer.subscription.acker().ack(&tags));
        seen.acked.extend(batch.iter().map(number));
    }
    broker.shutdown().await;
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 60,
        max_shrink_iters: 300,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn nothing_acknowledged_comes_again_whatever_is_under_way(
        steps in prop::collection::vec(step(), 1..80)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(check(steps));
    }
}
