//! Ending subscriptions.
//!
//! What a subscription holds when it ends stays unacknowledged with the connection, where nothing
//! names it any more, and what is on its way in that moment is refused with an error that ends the
//! connection. Both need a subscription of the same id: so there is one at once, to a queue that is
//! always empty.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use stomp_codec::client::SubscriptionHandle;
use stomp_codec::server::AckMode;

use crate::BrokerError;

use super::names;
use super::session::{Handler, Session};

/// A session, and the queue that is always empty.
#[derive(Debug)]
pub(super) struct Parking {
    pub(super) session: Arc<Session>,
    idle: String,
    last: AtomicU64,
}

/// A live subscription.
#[derive(Clone, Debug)]
pub(super) struct Parked {
    pub(super) handle: SubscriptionHandle,
    id: String,
}

impl Parking {
    /// `name` is that of no other queue.
    pub(super) async fn open(session: Arc<Session>, name: &str) -> Result<Self, BrokerError> {
        let (_, there) = session.write(|writer| {
            let headers = names::own(name);
            writer.subscribe(names::UNUSED, AckMode::Auto, &headers, Box::new(drop))
        })?;
        there.received().await?;
        Ok(Self { session, idle: names::to(name), last: AtomicU64::new(0) })
    }

    /// Subscribes; live when this returns.
    pub(super) async fn subscribe(
        &self,
        destination: &str,
        ack: AckMode,
        headers: &[(&str, &str)],
        handler: Handler,
    ) -> Result<Parked, BrokerError> {
        let id = format!("mq-{}", self.last.fetch_add(1, Relaxed));
        let mut all = vec![("id", id.as_str())];
        all.extend_from_slice(headers);
        let (handle, live) =
            self.session.write(|writer| writer.subscribe(destination, ack, &all, handler))?;
        live.received().await?;
        Ok(Parked { handle, id })
    }

    /// Ends a subscription, and has what is still on its way go to `late`. All of it has when this
    /// returns; then everything that the subscription held may be settled, until
    /// [`forget`](Self::forget).
    pub(super) async fn end(
        &self,
        ending: Parked,
        ack: AckMode,
        late: Handler,
    ) -> Result<Parked, BrokerError> {
        let Parked { handle, id } = ending;
        let (handle, there) = self.session.write(|writer| {
            writer.unsubscribe(handle, &[])?;
            writer.subscribe(&self.idle, ack, &[("id", &id)], late)
        })?;
        there.received().await?;
        // The receipt may have overtaken messages.
        self.session.write(|writer| writer.nothing())?.received().await?;
        Ok(Parked { handle, id })
    }

    /// Forgets a subscription that has ended.
    pub(super) async fn forget(&self, ended: Parked) -> Result<(), BrokerError> {
        let gone = self.session.write(|writer| writer.unsubscribe(ended.handle, &[]))?;
        gone.received().await
    }
}
