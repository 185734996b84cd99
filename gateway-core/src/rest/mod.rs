//! REST: the calls of docs/protocol.md below `/api/v1`, as an axum router.
#![allow(unused_qualifications, reason = "the macro that describes a call writes whole paths")]

mod admin;
mod attachments;
mod caller;
mod conversations;
mod cookie;
mod export;
mod groups;
mod input;
mod keys;
mod limits;
mod messages;
mod once;
mod openapi;
mod operations;
mod people;
mod presence;
mod problem;
mod search;
#[cfg(test)]
mod tests;
mod users;
#[cfg(feature = "webhooks")]
mod webhooks;
mod websocket;

use std::collections::HashSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::{JwtAuthenticator, PasswordHasher};
use crate::gateway::Gateway;
use crate::keys::ApiKeys;
use crate::names::UserName;
use crate::rate::RateLimit;
use caller::Scopes;
use limits::Limits;
use problem::Problem;

pub use cookie::{InvalidCookie, SessionCookie};
pub use operations::operations;
pub use websocket::{websocket, websocket_with_cookie};

/// The longest JSON of a message, in octets: the largest STOMP body, with room for escapes.
const MAX_MESSAGE_JSON: usize = 8 * 1024 * 1024;

/// The longest JSON of any other call, in octets.
const MAX_JSON: usize = 64 * 1024;

/// REST: everything below `/api/v1`, for a gateway; its description (OpenAPI 3.1) is at
/// `/api/openapi.json`, and a page that shows it at `/api/docs`.
///
/// A request that belongs to no call gets a problem document (RFC 9457), too, so that the router can be
/// merged into another one without a gap.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use gateway_core::{Gateway, JwtOptions, PasswordHasher, RestApi, TokenKey, websocket};
/// use stomp_ws::OriginPolicy;
///
/// let gateway = Gateway::builder().build()?;
/// let tokens = JwtOptions::new(TokenKey::new([7; 32])?, "chat", "chat").build();
/// let router = RestApi::new(gateway.clone(), tokens)
///     .sign_up(PasswordHasher::new())
///     .router()
///     .route("/ws", websocket(gateway, OriginPolicy::default()));
/// # let _: axum::Router = router;
/// # Ok(())
/// # }
/// ```
///
/// Serve it with [`ConnectInfo`](axum::extract::ConnectInfo) of a `SocketAddr` where the guessing of
/// passwords shall be slowed down by address.
#[derive(Clone, Debug)]
#[must_use = "a RestApi does nothing until its router is served"]
pub struct RestApi {
    gateway: Gateway,
    tokens: JwtAuthenticator,
    keys: ApiKeys,
    hasher: PasswordHasher,
    sign_up: Option<PasswordHasher>,
    admins: HashSet<UserName>,
    limits: Option<Arc<Limits>>,
    cookie: Option<SessionCookie>,
    scopes: Scopes,
    #[cfg(feature = "webhooks")]
    webhooks: Option<crate::webhooks::Webhooks>,
}

impl RestApi {
    /// REST for `gateway`, which signs in with passwords and gives `tokens` for them.
    ///
    /// The gateway's authenticator must know `tokens`, or they are good for nothing.
    pub fn new(gateway: Gateway, tokens: JwtAuthenticator) -> Self {
        let inner = &gateway.inner;
        let keys = ApiKeys::new(Arc::clone(&inner.registry), inner.clock.clone());
        Self {
            gateway,
            tokens,
            keys,
            hasher: PasswordHasher::new(),
            sign_up: None,
            admins: HashSet::new(),
            limits: None,
            cookie: None,
            scopes: Scopes::default(),
            #[cfg(feature = "webhooks")]
            webhooks: None,
        }
    }

    /// Lets anybody make a user, with a password hashed by `hasher`. Default: nobody.
    pub fn sign_up(mut self, hasher: PasswordHasher) -> Self {
        self.sign_up = Some(hasher.clone());
        self.hasher = hasher;
        self
    }

    /// Sets who may make users, keys and webhooks and run the node, beside services whose keys have those scopes. Default: nobody.
    pub fn admins(mut self, admins: impl IntoIterator<Item = UserName>) -> Self {
        self.admins = admins.into_iter().collect();
        self
    }

