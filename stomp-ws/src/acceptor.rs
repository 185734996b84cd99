use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};

#[cfg(feature = "tls")]
use crate::tls::ServerTls;
use crate::{Transport, TransportConfig, TransportError};

/// Accepts STOMP over TCP
///
/// ```no_run
/// # use std::sync::Arc;
/// # use stomp_codec::server::Config;
/// # use stomp_ws::{ServerConnection, TcpAcceptor, TransportConfig};
/// # async fn serve() -> std::io::Result<()> {
/// let config = Arc::new(Config::default());
/// let acceptor = TcpAcceptor::bind("127.0.0.1:61613", TransportConfig::DEFAULT).await?;
/// loop {
///     let (transport, _peer) = acceptor.accept().await;
///     let mut connection: ServerConnection<u64> = ServerConnection::new(transport, Arc::clone(&config));
///     tokio::spawn(async move { while let Some(_event) = connection.event().await { /* ... */ } });
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct TcpAcceptor {
    listener: TcpListener,
    config: TransportConfig,
    #[cfg(feature = "tls")]
    tls: Option<ServerTls>,
}

/// Pause after a failed accept. The usual cause is that the process may open no more files: trying again at once
/// would spin until a connection ends.
const RETRY: Duration = Duration::from_millis(100);

impl TcpAcceptor {
    /// Listens on `address`.
    ///
    /// # Errors
    ///
    /// As [`TcpListener::bind`].
    pub async fn bind(address: impl ToSocketAddrs, config: TransportConfig) -> io::Result<Self> {
        Ok(Self::new(TcpListener::bind(address).await?, config))
    }

    /// Accepts from a listener that was bound elsewhere.
    #[must_use]
    pub const fn new(listener: TcpListener, config: TransportConfig) -> Self {
        Self {
            listener,
            config,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Speaks TLS on each connection. Its handshake is bounded by the session's connect deadline.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The address that it listens on: with port 0, the port that the system chose.
    ///
    /// # Errors
    ///
    /// As [`TcpListener::local_addr`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next connection, with `TCP_NODELAY` set.
    ///
    /// A connection that fails while it is accepted is skipped; when the system has no more sockets to give this
    /// waits until it has.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn accept(&self) -> (Transport, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    if let Ok(transport) = self.transport(stream) {
                        return (transport, peer);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn transport(&self, stream: TcpStream) -> Result<Transport, TransportError> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            stream.set_nodelay(true)?;
            return Ok(Transport::stream(tls.accept(stream), self.config));
        }
        Transport::tcp(stream, self.config)
    }
}
