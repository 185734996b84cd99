//! A chat in an axum application that was there before: `cargo run -p embedding --example chat`

use std::sync::Arc;

use axum::{Router, routing::get};
use gateway_core::{
    AttemptLimiter, AuthenticatorChain, Clock, Gateway, JwtOptions, MemoryDirectory,
    PasswordAuthenticator, PasswordHasher, RestApi, TokenKey, websocket,
};
use stomp_ws::OriginPolicy;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn shop() -> Router {
    Router::new().route("/", get(|| async { "the shop" }))
}

fn with_chat(shop: Router, key: TokenKey) -> Result<Router, Failure> {
    let (users, hasher) = (Arc::new(MemoryDirectory::new()), PasswordHasher::new());
    let limiter = Arc::new(AttemptLimiter::new(Clock::system()));
    let passwords = PasswordAuthenticator::new(users.clone(), hasher.clone(), limiter);
    let tokens = JwtOptions::new(key, "shop", "shop").build();
    let chain = AuthenticatorChain::new().then(tokens.clone()).then(passwords);
    let gateway = Gateway::builder().directory(users).authenticator(Arc::new(chain)).build()?;
    let rest = RestApi::new(gateway.clone(), tokens).sign_up(hasher).router();
    Ok(shop.merge(rest).route("/ws", websocket(gateway, OriginPolicy::same_origin())))
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let key = TokenKey::load_or_create("token.key".as_ref())?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    Ok(axum::serve(listener, with_chat(shop(), key)?).await?)
}

#[cfg(test)]
mod tests {
    use embedding::{post, serve};
    use serde_json::json;
    use stomp_ws::client::{Client, ConnectOptions};

    use super::*;

    #[tokio::test]
    async fn two_people_sign_up_and_write() -> Result<(), Failure> {
        let address = serve(with_chat(shop(), TokenKey::new([7; 32])?)?).await?;
        for name in ["alice", "bob"] {
            let account = json!({"name": name, "password": "secret"});
            let url = format!("http://{address}/api/v1/users");
            assert_eq!(post(&url, None, &account).await?.0, 201);
        }
        let connect = async |name: &str| {
            let options = ConnectOptions::new().credentials(name, "secret");
            Client::connect(&format!("ws://{address}/ws"), options).await
        };
        let bob = connect("bob").await?;
        let (mut inbox, _) = bob.subscribe("/inbox").confirmed().await?;
        connect("alice").await?.send("/user/bob", "hello").confirmed().await?;
        assert_eq!(inbox.recv().await?.body(), b"hello");
        Ok(())
    }

    #[test]
    fn it_has_less_than_forty_lines() {
        let program = include_str!("chat.rs").split("#[cfg(test)]").next();
        assert!(program.is_some_and(|text| text.trim_end().lines().count() < 40));
    }
}
