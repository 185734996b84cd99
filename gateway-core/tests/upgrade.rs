//! Credentials that a WebSocket comes with: a cookie, an `Authorization`, or none at all. V-22, V-26.
#![cfg(feature = "rest")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use common::{Trusting, body, refusal, user};
use gateway_core::{
    Action, AnonymousAuthenticator, AuthenticatorChain, Authorizer, Destination, Gateway,
    JwtAuthenticator, JwtOptions, RefusedError, RestApi, SessionCookie, TokenKey, websocket,
    websocket_with_cookie,
};
use stomp_ws::OriginPolicy;
use stomp_ws::client::{Client, ConnectError, ConnectOptions};

/// Guests may listen to the news.
#[derive(Debug)]
struct News;

#[async_trait]
impl Authorizer for News {
    async fn authorize(
        &self,
        _: &gateway_core::UserName,
        action: Action,
        destination: &Destination,
    ) -> Result<(), RefusedError> {
        match destination {
            Destination::Topic(name) if name == "news" && action == Action::Subscribe => Ok(()),
            Destination::Inbox => Ok(()),
            _ => Err(RefusedError::Denied("not for guests")),
        }
    }
}

struct Site {
    gateway: Gateway,
    tokens: JwtAuthenticator,
    address: SocketAddr,
}

