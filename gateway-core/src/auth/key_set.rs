use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

/// The most keys that a set may have
const MAX_KEYS: usize = 64;

/// The shortest modulus of RSA that is believed, in octets: 2048 bits
const MIN_RSA_OCTETS: usize = 256;

/// Public keys that tokens are checked with: a JSON Web Key Set (RFC 7517)
///
/// Each key is bound to one algorithm, that of its `alg`; without one, to the one that its kind is usually used with
/// (`RS256` for RSA, `ES256` for P-256, `ES384` for P-384, `EdDSA` for Ed25519). A token that names another algorithm is
/// not checked with it. Keys that are not for signatures, or that are not understood, are left out, as the RFC says; so
/// are secrets (`oct`), which do not belong into a public set, and RSA below 2048 bits.
#[derive(Clone)]
pub struct KeySet(Vec<PublicKey>);

#[derive(Clone)]
pub(super) struct PublicKey {
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

/// Why a text is no set of keys
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKeySet {
    /// It is not `{"keys": [...]}`
    #[error("this is no JSON Web Key Set: {0}")]
    Malformed(String),
    /// There are more than 64 keys
    #[error("a set has at most {MAX_KEYS} keys")]
    TooMany,
    /// None of its keys can check a signature
    #[error("none of the keys is one for RS, PS, ES256, ES384 or EdDSA signatures")]
    NoKeys,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

impl KeySet {
    /// Reads the JSON of a set
    ///
    /// # Errors
    ///
    /// [`InvalidKeySet`].
    pub fn parse(json: &[u8]) -> Result<Self, InvalidKeySet> {
        let document: Document = serde_json::from_slice(json)
            .map_err(|error| InvalidKeySet::Malformed(error.to_string()))?;
        if document.keys.len() > MAX_KEYS {
            return Err(InvalidKeySet::TooMany);
        }
        let known = document.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
        let keys: Vec<_> = known.filter_map(|key| PublicKey::of(&key)).collect();
        if keys.is_empty() { Err(InvalidKeySet::NoKeys) } else { Ok(Self(keys)) }
    }

    /// The keys that a token with this head may be signed with. A key without an id, and a token without one, fit all.
    pub(super) fn fitting<'a>(
        &'a self,
        algorithm: Algorithm,
        id: Option<&'a str>,
    ) -> impl Iterator<Item = &'a PublicKey> {
        self.0.iter().filter(move |key| {
            key.algorithm == algorithm
                && (id.is_none() || key.id.is_none() || key.id.as_deref() == id)
        })
    }
}

impl PublicKey {
    fn of(key: &Jwk) -> Option<Self> {
        if key.usage.as_deref().is_some_and(|usage| usage != "sig")
            || key.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify"))
        {
            return None;
        }
        let (usual, others): (_, &[Algorithm]) = match (key.kty.as_str(), key.crv.as_deref()) {
            ("RSA", _) => (
                Algorithm::RS256,
                &[
                    Algorithm::RS384,
                    Algorithm::RS512,
                    Algorithm::PS256,
                    Algorithm::PS384,
                    Algorithm::PS512,
                ],
            ),
            ("EC", Some("P-256")) => (Algorithm::ES256, &[]),
            ("EC", Some("P-384")) => (Algorithm::ES384, &[]),
            ("OKP", Some("Ed25519")) => (Algorithm::EdDSA, &[]),
            _ => return None,
        };
        let algorithm = match &key.alg {
            None => usual,
            Some(named) => {
                let named = named.parse().ok()?;
                Some(named).filter(|named| *named == usual || others.contains(named))?
            }
        };
        let length = |part: &str| URL_SAFE_NO_PAD.decode(part).map_or(0, |octets| octets.len());
        let decoding = match (key.kty.as_str(), algorithm) {
            ("RSA", _) if length(&key.n) < MIN_RSA_OCTETS => return None,
            ("RSA", _) => DecodingKey::from_rsa_components(&key.n, &key.e),
            ("EC", _) => DecodingKey::from_ec_components(&key.x, &key.y),
            _ => DecodingKey::from_ed_components(&key.x),
        };
        Some(Self { id: key.kid.clone(), algorithm, decoding: decoding.ok()? })
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| (&key.id, key.algorithm))).finish()
    }
}
