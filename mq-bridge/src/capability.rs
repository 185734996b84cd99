//! What a backend can do.

use std::fmt;

use crate::BrokerError;

/// Something that not every broker can do
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// Confirmed messages survive the death of the broker and of this process.
    Durable,
    /// What is acknowledged and confirmed never comes back, not even when the broker is killed in
    /// that moment, and neither does what is deleted. Without it such a message may come back after
    /// a crash, marked as redelivered.
    DurableAck,
    /// Messages of one publisher to one destination are delivered in the order of the calls.
    Order,
    /// `delivery_count` of a delivery is exact. Without it all that the broker keeps may come marked
    /// as redelivered after a crash, also what never was delivered.
    DeliveryCount,
    /// Refused messages go to a dead-letter queue, and poisonous ones too where deliveries are
    /// [counted](Self::DeliveryCount).
    DeadLetter,
    /// Messages of higher priority overtake.
    Priority,
    /// Expired messages are not delivered.
    Expiry,
    /// A consumer can take over from the others.
    Takeover,
    /// A batch is published whole or not at all.
    AtomicBatch,
    /// [`stats`](crate::Broker::stats) tells how much a queue or durable subscription holds, and who
    /// consumes it. Without it that call says [`Unsupported`](BrokerError::Unsupported) of what is
    /// declared.
    Depth,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Durable,
        Self::DurableAck,
        Self::Order,
        Self::DeliveryCount,
        Self::DeadLetter,
        Self::Priority,
        Self::Expiry,
        Self::Takeover,
        Self::AtomicBatch,
        Self::Depth,
    ];

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Durable => "durable",
            Self::DurableAck => "durable-ack",
            Self::Order => "order",
            Self::DeliveryCount => "delivery-count",
            Self::DeadLetter => "dead-letter",
            Self::Priority => "priority",
            Self::Expiry => "expiry",
            Self::Takeover => "takeover",
            Self::AtomicBatch => "atomic-batch",
            Self::Depth => "depth",
        })
    }
}

/// What a backend declares that it can do
///
/// The conformance kit checks both: what is declared works, and what is not declared is absent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    set: u16,
    max_message: usize,
}

impl Capabilities {
    /// A backend with `capabilities` that takes messages (headers and body together) of up to
    /// `max_message` octets.
    #[must_use]
    pub fn new(capabilities: &[Capability], max_message: usize) -> Self {
        Self { set: capabilities.iter().fold(0, |set, one| set | one.bit()), max_message }
    }

    /// Whether the backend has `capability`.
    #[must_use]
    pub const fn has(&self, capability: Capability) -> bool {
        self.set & capability.bit() != 0
    }

    /// The largest message in octets, headers and body together.
    #[must_use]
    pub const fn max_message(&self) -> usize {
        self.max_message
    }

    /// Checks at start-up that the backend has all of `needed`.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Unsupported`] with the first that is missing.
    pub fn require(&self, needed: &[Capability]) -> Result<(), BrokerError> {
        match needed.iter().find(|one| !self.has(**one)) {
            Some(missing) => Err(BrokerError::Unsupported(*missing)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set: Vec<_> = Capability::ALL.into_iter().filter(|one| self.has(*one)).collect();
        f.debug_struct("Capabilities")
            .field("set", &set)
            .field("max_message", &self.max_message)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let capabilities = Capabilities::new(&[Capability::Durable, Capability::Order], 10);
        assert_eq!(capabilities.require(&[Capability::Order]), Ok(()));
        let error = capabilities.require(&[Capability::Order, Capability::DeadLetter]).unwrap_err();
        assert_eq!(error.to_string(), "this broker lacks the capability `dead-letter`");
    }
}