    /// Sets how often a caller (a user, or a key) and an address may call. Default: as often as they like.
    ///
    /// Who calls more often gets 429 with `Retry-After`; each answer says in `RateLimit-Limit`,
    /// `RateLimit-Remaining` and `RateLimit-Reset` where the caller stands. Takes 256 KiB, however many callers there
    /// are: of very many, some share a limit.
    pub fn rate_limits(mut self, caller: RateLimit, address: RateLimit) -> Self {
        self.limits = Some(Arc::new(Limits::new(caller, address)));
        self
    }

    /// Sets the cookie that signs in calls without an `Authorization`, and that `POST /api/v1/tokens` sets where it is
    /// asked to. Default: none.
    pub fn cookie(mut self, cookie: SessionCookie) -> Self {
        self.cookie = Some(cookie);
        self
    }

    /// Lets those who may make webhooks. Default: there are none.
    #[cfg(feature = "webhooks")]
    pub fn webhooks(mut self, webhooks: crate::webhooks::Webhooks) -> Self {
        self.webhooks = Some(webhooks);
        self
    }

    /// The router.
    pub fn router(mut self) -> Router {
        let (calls, description) = calls().split_for_parts();
        let description = openapi::complete(description);
        self.scopes = openapi::scopes(&description);
        let rest = Arc::new(self);
        let calls = calls.layer(from_fn_with_state(Arc::clone(&rest), limits::limit));
        let api = openapi::routes(&description)
            .merge(calls.with_state(rest))
            .fallback(|| async { Problem::not_found("there is no such call") })
            .method_not_allowed_fallback(|| async { Problem::method_not_allowed() });
        Router::new().nest("/api", api)
    }

    /// The description of all calls, as `/api/openapi.json` serves it: OpenAPI 3.1, indented.
    #[must_use]
    pub fn openapi() -> String {
        openapi::text(&openapi::complete(calls().into_openapi()))
    }
}

/// Every call: its handler, and beside that its description.
///
/// `security` of the description names the scope that a key needs: `("key" = ["read"])`. A call without
/// `security` is closed to keys; one with `security(())` is open to all.
fn calls() -> OpenApiRouter<Arc<RestApi>> {
    let messages = OpenApiRouter::new()
        .routes(routes!(messages::send))
        .layer(DefaultBodyLimit::max(MAX_MESSAGE_JSON));
    let others = OpenApiRouter::new()
        .routes(routes!(users::find, users::sign_up))
        .routes(routes!(users::put))
        .routes(routes!(users::sign_in, users::sign_out))
        .routes(routes!(users::me))
        .routes(routes!(conversations::list))
        .routes(routes!(conversations::history))
        .routes(routes!(export::export))
        .routes(routes!(export::import))
        .routes(routes!(search::search))
        .routes(routes!(conversations::message))
        .routes(routes!(attachments::upload))
        .routes(routes!(attachments::download))
        .routes(routes!(groups::create))
        .routes(routes!(groups::show, groups::update))
        .routes(routes!(groups::join))
        .routes(routes!(groups::transfer))
        .routes(routes!(groups::add_member, groups::change_member, groups::remove_member))
        .routes(routes!(people::blocked))
        .routes(routes!(people::block, people::unblock))
        .routes(routes!(presence::list))
        .routes(routes!(presence::show))
        .routes(routes!(people::devices))
        .routes(routes!(people::name_device, people::remove_device))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(admin::sessions))
        .routes(routes!(admin::end_session))
        .routes(routes!(admin::end_sessions))
        .routes(routes!(admin::destinations))
        .routes(routes!(admin::drain));
    #[cfg(feature = "webhooks")]
    let others = others
        .routes(routes!(webhooks::list, webhooks::create))
        .routes(routes!(webhooks::show, webhooks::remove))
        .routes(routes!(webhooks::redeliver));
    let others = others.layer(DefaultBodyLimit::max(MAX_JSON));
    OpenApiRouter::with_openapi(openapi::base()).nest("/v1", messages.merge(others))
}
