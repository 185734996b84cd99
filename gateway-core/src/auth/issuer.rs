use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Header, Validation, decode};
use serde::Deserialize;
use serde_json::Value;

use super::jwt::{MAX_TOKEN_OCTETS, head, is_symmetric, looks_like_a_token};
use super::key_set::KeySet;
#[cfg(feature = "webhooks")]
use super::remote_keys::RemoteKeys;
use super::{AuthError, Authenticator, Credentials, Principal};
use crate::clock::Clock;
use crate::names::UserName;

/// How far the clock of an issuer may be ahead of ours
const AHEAD: Duration = Duration::from_secs(60);

/// Where the keys of an issuer come from: a [`KeySet`], or [`RemoteKeys`]
#[derive(Clone, Debug)]
pub struct IssuerKeys(Source);

#[derive(Clone, Debug)]
enum Source {
    Fixed(Arc<KeySet>),
    #[cfg(feature = "webhooks")]
    Remote(RemoteKeys),
}

impl From<KeySet> for IssuerKeys {
    fn from(keys: KeySet) -> Self {
        Self(Source::Fixed(Arc::new(keys)))
    }
}

#[cfg(feature = "webhooks")]
impl From<RemoteKeys> for IssuerKeys {
    fn from(keys: RemoteKeys) -> Self {
        Self(Source::Remote(keys))
    }
}

impl IssuerKeys {
    /// A set that has a key for such a token, if there is one to be had.
    #[cfg_attr(
        not(feature = "webhooks"),
        allow(unused_variables, reason = "what is fixed is not looked for")
    )]
    async fn fitting(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> Result<Arc<KeySet>, AuthError> {
        match &self.0 {
            Source::Fixed(keys) => Ok(Arc::clone(keys)),
            #[cfg(feature = "webhooks")]
            Source::Remote(keys) => keys.fitting(algorithm, id).await,
        }
    }
}

/// Checks JSON Web Tokens that somebody else signs, such as an OpenID Connect provider, with its public keys
///
/// `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384` and `EdDSA` (Ed25519). A token must have `iss`,
/// `aud`, `exp` and the claim that names the user (`sub`, unless another is [set](Self::with_user_claim)); `nbf` is
/// obeyed, with a minute for clocks that differ. Only the issuer's own keys count: keys and addresses within the token
/// are not looked at. A `login` beside the token must name its user.
///
/// A token of another issuer, or one that is signed with a secret (`HS256`), is left to the next authenticator of a
/// chain. Cheap to clone.
#[derive(Clone, Debug)]
pub struct IssuerAuthenticator {
    keys: IssuerKeys,
    issuer: String,
    audience: String,
    user_claim: String,
    clock: Clock,
}

/// The only thing that is read of a token before it is checked
#[derive(Deserialize)]
struct Unchecked {
    iss: String,
}

impl IssuerAuthenticator {
    /// Tokens of `issuer` (the `iss` claim, to the letter) for `audience`, signed with one of `keys`
    pub fn new(
        keys: impl Into<IssuerKeys>,
        issuer: impl Into<String>,
        audience: impl Into<String>,
    ) -> Self {
        Self {
            keys: keys.into(),
            issuer: issuer.into(),
            audience: audience.into(),
            user_claim: "sub".to_owned(),
            clock: Clock::system(),
        }
    }

    /// Sets which claim names the user. Default: `sub`
    ///
    /// It must be one that the issuer gives to nobody else, ever.
    #[must_use]
    pub fn with_user_claim(mut self, claim: impl Into<String>) -> Self {
        self.user_claim = claim.into();
        self
    }

    /// Takes the time from `clock`
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Whether the token says that it is one of this issuer; what it says is not checked yet.
    fn is_ours(&self, token: &str) -> bool {
        let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let claims = claims.and_then(|claims| serde_json::from_slice::<Unchecked>(&claims).ok());
        claims.is_some_and(|claims| claims.iss == self.issuer)
    }

    fn checked(&self, token: &str, header: &Header, keys: &KeySet) -> Option<Principal> {
        let mut validation = Validation::new(header.alg);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        // Times are checked against our own clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let claims = keys
            .fitting(header.alg, header.kid.as_deref())
            .find_map(|key| decode::<Value>(token, &key.decoding, &validation).ok())?
            .claims;
        let now = self.clock.now_millis() / 1000;
        let time = |claim: &str| claims.get(claim).map(seconds);
        let expires = time("exp")??;
        let not_before = time("nbf").map_or(Some(0), |time| time)?;
        if expires <= now || now.saturating_add(AHEAD.as_secs()) < not_before {
            return None;
        }
        let user = UserName::new(claims.get(&self.user_claim)?.as_str()?).ok()?;
        Some(Principal::new(user).with_expires(expires.saturating_mul(1000)))
    }
}

/// A `NumericDate` (RFC 7519), which may have a fraction
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a time that is out of range becomes the nearest one"
)]
fn seconds(time: &Value) -> Option<u64> {
    time.as_u64().or_else(|| time.as_f64().filter(|time| *time >= 0.0).map(|time| time as u64))
}

#[async_trait]
impl Authenticator for IssuerAuthenticator {
    async fn authenticate(
        &self,
        credentials: &Credentials,
    ) -> Result<Option<Principal>, AuthError> {
        let token = credentials.secret.expose();
        if token.len() > MAX_TOKEN_OCTETS || !looks_like_a_token(token) || !self.is_ours(token) {
            return Ok(None);
        }
        let header = head(token)?;
        if is_symmetric(&header) {
            return Ok(None);
        }
        let keys = self.keys.fitting(header.alg, header.kid.as_deref()).await?;
        let principal = self.checked(token, &header, &keys).ok_or(AuthError::Failed)?;
        credentials.naming(principal).map(Some)
    }
}

#[cfg(test)]
mod tests;
