//! Whether people are there.
//!
//! Each node counts the sessions of its own users (`PresenceTable`), and tells the `PresenceStore`, which knows of all
//! nodes, when the first begins and a while after the last has ended. Who comes or goes over all nodes is said on the
//! broker, to whoever listens on whichever node.

#[cfg(feature = "postgres")]
mod postgres;
mod store;
mod table;
mod teller;

use std::sync::{Arc, Mutex};

use mq_bridge::Broker;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;
use crate::lock::lock;
use crate::names::UserName;
use crate::store::StoreError;

pub use store::{MemoryPresence, PresenceStore};
use table::{LeaveTicket, PresenceTable};
use teller::Teller;

/// Whether a person is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Presence {
    /// At least one session is signed in.
    Online,
    /// No session is.
    Offline {
        /// When the last session ended, in milliseconds since 1970 (UTC); `None` if none is known of.
        last_seen: Option<u64>,
    },
}

impl Presence {
    /// No session is signed in; the last one ended then.
    #[must_use]
    pub const fn offline(last_seen: Option<u64>) -> Self {
        Self::Offline { last_seen }
    }

    /// Whether at least one session is signed in.
    #[must_use]
    pub const fn is_online(self) -> bool {
        matches!(self, Self::Online)
    }
}

/// Who is there, as one node knows it.
#[derive(Debug)]
pub(crate) struct People {
    table: Arc<PresenceTable>,
    store: Arc<dyn PresenceStore>,
    teller: Mutex<Option<AbortOnDropHandle<()>>>,
    /// All sessions have ended.
    left: CancellationToken,
}

impl People {
    /// Starts to tell who comes and goes, until everything here is dropped or [finished](Self::finish).
    pub(crate) fn start(
        store: Arc<dyn PresenceStore>,
        broker: Arc<dyn Broker>,
        clock: Clock,
        stopping: CancellationToken,
    ) -> Self {
        let table = Arc::new(PresenceTable::default());
        let left = CancellationToken::new();
        let teller = Teller { table: Arc::clone(&table), store: Arc::clone(&store), broker, clock };
        let teller = tokio::spawn(teller.run(stopping, left.clone()));
        Self { table, store, teller: Mutex::new(Some(AbortOnDropHandle::new(teller))), left }
    }

    /// A session of `user` began here.
    pub(crate) fn enter(&self, user: &UserName) {
        self.table.enter(user);
    }

    /// A session of `user` ended here at `now`. Gives a ticket if it was the last one, for
    /// [`expire`](Self::expire) a while later.
    pub(crate) fn leave(&self, user: &UserName, now: u64) -> Option<LeaveTicket> {
        self.table.leave(user, now)
    }

    /// The while is over: the person of the ticket is not here, unless a session has begun since.
    pub(crate) fn expire(&self, ticket: LeaveTicket) {
        self.table.expire(ticket);
    }

    /// Whether these people are there, on any node, in their order.
    pub(crate) async fn presence(&self, users: &[UserName]) -> Result<Vec<Presence>, StoreError> {
        if users.iter().all(|user| self.table.is_online(user)) {
            return Ok(vec![Presence::Online; users.len()]);
        }
        let mut presence = self.store.presence(users).await?;
        // Who has just come is perhaps not noted yet.
        for (user, presence) in users.iter().zip(&mut presence) {
            if self.table.is_online(user) {
                *presence = Presence::Online;
            }
        }
        Ok(presence)
    }

    /// All sessions have ended: tells the last of it.
    pub(crate) async fn finish(&self) {
        self.left.cancel();
        let teller = lock(&self.teller).take();
        if let Some(teller) = teller
            && let Err(error) = teller.await
        {
            tracing::error!(%error, "presence ended badly");
        }
    }
}
