//! Keys of services: random, shown once, kept as a hash only.

use std::fmt::Write as _;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::auth::{AuthError, Secret};
use crate::clock::Clock;
use crate::names::UserName;
use crate::registry::{Record, RecordKind, Registry};
use crate::store::StoreError;

/// What every key starts with, so that it is told from a token, and found by those who look for keys where none belong
const PREFIX: &str = "imk_";

/// The random part of a key, in octets
const SECRET: usize = 32;

/// How much later a use has to be to be noted anew, in milliseconds: a key in use is not written at each call
const USE_STEP: u64 = 60_000;

/// The longest label of a key, in characters
pub const MAX_LABEL_CHARS: usize = 128;

/// What a key is good for
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "rest", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub enum Scope {
    /// Look: conversations, history, groups, users
    Read,
    /// Send messages
    Send,
    /// Make and change groups
    Groups,
    /// Make users
    Users,
    /// Do all that the other scopes allow in the name of any user
    As,
    /// Make and change webhooks
    Webhooks,
    /// See who is connected and what is consumed, end sessions, drain the node
    Operate,
    /// Everything, keys included; it does not include `As`
    Admin,
}

impl Scope {
    /// The word for it
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Send => "send",
            Self::Groups => "groups",
            Self::Users => "users",
            Self::As => "as",
            Self::Webhooks => "webhooks",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }

    /// Whether it takes an administrator, rather than any user
    pub(crate) const fn is_administration(self) -> bool {
        matches!(self, Self::Users | Self::Webhooks | Self::Operate | Self::Admin)
    }
}

/// A text that names no [`Scope`]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such scope")]
pub struct UnknownScope(());

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        use Scope::{Admin, As, Groups, Operate, Read, Send, Users, Webhooks};
        [Read, Send, Groups, Users, As, Webhooks, Operate, Admin]
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or(UnknownScope(()))
    }
}

/// A key that is to be made
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewApiKey {
    /// The user that the service is
    pub service: UserName,
    /// What people call the key
    pub label: String,
    /// What it is good for
    pub scopes: Vec<Scope>,
    /// When it ends, in milliseconds since 1970, UTC; `None` for never
    pub expires: Option<u64>,
    /// The caller's key for the making: another making with the same service and key makes nothing
    pub idempotency_key: Option<String>,
}

impl NewApiKey {
    /// A key without end
    #[must_use]
    pub const fn new(service: UserName, scopes: Vec<Scope>) -> Self {
        Self { service, label: String::new(), scopes, expires: None, idempotency_key: None }
    }
}

/// A key, without its secret
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApiKey {
    /// Its name
    pub id: String,
    /// The user that the service is
    pub service: UserName,
    /// What people call it
    pub label: String,
    /// What it is good for
    pub scopes: Vec<Scope>,
    /// When it was made, in milliseconds since 1970, UTC
    pub created: u64,
    /// When it ends, in milliseconds since 1970, UTC; `None` for never
    pub expires: Option<u64>,
    /// When it was last used, to the minute, in milliseconds since 1970, UTC
    pub last_used: Option<u64>,
}

impl ApiKey {
    /// Whether it is good for this
    #[must_use]
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || scope != Scope::As && self.scopes.contains(&Scope::Admin)
    }
}

/// What is kept of a key
#[derive(Serialize, Deserialize)]
struct Kept {
    service: UserName,
    label: String,
    scopes: Vec<Scope>,
    created: u64,
    expires: Option<u64>,
    last_used: Option<u64>,
    /// Of the secret. It is random and long: nobody finds it by trying, so a fast hash does.
    sha256: String,
}

impl Kept {
    fn key(&self, id: &str) -> ApiKey {
        ApiKey {
            id: id.to_owned(),
            service: self.service.clone(),
            label: self.label.clone(),
            scopes: self.scopes.clone(),
            created: self.created,
            expires: self.expires,
            last_used: self.last_used,
        }
    }

    fn read(record: &Record) -> Result<Self, StoreError> {
        serde_json::from_str(&record.content)
            .map_err(|error| StoreError::Unusable(format!("a key is unreadable: {error}")))
    }

    fn record(&self, id: &str) -> Result<Record, StoreError> {
        let content = serde_json::to_string(self)
            .map_err(|error| StoreError::Unusable(format!("a key cannot be written: {error}")))?;
        Ok(Record::new(id, content))
    }
}

