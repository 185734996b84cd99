//! Who is let in, and what those who are not can learn.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::directory::{Directory, MemoryDirectory};

const NOW: u64 = 1_767_225_600_000;

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

struct Door {
    clock: Clock,
    directory: Arc<MemoryDirectory>,
    passwords: PasswordAuthenticator,
}

impl Door {
    /// With alice, whose password is `open sesame`, and bob, who has none
    async fn new(hasher: PasswordHasher) -> Self {
        let clock = Clock::manual(NOW);
        let directory = Arc::new(MemoryDirectory::new());
        let hash = hasher.hash(&Secret::new("open sesame")).await.unwrap();
        directory.create_user(&user("alice"), Some(&hash)).await.unwrap();
        directory.create_user(&user("bob"), None).await.unwrap();
        let limiter = Arc::new(AttemptLimiter::new(clock.clone()));
        let passwords = PasswordAuthenticator::new(directory.clone(), hasher, limiter);
        Self { clock, directory, passwords }
    }

    async fn quick() -> Self {
        Self::new(PasswordHasher::insecure_for_tests()).await
    }

    async fn knock(&self, login: &str, passcode: &str) -> Result<Option<Principal>, AuthError> {
        self.passwords.authenticate(&Credentials::connect(Some(login), passcode)).await
    }
}

#[tokio::test]
async fn the_right_password_lets_in() {
    let door = Door::quick().await;
    assert_eq!(door.knock("alice", "open sesame").await, Ok(Some(Principal::new(user("alice")))));
}

/// V-30, V-31: one answer for every cause.
#[tokio::test]
async fn every_wrong_attempt_gets_the_same_answer() {
    let door = Door::quick().await;
    let long = "x".repeat(MAX_PASSWORD_OCTETS + 1);
    for (login, passcode) in [
        ("alice", "open sesame "),
        ("alice", ""),
        ("alice", &long),
        ("bob", ""),
        ("bob", "open sesame"),
        ("nobody", "open sesame"),
        ("Alice", "open sesame"),
        ("no such/name", "open sesame"),
        ("", "open sesame"),
    ] {
        assert_eq!(door.knock(login, passcode).await, Err(AuthError::Failed), "{login:?}");
    }
    let without_login = Credentials::connect(None, "open sesame");
    assert_eq!(door.passwords.authenticate(&without_login).await, Ok(None));
}

