//! A STOMP client for WebSocket and TCP
//!
//! [`Client::connect`] opens a session and gives a handle of it; a task in the background does the rest (heart-beats,
//! receipts, deliveries) until the last handle and the last subscription are gone or
//! [`Client::disconnect`] is called.
//!
//! ```no_run
//! use stomp_codec::server::AckMode;
//! use stomp_ws::client::{Client, ConnectOptions};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let options = ConnectOptions::new().credentials("alice", "secret");
//! let client = Client::connect("ws://127.0.0.1:8080/ws", options).await?;
//!
//! let mut inbox = client.subscribe("/inbox").ack(AckMode::ClientIndividual).await?;
//! let receipt = client.send("/user/bob", "hello").header("kind", "message").confirmed().await?;
//! println!("stored as {:?}", receipt.header("message-id"));
//!
//! let message = inbox.recv().await?;
//! println!("{:?}: {}", message.header("from"), String::from_utf8_lossy(message.body()));
//! client.ack(&message).await?;
//!
//! client.disconnect().await;
//! # Ok(())
//! # }
//! ```
//!
//! Many frames can be in flight at once; the order in which they were sent is kept:
//!
//! ```no_run
//! # use stomp_ws::client::{Client, ClientError};
//! # async fn run(client: Client) -> Result<(), ClientError> {
//! let mut pending = Vec::new();
//! for n in 0..100 {
//!     pending.push(client.send("/queue/work", format!("job {n}")).receipt().await?);
//! }
//! for receipt in pending {
//!     receipt.await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A transaction takes effect as a whole:
//!
//! ```no_run
//! # use stomp_ws::client::{Client, ClientError};
//! # async fn run(client: Client) -> Result<(), ClientError> {
//! let transaction = client.begin().await?;
//! client.send("/queue/a", "one").in_transaction(&transaction).await?;
//! client.send("/queue/b", "two").in_transaction(&transaction).await?;
//! transaction.commit().await?;
//! # Ok(())
//! # }
//! ```

mod connect;
mod error;
mod options;
mod request;
mod state;
mod subscription;
mod transaction;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use stomp_codec::client::{ClientError as CommandError, Session};
use stomp_codec::{Version, view};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::timeout;

use self::connect::{Address, Scheme};
use self::state::{Shared, now, run};
use crate::Transport;
use crate::driver::Driver;

pub use self::error::{ClientError, Closed, ConnectError, ServerError};
pub use self::options::ConnectOptions;
pub use self::request::{PendingReceipt, Request, SubscribeRequest};
pub use self::subscription::Subscription;
pub use self::transaction::Transaction;

/// A handle of one STOMP session; clones share it
///
/// When the last clone, subscription and transaction is dropped, DISCONNECT is sent in the background.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    handle: Arc<Handle>,
}

/// Ends the session when the last owner drops it.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    connected: Option<(view::Connected, Version)>,
}

impl Client {
    /// Connects to `ws://host[:port][/path]`, or over TCP to `tcp://host[:port]` or `stomp://host[:port]` (port 61613).
    ///
    /// # Errors
    ///
    /// [`ConnectError`]; what the server says in an ERROR frame is in [`ConnectError::Refused`].
    pub async fn connect(url: &str, options: ConnectOptions) -> Result<Self, ConnectError> {
        let address = Address::parse(url)?;
        let connected = timeout(options.timeout(), async {
            let transport = address.connect(&options).await?;
            Self::open(transport, address.host, &options).await
        });
        connected.await.unwrap_or(Err(ConnectError::Timeout(options.timeout())))
    }

