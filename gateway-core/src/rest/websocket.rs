use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::{Extensions, HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, any};
use stomp_ws::OriginPolicy;
use stomp_ws::axum::StompUpgrade;

use super::cookie::SessionCookie;
use super::problem::Problem;
use crate::auth::Credentials;
use crate::connections::Admission;
use crate::gateway::Gateway;

/// When whoever was not taken, as there are too many connections, may try again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The STOMP endpoint of a gateway, over WebSocket: a route of an axum router.
///
/// A connection for which there is [no place](Gateway::admit) is answered with 503.
///
/// `origins` decides which web pages may open it. A CONNECT without a passcode is signed in by the `Authorization`
/// header of the upgrade, if there is one, and if not every page on the web may open the endpoint.
pub fn websocket<S>(gateway: Gateway, origins: OriginPolicy) -> MethodRouter<S, Infallible>
where
    S: Clone + Send + Sync + 'static,
{
    endpoint(gateway, origins, None)
}

/// The same for pages of the cookie's origins, whom the cookie signs in: their CONNECT needs no login and no passcode.
pub fn websocket_with_cookie<S>(
    gateway: Gateway,
    cookie: SessionCookie,
) -> MethodRouter<S, Infallible>
where
    S: Clone + Send + Sync + 'static,
{
    endpoint(gateway, cookie.origins().clone(), Some(cookie))
}

fn endpoint<S>(
    gateway: Gateway,
    origins: OriginPolicy,
    cookie: Option<SessionCookie>,
) -> MethodRouter<S, Infallible>
where
    S: Clone + Send + Sync + 'static,
{
    any(move |headers: HeaderMap, extensions: Extensions, upgrade: StompUpgrade| async move {
        let presented = presented(&headers, &origins, cookie.as_ref());
        serve(gateway, origins, presented, &extensions, upgrade)
    })
}

/// What the upgrade shows of its own accord: only where the origin of the page is checked, as a browser sends it for
/// every page.
fn presented(
    headers: &HeaderMap,
    origins: &OriginPolicy,
    cookie: Option<&SessionCookie>,
) -> Option<Credentials> {
    if origins.allows_any() {
        return None;
    }
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    authorization
        .and_then(|value| Credentials::authorization(value).ok())
        .or_else(|| cookie?.read(headers))
}

fn serve(
    gateway: Gateway,
    origins: OriginPolicy,
    presented: Option<Credentials>,
    extensions: &Extensions,
    upgrade: StompUpgrade,
) -> Response {
    let address = extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let admission =
        match extensions.get::<Admission>().cloned().map_or_else(|| gateway.admit(address), Ok) {
            Ok(admission) => admission,
            Err(refused) => {
                return Problem::later(refused.to_string(), RETRY_AFTER).into_response();
            }
        };
    let config = gateway.settings().transport;
    upgrade.origin_policy(origins).config(config).on_upgrade(move |transport| async move {
        gateway.spawn_admitted(transport, address, presented, Ok(admission));
    })
}
