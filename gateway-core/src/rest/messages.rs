use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::RestApi;
use super::caller::Caller;
use super::input::JsonBody;
use super::problem::Problem;
use crate::destination::Destination;
use crate::send::{SendRequest, Sent};
use crate::store::StoredMessage;

/// A message to send.
#[derive(Debug, Deserialize)]
pub(super) struct Outgoing {
    to: String,
    body: String,
    kind: Option<String>,
    up_to: Option<u64>,
    idempotency_key: Option<String>,
    in_reply_to: Option<String>,
    content_type: Option<String>,
}

/// `POST /messages`
pub(super) async fn send(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    headers: HeaderMap,
    JsonBody(outgoing): JsonBody<Outgoing>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let request = request(user, &headers, outgoing)?;
    let answer = match rest.gateway.send(request).await? {
        Sent::Stored(receipt) => json!({
            "message_id": receipt.message_id.to_string(),
            "conversation": receipt.conversation,
            "seq": receipt.seq,
            "timestamp": receipt.timestamp,
            "duplicate": receipt.duplicate,
        }),
        Sent::Published => json!({}),
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

fn request(
    user: crate::names::UserName,
    headers: &HeaderMap,
    outgoing: Outgoing,
) -> Result<SendRequest, Problem> {
    let to = Destination::parse(&outgoing.to).map_err(|error| Problem::invalid("to", error))?;
    let key = match (headers.get("idempotency-key"), outgoing.idempotency_key) {
        (None, key) => key,
        (Some(header), in_body) => {
            let header = header
                .to_str()
                .map_err(|_| Problem::invalid("Idempotency-Key", "must be visible ASCII"))?;
            if in_body.is_some_and(|in_body| in_body != header) {
                let both = "differs from idempotency_key in the body";
                return Err(Problem::invalid("Idempotency-Key", both));
            }
            Some(header.to_owned())
        }
    };
    let content_type = outgoing.content_type.as_deref().unwrap_or("text/plain");
    let mut request =
        SendRequest::new(user, to, outgoing.body).with_header("content-type", content_type)?;
    if let Some(key) = key {
        request = request.with_idempotency_key(&key)?;
    }
    if let Some(kind) = &outgoing.kind {
        let up_to = outgoing.up_to.map(|seq| seq.to_string());
        request = request.with_kind(kind, up_to.as_deref())?;
    }
    if let Some(message) = &outgoing.in_reply_to {
        request = request.with_header("in-reply-to", message)?;
    }
    Ok(request)
}

/// A stored message as REST shows it.
pub(super) fn shown(message: &StoredMessage) -> Value {
    let (body, encoding) = match std::str::from_utf8(&message.body) {
        Ok(text) => (text.to_owned(), "utf8"),
        Err(_) => (STANDARD.encode(&message.body), "base64"),
    };
    let mut content_type = Value::Null;
    let mut headers = Map::new();
    for (name, value) in &message.headers {
        if name == "content-type" {
            content_type = json!(value);
        } else {
            headers.entry(name.clone()).or_insert_with(|| json!(value));
        }
    }
    if let Some(key) = &message.idempotency_key {
        headers.insert("idempotency-key".to_owned(), json!(key));
    }
    json!({
        "id": message.message_id.to_string(),
        "conversation": message.conversation,
        "seq": message.seq,
        "from": message.sender,
        "timestamp": message.timestamp,
        "kind": message.kind.as_str(),
        "body": body,
        "body_encoding": encoding,
        "content_type": content_type,
        "headers": headers,
    })
}
