//! Tokens that somebody else signs: every way in which one may be wrong, and keys that come and go.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
    RSA_PSS_SHA384, RSA_PSS_SHA512,
};
use serde_json::json;

use super::*;
use crate::auth::key_set::InvalidKeySet;
use crate::auth::{AuthenticatorChain, JwtOptions, TokenKey};

const NOW: u64 = 1_767_225_600_000;
const ISSUER: &str = "https://id.example";

fn base64(octets: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}

/// A private key that can sign.
enum Private {
    Rsa(RsaPair),
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
}

impl Private {
    fn rsa() -> Self {
        Self::Rsa(RsaPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn p256() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), "P-256")
    }

    fn p384() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(), "P-384")
    }

    fn ed() -> Self {
        Self::Ed(Ed25519KeyPair::generate().unwrap())
    }

    /// As it is published.
    fn public(&self, id: &str) -> Value {
        let mut jwk = match self {
            Self::Rsa(pair) => {
                let key = pair.public_key();
                let part = |part: &[u8]| base64(part);
                json!({"kty": "RSA",
                    "n": part(key.modulus().big_endian_without_leading_zero()),
                    "e": part(key.exponent().big_endian_without_leading_zero())})
            }
            Self::Ec(pair, curve) => {
                let point = pair.public_key().as_ref();
                let (x, y) = point[1..].split_at((point.len() - 1) / 2);
                json!({"kty": "EC", "crv": curve, "x": base64(x), "y": base64(y)})
            }
            Self::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64(pair.public_key())})
            }
        };
        jwk["kid"] = json!(id);
        jwk
    }

    /// A token with this head and these claims, whatever they say.
    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(pair) => {
                let padding: &dyn aws_lc_rs::signature::RsaEncoding =
                    match header["alg"].as_str().unwrap() {
                        "RS384" => &RSA_PKCS1_SHA384,
                        "RS512" => &RSA_PKCS1_SHA512,
                        "PS256" => &RSA_PSS_SHA256,
                        "PS384" => &RSA_PSS_SHA384,
                        "PS512" => &RSA_PSS_SHA512,
                        _ => &RSA_PKCS1_SHA256,
                    };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
            Self::Ec(pair, _) => pair.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", base64(signature))
    }
}

fn claims() -> Value {
    json!({"sub": "alice", "iss": ISSUER, "aud": ["chat", "mail"], "exp": NOW / 1000 + 60})
}

fn head(algorithm: &str, id: &str) -> Value {
    json!({"alg": algorithm, "kid": id, "typ": "JWT"})
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({"keys": keys}).to_string().as_bytes()).unwrap()
}

fn issuer(keys: impl Into<IssuerKeys>) -> IssuerAuthenticator {
    IssuerAuthenticator::new(keys, ISSUER, "chat").with_clock(Clock::manual(NOW))
}

async fn ask(by: &impl Authenticator, token: &str) -> Result<Option<String>, AuthError> {
    let found = by.authenticate(&Credentials::connect(None, token)).await?;
    Ok(found.map(|principal| principal.user.to_string()))
}

fn alice() -> Result<Option<String>, AuthError> {
    Ok(Some("alice".to_owned()))
}

