//! What nodes that share a store arrange among themselves.

use std::time::Duration;

use async_trait::async_trait;

use super::{OutboxId, StoreError};
use crate::names::{ConversationId, DeviceName, UserName};

/// The part of the outbox that is one node's, in a store that several nodes share
///
/// Every entry of the outbox is one node's to publish: that of the node which stored it. A node holds its part by a
/// lease; when that runs out, another node adopts it. In one conversation an entry waits until those before it, whosever
/// they are, have left the outbox. So each message is published by one node, and a conversation's in their order, without
/// a word from node to node.
///
/// One store object is one node: two gateways do not share one.
#[async_trait]
pub trait SharedOutbox: Send + Sync {
    /// Takes or renews the lease, which is to be done again after [`Renewal::next`]
    ///
    /// A node whose lease was taken away by another comes back as a new one, which has nothing to publish.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be written: the lease stays what it was.
    async fn renew(&self) -> Result<Renewal, StoreError>;

    /// The number of the lease while it is safe to publish, else none; of a later lease a greater number
    ///
    /// Reads no more than the clock of this process, and lets go some time before other nodes may take over: what is on
    /// its way to the broker then still arrives before what they publish.
    fn lease(&self) -> Option<u64>;

    /// Takes over what nobody holds a lease for; gives how many entries that were
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be written: nothing was taken.
    async fn adopt(&self) -> Result<u64, StoreError>;

    /// The conversations in which something of this node's waits for another node
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    async fn blocked(&self) -> Result<Vec<ConversationId>, StoreError>;

    /// Which of these entries are in the outbox, whosever they are
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    async fn still_waiting(&self, ids: &[OutboxId]) -> Result<Vec<OutboxId>, StoreError>;

    /// Keeps other nodes from publishing what they store from now on in these conversations, and from filling this
    /// device, until [`let_go`](Self::let_go)
    ///
    /// Gives the last `seq` of each conversation as it was then, in the order of the names given; none where another
    /// node fills the device. A second call adds to the first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be written: nothing is kept back.
    async fn hold(
        &self,
        user: &UserName,
        device: &DeviceName,
        conversations: &[ConversationId],
    ) -> Result<Option<Vec<u64>>, StoreError>;

    /// Whether all that was stored before [`hold`](Self::hold) in its conversations has left the outbox
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    async fn is_quiet(&self) -> Result<bool, StoreError>;

    /// Ends what [`hold`](Self::hold) began
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be written: call it again.
    async fn let_go(&self) -> Result<(), StoreError>;

    /// Gives up the lease: others may adopt at once
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be written: the lease runs out by itself.
    async fn resign(&self) -> Result<(), StoreError>;
}

/// What came of [`SharedOutbox::renew`]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Renewal {
    /// After so long the lease is to be renewed
    pub next: Duration,
    /// There is something to [adopt](SharedOutbox::adopt)
    pub orphans: bool,
}

impl Renewal {
    /// A lease that was renewed
    #[must_use]
    pub const fn new(next: Duration, orphans: bool) -> Self {
        Self { next, orphans }
    }
}