    /// Opens a WebSocket on a byte stream that was connected elsewhere, such as TLS, then a session on it.
    ///
    /// `url` gives host and path: `ws://host/path`.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn websocket<T>(
        io: T,
        url: &str,
        options: ConnectOptions,
    ) -> Result<Self, ConnectError>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let address = Address::parse(url)?;
        if address.scheme != Scheme::WebSocket {
            let url = url.to_owned();
            return Err(ConnectError::Url { url, fault: "the scheme is not ws" });
        }
        let connected = timeout(options.timeout(), async {
            let transport = address.upgrade(io, &options).await?;
            Self::open(transport, address.host, &options).await
        });
        connected.await.unwrap_or(Err(ConnectError::Timeout(options.timeout())))
    }

    /// Opens a session on a transport; `host` is the virtual host unless the options name one.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn over(
        transport: Transport,
        host: &str,
        options: ConnectOptions,
    ) -> Result<Self, ConnectError> {
        let connected = timeout(options.timeout(), Self::open(transport, host, &options));
        connected.await.unwrap_or(Err(ConnectError::Timeout(options.timeout())))
    }

    async fn open(
        transport: Transport,
        host: &str,
        options: &ConnectOptions,
    ) -> Result<Self, ConnectError> {
        let session = Session::new(options.session(host), now())?;
        let (sender, connected) = oneshot::channel();
        let shared = Arc::new(Shared::new(session, options.buffer, sender));
        // From here on a dropped future ends the session.
        let mut handle = Handle { shared: Arc::clone(&shared), connected: None };
        tokio::spawn(run(Driver::new(Arc::clone(&shared), transport)));
        match connected.await {
            Ok(connected) => {
                handle.connected = Some(connected);
                Ok(Self { shared, handle: Arc::new(handle) })
            }
            Err(_) => {
                let closed = shared.closed().await;
                Err(match closed.error {
                    Some(error) => ConnectError::Refused(error),
                    None => ConnectError::Closed(closed),
                })
            }
        }
    }

    /// The server's CONNECTED frame: `session`, `server`, `user-name`.
    ///
    /// `None` for no header.
    #[must_use]
    pub fn connected_header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.handle.connected.as_ref().and_then(|(connected, _)| connected.header(name))
    }

    /// The version of the session.
    #[must_use]
    pub fn version(&self) -> Version {
        self.handle.connected.as_ref().map_or(Version::V1_2, |(_, version)| *version)
    }

    /// Whether the session is open.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.is_connected()
    }

    /// A message to `destination`, about to be sent.
    pub fn send(&self, destination: &str, body: impl Into<Bytes>) -> Request<'_> {
        Request::send(self, destination, body.into())
    }

    /// The acknowledgement of a message, about to be sent.
    pub const fn ack<'a>(&'a self, message: &'a view::Message) -> Request<'a> {
        Request { client: self, operation: request::Operation::Ack(message), transaction: None }
    }

    /// The refusal of a message, about to be sent.
    pub const fn nack<'a>(&'a self, message: &'a view::Message) -> Request<'a> {
        Request { client: self, operation: request::Operation::Nack(message), transaction: None }
    }

    /// A subscription to `destination`, about to be made.
    pub const fn subscribe<'a>(&'a self, destination: &'a str) -> SubscribeRequest<'a> {
        SubscribeRequest::new(self, destination)
    }

    /// Starts a transaction.
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn begin(&self) -> Result<Transaction, ClientError> {
        let mut handle = None;
        self.shared
            .command(|session| {
                handle = Some(session.begin()?);
                Ok(None)
            })
            .await?;
        let handle = handle.ok_or(ClientError::Command(CommandError::NotConnected))?;
        Ok(Transaction::new(self.clone(), handle))
    }

    /// Leaves: sends DISCONNECT, waits for its RECEIPT and closes.
    ///
    /// Bounded by [`ConnectOptions::disconnect_timeout`]; [`Closed::is_confirmed`] tells whether the RECEIPT came. Every
    /// other handle of the session ends as well.
    pub async fn disconnect(&self) -> Closed {
        self.shared.command_now(|session| session.disconnect(now()));
        self.closed().await
    }

    /// Waits for the end of the connection and tells how it ended.
    pub async fn closed(&self) -> Closed {
        self.shared.closed().await
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.command_now(|session| session.disconnect(now()));
    }
}
