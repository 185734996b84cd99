use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::uri::{Authority, Scheme};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use bytes::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::Reach;

/// How long connecting may take, to one address
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest URL, in octets
const MAX_URL: usize = 2048;

/// Why a URL cannot be called
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidUrl(&'static str);

/// The URL of something to call: `http` or `https`, without a name and password
#[derive(Clone, PartialEq, Eq)]
pub struct OutgoingUrl {
    uri: Uri,
    host: String,
    port: u16,
    tls: bool,
}

impl FromStr for OutgoingUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        if text.len() > MAX_URL {
            return Err(InvalidUrl("a URL has at most 2048 octets"));
        }
        let uri: Uri = text.parse().map_err(|_| InvalidUrl("this is no URL"))?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(InvalidUrl("the URL must begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or(InvalidUrl("the URL names no host"))?;
        if authority.as_str().contains('@') {
            return Err(InvalidUrl("credentials do not belong into a URL"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(InvalidUrl("the URL names no host"));
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { host, port, tls, uri })
    }
}

impl OutgoingUrl {
    /// As it was written
    #[must_use]
    pub fn as_uri(&self) -> &Uri {
        &self.uri
    }

    fn authority(&self) -> &str {
        self.uri.authority().map_or("", Authority::as_str)
    }
}

impl fmt::Display for OutgoingUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.uri, f)
    }
}

impl fmt::Debug for OutgoingUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The query may hold a secret.
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

/// Why a call gave no answer
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The host has an address, or several, and none of them may be called
    #[error("the address is not public, and is not called")]
    Forbidden,
    /// The host was not found, or nobody answers there
    #[error("no connection: {0}")]
    Connect(io::Error),
    /// The other side broke off, or does not speak HTTP
    #[error("no answer: {0}")]
    Broken(String),
    /// It took too long
    #[error("no answer in time")]
    TimedOut,
    /// The answer, of this status, is longer than is read
    #[error("the answer is too long")]
    TooLong(StatusCode),
}

/// What was answered
#[derive(Debug)]
#[non_exhaustive]
pub struct HttpAnswer {
    /// The status; a redirection is not followed
    pub status: StatusCode,
    /// The head
    pub headers: HeaderMap,
    /// The body
    pub body: Bytes,
}

/// Calls programs of others: HTTP/1.1, with TLS for `https`
///
/// The name of a host is resolved for each call, each address is checked, and only a checked one is connected to: so
/// nothing is won by a name that changes its address in between. Redirections are not followed. Cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    reach: Reach,
    timeout: Duration,
    max_body: usize,
    tls: TlsConnector,
}

impl HttpClient {
    /// A client for `reach`, whose calls take 10 seconds and whose answers have 64 KiB at most
    ///
    /// Servers are believed that the system's certificates vouch for.
    ///
    /// # Errors
    ///
    /// Where the cryptography of TLS cannot be set up.
    pub fn new(reach: Reach) -> Result<Self, io::Error> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            reach,
            timeout: Duration::from_secs(10),
            max_body: 64 * 1024,
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Sets how long a call may take, from resolving the name to the end of the answer
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long the body of an answer may be, in octets
    #[must_use]
    pub const fn with_max_body(mut self, octets: usize) -> Self {
        self.max_body = octets;
        self
    }

    /// Calls with `GET`
    ///
    /// # Errors
    ///
    /// [`HttpError`]; any status is an answer, and no error.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped may have arrived.
    pub async fn get(&self, url: &OutgoingUrl) -> Result<HttpAnswer, HttpError> {
        self.call(Method::GET, url, HeaderMap::new(), Bytes::new()).await
    }

    /// Calls with `POST`, and a body of JSON
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped may have arrived.
    pub async fn post(
        &self,
        url: &OutgoingUrl,
        mut headers: HeaderMap,
        json: Bytes,
    ) -> Result<HttpAnswer, HttpError> {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.call(Method::POST, url, headers, json).await
    }

    async fn call(
        &self,
        method: Method,
        url: &OutgoingUrl,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<HttpAnswer, HttpError> {
        let call = async {
            let stream = self.connect(url).await?;
            if !url.tls {
                return self.exchange(stream, method, url, headers, body).await;
            }
            let name = ServerName::try_from(url.host.clone())
                .map_err(|_| HttpError::Broken("the host has no name for TLS".to_owned()))?;
            let stream = self.tls.connect(name, stream).await.map_err(HttpError::Connect)?;
            self.exchange(stream, method, url, headers, body).await
        };
        tokio::time::timeout(self.timeout, call).await.unwrap_or(Err(HttpError::TimedOut))
    }

    /// Connects to the first address of the host that may be called and answers.
    async fn connect(&self, url: &OutgoingUrl) -> Result<TcpStream, HttpError> {
        let found = lookup_host((url.host.as_str(), url.port)).await.map_err(HttpError::Connect)?;
        let allowed: Vec<SocketAddr> =
            found.filter(|address| self.reach.allows(address.ip())).collect();
        let mut last = HttpError::Forbidden;
        for address in allowed {
            match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = HttpError::Connect(error),
                Err(_) => last = HttpError::TimedOut,
            }
        }
        Err(last)
    }

    async fn exchange<S>(
        &self,
        stream: S,
        method: Method,
        url: &OutgoingUrl,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<HttpAnswer, HttpError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let broken = |error: &dyn std::error::Error| HttpError::Broken(error.to_string());
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        let path = url.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|error| broken(&error))?;
        *request.headers_mut() = headers;
        let host = HeaderValue::from_str(url.authority()).map_err(|error| broken(&error))?;
        request.headers_mut().insert(header::HOST, host);
        let agent = HeaderValue::from_static(concat!("im-gateway/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(header::USER_AGENT, agent);
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
            let (head, body) = response.into_parts();
            let body = to_bytes(Body::new(body), self.max_body)
                .await
                .map_err(|_| HttpError::TooLong(head.status))?;
            Ok(HttpAnswer { status: head.status, headers: head.headers, body })
        };
        // The connection is driven here, and ends with the call.
        let mut connection = std::pin::pin!(connection);
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(broken(&error)),
            },
        }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("reach", &self.reach)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_http_and_holds_no_credentials() {
        for (text, host, port) in [
            ("http://example.org", "example.org", 80),
            ("https://example.org/a?b=c", "example.org", 443),
            ("http://[::1]:8080/x", "::1", 8080),
        ] {
            let url: OutgoingUrl = text.parse().unwrap();
            assert_eq!((url.host.as_str(), url.port), (host, port));
        }
        for text in [
            "",
            "example.org",
            "/path",
            "ftp://example.org",
            "file:///etc/passwd",
            "http://user:secret@example.org",
            "http://@example.org",
            "http://",
        ] {
            assert!(text.parse::<OutgoingUrl>().is_err(), "{text}");
        }
        let url: OutgoingUrl = "https://example.org/hook?token=secret".parse().unwrap();
        assert_eq!(format!("{url:?}"), "https://example.org");
    }

    /// Also by a name that leads there, however it is spelled.
    #[tokio::test]
    async fn what_is_not_public_is_not_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = HttpClient::new(Reach::Public).unwrap();
        for host in
            ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"]
        {
            let url: OutgoingUrl = format!("http://{host}:{port}/").parse().unwrap();
            let outcome = client.get(&url).await;
            assert!(
                matches!(outcome, Err(HttpError::Forbidden | HttpError::Connect(_))),
                "{host}: {outcome:?}"
            );
        }
        let nobody = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(nobody.is_err(), "it was connected to");
    }
}
