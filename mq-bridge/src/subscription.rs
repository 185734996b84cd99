//! The consuming side: deliveries in, acknowledgements out.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;
use tokio::task::coop;

use crate::{Confirm, Derived, Message, Target};

/// A message on its way to a consumer
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// Names this delivery to the [`Acker`] of the subscription it came from, and to no other.
    pub tag: u64,
    /// The message as it was published.
    pub message: Message,
    /// The queue or topic that it was published to; of several that led here, the first.
    pub target: Target,
    /// Whether the message may have been delivered before. Never `false` on a repeat; after a
    /// crash it may be `true` on a message that was about to be delivered.
    pub redelivered: bool,
    /// How often the message has been delivered from this queue or subscription, this time
    /// included, where the backend declares
    /// [`Capability::DeliveryCount`](crate::Capability::DeliveryCount); elsewhere 1, or 2 on a
    /// repeat.
    pub delivery_count: u32,
    /// Why the message is here, if this is a dead-letter queue.
    pub dead_letter: Option<DeadLetterReason>,
    /// What consumers of this process make of the message, shared among them.
    pub derived: Derived,
}

impl Delivery {
    /// The first delivery of `message`.
    #[must_use]
    pub fn new(tag: u64, message: Message, target: Target) -> Self {
        Self {
            tag,
            message,
            target,
            redelivered: false,
            delivery_count: 1,
            dead_letter: None,
            derived: Derived::new(),
        }
    }
}

/// Why a message went to a dead-letter queue
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadLetterReason {
    /// A consumer refused it with [`Nack::DeadLetter`].
    Rejected,
    /// It was delivered as often as its declaration allows and never acknowledged.
    MaxDeliveries,
}

/// What becomes of a message that a consumer refuses
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a backend must handle every choice")]
pub enum Nack {
    /// Back to where it was in the queue, to be delivered again, marked as redelivered.
    Requeue,
    /// To the dead-letter queue of the declaration; discarded and counted where it names none.
    DeadLetter,
}

/// Why a subscription delivers no more
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndReason {
    /// A newer consumer subscribed with [`takeover`](crate::SubscribeOptions::takeover).
    #[error("another consumer has taken over")]
    TakenOver,
    /// The queue or durable subscription was deleted.
    #[error("the queue or subscription was deleted")]
    Deleted,
    /// The subscriber read too slowly and its policy is [`Overflow::Disconnect`](crate::Overflow).
    #[error("the subscriber was too slow")]
    Overflow,
    /// The broker object was shut down.
    #[error("the broker was shut down")]
    ShutDown,
    /// The broker ended it.
    #[error("the broker ended the subscription: {0}")]
    Broker(Arc<str>),
}

/// A live consumer: a stream of batches, each of one delivery or more, in order
///
/// Dropping it gives back what it did not acknowledge: to the front, in order, marked as
/// redelivered. Acknowledgements made before the drop count.
///
/// The stream ends after [`end_reason`](Self::end_reason) has become known; a networked backend
/// does not end it for a lost connection but resumes by itself.
pub struct Subscription {
    deliveries: Pin<Box<dyn DeliverySource>>,
    acker: Acker,
}

impl Subscription {
    /// Puts a subscription together; for backends.
    pub fn new(deliveries: impl DeliverySource, acker: Acker) -> Self {
        Self { deliveries: Box::pin(deliveries), acker }
    }

    /// The next batch; `None` when the subscription has ended.
    ///
    /// # Cancel safety
    ///
    /// No delivery is lost when the future is dropped before it is ready.
    pub async fn recv(&mut self) -> Option<Vec<Delivery>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// A handle that acknowledges the deliveries of this subscription.
    #[must_use]
    pub fn acker(&self) -> Acker {
        self.acker.clone()
    }

    /// Why it ended; `None` while it lives.
    #[must_use]
    pub fn end_reason(&self) -> Option<EndReason> {
        self.deliveries.end_reason()
    }

    /// How many messages of a topic were dropped because this subscriber was slow, since it
    /// subscribed.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.deliveries.dropped()
    }
}

impl Stream for Subscription {
    type Item = Vec<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Vec<Delivery>>> {
        // A reader that always finds something must not keep its thread from all others.
        let budget = ready!(coop::poll_proceed(cx));
        let batch = ready!(self.deliveries.as_mut().poll_batch(cx));
        budget.made_progress();
        Poll::Ready(batch)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("deliveries", &self.deliveries).finish_non_exhaustive()
    }
}

/// The backend's half of a [`Subscription`]; dropping it gives back what is not acknowledged
pub trait DeliverySource: fmt::Debug + Send + Sync + 'static {
    /// The next batch, never empty; `None` when the subscription has ended.
    fn poll_batch(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Vec<Delivery>>>;

    /// Why it ended; `None` while it lives.
    fn end_reason(&self) -> Option<EndReason>;

    /// How many messages were dropped because the subscriber was slow.
    fn dropped(&self) -> u64;
}

/// Acknowledges deliveries of one [`Subscription`]; cheap to clone
///
/// Every call enqueues and returns at once. Room for further deliveries is made at the call, not
/// when the confirmation arrives. A tag that was settled before, that came from another
/// subscription, or whose subscription is gone, is passed over: what it named is or will be
/// delivered again. Deliveries of a topic need no acknowledgement; theirs is passed over as well.
#[derive(Clone)]
pub struct Acker {
    settle: Option<Arc<dyn Settle>>,
}

impl Acker {
    /// Wraps the backend's half.
    #[must_use]
    pub fn new(settle: impl Settle) -> Self {
        Self { settle: Some(Arc::new(settle)) }
    }

    /// For deliveries that need no acknowledgement: passes over every tag.
    #[must_use]
    pub const fn none() -> Self {
        Self { settle: None }
    }

    /// The messages of these deliveries are done with.
    pub fn ack(&self, tags: &[u64]) -> Confirm {
        self.settle.as_ref().map_or_else(|| Confirm::ready(Ok(())), |settle| settle.ack(tags))
    }

    /// The messages of these deliveries are refused.
    pub fn nack(&self, tags: &[u64], what: Nack) -> Confirm {
        self.settle
            .as_ref()
            .map_or_else(|| Confirm::ready(Ok(())), |settle| settle.nack(tags, what))
    }
}

impl fmt::Debug for Acker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Acker").field(&self.settle).finish()
    }
}

/// The backend's half of an [`Acker`]
pub trait Settle: fmt::Debug + Send + Sync + 'static {
    /// See [`Acker::ack`].
    fn ack(&self, tags: &[u64]) -> Confirm;

    /// See [`Acker::nack`].
    fn nack(&self, tags: &[u64], what: Nack) -> Confirm;
}
