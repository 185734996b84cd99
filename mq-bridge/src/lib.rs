//! One broker trait over many message queues, with a conformance kit.

mod broker;
mod capability;
mod confirm;
mod declaration;
#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod headers;
mod health;
#[cfg(any(feature = "memory", feature = "embedded"))]
mod local;
#[cfg(feature = "memory")]
mod memory;
mod message;
mod pattern;
mod source;
mod subscription;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use broker::Broker;
pub use capability::{Capabilities, Capability};
pub use confirm::{Confirm, Confirmer};
pub use declaration::{Declaration, DeclarationKind};
#[cfg(feature = "embedded")]
pub use embedded::{Embedded, EmbeddedConfig};
pub use error::BrokerError;
pub use headers::{Headers, HeadersBuilder, HeadersIter, MalformedHeaders};
pub use health::{Health, Metrics, SourceStats};
#[cfg(feature = "memory")]
pub use memory::{Memory, MemoryConfig};
pub use message::{Message, Publish, Target};
pub use pattern::{MAX_NAME, pattern_matches, validate_name, validate_pattern, validate_topic};
pub use source::{Overflow, Source, SubscribeOptions};
pub use subscription::{
    Acker, DeadLetterReason, Delivery, DeliverySource, EndReason, Nack, Settle, Subscription,
};