#[tokio::test]
async fn hashes_are_salted_argon2id_and_not_shown() {
    let hasher = PasswordHasher::new();
    let one = hasher.hash(&Secret::new("same")).await.unwrap();
    let two = hasher.hash(&Secret::new("same")).await.unwrap();
    assert_ne!(one, two);
    assert!(one.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", one.as_str());
    assert_eq!(format!("{one:?}"), "[hidden]");
    assert!(hasher.verify(&Secret::new("same"), Some(&one)).await.unwrap());
    assert_eq!(hasher.hash(&Secret::new("")).await, Err(PasswordError::Empty));
    let long = Secret::new("x".repeat(MAX_PASSWORD_OCTETS + 1));
    assert_eq!(hasher.hash(&long).await, Err(PasswordError::TooLong));
}

/// V-30: guessing at one account is slowed down, and only there.
#[tokio::test]
async fn guessing_at_an_account_is_slowed_down() {
    let door = Door::quick().await;
    for _ in 0..10 {
        assert_eq!(door.knock("alice", "guess").await, Err(AuthError::Failed));
    }
    let retry_after = Duration::from_secs(5);
    let throttled = Err(AuthError::Throttled { retry_after });
    assert_eq!(door.knock("alice", "guess").await, throttled);
    assert_eq!(door.knock("alice", "open sesame").await, throttled, "a right guess shows");
    assert_eq!(door.knock("bob", "guess").await, Err(AuthError::Failed), "others suffer");
    door.clock.advance(retry_after);
    assert!(door.knock("alice", "open sesame").await.is_ok());
    assert_eq!(door.knock("alice", "guess").await, Err(AuthError::Failed));
    assert_eq!(door.knock("alice", "guess").await, throttled);
    door.clock.advance(Duration::from_secs(3600));
    for _ in 0..10 {
        assert_eq!(door.knock("alice", "guess").await, Err(AuthError::Failed));
    }
    assert_eq!(door.knock("alice", "guess").await, throttled);
}

/// V-30: an account that does not exist is slowed down like one that does.
#[tokio::test]
async fn slowing_down_does_not_tell_who_exists() {
    let door = Door::quick().await;
    for _ in 0..10 {
        assert_eq!(door.knock("nobody", "guess").await, Err(AuthError::Failed));
    }
    assert!(matches!(door.knock("nobody", "guess").await, Err(AuthError::Throttled { .. })));
}

#[tokio::test]
async fn right_attempts_are_never_slowed_down() {
    let door = Door::quick().await;
    for _ in 0..200 {
        let credentials = Credentials::connect(Some("alice"), "open sesame");
        let credentials = credentials.with_address([192, 0, 2, 1].into());
        assert!(door.passwords.authenticate(&credentials).await.is_ok());
    }
}

/// V-30: guessing at many accounts from one address is slowed down; a /64 of IPv6 is one address.
#[test]
fn guessing_from_an_address_is_slowed_down() {
    let clock = Clock::manual(NOW);
    for [first, same, other] in [
        ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"],
        ["2001:db8::1", "2001:db8::2:3", "2001:db8:0:1::1"],
    ] {
        let limiter = AttemptLimiter::new(clock.clone());
        for number in 0..100 {
            assert!(
                limiter.begin(Some(&format!("user{number}")), Some(first.parse().unwrap())).is_ok()
            );
        }
        let throttled =
            |address: &str| limiter.begin(Some("next"), Some(address.parse().unwrap())).is_err();
        assert!(throttled(first) && throttled(same), "{first} and {same} go on");
        assert!(!throttled(other), "{other} suffers");
    }
}

/// A clock that is set back does not lock anybody out for as long.
#[test]
fn a_clock_that_is_set_back_locks_nobody_out() {
    let clock = Clock::manual(NOW);
    let limiter = AttemptLimiter::new(clock.clone());
    while limiter.begin(Some("alice"), None).is_ok() {}
    clock.set(NOW - 24 * 3_600_000);
    let Err(AuthError::Throttled { retry_after }) = limiter.begin(Some("alice"), None) else {
        return;
    };
    assert!(retry_after <= Duration::from_secs(5), "{retry_after:?}");
}

#[derive(Debug)]
struct Fixed(Result<Option<Principal>, AuthError>);

#[async_trait]
impl Authenticator for Fixed {
    async fn authenticate(&self, _: &Credentials) -> Result<Option<Principal>, AuthError> {
        self.0.clone()
    }
}

#[tokio::test]
async fn the_first_of_a_chain_that_knows_the_credentials_decides() {
    let credentials = Credentials::connect(Some("x"), "y");
    let (yes, no) =
        (|name| Fixed(Ok(Some(Principal::new(user(name))))), || Fixed(Err(AuthError::Failed)));
    let empty = AuthenticatorChain::new();
    assert_eq!(empty.authenticate(&credentials).await, Ok(None));
    let second = AuthenticatorChain::new().then(Fixed(Ok(None))).then(yes("bob")).then(no());
    assert_eq!(second.authenticate(&credentials).await, Ok(Some(Principal::new(user("bob")))));
    let refused = AuthenticatorChain::new().then(no()).then(yes("bob"));
    assert_eq!(refused.authenticate(&credentials).await, Err(AuthError::Failed));
}

/// V-29: credentials do not outlive their user.
#[tokio::test]
async fn a_user_whom_the_directory_does_not_know_is_not_let_in() {
    let door = Door::quick().await;
    let credentials = Credentials::connect(None, "y");
    for (found, wanted) in [
        (Ok(Some(Principal::new(user("bob")))), Ok(Some(Principal::new(user("bob"))))),
        (Ok(Some(Principal::new(user("ghost")))), Err(AuthError::Failed)),
        (Ok(None), Ok(None)),
        (Err(AuthError::Failed), Err(AuthError::Failed)),
    ] {
        let known = KnownUsers::new(Fixed(found), door.directory.clone());
        assert_eq!(known.authenticate(&credentials).await, wanted);
    }
    let ghost = Ok(Some(Principal::new(user("ghost"))));
    let enrolling = KnownUsers::new(Fixed(ghost.clone()), door.directory.clone()).enrolling();
    for _ in 0..2 {
        assert_eq!(enrolling.authenticate(&credentials).await, ghost);
    }
    assert_eq!(door.directory.user_exists(&user("ghost")).await, Ok(true));
}

#[cfg(feature = "jwt")]
mod jwt {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn key(octet: u8) -> TokenKey {
        TokenKey::new([octet; 32]).unwrap()
    }

    fn tokens(clock: &Clock) -> JwtAuthenticator {
        JwtOptions::new(key(7), "im", "chat").with_clock(clock.clone()).build()
    }

    fn claims() -> Value {
        json!({"sub": "alice", "iss": "im", "aud": "chat", "exp": NOW / 1000 + 60})
    }

    fn signed(algorithm: Algorithm, claims: &Value) -> Secret {
        Secret::new(
            encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(&KEY)).unwrap(),
        )
    }

    #[tokio::test]
    async fn an_issued_token_lets_in_until_it_ends() {
        let clock = Clock::manual(NOW);
        let tokens = tokens(&clock);
        let issued = tokens.issue(&user("李雷")).unwrap();
        assert_eq!(issued.expires, NOW + 7 * 24 * 3_600_000);
        let wanted = Principal::new(user("李雷")).with_expires(issued.expires);
        let token = issued.token.expose();
        for credentials in [
            Credentials::connect(None, token),
            Credentials::connect(Some("李雷"), token),
            Credentials::authorization(&format!("Bearer {token}")).unwrap(),
        ] {
            assert_eq!(tokens.authenticate(&credentials).await, Ok(Some(wanted.clone())));
        }
        clock.set(issued.expires - 1);
        assert_eq!(tokens.verify(&issued.token), Ok(wanted));
        clock.set(issued.expires);
        assert_eq!(tokens.verify(&issued.token), Err(AuthError::Failed));
        assert!(!format!("{issued:?}").contains(token), "the token is shown");
    }

    /// V-23: a token is good for its own user only.
    #[tokio::test]
    async fn a_login_beside_a_token_must_name_its_user() {
        let tokens = tokens(&Clock::manual(NOW));
        let token = tokens.issue(&user("alice")).unwrap().token;
        for login in ["bob", "Alice", ""] {
            let credentials = Credentials::connect(Some(login), token.expose());
            assert_eq!(tokens.authenticate(&credentials).await, Err(AuthError::Failed), "{login}");
        }
    }

    #[test]
    fn a_token_needs_issuer_audience_subject_and_end() {
        let tokens = tokens(&Clock::manual(NOW));
        assert!(tokens.verify(&signed(Algorithm::HS256, &claims())).is_ok());
        for (claim, value) in [
            ("iss", json!("other")),
            ("aud", json!("other")),
            ("exp", json!(NOW / 1000)),
            ("exp", json!("never")),
            ("nbf", json!(NOW / 1000 + 1)),
            ("sub", json!("queue")),
            ("sub", json!("a/b")),
            ("sub", json!(7)),
            ("iss", Value::Null),
            ("aud", Value::Null),
            ("exp", Value::Null),
            ("sub", Value::Null),
        ] {
            let mut wrong = claims();
            wrong[claim] = value.clone();
            let token = signed(Algorithm::HS256, &wrong);
            assert_eq!(tokens.verify(&token), Err(AuthError::Failed), "{claim}: {value}");
            if value.is_null() {
                wrong.as_object_mut().unwrap().remove(claim);
                let token = signed(Algorithm::HS256, &wrong);
                assert_eq!(tokens.verify(&token), Err(AuthError::Failed), "without {claim}");
            }
        }
    }

    #[test]
    fn only_hs256_with_our_key_is_accepted() {
        let tokens = tokens(&Clock::manual(NOW));
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            assert_eq!(tokens.verify(&signed(algorithm, &claims())), Err(AuthError::Failed));
        }
        let foreign = JwtOptions::new(key(8), "im", "chat").with_clock(Clock::manual(NOW)).build();
        let foreign = foreign.issue(&user("alice")).unwrap();
        assert_eq!(tokens.verify(&foreign.token), Err(AuthError::Failed));
        let unsigned = |header: &Value| {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            Secret::new(format!("{}.{}.", part(header), part(&claims())))
        };
        for header in
            [json!({"alg": "none"}), json!({"alg": "HS256"}), json!({"alg": "None", "typ": "JWT"})]
        {
            assert_eq!(tokens.verify(&unsigned(&header)), Err(AuthError::Failed), "{header}");
        }
        for text in ["", ".", "..", "a.b.c", "ey..", &"ey.".repeat(9000)] {
            assert_eq!(tokens.verify(&Secret::new(text)), Err(AuthError::Failed), "{text:.20}");
        }
    }

    #[test]
    fn a_former_key_still_checks_and_no_longer_signs() {
        let clock = Clock::manual(NOW);
        let options = |key| JwtOptions::new(key, "im", "chat").with_clock(clock.clone());
        let old = options(key(1).with_id("a")).build().issue(&user("alice")).unwrap();
        let plain = options(key(1)).build().issue(&user("alice")).unwrap();
        let rotated = options(key(2).with_id("b")).with_former_key(key(1).with_id("a")).build();
        let new = rotated.issue(&user("alice")).unwrap();
        for token in [&old.token, &plain.token, &new.token] {
            assert!(rotated.verify(token).is_ok());
        }
        assert!(options(key(1)).build().verify(&new.token).is_err(), "the former key signed");
        let other_id = options(key(1).with_id("c")).build();
        assert!(other_id.verify(&old.token).is_err(), "a key checked a token of another kid");
    }

    /// A wrong token is not tried as a password; a password that is no token is left to the next authenticator.
    #[tokio::test]
    async fn tokens_and_passwords_go_through_one_chain() {
        let door = Door::quick().await;
        let tokens = tokens(&door.clock);
        let chain = AuthenticatorChain::new().then(tokens.clone()).then(door.passwords.clone());
        let alice = tokens.issue(&user("alice")).unwrap().token;
        let broken = format!("{}x", alice.expose());
        for (credentials, wanted) in [
            (Credentials::connect(Some("alice"), "open sesame"), Ok(true)),
            (Credentials::connect(Some("alice"), alice.expose()), Ok(true)),
            (Credentials::connect(None, alice.expose()), Ok(true)),
            (Credentials::connect(Some("alice"), &broken), Err(AuthError::Failed)),
            (Credentials::connect(Some("alice"), "wrong"), Err(AuthError::Failed)),
            (Credentials::authorization("Bearer open-sesame").unwrap(), Ok(false)),
            (Credentials::connect(None, "open sesame"), Ok(false)),
        ] {
            let found = chain.authenticate(&credentials).await.map(|found| found.is_some());
            assert_eq!(found, wanted, "{credentials:?}");
        }
        assert!(door.directory.user_exists(&user("alice")).await.unwrap());
    }

    #[test]
    fn a_key_is_made_once_and_for_its_owner_only() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("token.key");
        let first = TokenKey::load_or_create(&path).unwrap();
        let kept = std::fs::read(&path).unwrap();
        assert_eq!(kept.len(), 32);
        TokenKey::load_or_create(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), kept, "the key was made again");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let other = folder.path().join("other.key");
        TokenKey::load_or_create(&other).unwrap();
        assert_ne!(std::fs::read(&other).unwrap(), kept);
        std::fs::write(&path, "short").unwrap();
        let short = TokenKey::load_or_create(&path).unwrap_err();
        assert_eq!(short.kind(), std::io::ErrorKind::InvalidData);
        assert_eq!(format!("{first:?}"), "TokenKey { id: None, .. }");
    }
}