#[tokio::test]
async fn each_algorithm_is_checked_with_its_key() {
    for (key, algorithms) in [
        (Private::rsa(), &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"][..]),
        (Private::p256(), &["ES256"]),
        (Private::p384(), &["ES384"]),
        (Private::ed(), &["EdDSA"]),
    ] {
        for algorithm in algorithms {
            let mut public = key.public("k");
            public["alg"] = json!(algorithm);
            let issuer = issuer(set(&[public]));
            let token = key.sign(&head(algorithm, "k"), &claims());
            let found = issuer.authenticate(&Credentials::connect(Some("alice"), &token)).await;
            let wanted = Principal::new(UserName::new("alice").unwrap()).with_expires(NOW + 60_000);
            assert_eq!(found, Ok(Some(wanted)), "{algorithm}");
            let other = Credentials::connect(Some("bob"), &token);
            assert_eq!(issuer.authenticate(&other).await, Err(AuthError::Failed));
            let (message, signature) = token.rsplit_once('.').unwrap();
            let forged = format!("{message}x.{signature}");
            assert_ne!(ask(&issuer, &forged).await, alice(), "{algorithm}: forged");
        }
    }
}

/// The confusion of algorithms: a public key taken for a secret, `none`, another padding, another key's algorithm.
#[tokio::test]
async fn a_key_is_good_for_its_own_algorithm_only() {
    let (rsa, ec, ed) = (Private::rsa(), Private::p256(), Private::ed());
    let issuer = issuer(set(&[rsa.public("rsa"), ec.public("ec"), ed.public("ed")]));
    for (key, algorithm, id) in [
        // The key of RSA says no `alg`: so it is one for RS256.
        (&rsa, "RS384", "rsa"),
        (&rsa, "PS256", "rsa"),
        (&rsa, "ES256", "rsa"),
        (&ec, "ES256", "rsa"),
        (&ec, "RS256", "rsa"),
        (&ec, "ES384", "ec"),
        (&ed, "EdDSA", "ec"),
        (&ed, "ES256", "ed"),
        (&ec, "ES256", "unknown"),
        (&ec, "ES512", "ec"),
        (&ec, "none", "ec"),
    ] {
        let token = key.sign(&head(algorithm, id), &claims());
        assert_eq!(ask(&issuer, &token).await, Err(AuthError::Failed), "{algorithm} {id}");
    }
    // What is published, used as a secret. It is nobody's here: the server's own tokens are signed so.
    for public in ["rsa", "ec", "ed"] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let mut header = Header::new(algorithm);
            header.kid = Some(public.to_owned());
            let secret = rsa.public("rsa")["n"].as_str().unwrap().to_owned();
            let secret = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
            let token = jsonwebtoken::encode(&header, &claims(), &secret).unwrap();
            assert_eq!(ask(&issuer, &token).await, Ok(None));
        }
    }
    // A token that brings its own key.
    let stranger = Private::p256();
    let mut header = head("ES256", "ec");
    header["jwk"] = stranger.public("ec");
    header["jku"] = json!("https://evil.example/keys");
    assert_eq!(ask(&issuer, &stranger.sign(&header, &claims())).await, Err(AuthError::Failed));
    let unsigned =
        format!("{}.{}.", base64(json!({"alg": "none"}).to_string()), base64(claims().to_string()));
    assert_eq!(ask(&issuer, &unsigned).await, Err(AuthError::Failed));
    assert_eq!(ask(&issuer, &ec.sign(&head("ES256", "ec"), &claims())).await, alice());
}