/// The keys of all services
///
/// Cheap to clone. All calls are cancel safe: one that is dropped may or may not have happened.
#[derive(Clone, Debug)]
pub struct ApiKeys {
    registry: Arc<dyn Registry>,
    clock: Clock,
}

impl ApiKeys {
    /// The keys that are kept in `registry`
    #[must_use]
    pub fn new(registry: Arc<dyn Registry>, clock: Clock) -> Self {
        Self { registry, clock }
    }

    /// Makes a key; gives the text of it, which nobody can tell again; `None` where one was made with the same
    /// idempotency key
    ///
    /// # Errors
    ///
    /// What the store meets.
    pub async fn create(&self, new: NewApiKey) -> Result<Option<(ApiKey, Secret)>, StoreError> {
        let mut secret = [0; SECRET];
        getrandom::fill(&mut secret)
            .map_err(|error| StoreError::Unavailable(format!("no randomness: {error}")))?;
        let secret = URL_SAFE_NO_PAD.encode(secret);
        let id = record_id(new.service.as_str(), new.idempotency_key.as_deref());
        let kept = Kept {
            service: new.service,
            label: new.label,
            scopes: new.scopes,
            created: self.clock.now_millis(),
            expires: new.expires,
            last_used: None,
            sha256: hash(&secret),
        };
        if !self.registry.insert(RecordKind::Key, &kept.record(&id)?).await? {
            return Ok(None);
        }
        Ok(Some((kept.key(&id), Secret::new(format!("{PREFIX}{id}_{secret}")))))
    }

    /// Whether the key that has the idempotency key of `new` was made as `new` would be.
    pub(crate) async fn is_alike(&self, new: &NewApiKey) -> Result<bool, StoreError> {
        let id = record_id(new.service.as_str(), new.idempotency_key.as_deref());
        let Some(record) = self.registry.get(RecordKind::Key, &id).await? else { return Ok(false) };
        let kept = Kept::read(&record)?;
        let alike = (&kept.label, &kept.scopes, kept.expires);
        Ok(alike == (&new.label, &new.scopes, new.expires))
    }

    /// The keys in the order of their ids, at most `limit` of those behind the key named `after`
    ///
    /// # Errors
    ///
    /// What the store meets.
    pub async fn list(&self, after: &str, limit: usize) -> Result<Vec<ApiKey>, StoreError> {
        let records = self.registry.list(RecordKind::Key, after, limit).await?;
        records.iter().map(|record| Ok(Kept::read(record)?.key(&record.id))).collect()
    }

    /// Makes a key good for nothing from now on; `false` where there is none of this name
    ///
    /// # Errors
    ///
    /// What the store meets.
    pub async fn revoke(&self, id: &str) -> Result<bool, StoreError> {
        if Uuid::try_parse(id).is_err() {
            return Ok(false);
        }
        self.registry.remove(RecordKind::Key, id).await
    }

    /// Whether a text may be a key: no other credentials look like this
    #[must_use]
    pub fn is_key(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// The key that `text` is
    ///
    /// # Errors
    ///
    /// [`AuthError::Failed`] for every text that is no valid key, [`AuthError::Unavailable`] where the store does
    /// not answer.
    pub async fn check(&self, text: &str) -> Result<ApiKey, AuthError> {
        let unavailable = |error: StoreError| AuthError::Unavailable { cause: error.to_string() };
        let (id, secret) = text
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('_'))
            .ok_or(AuthError::Failed)?;
        if Uuid::try_parse(id).is_err() {
            return Err(AuthError::Failed);
        }
        let found = self.registry.get(RecordKind::Key, id).await.map_err(unavailable)?;
        let record = found.ok_or(AuthError::Failed)?;
        let mut kept = Kept::read(&record).map_err(unavailable)?;
        let now = self.clock.now_millis();
        // Of hashes, whose octets an attacker cannot choose: the time of a comparison tells nothing.
        if kept.sha256 != hash(secret) || kept.expires.is_some_and(|end| end <= now) {
            return Err(AuthError::Failed);
        }
        if kept.last_used.is_none_or(|last| last.saturating_add(USE_STEP) <= now) {
            kept.last_used = Some(now);
            let record = kept.record(id).map_err(unavailable)?;
            if let Err(error) = self.registry.replace(RecordKind::Key, &record).await {
                tracing::warn!(%error, "the use of a key could not be noted");
            }
        }
        Ok(kept.key(id))
    }
}

