use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
};
use serde::{Deserialize, Serialize};

use super::{AuthError, Authenticator, Credentials, Principal, Secret};
use crate::clock::Clock;
use crate::names::UserName;

/// The shortest key that HMAC-SHA-256 is as strong as it can be with (RFC 7518 section 3.2)
const MIN_KEY_OCTETS: usize = 32;

/// A longer text is no token: it would cost memory to look
pub(super) const MAX_TOKEN_OCTETS: usize = 8 * 1024;

/// A key that tokens are signed with
///
/// `Debug` hides it.
#[derive(Clone)]
pub struct TokenKey {
    octets: Vec<u8>,
    id: Option<String>,
}

impl TokenKey {
    /// A key of at least 32 octets
    ///
    /// # Errors
    ///
    /// [`ShortTokenKey`].
    pub fn new(octets: impl Into<Vec<u8>>) -> Result<Self, ShortTokenKey> {
        let octets = octets.into();
        if octets.len() < MIN_KEY_OCTETS {
            Err(ShortTokenKey)
        } else {
            Ok(Self { octets, id: None })
        }
    }

    /// Sets the `kid` of the tokens it signs; tokens with another `kid` are not checked with it
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The key in the file at `path`; a new random one is put there if the file is missing
    ///
    /// The file is readable by its owner only. Blocks; meant for start-up.
    ///
    /// # Errors
    ///
    /// Errors of the file system and of the source of randomness; `InvalidData` where the file has fewer than 32
    /// octets.
    pub fn load_or_create(path: &Path) -> io::Result<Self> {
        match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(path)?,
            other => drop(other?),
        }
        let mut octets = Vec::new();
        File::open(path)?.take(64 * 1024).read_to_end(&mut octets)?;
        Self::new(octets).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// Puts a whole key there or none: a crash in between leaves no half of it
fn create(path: &Path) -> io::Result<()> {
    let mut key = [0; MIN_KEY_OCTETS];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&name)?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(&name, path)
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The key is too short to be safe
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key for tokens has at least {MIN_KEY_OCTETS} octets")]
#[non_exhaustive]
pub struct ShortTokenKey;

/// A token that was just made
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IssuedToken {
    /// The token
    pub token: Secret,
    /// When it ends, in milliseconds since 1970, UTC
    pub expires: u64,
}

/// Makes and checks JSON Web Tokens, signed with HMAC-SHA-256 (`HS256`) and nothing else
///
/// A token must have `sub` (the user), `iss`, `aud` and `exp`; `nbf` is obeyed. Credentials are taken for a token if they
/// look like one; a `login` beside it must name the token's user. A token that is signed with no secret but with a private
/// key is left to the next authenticator of a chain, such as [`IssuerAuthenticator`](crate::IssuerAuthenticator). Cheap to
/// clone.
#[derive(Clone)]
pub struct JwtAuthenticator(Arc<Inner>);

struct Inner {
    /// The first one signs
    keys: Vec<Key>,
    issuer: String,
    audience: String,
    validation: Validation,
    lifetime: Duration,
    clock: Clock,
}

struct Key {
    id: Option<String>,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

/// What we say in a token
#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iss: &'a str,
    aud: &'a str,
    exp: u64,
    iat: u64,
}

/// What we look at in a token ourselves; the rest is checked by [`Validation`]
#[derive(Deserialize)]
struct Checked {
    sub: String,
    exp: u64,
    #[serde(default)]
    nbf: Option<u64>,
}

/// How a [`JwtAuthenticator`] is made
#[derive(Clone, Debug)]
pub struct JwtOptions {
    keys: Vec<TokenKey>,
    issuer: String,
    audience: String,
    lifetime: Duration,
    clock: Clock,
}

impl JwtOptions {
    /// Tokens signed with `key`, from `issuer`, for `audience`; they end after a week
    pub fn new(key: TokenKey, issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            keys: vec![key],
            issuer: issuer.into(),
            audience: audience.into(),
            lifetime: Duration::from_secs(7 * 24 * 60 * 60),
            clock: Clock::system(),
        }
    }

    /// Adds a key that tokens are checked with and not signed: the former one, while its tokens live
    #[must_use]
    pub fn with_former_key(mut self, key: TokenKey) -> Self {
        self.keys.push(key);
        self
    }

