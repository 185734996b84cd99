//! TLS of the server's side, with certificates that are exchanged while it runs
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use stomp_ws::tls::{ServerTls, TlsFiles};
//! use stomp_ws::{TcpAcceptor, TransportConfig};
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let tls = ServerTls::load(TlsFiles::new("chain.pem", "key.pem"))?;
//! let acceptor = TcpAcceptor::bind("0.0.0.0:61614", TransportConfig::DEFAULT).await?.with_tls(tls.clone());
//! tokio::spawn(async move { tls.watch(Duration::from_secs(10)).await });
//! # let _ = acceptor;
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::fs;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::{Accept, TlsAcceptor, server};

/// The longest file of certificates or of a key that is read, in octets
const MAX_FILE: u64 = 1024 * 1024;

/// Where a certificate and its key are, in PEM
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFiles {
    /// The server's certificate, and behind it those that lead from it to one that clients know
    pub certificates: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC1
    pub key: PathBuf,
}

impl TlsFiles {
    /// A certificate chain and its key
    pub fn new(certificates: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { certificates: certificates.into(), key: key.into() }
    }

    fn read(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let invalid = |path: &Path, problem: &dyn fmt::Display| TlsError::Invalid {
            path: path.to_owned(),
            problem: problem.to_string(),
        };
        let chain = CertificateDer::pem_slice_iter(&read(&self.certificates)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| invalid(&self.certificates, &error))?;
        if chain.is_empty() {
            return Err(invalid(&self.certificates, &"no certificate in it"));
        }
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|error| invalid(&self.key, &error))?;
        ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map(Arc::new)
            .map_err(|error| invalid(&self.certificates, &error))
    }

    fn state(&self) -> FileState {
        [&self.certificates, &self.key].map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
    }
}

/// When each file was changed, and how long it is; `None` where it is not there
type FileState = [Option<(SystemTime, u64)>; 2];

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        return Err(failed(io::Error::other("the file is longer than 1 MiB")));
    }
    fs::read(path).map_err(failed)
}

/// Why there is no TLS with these files
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which
        path: PathBuf,
        /// Why
        source: io::Error,
    },
    /// What is in a file cannot be used, or the key is that of another certificate
    #[error("cannot use {}: {problem}", path.display())]
    Invalid {
        /// Which
        path: PathBuf,
        /// Why
        problem: String,
    },
}

/// Speaks TLS (1.2 and 1.3) on connections that were accepted
///
/// Cheap to clone; all clones have the same certificate, the one that was loaded last. Connections keep that with which
/// they began.
#[derive(Clone)]
pub struct ServerTls {
    inner: Arc<Inner>,
}

struct Inner {
    files: TlsFiles,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    /// The files when they were last looked at, whatever came of it
    seen: FileState,
}

impl ServerTls {
    /// Reads certificate and key.
    ///
    /// # Errors
    ///
    /// [`TlsError`] names the file.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        // Before they are read: what changes meanwhile is a change.
        let seen = files.state();
        let current = Mutex::new(Current { config: files.read()?, seen });
        Ok(Self { inner: Arc::new(Inner { files, current }) })
    }

    /// Reads the files again. Connections that begin from now on get the new certificate; if this fails, the old one.
    ///
    /// # Errors
    ///
    /// [`TlsError`] names the file.
    pub fn reload(&self) -> Result<(), TlsError> {
        let seen = self.inner.files.state();
        self.current().seen = seen;
        let config = self.inner.files.read()?;
        self.current().config = config;
        Ok(())
    }

    /// Whether the files are others than when they were last read, by their time and length.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        let state = self.inner.files.state();
        self.current().seen != state
    }

    /// Looks at the files each `period`, and [reloads](Self::reload) them when they have changed. What comes of it is
    /// logged. Never returns.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn watch(&self, period: Duration) {
        loop {
            tokio::time::sleep(period).await;
            if self.has_changed() {
                self.reload_logged();
            }
        }
    }

    /// As [`reload`](Self::reload), and logs what comes of it.
    pub fn reload_logged(&self) {
        match self.reload() {
            Ok(()) => tracing::info!("the TLS certificate was read again"),
            Err(error) => tracing::error!(%error, "the TLS certificate stays the old one"),
        }
    }

    /// Speaks TLS on a connection. The handshake is done as the stream is read or written: whatever bounds the time in
    /// which a client has to send something bounds the handshake as well.
    #[must_use]
    pub fn accept(&self, stream: TcpStream) -> TlsStream {
        let config = Arc::clone(&self.current().config);
        TlsStream(State::Handshake(TlsAcceptor::from(config).accept(stream)))
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // Nothing that panics is done with the guard.
        self.inner.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("files", &self.inner.files).finish_non_exhaustive()
    }
}

/// A connection with TLS, from its handshake on
pub struct TlsStream(State);

#[allow(clippy::large_enum_variant, reason = "the large one is the lasting one")]
enum State {
    Handshake(Accept<TcpStream>),
    Open(server::TlsStream<TcpStream>),
    /// The handshake failed, or was given up
    Ended,
}

impl TlsStream {
    /// The stream behind the handshake.
    fn poll_open(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Pin<&mut server::TlsStream<TcpStream>>>> {
        if let State::Handshake(accept) = &mut self.0 {
            let outcome = ready!(Pin::new(accept).poll(cx));
            self.0 = State::Ended;
            self.0 = State::Open(outcome?);
        }
        Poll::Ready(match &mut self.0 {
            State::Open(stream) => Ok(Pin::new(stream)),
            _ => Err(io::ErrorKind::NotConnected.into()),
        })
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?.poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?.poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_flush(cx)
    }

    /// Whoever has not come to the end of the handshake is cut off.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            State::Open(stream) => Pin::new(stream).poll_shutdown(cx),
            state => {
                *state = State::Ended;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").finish_non_exhaustive()
    }
}