pub(crate) fn hash(secret: &str) -> String {
    let mut hex = String::with_capacity(64);
    for octet in Sha256::digest(secret.as_bytes()) {
        // Writing to a String does not fail.
        let _ = write!(hex, "{octet:02x}");
    }
    hex
}

/// The name of a new record: a repeat with the same idempotency key finds the name taken; without one, in the
/// order of making
pub(crate) fn record_id(maker: &str, idempotency_key: Option<&str>) -> String {
    match idempotency_key {
        Some(key) => hash(&format!("{maker}/{key}")).chars().take(32).collect(),
        None => Uuid::now_v7().simple().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::registry::MemoryRegistry;

    fn new(scopes: &[Scope]) -> NewApiKey {
        NewApiKey::new(UserName::new("billing").unwrap(), scopes.to_vec())
    }

    #[tokio::test]
    async fn a_key_is_good_until_it_is_revoked_or_ends() {
        let clock = Clock::manual(1_000_000);
        let keys = ApiKeys::new(Arc::new(MemoryRegistry::new()), clock.clone());
        let (made, secret) = keys.create(new(&[Scope::Send])).await.unwrap().unwrap();
        assert!(ApiKeys::is_key(secret.expose()));
        let found = keys.check(secret.expose()).await.unwrap();
        assert_eq!((&found.id, found.service.as_str()), (&made.id, "billing"));
        assert_eq!(found.last_used, Some(1_000_000));

        // A key in use is noted once a minute.
        clock.advance(Duration::from_secs(59));
        assert_eq!(keys.check(secret.expose()).await.unwrap().last_used, Some(1_000_000));
        clock.advance(Duration::from_secs(1));
        assert_eq!(keys.check(secret.expose()).await.unwrap().last_used, Some(1_060_000));
        assert_eq!(keys.list("", 9).await.unwrap().len(), 1);

        assert!(keys.revoke(&made.id).await.unwrap());
        assert_eq!(keys.check(secret.expose()).await, Err(AuthError::Failed));
        assert!(!keys.revoke(&made.id).await.unwrap());

        let mut ending = new(&[Scope::Send]);
        ending.expires = Some(clock.now_millis() + 1);
        let (_, secret) = keys.create(ending).await.unwrap().unwrap();
        assert!(keys.check(secret.expose()).await.is_ok());
        clock.advance(Duration::from_millis(1));
        assert_eq!(keys.check(secret.expose()).await, Err(AuthError::Failed));
    }

    #[tokio::test]
    async fn what_is_no_key_fails_with_the_one_text_and_nothing_of_a_key_is_kept_but_a_hash() {
        let registry = Arc::new(MemoryRegistry::new());
        let keys = ApiKeys::new(registry.clone(), Clock::system());
        let (made, secret) = keys.create(new(&[])).await.unwrap().unwrap();
        let other = keys.create(new(&[])).await.unwrap().unwrap().1;
        let random = secret.expose().rsplit_once('_').unwrap().1;
        let swapped = format!("{PREFIX}{}_{}", made.id, other.expose().rsplit_once('_').unwrap().1);
        let cut = &secret.expose()[..secret.expose().len() - 1];
        let longer = format!("{}A", secret.expose());
        for text in ["", "imk_", "imk__", "imk_x_y", random, &swapped, cut, &longer] {
            assert_eq!(keys.check(text).await, Err(AuthError::Failed), "{text}");
        }
        let record = registry.get(RecordKind::Key, &made.id).await.unwrap().unwrap();
        assert!(!record.content.contains(random), "{}", record.content);
        assert!(!format!("{secret:?}").contains(random));
    }

    #[test]
    fn an_administrator_may_everything_but_act_as_another() {
        let key = |scopes: &[Scope]| {
            let new = new(scopes);
            ApiKey {
                id: String::new(),
                service: new.service,
                label: new.label,
                scopes: new.scopes,
                created: 0,
                expires: None,
                last_used: None,
            }
        };
        assert!(key(&[Scope::Admin]).allows(Scope::Webhooks));
        assert!(!key(&[Scope::Admin]).allows(Scope::As));
        assert!(!key(&[Scope::Send]).allows(Scope::Read));
        assert!(key(&[Scope::As, Scope::Send]).allows(Scope::As));
    }
}