impl Site {
    /// `/ws` takes a cookie, `/any` is open to every page.
    async fn start() -> Self {
        let tokens = JwtOptions::new(TokenKey::new([7; 32]).unwrap(), "im", "im").build();
        let chain =
            AuthenticatorChain::new().then(tokens.clone()).then(AnonymousAuthenticator::new());
        // `Trusting` refuses whoever names nobody, so it cannot stand before the guests.
        let chain = chain.then(Trusting);
        let gateway = common::populated(
            Gateway::builder().authenticator(Arc::new(chain)).guests(Arc::new(News)).open(true),
        )
        .await;
        let cookie = SessionCookie::new("im", OriginPolicy::same_origin()).unwrap();
        let router: Router = RestApi::new(gateway.clone(), tokens.clone())
            .cookie(cookie.clone())
            .router()
            .route("/ws", websocket_with_cookie(gateway.clone(), cookie))
            .route("/any", websocket(gateway.clone(), OriginPolicy::any()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { gateway, tokens, address }
    }

    fn token(&self, name: &str) -> String {
        self.tokens.issue(&user(name)).unwrap().token.expose().to_owned()
    }

    async fn connect(
        &self,
        path: &str,
        upgrade: &[(&str, &str)],
        options: ConnectOptions,
    ) -> Result<Client, ConnectError> {
        let options = upgrade
            .iter()
            .fold(options, |options, (name, value)| options.upgrade_header(*name, *value));
        Client::connect(&format!("ws://{}{path}", self.address), options).await
    }

    /// Who a client is that comes so.
    async fn who(&self, path: &str, upgrade: &[(&str, &str)]) -> Result<String, ConnectError> {
        let client = self.connect(path, upgrade, ConnectOptions::new()).await?;
        Ok(client.connected_header("user-name").unwrap().into_owned())
    }
}

#[tokio::test]
async fn a_cookie_or_an_authorization_signs_in_a_connect_that_brings_nothing() {
    let site = Site::start().await;
    let token = site.token("alice");
    let own = format!("http://{}", site.address);
    for upgrade in [
        &[("Cookie", format!("im={token}")), ("Origin", own.clone())][..],
        &[("Cookie", format!("a=b; im={token};c=d"))],
        &[("Authorization", format!("Bearer {token}"))],
        &[("Authorization", "Basic YWxpY2U6cmlnaHQ=".to_owned())],
    ] {
        let upgrade: Vec<_> = upgrade.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(site.who("/ws", &upgrade).await.unwrap(), "alice", "{upgrade:?}");
    }
    // What the frame says counts more.
    let cookie = format!("im={token}");
    let as_bob = ConnectOptions::new().credentials("bob", "right");
    let bob = site.connect("/ws", &[("Cookie", &cookie)], as_bob).await.unwrap();
    assert_eq!(bob.connected_header("user-name").unwrap(), "bob");
    // A name alone must be that of the token.
    for (name, fits) in [("alice", true), ("bob", false)] {
        let named = ConnectOptions::new().credentials(name, "");
        let outcome = site.connect("/ws", &[("Cookie", &cookie)], named).await;
        assert_eq!(outcome.is_ok(), fits, "{name}");
    }
}

/// V-26: cross-site WebSocket hijacking.
#[tokio::test]
async fn a_page_of_a_stranger_is_refused_and_signed_in_nowhere() {
    let site = Site::start().await;
    let token = site.token("alice");
    let cookie = format!("im={token}");
    let bearer = format!("Bearer {token}");
    for origin in [
        "https://evil.example".to_owned(),
        "null".to_owned(),
        format!("http://{}.evil.example", site.address),
        format!("http://evil.example#{}", site.address),
        format!("http://{}@evil.example", site.address),
        format!("http://127.0.0.1:{}", site.address.port() ^ 1),
        "http://127.0.0.1".to_owned(),
        String::new(),
    ] {
        for signs_in in [("Cookie", cookie.as_str()), ("Authorization", bearer.as_str())] {
            let refused = site.who("/ws", &[signs_in, ("Origin", &origin)]).await;
            let error = refused.expect_err(&origin).to_string();
            assert!(error.contains("403"), "{origin:?}: {error}");
            // Where every page may connect, none is signed in by what its browser adds.
            let who = site.who("/any", &[signs_in, ("Origin", &origin)]).await.unwrap();
            assert!(who.starts_with("guest-"), "{origin:?}: {who}");
        }
    }
}

/// A cookie that is no good is no guest's.
#[tokio::test]
async fn a_wrong_cookie_is_refused() {
    let site = Site::start().await;
    for cookie in ["im=x.y.z", "im=secret", &format!("im={}x", site.token("alice"))] {
        assert!(site.who("/ws", &[("Cookie", cookie)]).await.is_err(), "{cookie}");
    }
    // Two of one name: one of them may be a stranger's. So it counts as none.
    let (alice, bob) = (site.token("alice"), site.token("bob"));
    let two = format!("im={alice}; im={bob}");
    assert!(site.who("/ws", &[("Cookie", &two)]).await.unwrap().starts_with("guest-"));
    // A token in the URL is not looked at.
    let who = site.who(&format!("/ws?token={alice}&access_token={alice}&im={alice}"), &[]).await;
    assert!(who.unwrap().starts_with("guest-"));
}

#[tokio::test]
async fn guests_have_their_own_rights() {
    let site = Site::start().await;
    let guest = site.connect("/ws", &[], ConnectOptions::new()).await.unwrap();
    let name = guest.connected_header("user-name").unwrap().into_owned();
    let (mut news, _) = guest.subscribe("/topic/news").confirmed().await.unwrap();
    let alice = common::connect(&site.gateway, "alice").await;
    common::send(&alice, "/topic/news", "hello").await;
    assert_eq!(body(&news.recv().await.unwrap()), "hello");
    for destination in ["/topic/other", "/topic/#", "/inbox", "/user/alice", "/group/ops"] {
        let guest = site.connect("/ws", &[], ConnectOptions::new()).await.unwrap();
        let outcome = guest.subscribe(destination).confirmed().await.map(|_| ());
        let text = refusal(&guest, outcome).await;
        assert!(text.contains("guests"), "{destination}: {text}");
    }
    for destination in ["/topic/news", "/user/alice", "/group/ops", "/queue/x", "/inbox"] {
        let guest = site.connect("/ws", &[], ConnectOptions::new()).await.unwrap();
        let outcome = guest.send(destination, "x").confirmed().await.map(|_| ());
        refusal(&guest, outcome).await;
    }
    // Nobody sees them, and nobody can be made that has such a name.
    let presence = site.gateway.presence(&[user(&name)]).await.unwrap();
    assert!(!presence[0].is_online());
    assert!(site.gateway.create_user(&user(&name), None).await.is_err());
    assert!(!site.gateway.directory().user_exists(&user(&name)).await.unwrap());
}
