//! A messenger inside a program of its own: sign-up, REST and STOMP over WebSocket on one port.

use std::path::Path;
use std::sync::Arc;

use gateway_core::{
    AttemptLimiter, AuthenticatorChain, Clock, Gateway, JwtOptions, MemoryDirectory,
    PasswordAuthenticator, PasswordHasher, RestApi, TokenKey, websocket,
};
use stomp_ws::OriginPolicy;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = Arc::new(MemoryDirectory::new());
    let hasher = PasswordHasher::new();
    let limiter = Arc::new(AttemptLimiter::new(Clock::system()));
    let passwords = PasswordAuthenticator::new(directory.clone(), hasher.clone(), limiter);
    let key = TokenKey::load_or_create(Path::new("token.key"))?;
    let tokens = JwtOptions::new(key, "my-program", "my-program").build();

    let gateway = Gateway::builder()
        .directory(directory)
        .authenticator(Arc::new(AuthenticatorChain::new().then(tokens.clone()).then(passwords)))
        .build()?;
    let router = RestApi::new(gateway.clone(), tokens)
        .sign_up(hasher)
        .router()
        .route("/ws", websocket(gateway, OriginPolicy::same_origin()));

    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    Ok(axum::serve(listener, router).await?)
}
