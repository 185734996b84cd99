//! Random operations on the brokers of this process, compared step by step with a plain model of
//! what a queue is: which message a consumer gets next, how it is marked and counted, and what is
//! left after a restart or a kill.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use mq_bridge::{
    Broker, Declaration, Delivery, Embedded, EmbeddedConfig, Memory, Message, Nack, Publish,
    Source, SubscribeOptions, Subscription, Target,
};
use proptest::prelude::*;
use tempfile::TempDir;

const SOURCES: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    /// To these places, several messages in a row.
    Publish {
        places: [bool; SOURCES],
        count: u8,
    },
    /// A new consumer, which takes over.
    Subscribe {
        place: usize,
        prefetch: u32,
    },
    /// The consumer goes away.
    Leave {
        place: usize,
    },
    /// Of what the consumer has, by age: acknowledge, refuse, or neither.
    Settle {
        place: usize,
        choices: Vec<u8>,
    },
    Delete {
        place: usize,
    },
    Restart,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let place = 0..SOURCES;
    prop_oneof![
        5 => (any::<[bool; SOURCES]>(), 1..12_u8)
            .prop_map(|(places, count)| Step::Publish { places, count }),
        4 => (place.clone(), 1..9_u32)
            .prop_map(|(place, prefetch)| Step::Subscribe { place, prefetch }),
        1 => place.clone().prop_map(|place| Step::Leave { place }),
        6 => (place.clone(), prop::collection::vec(0..5_u8, 1..9))
            .prop_map(|(place, choices)| Step::Settle { place, choices }),
        1 => place.prop_map(|place| Step::Delete { place }),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
    ]
}

/// What a place shall have: every message, with how often it was delivered.
#[derive(Debug, Default)]
struct Place {
    kept: BTreeMap<u64, u32>,
    consumer: Option<Consumer>,
}

#[derive(Debug)]
struct Consumer {
    subscription: Subscription,
    prefetch: usize,
    /// Delivered and open: tag by message.
    open: BTreeMap<u64, u64>,
}

/// The first is a queue, the others durable subscriptions, one of them with a wildcard.
fn source(place: usize) -> Source {
    match place {
        0 => Source::queue("q"),
        _ => Source::durable(format!("d{place}")),
    }
}

fn target(place: usize) -> Target {
    match place {
        0 => Target::queue("q"),
        1 => Target::topic("topic.one"),
        _ => Target::topic("wild.card"),
    }
}

async fn declare(broker: &dyn Broker, place: usize) {
    let declaration = match place {
        0 => Declaration::queue("q"),
        1 => Declaration::durable("d1", ["topic.one"]),
        _ => Declaration::durable("d2", ["wild.*", "wild.#"]),
    };
    broker.declare(&declaration).await.unwrap();
}

/// The broker under test.
enum Subject {
    Memory(Arc<Memory>),
    Embedded(Arc<Embedded>, TempDir),
}

impl Subject {
    async fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::Embedded(Self::open(&folder).await, folder)
    }

    async fn open(folder: &TempDir) -> Arc<Embedded> {
        let config = EmbeddedConfig::new(folder.path().join("queue.db"));
        Arc::new(Embedded::open(config).await.unwrap())
    }

    fn broker(&self) -> Arc<dyn Broker> {
        match self {
            Self::Memory(memory) => Arc::<Memory>::clone(memory),
            Self::Embedded(embedded, _) => Arc::<Embedded>::clone(embedded),
        }
    }

    /// Whether it did; the memory broker would forget everything.
    async fn reopen(&mut self, kill: bool) -> bool {
        let Self::Embedded(embedded, folder) = self else { return false };
        if kill {
            // Counts of repeats are written behind their delivery: let them be.
            embedded.delete(&Source::queue("unknown")).await.unwrap();
            embedded.kill().await;
        } else {
            embedded.shutdown().await;
        }
        *embedded = Self::open(folder).await;
        true
    }
}

fn number(delivery: &Delivery) -> u64 {
    std::str::from_utf8(&delivery.message.body).unwrap().parse().unwrap()
}