#[tokio::test]
async fn every_claim_counts() {
    let key = Private::ed();
    let issuer = issuer(set(&[key.public("k")]));
    let sign = |claims: &Value| key.sign(&head("EdDSA", "k"), claims);
    for (claim, value, wanted) in [
        ("aud", json!("chat"), alice()),
        ("aud", json!("other"), Err(AuthError::Failed)),
        ("aud", json!([]), Err(AuthError::Failed)),
        ("aud", Value::Null, Err(AuthError::Failed)),
        ("exp", json!(NOW / 1000), Err(AuthError::Failed)),
        ("exp", json!((NOW / 1000) as f64 + 1.5), alice()),
        ("exp", json!(-1), Err(AuthError::Failed)),
        ("exp", json!("never"), Err(AuthError::Failed)),
        ("exp", Value::Null, Err(AuthError::Failed)),
        ("nbf", json!(NOW / 1000 + 60), alice()),
        ("nbf", json!(NOW / 1000 + 61), Err(AuthError::Failed)),
        ("nbf", json!("soon"), Err(AuthError::Failed)),
        ("sub", json!("queue"), Err(AuthError::Failed)),
        ("sub", json!("a/b"), Err(AuthError::Failed)),
        ("sub", json!(7), Err(AuthError::Failed)),
        // Somebody else's token: the next one may look.
        ("iss", json!("https://id.example/"), Ok(None)),
        ("iss", json!([ISSUER]), Ok(None)),
        ("iss", Value::Null, Ok(None)),
    ] {
        let mut changed = claims();
        changed[claim] = value.clone();
        assert_eq!(ask(&issuer, &sign(&changed)).await, wanted, "{claim}: {value}");
        if value.is_null() {
            changed.as_object_mut().unwrap().remove(claim);
            assert_eq!(ask(&issuer, &sign(&changed)).await, wanted, "without {claim}");
        }
    }
    let by_email = issuer.clone().with_user_claim("email");
    let mut with_email = claims();
    assert_eq!(ask(&by_email, &sign(&with_email)).await, Err(AuthError::Failed));
    with_email["email"] = json!("alice@example.org");
    assert_eq!(ask(&by_email, &sign(&with_email)).await, Ok(Some("alice@example.org".to_owned())));
    let long = format!("{}.x.y", "ey".repeat(MAX_TOKEN_OCTETS));
    for text in ["", "secret", "ey..", "ey.ey.ey", &long] {
        assert_eq!(ask(&issuer, text).await, Ok(None), "{text:.20}");
    }
}

#[test]
fn a_set_holds_public_keys_that_sign_and_no_others() {
    let key = Private::p256();
    let good = key.public("good");
    let with = |name: &str, value: Value| {
        let mut key = key.public("bad");
        key[name] = value;
        key
    };
    let weak = json!({"kty": "RSA", "kid": "bad", "n": base64([0xc1; 128]), "e": "AQAB"});
    let bad = [
        with("use", json!("enc")),
        with("key_ops", json!(["deriveKey"])),
        with("alg", json!("RS256")),
        with("alg", json!("ES384")),
        with("crv", json!("secp256k1")),
        with("kty", json!("XYZ")),
        json!({"kty": "oct", "kid": "bad", "k": base64([7; 32])}),
        json!({"kid": "bad"}),
        json!("bad"),
        weak,
    ];
    let mut keys = bad.to_vec();
    keys.push(good.clone());
    assert_eq!(format!("{:?}", set(&keys)), "[(Some(\"good\"), ES256)]");
    let parse = |json: Value| KeySet::parse(json.to_string().as_bytes()).unwrap_err();
    assert_eq!(parse(json!({"keys": bad})), InvalidKeySet::NoKeys);
    assert_eq!(parse(json!({"keys": vec![good; 65]})), InvalidKeySet::TooMany);
    assert!(matches!(parse(json!([])), InvalidKeySet::Malformed(_)));
}

/// Tokens of the server itself, of two issuers, and passwords: one chain.
#[tokio::test]
async fn a_chain_asks_the_one_whose_token_it_is() {
    let clock = Clock::manual(NOW);
    let own = JwtOptions::new(TokenKey::new([7; 32]).unwrap(), "im", "im").with_clock(clock);
    let own = own.build();
    let (one, two) = (Private::ed(), Private::p256());
    let second = IssuerAuthenticator::new(set(&[two.public("k")]), "https://two.example", "chat")
        .with_clock(Clock::manual(NOW));
    let chain = AuthenticatorChain::new()
        .then(own.clone())
        .then(issuer(set(&[one.public("k")])))
        .then(second);
    let token = own.issue(&UserName::new("alice").unwrap()).unwrap().token;
    assert_eq!(ask(&chain, token.expose()).await, alice());
    assert_eq!(ask(&chain, &one.sign(&head("EdDSA", "k"), &claims())).await, alice());
    let mut of_two = claims();
    of_two["iss"] = json!("https://two.example");
    assert_eq!(ask(&chain, &two.sign(&head("ES256", "k"), &of_two)).await, alice());
    // One issuer does not speak for the other.
    let forged = one.sign(&head("EdDSA", "k"), &of_two);
    assert_eq!(ask(&chain, &forged).await, Err(AuthError::Failed));
    assert_eq!(ask(&chain, "open sesame").await, Ok(None));
}

