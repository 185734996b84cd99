use std::fmt;

use axum::http::HeaderMap;
use serde::Serialize;

use super::{HttpAnswer, HttpClient, HttpError, OutgoingUrl};
use crate::auth::Secret;
use crate::clock::Clock;
use crate::store::MessageId;
use crate::webhooks::sign;

/// An endpoint that is asked or told something in JSON; signed as webhooks are, if there is a secret
#[derive(Clone)]
pub(crate) struct Endpoint {
    client: HttpClient,
    url: OutgoingUrl,
    secret: Option<Secret>,
}

/// A secret that nothing can be signed with
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret is whsec_ and base64")]
#[non_exhaustive]
pub struct InvalidSecret;

impl Endpoint {
    pub(crate) const fn new(client: HttpClient, url: OutgoingUrl) -> Self {
        Self { client, url, secret: None }
    }

    pub(crate) fn with_secret(mut self, secret: Secret) -> Result<Self, InvalidSecret> {
        if !sign::is_secret(secret.expose()) {
            return Err(InvalidSecret);
        }
        self.secret = Some(secret);
        Ok(self)
    }

    /// One call. Cancel safe: dropped, it may have been heard.
    pub(crate) async fn post(&self, what: &impl Serialize) -> Result<HttpAnswer, HttpError> {
        let json =
            serde_json::to_vec(what).map_err(|error| HttpError::Broken(error.to_string()))?;
        let headers = match &self.secret {
            Some(secret) => {
                let (id, seconds) = (MessageId::generate(), Clock::system().now_millis() / 1000);
                sign::headers(secret.expose(), &id.to_string(), seconds, &json)
                    .ok_or_else(|| HttpError::Broken(InvalidSecret.to_string()))?
            }
            None => HeaderMap::new(),
        };
        self.client.post(&self.url, headers, json.into()).await
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("url", &self.url).finish_non_exhaustive()
    }
}