    /// Sets how long a token is good for
    #[must_use]
    pub const fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Takes the time from `clock`
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Makes the authenticator
    #[must_use]
    pub fn build(self) -> JwtAuthenticator {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        // Times are checked against our own clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let keys = self.keys.into_iter().map(|key| Key {
            encoding: EncodingKey::from_secret(&key.octets),
            decoding: DecodingKey::from_secret(&key.octets),
            id: key.id,
        });
        JwtAuthenticator(Arc::new(Inner {
            keys: keys.collect(),
            issuer: self.issuer,
            audience: self.audience,
            validation,
            lifetime: self.lifetime,
            clock: self.clock,
        }))
    }
}

impl JwtAuthenticator {
    /// Makes a token for `user`
    ///
    /// # Errors
    ///
    /// [`AuthError::Unavailable`] where it could not be signed.
    pub fn issue(&self, user: &UserName) -> Result<IssuedToken, AuthError> {
        let unavailable = |cause| AuthError::Unavailable { cause };
        let inner = &*self.0;
        let now = inner.clock.now_millis() / 1000;
        let claims = Claims {
            sub: user.as_str(),
            iss: &inner.issuer,
            aud: &inner.audience,
            exp: now.saturating_add(inner.lifetime.as_secs()),
            iat: now,
        };
        let key = inner.keys.first().ok_or_else(|| unavailable("no key".to_owned()))?;
        let mut header = Header::new(Algorithm::HS256);
        header.kid.clone_from(&key.id);
        let token = encode(&header, &claims, &key.encoding);
        let token = token.map_err(|error| unavailable(error.to_string()))?;
        Ok(IssuedToken { token: Secret::new(token), expires: claims.exp.saturating_mul(1000) })
    }

    /// Tells whose token this is
    ///
    /// # Errors
    ///
    /// [`AuthError::Failed`], whatever is wrong with it.
    pub fn verify(&self, token: &Secret) -> Result<Principal, AuthError> {
        let token = token.expose();
        self.check(token, &head(token)?)
    }

    fn check(&self, token: &str, header: &Header) -> Result<Principal, AuthError> {
        let inner = &*self.0;
        let fits = |key: &&Key| header.kid.is_none() || key.id.is_none() || header.kid == key.id;
        let checked = inner
            .keys
            .iter()
            .filter(fits)
            .find_map(|key| decode::<Checked>(token, &key.decoding, &inner.validation).ok())
            .ok_or(AuthError::Failed)?
            .claims;
        let now = inner.clock.now_millis() / 1000;
        if checked.exp <= now || checked.nbf.is_some_and(|nbf| now < nbf) {
            return Err(AuthError::Failed);
        }
        let user = UserName::new(&checked.sub).map_err(|_| AuthError::Failed)?;
        Ok(Principal::new(user).with_expires(checked.exp.saturating_mul(1000)))
    }
}

impl fmt::Debug for JwtAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtAuthenticator")
            .field("issuer", &self.0.issuer)
            .field("audience", &self.0.audience)
            .finish_non_exhaustive()
    }
}

/// Whether a text has the form of a token: three parts, the first a JSON object in base64
pub(super) fn looks_like_a_token(text: &str) -> bool {
    text.starts_with("ey") && text.bytes().filter(|octet| *octet == b'.').count() == 2
}

/// The head of a token, as it says it; one that cannot be read names no algorithm, or `none`
pub(super) fn head(token: &str) -> Result<Header, AuthError> {
    if token.len() > MAX_TOKEN_OCTETS {
        return Err(AuthError::Failed);
    }
    decode_header(token).map_err(|_| AuthError::Failed)
}

/// Whether a token is signed with a secret that both sides have
pub(super) const fn is_symmetric(header: &Header) -> bool {
    matches!(header.alg, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

#[async_trait]
impl Authenticator for JwtAuthenticator {
    async fn authenticate(
        &self,
        credentials: &Credentials,
    ) -> Result<Option<Principal>, AuthError> {
        let token = credentials.secret.expose();
        if !looks_like_a_token(token) {
            return Ok(None);
        }
        let header = head(token)?;
        if !is_symmetric(&header) {
            return Ok(None);
        }
        credentials.naming(self.check(token, &header)?).map(Some)
    }
}