#[cfg(feature = "webhooks")]
mod remote {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::http::StatusCode;
    use axum::response::{IntoResponse as _, Redirect, Response};
    use axum::routing::get;

    use super::*;
    use crate::auth::remote_keys::{INTERVAL, MAX_AGE};
    use crate::http_client::{HttpClient, Reach};
    use crate::lock::lock;

    /// An endpoint that publishes keys, or fails.
    struct Endpoint {
        answer: Arc<Mutex<Answer>>,
        fetches: Arc<AtomicUsize>,
        clock: Clock,
        issuer: IssuerAuthenticator,
    }

    #[derive(Clone)]
    enum Answer {
        Keys(Vec<Value>),
        Text(String),
        Redirect,
        Fails,
        Hangs,
    }

    impl Endpoint {
        async fn start(answer: Answer) -> Self {
            let answer = Arc::new(Mutex::new(answer));
            let fetches = Arc::new(AtomicUsize::new(0));
            let (told, counted) = (Arc::clone(&answer), Arc::clone(&fetches));
            let handler = move || {
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = lock(&told).clone();
                async move {
                    match answer {
                        Answer::Keys(keys) => axum::Json(json!({"keys": keys})).into_response(),
                        Answer::Text(text) => text.into_response(),
                        Answer::Redirect => Redirect::temporary("/other").into_response(),
                        Answer::Fails => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                        Answer::Hangs => std::future::pending::<Response>().await,
                    }
                }
            };
            let stranger = Private::ed().public("new");
            let other = async move || axum::Json(json!({"keys": [stranger]}));
            let router = Router::new().route("/keys", get(handler)).route("/other", get(other));
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/keys", listener.local_addr().unwrap());
            tokio::spawn(async move { axum::serve(listener, router).await });
            let clock = Clock::manual(NOW);
            let client = HttpClient::new(Reach::Everywhere).unwrap();
            let client = client.with_timeout(Duration::from_millis(500));
            let keys = RemoteKeys::with_clock(client, url.parse().unwrap(), clock.clone());
            let issuer = IssuerAuthenticator::new(keys, ISSUER, "chat").with_clock(clock.clone());
            Self { answer, fetches, clock, issuer }
        }

        fn answers(&self, answer: Answer) {
            *lock(&self.answer) = answer;
        }

        fn fetches(&self) -> usize {
            self.fetches.load(Ordering::SeqCst)
        }

        /// A token of `key` under this id that is good now.
        async fn ask(&self, key: &Private, id: &str) -> Result<Option<String>, AuthError> {
            let mut claims = claims();
            claims["exp"] = json!(self.clock.now_millis() / 1000 + 60);
            ask(&self.issuer, &key.sign(&head("EdDSA", id), &claims)).await
        }
    }

    fn unavailable(outcome: &Result<Option<String>, AuthError>) -> bool {
        matches!(outcome, Err(AuthError::Unavailable { .. }))
    }

    #[tokio::test]
    async fn keys_are_fetched_once_and_again_when_they_change() {
        let (old, new) = (Private::ed(), Private::ed());
        let endpoint = Endpoint::start(Answer::Keys(vec![old.public("old")])).await;
        for _ in 0..5 {
            assert_eq!(endpoint.ask(&old, "old").await, alice());
        }
        assert_eq!(endpoint.fetches(), 1);
        endpoint.answers(Answer::Keys(vec![new.public("new")]));
        // Another key was just asked for: this one has to wait.
        assert_eq!(endpoint.ask(&new, "new").await, Err(AuthError::Failed));
        endpoint.clock.advance(INTERVAL);
        assert_eq!(endpoint.ask(&new, "new").await, alice());
        assert_eq!(endpoint.fetches(), 2);
        // The former key was taken out, and its tokens are worth nothing.
        assert_eq!(endpoint.ask(&old, "old").await, Err(AuthError::Failed));
    }

