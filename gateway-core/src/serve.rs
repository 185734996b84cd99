//! Connections and their sessions, from the first to the last.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use stomp_ws::{TcpAcceptor, Transport};

use crate::auth::Credentials;
use crate::connections::{Admission, ConnectionRefused};
use crate::gateway::Gateway;
use crate::lock::lock;
use crate::session;

/// How many at a time of those who get no place are told so; the others are cut off.
pub(crate) const REFUSALS: usize = 64;
/// How long that may take.
const REFUSAL: Duration = Duration::from_secs(2);

impl Gateway {
    /// Takes a place for a connection, before anything is done for it; this is done already by what serves connections.
    ///
    /// A server that holds one for each connection that it accepts puts a clone into the extensions of its requests:
    /// then [`websocket`](crate::websocket) takes no second one.
    ///
    /// # Errors
    ///
    /// [`ConnectionRefused`] where there are as many as there may be ([`ConnectionLimits`](crate::ConnectionLimits)).
    pub fn admit(&self, address: Option<IpAddr>) -> Result<Admission, ConnectionRefused> {
        self.inner.connections.admit(address)
    }

    /// Serves a connection that was made elsewhere, until it ends. `address` is the client's, to slow
    /// down guessing of passwords. One too many gets an ERROR.
    ///
    /// # Cancel safety
    ///
    /// Dropping it cuts the connection off; what was not acknowledged is delivered again.
    pub fn serve(
        &self,
        transport: Transport,
        address: Option<IpAddr>,
    ) -> impl Future<Output = ()> + Send + use<> {
        session::run(self.clone(), transport, address, None, self.admit(address))
    }

    /// Serves STOMP over TCP until the gateway stops.
    ///
    /// # Cancel safety
    ///
    /// Dropping it stops accepting; connections that were accepted go on.
    pub async fn serve_tcp(&self, acceptor: TcpAcceptor) {
        loop {
            let (transport, address) = tokio::select! {
                accepted = acceptor.accept() => accepted,
                () = self.inner.stop.cancelled() => return,
            };
            self.spawn(transport, Some(address.ip()));
        }
    }

    /// Serves a connection in a task of its own, which [`shutdown`](Self::shutdown) waits for.
    pub fn spawn(&self, transport: Transport, address: Option<IpAddr>) {
        self.spawn_presenting(transport, address, None);
    }

    /// The same, for a connection that came with credentials: those of its WebSocket upgrade. They count for a CONNECT
    /// without a passcode.
    pub fn spawn_presenting(
        &self,
        transport: Transport,
        address: Option<IpAddr>,
        presented: Option<Credentials>,
    ) {
        self.spawn_admitted(transport, address, presented, self.admit(address));
    }

    pub(crate) fn spawn_admitted(
        &self,
        transport: Transport,
        address: Option<IpAddr>,
        presented: Option<Credentials>,
        admission: Result<Admission, ConnectionRefused>,
    ) {
        let inner = &self.inner;
        if inner.stop.is_cancelled() {
            return;
        }
        let is_refused = admission.is_err();
        let session = session::run(self.clone(), transport, address, presented, admission);
        if !is_refused {
            inner.tasks.spawn(session);
        } else if let Ok(permit) = Arc::clone(&inner.refusals).try_acquire_owned() {
            inner.tasks.spawn(async move {
                let _ = tokio::time::timeout(REFUSAL, session).await;
                drop(permit);
            });
        }
    }

    /// Takes no new session and ends the others, each at a moment of its own ([`Drain`](crate::Drain)) with close code
    /// 1001; what they have begun is finished. All else of the gateway goes on working until [`shutdown`](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready the sessions end all the same; call it again to wait.
    pub async fn drain(&self) {
        let inner = &self.inner;
        inner.drain.get_or_init(|| inner.settings.drain.window(inner.sessions.count()));
        inner.stop.cancel();
        inner.tasks.close();
        inner.tasks.wait().await;
    }

    /// [Drains](Self::drain), finishes what is under way and lets go of the broker.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready the gateway is stopping all the same; call it again to wait.
    pub async fn shutdown(&self) {
        self.drain().await;
        let inner = &self.inner;
        inner.people.finish().await;
        drop(lock(&inner.pipeline).take());
        let task = lock(&inner.pipeline_task).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the pipeline ended badly");
        }
        inner.broker.shutdown().await;
    }
}
