//! Tokens that im-server takes for its own: it is started with the key that they are signed with.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;

/// How long a token is good for, in seconds
const LIFETIME: u64 = 24 * 60 * 60;

/// What tokens are signed with
///
/// To look at a token costs a server less than the hash of a password, and to sign one costs it nothing.
#[derive(Clone, Debug)]
pub(crate) struct TokenKey([u8; 32]);

impl TokenKey {
    pub(crate) fn random() -> Self {
        let mut key = [0; 32];
        for part in key.as_chunks_mut::<8>().0 {
            *part = RandomState::new().build_hasher().finish().to_ne_bytes();
        }
        Self(key)
    }

    pub(crate) const fn octets(&self) -> &[u8] {
        &self.0
    }

    /// A token of the user.
    pub(crate) fn sign(&self, user: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = json!({
            "sub": user, "iss": "im-server", "aud": "im-server", "iat": now, "exp": now + LIFETIME,
        });
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(json!({ "alg": "HS256", "typ": "JWT" })), part(claims));
        // A key of any length does.
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).map(|mac| mac.chain_update(&signed));
        let mac = mac.map(|mac| mac.finalize().into_bytes()).unwrap_or_default();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_the_user_and_is_signed() {
        let key = TokenKey([7; 32]);
        let token = key.sign("person0");
        let parts: Vec<&str> = token.split('.').collect();
        let claims = URL_SAFE_NO_PAD.decode(parts[1]).expect("base64");
        let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
        assert_eq!((&claims["sub"], &claims["aud"]), (&json!("person0"), &json!("im-server")));
        let mac = Hmac::<Sha256>::new_from_slice(key.octets()).expect("a key");
        let signature = URL_SAFE_NO_PAD.decode(parts[2]).expect("base64");
        let signed = mac.chain_update(format!("{}.{}", parts[0], parts[1]));
        signed.verify_slice(&signature).expect("signed");
        assert_ne!(TokenKey::random().octets(), TokenKey::random().octets());
    }
}
