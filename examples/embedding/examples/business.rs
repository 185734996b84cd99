//! A business system beside the chat: it hears by a webhook what people write to it, and answers over REST.
//!
//! `cargo run -p embedding --example business -- http://127.0.0.1:8080 KEY WHSEC`, where KEY is an API key of the service
//! `orders` with the scope `send`, and WHSEC the secret of a webhook for `message` at http://127.0.0.1:9000/hook

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Router, routing::post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use embedding::Failure;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

struct Orders {
    api: String,
    key: String,
    secret: String,
}

impl Orders {
    /// Whether the chat sent this, as Standard Webhooks has it.
    fn is_signed(&self, headers: &HeaderMap, body: &[u8]) -> Option<()> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let key = STANDARD.decode(self.secret.strip_prefix("whsec_")?).ok()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
        mac.update(format!("{}.{}.", text("webhook-id")?, text("webhook-timestamp")?).as_bytes());
        mac.update(body);
        let signature = text("webhook-signature")?.strip_prefix("v1,")?;
        mac.verify_slice(&STANDARD.decode(signature).ok()?).ok()
    }

    /// What there is to answer to an event, and to whom.
    fn answer(event: &Value) -> Option<(String, String)> {
        let data = &event["data"];
        let (from, text) = (data["from"].as_str()?, data["body"].as_str()?);
        if !data["conversation"].as_str()?.starts_with("direct:") || from == "orders" {
            return None;
        }
        let order: u64 = text.strip_prefix("where is ")?.parse().ok()?;
        Some((format!("/user/{from}"), format!("order {order} is on its way")))
    }
}

async fn hook(State(orders): State<Arc<Orders>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if orders.is_signed(&headers, &body).is_none() {
        return StatusCode::UNAUTHORIZED;
    }
    let event: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some((to, text)) = Orders::answer(&event) else { return StatusCode::NO_CONTENT };
    // The event may come again: the same key makes the same answer, once.
    let message = json!({"to": to, "body": text,
        "idempotency_key": format!("answer-{}", event["data"]["id"].as_str().unwrap_or_default())});
    let url = format!("{}/api/v1/messages", orders.api);
    match embedding::post(&url, Some(&orders.key), &message).await {
        Ok((201, _)) => StatusCode::NO_CONTENT,
        // Then the webhook comes again.
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn business(orders: Orders) -> Router {
    Router::new().route("/hook", post(hook)).with_state(Arc::new(orders))
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(api), Some(key), Some(secret)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("business URL KEY WHSEC".into());
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:9000").await?;
    Ok(axum::serve(listener, business(Orders { api, key, secret })).await?)
}

#[cfg(test)]
mod tests {
    use gateway_core::{
        ApiKeys, Clock, ConversationId, Destination, EventKind, Gateway, HttpClient, JwtOptions,
        NewApiKey, NewWebhook, Page, Reach, RestApi, Scope, SendRequest, TokenKey, UserName,
        WebhookOptions, Webhooks,
    };

    use super::*;

    #[tokio::test]
    async fn who_asks_for_an_order_is_answered() -> Result<(), Failure> {
        let gateway = Gateway::builder().build()?;
        let (alice, orders) = (UserName::new("alice")?, UserName::new("orders")?);
        for user in [&alice, &orders] {
            gateway.create_user(user, None).await?;
        }
        let keys = ApiKeys::new(gateway.registry().clone(), Clock::system());
        let (_, key) =
            keys.create(NewApiKey::new(orders.clone(), vec![Scope::Send])).await?.ok_or("a key")?;
        let tokens = JwtOptions::new(TokenKey::new([7; 32])?, "im", "im").build();
        let api = embedding::serve(RestApi::new(gateway.clone(), tokens).router()).await?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let webhooks = Webhooks::start(
            gateway.clone(),
            WebhookOptions::new(HttpClient::new(Reach::Everywhere)?),
        );
        let new = NewWebhook::new(url.parse()?, vec![EventKind::Message]);
        let (_, secret) = webhooks.create(new).await?;
        let system = business(Orders {
            api: format!("http://{api}"),
            key: key.expose().to_owned(),
            secret: secret.expose().to_owned(),
        });
        tokio::spawn(async move { axum::serve(listener, system).await });

        let to = Destination::parse("/user/orders")?;
        gateway.send(SendRequest::new(alice.clone(), to, "where is 17")).await?;
        let conversation = ConversationId::direct(&alice, &orders);
        let answered = async {
            loop {
                let page = Page::between(None, None, 10);
                let history = gateway.history(&alice, &conversation, page).await?;
                if let Some(answer) = history.messages.get(1) {
                    return Ok::<_, Failure>(answer.body.clone());
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        let patience = std::time::Duration::from_secs(30);
        assert_eq!(
            &tokio::time::timeout(patience, answered).await??[..],
            b"order 17 is on its way"
        );

        // What the chat did not sign is not believed.
        let forged = json!({"data": {"from": "alice", "conversation": "direct:alice:orders",
            "body": "where is 1"}});
        assert_eq!(embedding::post(&url, None, &forged).await?.0, 401);
        gateway.shutdown().await;
        Ok(())
    }
}
