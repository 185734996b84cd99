//! The [`StompUpgrade`] extractor: STOMP over WebSocket on a route of an axum router
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use axum::Router;
//! use axum::response::Response;
//! use axum::routing::any;
//! use stomp_codec::server::Config;
//! use stomp_ws::ServerConnection;
//! use stomp_ws::axum::StompUpgrade;
//!
//! async fn stomp(upgrade: StompUpgrade) -> Response {
//!     upgrade.on_upgrade(|transport| async move {
//!         let mut connection: ServerConnection<u64> =
//!             ServerConnection::new(transport, Arc::new(Config::default()));
//!         while let Some(_event) = connection.event().await { /* ... */ }
//!     })
//! }
//!
//! let router: Router = Router::new().route("/ws", any(stomp));
//! ```

use std::future::Future;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;

use crate::handshake::accept_key;
use crate::{OriginPolicy, OriginRefused, Role, Subprotocol, Transport, TransportConfig};

/// A request to open a WebSocket for STOMP, already checked against RFC 6455 section 4.2.1
///
/// Of the subprotocols that the client offers the highest is chosen; a client that offers none, or none that is known,
/// is accepted without one (see [`require_subprotocol`](Self::require_subprotocol)).
///
/// Which web pages may connect is decided in [`on_upgrade`](Self::on_upgrade) by the
/// [`origin_policy`](Self::origin_policy): those of this server only, unless another policy is set.
#[derive(Debug)]
#[must_use = "nothing is upgraded before on_upgrade"]
pub struct StompUpgrade {
    accept: HeaderValue,
    subprotocol: Option<Subprotocol>,
    origin: Result<Option<String>, OriginRefused>,
    host: Option<String>,
    on_upgrade: OnUpgrade,
    policy: OriginPolicy,
    require_subprotocol: bool,
    config: TransportConfig,
}

impl StompUpgrade {
    /// Sets which web pages may connect.
    pub fn origin_policy(mut self, policy: OriginPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the bounds of the transport.
    pub const fn config(mut self, config: TransportConfig) -> Self {
        self.config = config;
        self
    }

    /// Whether a client that offers no subprotocol of STOMP is refused with 400. Default: it is accepted, as common
    /// clients offer none.
    pub const fn require_subprotocol(mut self, required: bool) -> Self {
        self.require_subprotocol = required;
        self
    }

    /// The subprotocol that the response will name.
    #[must_use]
    pub const fn subprotocol(&self) -> Option<Subprotocol> {
        self.subprotocol
    }

    /// Accepts: gives the response, and calls `serve` in a task of its own once the connection is upgraded.
    ///
    /// The response is 403 if the origin policy refuses; `serve` is dropped then.
    pub fn on_upgrade<F, Fut>(self, serve: F) -> Response
    where
        F: FnOnce(Transport) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let allowed = self
            .origin
            .and_then(|origin| self.policy.check(origin.as_deref(), self.host.as_deref()));
        if let Err(refused) = allowed {
            return UpgradeRejection::Origin(refused).into_response();
        }
        if self.require_subprotocol && self.subprotocol.is_none() {
            return UpgradeRejection::NoSubprotocol.into_response();
        }
        let (on_upgrade, config) = (self.on_upgrade, self.config);
        tokio::spawn(async move {
            match on_upgrade.await {
                Ok(upgraded) => serve(transport(upgraded, config)).await,
                Err(error) => tracing::debug!(%error, "the upgrade to WebSocket failed"),
            }
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(subprotocol) = self.subprotocol {
            let name = HeaderValue::from_static(subprotocol.as_str());
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, name);
        }
        response
    }
}

/// Takes the bare socket out of what axum and hyper wrap around it, where it is a TCP socket.
fn transport(upgraded: Upgraded, config: TransportConfig) -> Transport {
    let upgraded = match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => return on_tcp(parts.io.into_inner(), &parts.read_buf, config),
        Err(upgraded) => upgraded,
    };
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => on_tcp(parts.io.into_inner(), &parts.read_buf, config),
        Err(upgraded) => Transport::websocket(TokioIo::new(upgraded), &[], Role::Server, config),
    }
}

