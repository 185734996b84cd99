//! How often somebody may call, and the headers that say so.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::RestApi;
use super::problem::Problem;
use crate::auth::network;
use crate::names::UserName;
use crate::rate::{Meter, RateLimit, Standing};

/// What has been called, by caller and by address.
#[derive(Debug)]
pub(super) struct Limits {
    callers: Meter,
    addresses: Meter,
}

impl Limits {
    pub(super) fn new(caller: RateLimit, address: RateLimit) -> Self {
        Self { callers: Meter::new(caller), addresses: Meter::new(address) }
    }
}

/// Who is counted.
#[derive(Clone, Copy)]
pub(super) enum Counted<'a> {
    User(&'a UserName),
    Key(&'a str),
}

/// Where the caller stands, once it is known who it is.
#[derive(Clone, Default)]
struct Noted(Arc<OnceLock<Standing>>);

/// Counts a call of somebody.
pub(super) fn count(
    rest: &RestApi,
    extensions: &Extensions,
    caller: Counted<'_>,
) -> Result<(), Problem> {
    let Some(limits) = &rest.limits else { return Ok(()) };
    // A name has no `/`, so that no user is counted for a key.
    let name = match caller {
        Counted::User(user) => user.as_str().to_owned(),
        Counted::Key(id) => format!("/{id}"),
    };
    let standing = limits.callers.count(name.as_bytes(), rest.gateway.inner.clock.now_millis());
    if let Some(Noted(noted)) = extensions.get() {
        let _ = noted.set(standing);
    }
    refused(standing)
}

fn refused(standing: Standing) -> Result<(), Problem> {
    standing.retry_after.map_or(Ok(()), |after| Err(Problem::too_many(after)))
}

/// Counts the calls of an address, before anything is done for them, and tells each caller its standing.
pub(super) async fn limit(
    State(rest): State<Arc<RestApi>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(limits) = &rest.limits else { return next.run(request).await };
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let standing = address.map(|address| {
        limits.addresses.count(&network(address.ip()), rest.gateway.inner.clock.now_millis())
    });
    let noted = Noted::default();
    let mut response = match standing.map_or(Ok(()), refused) {
        Ok(()) => {
            request.extensions_mut().insert(noted.clone());
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    if let Some(standing) = noted.0.get().copied().or(standing) {
        tell(response.headers_mut(), standing);
    }
    response
}

fn tell(headers: &mut HeaderMap, standing: Standing) {
    let reset = standing.reset.as_secs() + u64::from(standing.reset.subsec_nanos() > 0);
    headers.insert("ratelimit-limit", HeaderValue::from(standing.limit));
    headers.insert("ratelimit-remaining", HeaderValue::from(standing.remaining));
    headers.insert("ratelimit-reset", HeaderValue::from(reset));
}
