//! Whoever is signed in to the application is signed in to the chat: by the cookie that it sets.
//!
//! `cargo run -p embedding --example own_login`, and `curl -i -X POST http://127.0.0.1:8080/login/alice`

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::{Router, routing::post};
use embedding::Failure;
use gateway_core::{
    AuthError, Authenticator, Credentials, Gateway, MessageId, Principal, SessionCookie, UserName,
    websocket_with_cookie,
};
use stomp_ws::OriginPolicy;

/// The sessions of the application, which had them before it had a chat.
#[derive(Clone, Debug, Default)]
struct Sessions(Arc<Mutex<HashMap<String, UserName>>>);

impl Sessions {
    fn begin(&self, user: UserName) -> String {
        let id = MessageId::generate().to_string();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), user);
        id
    }

    fn user(&self, id: &str) -> Option<UserName> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

#[async_trait]
impl Authenticator for Sessions {
    async fn authenticate(
        &self,
        credentials: &Credentials,
    ) -> Result<Option<Principal>, AuthError> {
        let user = self.user(credentials.secret.expose()).ok_or(AuthError::Failed)?;
        Ok(Some(Principal::new(user)))
    }
}

/// How the application signs people in is its own affair: this one believes everybody.
async fn log_in(
    State((sessions, gateway)): State<(Sessions, Gateway)>,
    Path(name): Path<String>,
) -> Result<impl IntoResponse, StatusCode> {
    let user = UserName::new(&name).map_err(|_| StatusCode::BAD_REQUEST)?;
    // Who is there already stays.
    let _ = gateway.create_user(&user, None).await;
    let cookie =
        format!("session={}; Path=/; HttpOnly; Secure; SameSite=Strict", sessions.begin(user));
    Ok(([(header::SET_COOKIE, cookie)], "welcome"))
}

fn application() -> Result<Router, Failure> {
    let sessions = Sessions::default();
    let gateway = Gateway::builder().authenticator(Arc::new(sessions.clone())).build()?;
    let cookie = SessionCookie::new("session", OriginPolicy::same_origin())?;
    Ok(Router::new()
        .route("/login/{name}", post(log_in))
        .with_state((sessions, gateway.clone()))
        .route("/ws", websocket_with_cookie(gateway, cookie)))
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    Ok(axum::serve(listener, application()?).await?)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use gateway_core::{HttpClient, Reach};
    use stomp_ws::client::{Client, ConnectOptions};

    use super::*;

    #[tokio::test]
    async fn the_login_of_the_application_opens_the_chat() -> Result<(), Failure> {
        let address = embedding::serve(application()?).await?;
        let url = format!("http://{address}/login/alice").parse()?;
        let client = HttpClient::new(Reach::Everywhere)?;
        let answer = client.post(&url, HeaderMap::new(), Vec::new().into()).await?;
        let cookie = answer.headers[header::SET_COOKIE].to_str()?.split(';').next();
        let connect = async |cookie: &str| {
            let options = ConnectOptions::new().upgrade_header("Cookie", cookie);
            Client::connect(&format!("ws://{address}/ws"), options).await
        };
        let alice = connect(cookie.ok_or("no cookie")?).await?;
        assert_eq!(alice.connected_header("user-name").as_deref(), Some("alice"));
        assert!(connect("session=guess").await.is_err());
        Ok(())
    }
}