fn on_tcp(stream: TcpStream, read_ahead: &[u8], config: TransportConfig) -> Transport {
    if let Err(error) = stream.set_nodelay(true) {
        // The socket is gone already, as the first read will tell.
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    Transport::websocket(stream, read_ahead, Role::Server, config)
}

impl<S: Send + Sync> FromRequestParts<S> for StompUpgrade {
    type Rejection = UpgradeRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, UpgradeRejection> {
        let accept = check(parts)?;
        let on_upgrade =
            parts.extensions.remove::<OnUpgrade>().ok_or(UpgradeRejection::NotUpgradable)?;
        let headers = &parts.headers;
        let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
        Ok(Self {
            accept,
            subprotocol: Subprotocol::choose(offered.iter().filter_map(|line| line.to_str().ok())),
            origin: origin(headers),
            host: headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned),
            on_upgrade,
            policy: OriginPolicy::default(),
            require_subprotocol: false,
            config: TransportConfig::DEFAULT,
        })
    }
}

/// The checks of RFC 6455 section 4.2.1. Gives `Sec-WebSocket-Accept`.
fn check(parts: &Parts) -> Result<HeaderValue, UpgradeRejection> {
    let headers = &parts.headers;
    if parts.method != Method::GET {
        return Err(UpgradeRejection::NotGet);
    }
    if parts.version != Version::HTTP_11 {
        return Err(UpgradeRejection::NotHttp11);
    }
    if !has_token(headers, &header::CONNECTION, "upgrade")
        || !has_token(headers, &header::UPGRADE, "websocket")
    {
        return Err(UpgradeRejection::NotAnUpgrade);
    }
    let version = headers.get(header::SEC_WEBSOCKET_VERSION);
    if version.is_none_or(|version| version != "13") {
        return Err(UpgradeRejection::WebSocketVersion);
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Err(UpgradeRejection::Key);
    };
    if STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
        let accept = accept_key(key.as_bytes());
        HeaderValue::try_from(accept).map_err(|_| UpgradeRejection::Key)
    } else {
        Err(UpgradeRejection::Key)
    }
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// The one `Origin`; more than one, or one that is no text, is nobody's.
fn origin(headers: &HeaderMap) -> Result<Option<String>, OriginRefused> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next().map(HeaderValue::to_str), origins.next()) {
        (None, _) => Ok(None),
        (Some(Ok(origin)), None) => Ok(Some(origin.to_owned())),
        _ => Err(OriginRefused::NotAllowed("several, or not text".to_owned())),
    }
}

/// Why a request was not upgraded; an axum response with the status that fits and the reason as text
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeRejection {
    /// 405: the method is not GET.
    #[error("a WebSocket is opened with GET")]
    NotGet,
    /// 426: the request is not HTTP/1.1.
    #[error("a WebSocket is opened with HTTP/1.1")]
    NotHttp11,
    /// 426: an ordinary request.
    #[error("this is a STOMP endpoint: open it as a WebSocket")]
    NotAnUpgrade,
    /// 426: another version of the WebSocket protocol.
    #[error("Sec-WebSocket-Version must be 13")]
    WebSocketVersion,
    /// 400: no nonce, or several.
    #[error("Sec-WebSocket-Key must be 16 octets in base64")]
    Key,
    /// 403: a web page that may not connect.
    #[error(transparent)]
    Origin(OriginRefused),
    /// 400: see [`StompUpgrade::require_subprotocol`].
    #[error("offer one of the subprotocols v12.stomp, v11.stomp, v10.stomp")]
    NoSubprotocol,
    /// 500: the HTTP server below cannot hand over its connection.
    #[error("the connection cannot be upgraded")]
    NotUpgradable,
}

impl IntoResponse for UpgradeRejection {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NotGet => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotHttp11 | Self::NotAnUpgrade | Self::WebSocketVersion => {
                StatusCode::UPGRADE_REQUIRED
            }
            Self::Key | Self::NoSubprotocol => StatusCode::BAD_REQUEST,
            Self::Origin(_) => StatusCode::FORBIDDEN,
            Self::NotUpgradable => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut response = (status, format!("{self}\n")).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}
