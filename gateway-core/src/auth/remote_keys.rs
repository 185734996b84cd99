use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use jsonwebtoken::Algorithm;

use super::AuthError;
use super::key_set::KeySet;
use crate::clock::Clock;
use crate::http_client::{HttpClient, OutgoingUrl};
use crate::lock::lock;

/// How old keys may get before they are fetched anew
pub(super) const MAX_AGE: Duration = Duration::from_secs(15 * 60);

/// How often they are fetched at most, whoever wants what
pub(super) const INTERVAL: Duration = Duration::from_secs(30);

/// The keys of an issuer at a URL (`jwks_uri`), fetched when they are needed, and kept
///
/// They are fetched anew every quarter of an hour while tokens are checked, and when a token names a key that is not
/// among them: so an issuer may change its keys at any time. However many such tokens come, there is one fetch in thirty
/// seconds at most, and never two at the same time. While the URL does not answer, or with something else, the former
/// keys stay good. Cheap to clone; clones share the keys.
#[derive(Clone)]
pub struct RemoteKeys(Arc<Inner>);

struct Inner {
    client: HttpClient,
    url: OutgoingUrl,
    clock: Clock,
    held: Mutex<Option<Held>>,
    /// Held by whoever fetches
    tried: tokio::sync::Mutex<Option<Attempt>>,
}

#[derive(Clone)]
struct Held {
    keys: Arc<KeySet>,
    at: u64,
}

#[derive(Clone, Copy)]
struct Attempt {
    at: u64,
    worked: bool,
}

impl RemoteKeys {
    /// The keys at `url`; nothing is fetched yet
    ///
    /// Who controls the answer controls who is let in: use `https`.
    #[must_use]
    pub fn new(client: HttpClient, url: OutgoingUrl) -> Self {
        Self::with_clock(client, url, Clock::system())
    }

    /// The same, with the time of `clock`
    #[must_use]
    pub fn with_clock(client: HttpClient, url: OutgoingUrl, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            client,
            url,
            clock,
            held: Mutex::default(),
            tried: tokio::sync::Mutex::default(),
        }))
    }

    /// The keys, after a fetch if none of those that are held fits.
    pub(super) async fn fitting(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> Result<Arc<KeySet>, AuthError> {
        let fits = |keys: &KeySet| keys.fitting(algorithm, id).next().is_some();
        let held = || lock(&self.0.held).clone();
        if let Some(Held { keys, at }) = held()
            && fits(&keys)
        {
            if self.0.clock.now_millis().saturating_sub(at) >= millis(MAX_AGE) && self.0.is_due() {
                // Nobody waits for that.
                drop(self.fetch_apart());
            }
            return Ok(keys);
        }
        let worked = self.fetch_apart().await.unwrap_or(false);
        match held() {
            Some(Held { keys, .. }) if worked || fits(&keys) => Ok(keys),
            _ => Err(AuthError::Unavailable {
                cause: format!("the keys at {:?} cannot be fetched", self.0.url),
            }),
        }
    }

    /// In a task of its own: a client that goes away does not end it.
    fn fetch_apart(&self) -> tokio::task::JoinHandle<bool> {
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move { inner.fetch().await })
    }
}

impl Attempt {
    /// A clock that was set back is no reason to wait longer.
    fn is_recent(self, now: u64) -> bool {
        (self.at..self.at.saturating_add(millis(INTERVAL))).contains(&now)
    }
}

impl Inner {
    /// Whether nobody fetches, or has just tried.
    fn is_due(&self) -> bool {
        let now = self.clock.now_millis();
        self.tried.try_lock().is_ok_and(|tried| !tried.is_some_and(|last| last.is_recent(now)))
    }

    /// Fetches the keys unless that was just tried; whether the last attempt worked.
    async fn fetch(&self) -> bool {
        let mut tried = self.tried.lock().await;
        let now = self.clock.now_millis();
        if let Some(last) = tried.filter(|last| last.is_recent(now)) {
            return last.worked;
        }
        let keys = self.get().await;
        *tried = Some(Attempt { at: now, worked: keys.is_ok() });
        match keys {
            Ok(keys) => {
                *lock(&self.held) = Some(Held { keys: Arc::new(keys), at: now });
                true
            }
            Err(error) => {
                tracing::warn!(url = ?self.url, error, "the keys of an issuer cannot be fetched");
                false
            }
        }
    }

    async fn get(&self) -> Result<KeySet, String> {
        let answer = self.client.get(&self.url).await.map_err(|error| error.to_string())?;
        if answer.status != StatusCode::OK {
            return Err(answer.status.to_string());
        }
        KeySet::parse(&answer.body).map_err(|error| error.to_string())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKeys").field("url", &self.0.url).finish_non_exhaustive()
    }
}
