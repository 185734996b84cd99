use std::convert::Infallible;
use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::http::Extensions;
use axum::response::Response;
use axum::routing::{MethodRouter, any};
use stomp_ws::OriginPolicy;
use stomp_ws::axum::StompUpgrade;

use crate::gateway::Gateway;

/// The STOMP endpoint of a gateway, over WebSocket: a route of an axum router.
///
/// `origins` decides which web pages may open it.
pub fn websocket<S>(gateway: Gateway, origins: OriginPolicy) -> MethodRouter<S, Infallible>
where
    S: Clone + Send + Sync + 'static,
{
    any(move |extensions: Extensions, upgrade: StompUpgrade| async move {
        serve(gateway, origins, &extensions, upgrade)
    })
}

fn serve(
    gateway: Gateway,
    origins: OriginPolicy,
    extensions: &Extensions,
    upgrade: StompUpgrade,
) -> Response {
    let address = extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let config = gateway.settings().transport;
    upgrade.origin_policy(origins).config(config).on_upgrade(move |transport| async move {
        gateway.spawn(transport, address);
    })
}
