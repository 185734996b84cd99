//! Who makes a call, and whether that is allowed: the one place that looks at credentials, scopes and limits.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath};
use axum::http::request::Parts;
use axum::http::{Extensions, Method, StatusCode, header};

use super::RestApi;
use super::limits::{self, Counted};
use super::problem::Problem;
use crate::auth::{AuthError, Credentials};
use crate::keys::{ApiKeys, Scope};
use crate::names::UserName;

/// The header in which a service names the user in whose name it calls.
const ACT_AS: &str = "act-as";

/// The user who makes the call, or in whose name a service makes it.
///
/// Every call that takes one is refused without valid credentials, to a key without the scope of the call, and
/// to whoever calls too often.
#[derive(Debug)]
pub(super) struct Caller(pub(super) UserName);

impl FromRequestParts<Arc<RestApi>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, rest: &Arc<RestApi>) -> Result<Self, Problem> {
        let (credentials, by_cookie) = shown(parts, rest)?;
        let credentials = from_peer(credentials, &parts.extensions);
        let scope = rest.scopes.of(&parts.method, &parts.extensions);
        if credentials.bearer && !by_cookie && ApiKeys::is_key(credentials.secret.expose()) {
            return service(rest, parts, credentials.secret.expose(), scope).await;
        }
        let user = rest.gateway.authenticate(&credentials).await?.user;
        limits::count(rest, &parts.extensions, Counted::User(&user))?;
        if parts.headers.contains_key(ACT_AS) {
            return Err(forbidden("only a key with the scope `as` acts as somebody else"));
        }
        if scope.is_some_and(Scope::is_administration) && !rest.admins.contains(&user) {
            return Err(forbidden("this call is for administrators"));
        }
        Ok(Self(user))
    }
}

/// The credentials of a call, and whether a browser sent them of its own accord.
fn shown(parts: &Parts, rest: &RestApi) -> Result<(Credentials, bool), Problem> {
    if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
        let value = value.to_str().map_err(|_| AuthError::Failed)?;
        return Ok((Credentials::authorization(value)?, false));
    }
    let cookie = rest.cookie.as_ref();
    let found = cookie.and_then(|cookie| Some((cookie, cookie.read(&parts.headers)?)));
    let (cookie, credentials) = found.ok_or_else(|| {
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "sign in: Authorization with Bearer and a token of POST /api/v1/tokens or a key, or with Basic",
        )
    })?;
    cookie.check(&parts.method, &parts.headers)?;
    Ok((credentials, true))
}

/// A call with a key.
async fn service(
    rest: &RestApi,
    parts: &Parts,
    key: &str,
    scope: Option<Scope>,
) -> Result<Caller, Problem> {
    let key = rest.keys.check(key).await?;
    limits::count(rest, &parts.extensions, Counted::Key(&key.id))?;
    let scope = scope.ok_or_else(|| forbidden("this call is for users, not for keys"))?;
    if !key.allows(scope) {
        return Err(forbidden(format!("this call needs the scope `{}`", scope.as_str())));
    }
    let Some(user) = parts.headers.get(ACT_AS) else { return Ok(Caller(key.service)) };
    if !key.allows(Scope::As) {
        return Err(forbidden("acting as somebody else needs the scope `as`"));
    }
    let user = std::str::from_utf8(user.as_bytes()).ok().and_then(|name| UserName::new(name).ok());
    match user {
        Some(user) if rest.gateway.directory().user_exists(&user).await? => Ok(Caller(user)),
        _ => Err(Problem::invalid(ACT_AS, "there is no such user")),
    }
}

fn forbidden(why: impl Into<String>) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, why)
}

/// Which scope each call needs, as its description says.
#[derive(Clone, Debug, Default)]
pub(super) struct Scopes(Vec<(Method, String, Scope)>);

impl Scopes {
    pub(super) fn add(&mut self, method: Method, path: &str, scope: Scope) {
        self.0.push((method, path.to_owned(), scope));
    }

    /// `None` for a call that is not for keys.
    fn of(&self, method: &Method, extensions: &Extensions) -> Option<Scope> {
        // The router may be part of another one, below a path of its own.
        let path = extensions.get::<MatchedPath>()?.as_str();
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.0
            .iter()
            .find(|(of, call, _)| of == method && path.ends_with(call.as_str()))
            .map(|(.., scope)| *scope)
    }
}

/// Notes where the attempt comes from, if the router is served with that.
pub(super) fn from_peer(credentials: Credentials, extensions: &Extensions) -> Credentials {
    match extensions.get::<ConnectInfo<SocketAddr>>() {
        Some(ConnectInfo(address)) => credentials.with_address(address.ip()),
        None => credentials,
    }
}
