//! What a backend over a network writes.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    BrokerError, Capability, DeadLetterReason, Declaration, Message, Source, SourceStats, Target,
};

use super::{Inbox, Outgoing, Topics};

/// Connects to one kind of broker.
#[async_trait]
pub(crate) trait Driver: fmt::Debug + Send + Sync + 'static {
    type Link: Link;

    /// What the broker can do, with this driver's configuration.
    fn capabilities(&self) -> &[Capability];

    /// Connects. What the broker sends to topics that the link [listens](Link::listen) to goes to
    /// `topics`.
    ///
    /// # Errors
    ///
    /// A retryable error is tried again with backoff; any other one, such as refused credentials,
    /// ends the first attempt at once. Texts never hold a password.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready it leaves no connection behind.
    async fn connect(&self, topics: &Arc<Topics>) -> Result<Self::Link, BrokerError>;
}

/// One connected session with a broker, used until it is lost and then replaced by another one
///
/// Every call is made by any number of tasks at once, but for [`publish`](Self::publish) and
/// [`settle`](Self::settle), which are called by one task each. A call that fails because the
/// connection is lost says [`BrokerError::Disconnected`] and lets [`lost`](Self::lost) resolve;
/// it is made again on the next link where that is harmless.
#[async_trait]
pub(crate) trait Link: Send + Sync + 'static {
    /// Names a delivery to the broker: what an acknowledgement needs.
    type Handle: fmt::Debug + Send + Sync + 'static;

    /// The largest message that the broker takes, headers and body together, in octets.
    fn max_message(&self) -> usize;

    /// Resolves with the reason as soon as the link cannot be used any more.
    async fn lost(&self) -> Arc<str>;

    /// Why the broker takes nothing at the moment, where it says so while the link lives on.
    fn trouble(&self) -> Option<Arc<str>> {
        None
    }

    /// Writes publishes, in order, and returns when there is room for more: not when they are
    /// confirmed. Each is [completed](super::Pending::complete) when the broker has confirmed or
    /// refused all of it.
    ///
    /// Names are valid, every target is named once, and no message is larger than
    /// [`max_message`](Self::max_message). A queue that does not exist is refused as
    /// `NotDeclared`.
    async fn publish(&self, batch: Vec<Outgoing>);

    /// Makes a queue or durable subscription; see [`Broker::declare`](crate::Broker::declare). Its
    /// dead-letter queue has been declared before.
    async fn declare(&self, declaration: &Declaration) -> Result<(), BrokerError>;

    /// Removes a queue or durable subscription, no error if there is none. Its consumers, on this
    /// node and on others, end with [`EndReason::Deleted`](crate::EndReason::Deleted); those of
    /// this bridge are ended by the bridge.
    async fn delete(&self, source: &Source) -> Result<(), BrokerError>;

    /// Depth, unacknowledged and consumers of a queue or durable subscription; `Unsupported` where
    /// there is one and [`Capability::Depth`] is not declared. `held` deliveries are
    /// with the consumers of this bridge and not acknowledged: for brokers that do not say.
    async fn stats(&self, source: &Source, held: Held) -> Result<SourceStats, BrokerError>;

    /// Starts to deliver to `inbox`, as far as its prefetch in messages allows. It is live when this
    /// returns. With [`takeover`](crate::SubscribeOptions::takeover) the consumers on other nodes
    /// are ended first with `TakenOver`; those of this bridge have been ended and stopped already.
    async fn consume(&self, inbox: &Arc<Inbox<Self::Handle>>) -> Result<(), BrokerError>;

    /// Stops to deliver to `inbox`, then [takes out](Inbox::give_back) of it what was pushed and not
    /// settled and gives it back to the broker: to the front, in order, marked. When this returns, a
    /// new consumer gets it, whatever node it is on. Harmless for an inbox that this link does not
    /// know, or whose source is deleted.
    async fn stop(&self, inbox: &Arc<Inbox<Self::Handle>>) -> Result<(), BrokerError>;

    /// Settles deliveries, and returns when the broker has confirmed that, as far as it does.
    async fn settle(&self, batch: Vec<Settlement<Self::Handle>>) -> Result<(), BrokerError>;

    /// Has messages to topics that match `pattern` delivered to the link's `topics`. Live when it
    /// returns. Called once per pattern until [`unlisten`](Self::unlisten), but for a call that was
    /// given up: again is harmless.
    async fn listen(&self, pattern: &Arc<str>) -> Result<(), BrokerError>;

    /// Ends [`listen`](Self::listen).
    async fn unlisten(&self, pattern: &Arc<str>) -> Result<(), BrokerError>;

    /// Ends the connection in order.
    async fn close(&self);
}

/// A message on its way to the broker.
#[derive(Debug)]
pub(crate) struct Outbound {
    /// At least one, none of them twice.
    pub(crate) targets: Vec<Target>,
    pub(crate) message: Message,
    /// To be carried, so that deliveries are marked from the first on.
    pub(crate) redelivered: bool,
    /// To be carried, where the message goes to a dead-letter queue.
    pub(crate) dead_letter: Option<DeadLetter>,
}

/// Where a dead-lettered message comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    pub(crate) reason: DeadLetterReason,
    /// What it was published to at first: the target of its deliveries from the dead-letter queue.
    pub(crate) target: Target,
}

/// Deliveries of one inbox that are settled in the same way.
#[derive(Debug)]
pub(crate) struct Settlement<H> {
    pub(crate) inbox: Arc<Inbox<H>>,
    pub(crate) handles: Vec<H>,
    pub(crate) verdict: Verdict,
}

/// What becomes of deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Verdict {
    /// Done with.
    Ack,
    /// Back to their place, to be delivered again, marked as redelivered.
    Requeue,
}

/// What the consumers of this bridge hold of one source.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    /// Pushed to their inboxes and not settled.
    pub(crate) unacked: u64,
    pub(crate) consumers: u64,
}