    /// A key that was taken out is forgotten though nobody names a new one.
    #[tokio::test]
    async fn keys_are_looked_at_again_after_a_while() {
        let (kept, gone) = (Private::ed(), Private::ed());
        let both = vec![kept.public("kept"), gone.public("gone")];
        let endpoint = Endpoint::start(Answer::Keys(both)).await;
        assert_eq!(endpoint.ask(&gone, "gone").await, alice());
        endpoint.answers(Answer::Keys(vec![kept.public("kept")]));
        endpoint.clock.advance(MAX_AGE);
        // Nobody waits for the fetch.
        assert_eq!(endpoint.ask(&kept, "kept").await, alice());
        tokio::time::timeout(Duration::from_secs(30), async {
            while endpoint.ask(&gone, "gone").await == alice() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        assert_eq!(endpoint.fetches(), 2);
    }

    #[tokio::test]
    async fn a_flood_of_unknown_keys_costs_one_fetch_in_an_interval() {
        let (key, stranger) = (Private::ed(), Private::ed());
        let endpoint = Endpoint::start(Answer::Keys(vec![key.public("k")])).await;
        for round in 1..=3 {
            let unknown = (0..200).map(|number| {
                let (endpoint, stranger) = (&endpoint, &stranger);
                async move { endpoint.ask(stranger, &format!("unknown{number}")).await }
            });
            let answers = futures::future::join_all(unknown).await;
            assert!(answers.iter().all(|answer| *answer == Err(AuthError::Failed)));
            assert_eq!(endpoint.fetches(), round);
            endpoint.clock.advance(INTERVAL);
        }
        assert_eq!(endpoint.ask(&key, "k").await, alice());
    }

    #[tokio::test]
    async fn keys_stay_good_while_the_endpoint_is_down() {
        let key = Private::ed();
        let endpoint = Endpoint::start(Answer::Fails).await;
        // Nothing to check with: that is no refusal.
        assert!(unavailable(&endpoint.ask(&key, "k").await));
        endpoint.answers(Answer::Keys(vec![key.public("k")]));
        assert!(unavailable(&endpoint.ask(&key, "k").await), "tried again at once");
        endpoint.clock.advance(INTERVAL);
        assert_eq!(endpoint.ask(&key, "k").await, alice());
        let broken = [
            Answer::Fails,
            Answer::Hangs,
            Answer::Redirect,
            Answer::Text("sorry".to_owned()),
            Answer::Text(format!("{{\"keys\": [], \"x\": \"{}\"}}", "x".repeat(128 * 1024))),
            Answer::Keys(Vec::new()),
        ];
        for answer in broken {
            endpoint.answers(answer);
            endpoint.clock.advance(MAX_AGE);
            let before = endpoint.fetches();
            // A key that may be a new one: the client tries again.
            assert!(unavailable(&endpoint.ask(&key, "new").await));
            assert_eq!(endpoint.fetches(), before + 1);
            assert_eq!(endpoint.ask(&key, "k").await, alice());
        }
    }

    /// A client that goes away in the middle does not make the next one wait for the interval.
    #[tokio::test]
    async fn a_fetch_outlives_whoever_asked_for_it() {
        let key = Private::ed();
        let endpoint = Endpoint::start(Answer::Keys(vec![key.public("k")])).await;
        {
            let mut asked = std::pin::pin!(endpoint.ask(&key, "k"));
            assert!(futures::poll!(asked.as_mut()).is_pending());
        }
        assert_eq!(endpoint.ask(&key, "k").await, alice());
        assert_eq!(endpoint.fetches(), 1);
    }
}
