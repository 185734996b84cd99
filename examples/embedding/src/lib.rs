//! What the tests of the examples share: a server on a free port, and calls to it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, header};
use gateway_core::{
    AttemptLimiter, Clock, Gateway, HttpClient, MemoryDirectory, PasswordAuthenticator,
    PasswordHasher, Reach, Secret, UserName, websocket,
};
use serde_json::Value;
use stomp_ws::OriginPolicy;

/// What may go wrong in an example
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Serves a router on a free port of this machine.
///
/// # Errors
///
/// Where there is no port.
pub async fn serve(router: Router) -> Result<SocketAddr, Failure> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

/// Posts JSON, with a token or a key; gives the status, and the answer if it is JSON.
///
/// # Errors
///
/// Where nobody answers.
pub async fn post(url: &str, token: Option<&str>, body: &Value) -> Result<(u16, Value), Failure> {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        let value = HeaderValue::try_from(format!("Bearer {token}"))?;
        headers.insert(header::AUTHORIZATION, value);
    }
    // The examples call servers of this machine.
    let client = HttpClient::new(Reach::Everywhere)?;
    let answer = client.post(&url.parse()?, headers, body.to_string().into()).await?;
    Ok((answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap_or_default()))
}

/// Starts a chat of these people, whose password is `secret`; gives the URL of its WebSocket.
///
/// # Errors
///
/// Where it cannot be started.
pub async fn chat(people: &[&str]) -> Result<String, Failure> {
    let directory = Arc::new(MemoryDirectory::new());
    let hasher = PasswordHasher::insecure_for_tests();
    let limiter = Arc::new(AttemptLimiter::new(Clock::system()));
    let passwords = PasswordAuthenticator::new(directory.clone(), hasher.clone(), limiter);
    let gateway =
        Gateway::builder().directory(directory).authenticator(Arc::new(passwords)).build()?;
    let password = hasher.hash(&Secret::new("secret")).await?;
    for name in people {
        gateway.create_user(&UserName::new(name)?, Some(&password)).await?;
    }
    let router = Router::new().route("/ws", websocket(gateway, OriginPolicy::same_origin()));
    Ok(format!("ws://{}/ws", serve(router).await?))
}

/// What stands in docs/ is compiled, and run where it has a `main`.
#[cfg(doctest)]
#[doc = include_str!(concat!(env!("OUT_DIR"), "/docs.md"))]
struct Docs;
