use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{Extensions, StatusCode, header};

use super::RestApi;
use super::problem::Problem;
use crate::auth::{AuthError, Credentials};
use crate::names::UserName;

/// The user who makes the call: every call that takes one is refused without valid credentials.
#[derive(Debug)]
pub(super) struct Caller(pub(super) UserName);

impl FromRequestParts<Arc<RestApi>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, rest: &Arc<RestApi>) -> Result<Self, Problem> {
        let value = parts.headers.get(header::AUTHORIZATION).ok_or_else(|| {
            Problem::new(
                StatusCode::UNAUTHORIZED,
                "sign in: Authorization with Bearer and a token of POST /api/v1/tokens, or with Basic",
            )
        })?;
        let value = value.to_str().map_err(|_| AuthError::Failed)?;
        let credentials = from_peer(Credentials::authorization(value)?, &parts.extensions);
        Ok(Self(rest.gateway.authenticate(&credentials).await?.user))
    }
}

/// Notes where the attempt comes from, if the router is served with that.
pub(super) fn from_peer(credentials: Credentials, extensions: &Extensions) -> Credentials {
    match extensions.get::<ConnectInfo<SocketAddr>>() {
        Some(ConnectInfo(address)) => credentials.with_address(address.ip()),
        None => credentials,
    }
}
