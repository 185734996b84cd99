//! What is made on the broker before it is used.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::{BrokerError, Source, validate_name, validate_pattern};

/// A queue or durable subscription that shall exist
///
/// Declaring is idempotent. Declaring again with other settings changes them; the patterns of a
/// durable subscription are added to those that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Declaration {
    /// What is declared.
    pub kind: DeclarationKind,
    /// Its name, at most [`MAX_NAME`](crate::MAX_NAME) octets. Queues and durable subscriptions
    /// have separate name spaces.
    pub name: Arc<str>,
    /// After so many deliveries without acknowledgement a message is dead-lettered instead of
    /// delivered once more. Default `None`: never. Without effect where the backend does not declare
    /// [`Capability::DeliveryCount`](crate::Capability::DeliveryCount).
    pub max_deliveries: Option<NonZeroU32>,
    /// The queue that dead-lettered messages go to; it is declared along with this. Default `None`:
    /// a dead-lettered message is discarded and counted.
    pub dead_letter: Option<Arc<str>>,
}

/// What a [`Declaration`] declares
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a backend must handle every kind")]
pub enum DeclarationKind {
    /// A queue: each message goes to one of its consumers and waits while there is none.
    Queue,
    /// A durable subscription: keeps what is published to matching topics until it is acknowledged.
    Durable {
        /// Topic patterns: words split by `.`, `*` is one word, `#` is zero or more.
        patterns: Vec<Arc<str>>,
    },
}

impl Declaration {
    /// The queue `name`.
    #[must_use]
    pub fn queue(name: impl Into<Arc<str>>) -> Self {
        Self {
            kind: DeclarationKind::Queue,
            name: name.into(),
            max_deliveries: None,
            dead_letter: None,
        }
    }

    /// The durable subscription `name` to every topic that one of `patterns` matches.
    #[must_use]
    pub fn durable<P: Into<Arc<str>>>(
        name: impl Into<Arc<str>>,
        patterns: impl IntoIterator<Item = P>,
    ) -> Self {
        Self {
            kind: DeclarationKind::Durable {
                patterns: patterns.into_iter().map(Into::into).collect(),
            },
            ..Self::queue(name)
        }
    }

    /// Dead-letters a message after `deliveries` deliveries; 0 means never.
    #[must_use]
    pub const fn with_max_deliveries(mut self, deliveries: u32) -> Self {
        self.max_deliveries = NonZeroU32::new(deliveries);
        self
    }

    /// Sends dead-lettered messages to the queue `name`.
    #[must_use]
    pub fn with_dead_letter(mut self, name: impl Into<Arc<str>>) -> Self {
        self.dead_letter = Some(name.into());
        self
    }

    /// What is consumed of it.
    #[must_use]
    pub fn source(&self) -> Source {
        let name = Arc::clone(&self.name);
        match self.kind {
            DeclarationKind::Queue => Source::Queue(name),
            DeclarationKind::Durable { .. } => Source::Durable(name),
        }
    }

    /// Checks every name and pattern that it holds, as a backend does before anything else.
    ///
    /// # Errors
    ///
    /// [`InvalidName`](BrokerError::InvalidName) for the first that is not allowed.
    pub fn validate(&self) -> Result<(), BrokerError> {
        validate_name(&self.name)?;
        if let Some(name) = &self.dead_letter {
            validate_name(name)?;
        }
        if let DeclarationKind::Durable { patterns } = &self.kind {
            patterns.iter().try_for_each(|pattern| validate_pattern(pattern))?;
        }
        Ok(())
    }
}
