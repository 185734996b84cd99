//! A cookie that signs in: REST, and the WebSocket.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use stomp_ws::OriginPolicy;

use super::problem::Problem;
use crate::auth::Credentials;

/// A cookie whose value is a token, for pages that keep it out of reach of their scripts
///
/// A browser sends a cookie whatever page makes it do so. So whatever is signed in by one must come from a page of the
/// origins that are named here: a WebSocket from elsewhere is refused with 403, and so is a call of REST; one that changes
/// anything must say where it comes from.
#[derive(Clone, Debug)]
pub struct SessionCookie {
    name: String,
    origins: OriginPolicy,
}

/// Why there is no such cookie
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCookie {
    /// Names have 1 to 64 letters, digits and `_ - .`
    #[error("the name of a cookie has 1 to 64 letters, digits and _ - .")]
    Name,
    /// Every page on the web could act as whoever is signed in
    #[error("a cookie must not sign in pages of any origin: list the origins")]
    AnyOrigin,
}

impl SessionCookie {
    /// The cookie `name`, for pages of `origins`
    ///
    /// With a name that begins with `__Host-` browsers let no other host of the same domain set it.
    ///
    /// # Errors
    ///
    /// [`InvalidCookie`].
    pub fn new(name: impl Into<String>, origins: OriginPolicy) -> Result<Self, InvalidCookie> {
        let name = name.into();
        let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"_-.".contains(&octet);
        if !(1..=64).contains(&name.len()) || !name.bytes().all(allowed) {
            return Err(InvalidCookie::Name);
        }
        if origins.allows_any() {
            return Err(InvalidCookie::AnyOrigin);
        }
        Ok(Self { name, origins })
    }

    pub(super) fn origins(&self) -> &OriginPolicy {
        &self.origins
    }

    /// The token of the cookie. Two cookies of the name are none: one of them may be somebody else's.
    pub(super) fn read(&self, headers: &HeaderMap) -> Option<Credentials> {
        let lines = headers.get_all(header::COOKIE).iter();
        let pairs = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
        let mut values = pairs
            .filter_map(|pair| pair.trim_matches(' ').split_once('='))
            .filter_map(|(name, value)| (name == self.name).then_some(value));
        match (values.next(), values.next()) {
            (Some(value), None) if !value.is_empty() => Some(Credentials::bearer(value)),
            _ => None,
        }
    }

    /// Whether a call that the cookie signs in comes from a page that may make it.
    pub(super) fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        let origins = self.origins.clone().require_origin(!method.is_safe());
        let refused = |why: String| Problem::new(StatusCode::FORBIDDEN, why);
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let mut said = headers.get_all(header::ORIGIN).iter();
        let origin = match (said.next().map(HeaderValue::to_str), said.next()) {
            (None, _) => None,
            (Some(Ok(origin)), None) => Some(origin),
            _ => return Err(refused("the origin is not text, or there are several".to_owned())),
        };
        origins.check(origin, text(header::HOST)).map_err(|error| refused(error.to_string()))
    }

    /// What sets the cookie for so long; for no time, what takes it back.
    pub(super) fn set(&self, token: &str, lasts: Duration) -> Option<HeaderValue> {
        let (name, seconds) = (&self.name, lasts.as_secs());
        let text =
            format!("{name}={token}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=Strict");
        HeaderValue::try_from(text).ok()
    }
}
