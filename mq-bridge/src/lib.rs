//! One broker trait over many message queues, with a conformance kit
//!
//! A program that speaks to a message queue through [`Broker`] can change the queue in one line and
//! loses nothing but what the new one cannot do, which it [says](Broker::capabilities).
//!
//! # Three notions
//!
//! | notion | what it does |
//! |---|---|
//! | queue | keeps each message until one of its competing consumers has acknowledged it |
//! | topic | hands each message to whoever is subscribed at that moment; keeps nothing |
//! | durable subscription | keeps what is published to matching topics until it is acknowledged, however long its consumer is away |
//!
//! Topics are words split by `.`; in a pattern `*` is one word and `#` is zero or more. One publish
//! may go to many queues and topics at once, and reaches each queue and subscription once.
//!
//! # The way of a message
//!
//! ```
//! use mq_bridge::{Broker, Declaration, Memory, Message, Publish, Source, SubscribeOptions, Target};
//!
//! # async fn run() -> Result<(), mq_bridge::BrokerError> {
//! let broker = Memory::default();
//! broker.declare(&Declaration::durable("alice's phone", ["inbox.alice"])).await?;
//!
//! // Enqueued at the call, in the order of the calls; the confirmation comes when it is safe.
//! let targets = vec![Target::topic("inbox.alice"), Target::topic("inbox.bob")];
//! broker.publish(Publish::new(targets, Message::new("hello"))).await?;
//!
//! let source = Source::durable("alice's phone");
//! let mut subscription = broker.subscribe(source, SubscribeOptions::new()).await?;
//! let acker = subscription.acker();
//! while let Some(batch) = subscription.recv().await {
//!     let tags: Vec<u64> = batch.iter().map(|delivery| delivery.tag).collect();
//!     assert_eq!(batch[0].message.body, "hello");
//!     acker.ack(&tags).await?;
//! #   break;
//! }
//! # Ok(())
//! # }
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run()).unwrap();
//! ```
//!
//! Nothing per message is boxed or awaited: [`Broker::publish`] enqueues and gives back a
//! [`Confirm`], deliveries come as a stream of batches, and an [`Acker`] enqueues too. What waits is
//! bounded in octets everywhere; what does not fit is refused with a retryable
//! [`BrokerError::Overloaded`], or for a slow topic subscriber dropped and counted as its
//! [`Overflow`] policy says.
//!
//! # What is promised
//!
//! - A confirmed publish is kept as durably as the backend declares for every queue and durable
//!   subscription it reached, until it is acknowledged, expires or is dead-lettered.
//! - Deliveries come in the order of the publish calls. What a consumer leaves unacknowledged goes
//!   back to its place, and comes again with [`redelivered`](Delivery::redelivered) set.
//! - When [`Broker::subscribe`] returns the subscription is live.
//! - A consumer never has more unacknowledged than its prefetch, in messages and in octets.
//!
//! # Features
//!
//! | feature | default | what |
//! |---|---|---|
//! | `memory` | yes | `Memory`: the broker within this process; nothing survives it |
//! | `embedded` | | `Embedded`: the durable broker in one SQLite file (bundles SQLite) |
//! | `rabbitmq`, `nats`, `redis` | | the brokers of those names, over a network |
//! | `storage` | | the `storage` module: a broker over any storage of yours |
//! | `stomp` | | `StompRelay`: ActiveMQ, or RabbitMQ's STOMP plugin |
//! | `testkit` | | the `testkit` module: the conformance kit, for backends of your own |
//! | `servers` | | `testkit::servers`: real brokers for tests, started privately (Linux) |

mod broker;
mod capability;
mod confirm;
mod declaration;
#[cfg(any(feature = "embedded", feature = "remote"))]
#[allow(unused_macros, reason = "for what is made of another broker")]
mod delegate;
mod derived;
#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod headers;
mod health;
#[cfg(any(feature = "memory", feature = "storage", feature = "remote"))]
mod local;
#[cfg(feature = "memory")]
mod memory;
mod message;
#[cfg(feature = "nats")]
mod nats;
mod pattern;
mod pattern_map;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "remote")]
#[allow(dead_code, unused_imports, unused_macros, reason = "each backend uses its part")]
mod remote;
mod source;
#[cfg(feature = "stomp")]
mod stomp;
#[cfg(feature = "storage")]
pub mod storage;
mod subscription;
#[cfg(feature = "testkit")]
pub mod testkit;

#[cfg(feature = "redis")]
pub use self::redis::{Redis, RedisConfig, RedisDurability};
pub use broker::Broker;
pub use capability::{Capabilities, Capability};
pub use confirm::{Confirm, Confirmer};
pub use declaration::{Declaration, DeclarationKind};
pub use derived::Derived;
#[cfg(feature = "embedded")]
pub use embedded::{Embedded, EmbeddedConfig};
pub use error::BrokerError;
pub use headers::{Headers, HeadersBuilder, HeadersIter, MalformedHeaders, OctetsIter};
pub use health::{Health, Metrics, SourceStats};
#[cfg(feature = "memory")]
pub use memory::{Memory, MemoryConfig};
pub use message::{Message, Publish, Target};
#[cfg(feature = "nats")]
pub use nats::{Nats, NatsConfig};
pub use pattern::{MAX_NAME, pattern_matches, validate_name, validate_pattern, validate_topic};
pub use pattern_map::PatternMap;
#[cfg(feature = "rabbitmq")]
pub use rabbitmq::{QueueType, RabbitMq, RabbitMqConfig};
#[cfg(feature = "remote")]
pub use remote::RemoteOptions;
pub use source::{Overflow, Source, SubscribeOptions};
#[cfg(feature = "stomp")]
pub use stomp::{StompRelay, StompRelayConfig};
pub use subscription::{
    Acker, DeadLetterReason, Delivery, DeliverySource, EndReason, Nack, Settle, Subscription,
};
