use std::sync::Arc;

use super::*;
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::send::Sent;
use crate::store::Page;

/// Refuses one word and marks the rest.
#[derive(Debug)]
struct Marks(&'static str);

#[async_trait]
impl Interceptor for Marks {
    async fn intercept(&self, draft: &mut Draft<'_>) -> Result<(), RefusedError> {
        let text = String::from_utf8_lossy(draft.body).into_owned();
        if text.contains("spam") {
            return Err(RefusedError::Rejected(format!("{} is no friend of spam", self.0)));
        }
        *draft.body = format!("{text}{}", self.0).into();
        draft.headers.push(("x-seen".to_owned(), "yes".to_owned()));
        draft.headers.push(("seq".to_owned(), "999".to_owned()));
        Ok(())
    }
}

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

fn to_bob(body: &str) -> SendRequest {
    let destination = Destination::parse("/user/bob").unwrap();
    SendRequest::new(user("alice"), destination, body.to_owned())
}

async fn gateway(interceptors: Vec<Arc<dyn Interceptor>>) -> Gateway {
    let builder = interceptors
        .into_iter()
        .fold(Gateway::builder(), |builder, interceptor| builder.interceptor(interceptor));
    let gateway = builder.build().unwrap();
    for name in ["alice", "bob"] {
        gateway.create_user(&user(name), None).await.unwrap();
    }
    gateway
}

async fn stored(gateway: &Gateway) -> Vec<(String, Vec<(String, String)>)> {
    let conversation = crate::names::ConversationId::direct(&user("alice"), &user("bob"));
    let page = Page::between(None, None, 10);
    let history = gateway.history(&user("bob"), &conversation, page).await.unwrap();
    let text = |body: &Bytes| String::from_utf8_lossy(body).into_owned();
    history.messages.iter().map(|message| (text(&message.body), message.headers.clone())).collect()
}

#[tokio::test]
async fn several_are_asked_in_order_and_the_first_refusal_counts() {
    let gateway = gateway(vec![Arc::new(Marks("1")), Arc::new(Marks("2"))]).await;
    assert!(matches!(gateway.send(to_bob("hello ")).await, Ok(Sent::Stored(_))));
    let refused = gateway.send(to_bob("spam")).await;
    let why = RefusedError::Rejected("1 is no friend of spam".to_owned());
    assert_eq!(refused, Err(GatewayError::Refused(why)));
    let stored = stored(&gateway).await;
    assert_eq!(stored.len(), 1, "what was refused is not stored");
    assert_eq!(stored[0].0, "hello 12");
    assert!(stored[0].1.contains(&("x-seen".to_owned(), "yes".to_owned())));
    // What only the server says stays the server's.
    assert!(!stored[0].1.iter().any(|(name, _)| name == "seq"), "{stored:?}");
}

#[cfg(feature = "webhooks")]
mod http {
    use std::time::Duration;

    use axum::Router;
    use axum::http::StatusCode;
    use axum::response::IntoResponse as _;
    use axum::routing::post;
    use serde_json::{Value, json};

    use super::*;
    use crate::http_client::{HttpClient, Reach};

    /// Answers as the message's own text says.
    async fn endpoint() -> String {
        let answer = async |axum::Json(question): axum::Json<Value>| {
            assert_eq!(question["from"], "alice");
            assert_eq!(question["destination"], "/user/bob");
            match question["body"].as_str().unwrap() {
                "pass" => StatusCode::NO_CONTENT.into_response(),
                "change" => {
                    axum::Json(json!({"action": "change", "body": "changed"})).into_response()
                }
                "refuse" => axum::Json(json!({"action": "refuse", "reason": "no"})).into_response(),
                "nonsense" => "yes please".into_response(),
                "hang" => std::future::pending().await,
                _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            }
        };
        let router = Router::new().route("/", post(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    #[tokio::test]
    async fn an_endpoint_allows_changes_and_refuses_and_its_failures_are_as_was_stated() {
        let url: crate::http_client::OutgoingUrl = endpoint().await.parse().unwrap();
        let client = HttpClient::new(Reach::Everywhere).unwrap();
        let client = client.with_timeout(Duration::from_millis(200));
        for fail in [FailMode::Open, FailMode::Closed] {
            let interceptor = HttpInterceptor::new(client.clone(), url.clone(), fail);
            let gateway = gateway(vec![Arc::new(interceptor)]).await;
            assert!(gateway.send(to_bob("pass")).await.is_ok());
            assert!(gateway.send(to_bob("change")).await.is_ok());
            let refused = gateway.send(to_bob("refuse")).await.unwrap_err();
            assert_eq!(refused.to_string(), "refused: no");
            assert!(!refused.is_retryable());
            for failure in ["nonsense", "hang", "error"] {
                let outcome = gateway.send(to_bob(failure)).await;
                match fail {
                    FailMode::Open => assert!(outcome.is_ok(), "{failure}"),
                    FailMode::Closed => assert!(outcome.unwrap_err().is_retryable(), "{failure}"),
                }
            }
            let bodies: Vec<_> = stored(&gateway).await.into_iter().map(|(body, _)| body).collect();
            assert_eq!(bodies[..2], ["pass", "changed"]);
            assert_eq!(bodies.len(), if fail == FailMode::Open { 5 } else { 2 });
        }
    }
}