impl Place {
    /// The consumer gets what the model says it gets, and nothing else.
    async fn deliver(&mut self) {
        let Some(consumer) = &mut self.consumer else { return };
        let room = consumer.prefetch - consumer.open.len();
        let next = self.kept.keys().filter(|number| !consumer.open.contains_key(number));
        let expected: Vec<u64> = next.copied().take(room).collect();
        let mut got = Vec::new();
        while got.len() < expected.len() {
            let batch = tokio::time::timeout(Duration::from_secs(20), consumer.subscription.recv());
            let Ok(batch) = batch.await else {
                panic!("expected {expected:?}, got only {:?}", got.iter().map(number))
            };
            got.extend(batch.unwrap());
        }
        assert_eq!(got.iter().map(number).collect::<Vec<_>>(), expected);
        for delivery in &got {
            let count = self.kept.get_mut(&number(delivery)).unwrap();
            *count += 1;
            let marks = (delivery.delivery_count, delivery.redelivered);
            assert_eq!(marks, (*count, *count > 1), "marks of {}", number(delivery));
            consumer.open.insert(number(delivery), delivery.tag);
        }
        assert!(consumer.subscription.recv().now_or_never().is_none(), "more than expected");
    }
}

async fn check(mut subject: Subject, steps: Vec<Step>) {
    let mut places: [Place; SOURCES] = Default::default();
    let mut last = 0;
    for place in 0..SOURCES {
        declare(&*subject.broker(), place).await;
    }
    for step in steps {
        let broker = subject.broker();
        match step {
            Step::Publish { places: chosen, count } => {
                let targets: Vec<_> =
                    (0..SOURCES).filter(|place| chosen[*place]).map(target).collect();
                let mut confirms = Vec::new();
                for _ in 0..count {
                    last += 1;
                    let message = Message::new(last.to_string());
                    confirms.push(broker.publish(Publish::new(targets.clone(), message)));
                    for place in (0..SOURCES).filter(|place| chosen[*place]) {
                        places[place].kept.insert(last, 0);
                    }
                }
                for confirm in confirms {
                    confirm.await.unwrap();
                }
            }
            Step::Subscribe { place, prefetch } => {
                let options = SubscribeOptions::new().with_prefetch(prefetch, usize::MAX);
                let options = options.with_takeover(true);
                let subscription = broker.subscribe(source(place), options).await.unwrap();
                let (prefetch, open) = (prefetch as usize, BTreeMap::new());
                places[place].consumer = Some(Consumer { subscription, prefetch, open });
            }
            Step::Leave { place } => places[place].consumer = None,
            Step::Settle { place, choices } => {
                let Some(consumer) = &mut places[place].consumer else { continue };
                let acker = consumer.subscription.acker();
                let open: Vec<_> = consumer.open.iter().map(|(one, tag)| (*one, *tag)).collect();
                let of = |wanted: &[u8]| -> Vec<(u64, u64)> {
                    let chosen = open.iter().zip(&choices);
                    chosen.filter(|(_, one)| wanted.contains(one)).map(|(one, _)| *one).collect()
                };
                let (acked, refused) = (of(&[0, 1, 2]), of(&[3]));
                let tags = |of: &[(u64, u64)]| of.iter().map(|(_, tag)| *tag).collect::<Vec<_>>();
                let refusal = acker.nack(&tags(&refused), Nack::Requeue);
                acker.ack(&tags(&acked)).await.unwrap();
                refusal.await.unwrap();
                consumer.open.retain(|one, _| !refused.iter().any(|(other, _)| one == other));
                for (one, _) in acked {
                    consumer.open.remove(&one);
                    places[place].kept.remove(&one);
                }
            }
            Step::Delete { place } => {
                broker.delete(&source(place)).await.unwrap();
                declare(&*broker, place).await;
                places[place] = Place::default();
            }
            Step::Restart | Step::Kill => {
                if subject.reopen(matches!(step, Step::Kill)).await {
                    places.iter_mut().for_each(|place| place.consumer = None);
                }
            }
        }
        for (index, place) in places.iter_mut().enumerate() {
            place.deliver().await;
            let stats = subject.broker().stats(&source(index)).await.unwrap();
            let open = place.consumer.as_ref().map_or(0, |consumer| consumer.open.len());
            assert_eq!((stats.depth, stats.unacked), (place.kept.len() as u64, open as u64));
        }
    }
}

fn run(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        max_shrink_iters: 500,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn the_memory_broker_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        run(check(Subject::Memory(Arc::default()), steps));
    }

    #[test]
    fn the_embedded_broker_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        run(async { check(Subject::embedded().await, steps).await });
    }
}
