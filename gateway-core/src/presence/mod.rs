//! Whether people are there.
//!
//! Each node counts the sessions of its own users (`PresenceTable`), and tells the `PresenceStore`, which knows of all
//! nodes, when the first begins and a while after the last has ended. Who comes or goes over all nodes is said on the
//! broker, to whoever listens on whichever node.

#[cfg(feature = "postgres")]
mod postgres;
mod sessions;
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
use table::{PresenceTable, Standing, Ticket};
use teller::Teller;

/// Whether a person is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Presence {
    /// At least one session is signed in, and not away.
    Online,
    /// Sessions are signed in, and all of them have said that nobody looks at them.
    Away,
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
        matches!(self, Self::Online | Self::Away)
    }

    /// The word for it: `online`, `away`, `offline`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Away => "away",
            Self::Offline { .. } => "offline",
        }
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

    /// A session of `user`, `away` or not, ended here at `now`. Gives a ticket if that is to be told, for
    /// [`expire`](Self::expire) a while later.
    pub(crate) fn leave(&self, user: &UserName, away: bool, now: u64) -> Option<Ticket> {
        self.table.leave(user, away, now)
    }

    /// A session of `user` here is `away` now, or not any more; it was not, or was. Gives a ticket as
    /// [`leave`](Self::leave) does.
    pub(crate) fn set_away(&self, user: &UserName, away: bool) -> Option<Ticket> {
        self.table.set_away(user, away)
    }

    /// The while is over: the person of the ticket is away or not here, unless something has happened since. Gives the
    /// ticket for another while where that was no return.
    pub(crate) fn expire(&self, ticket: Ticket) -> Option<Ticket> {
        self.table.expire(ticket)
    }

    /// Whether these people are there, on any node, in their order.
    pub(crate) async fn presence(&self, users: &[UserName]) -> Result<Vec<Presence>, StoreError> {
        let here: Vec<_> = users.iter().map(|user| self.table.standing(user)).collect();
        if here.iter().all(|here| *here == Standing::Online) {
            return Ok(vec![Presence::Online; users.len()]);
        }
        let mut presence = self.store.presence(users).await?;
        // Who has just come is perhaps not noted yet.
        for (here, presence) in here.iter().zip(&mut presence) {
            match here {
                Standing::Online => *presence = Presence::Online,
                Standing::Away if !presence.is_online() => *presence = Presence::Away,
                _ => {}
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
