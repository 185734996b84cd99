use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::RestApi;
use super::caller::Caller;
use super::input::{JsonBody, idempotency_key};
use super::problem::Problem;
use crate::destination::Destination;
use crate::names::{ConversationId, UserName};
use crate::send::{SendRequest, Sent};
use crate::trace::{TRACEPARENT, TRACESTATE};

pub(super) use crate::archive::MessageLine as Message;

/// A message to send.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Outgoing {
    /// A destination that takes a SEND.
    #[schema(example = "/user/bob")]
    to: String,
    #[serde(default)]
    body: String,
    /// `message` unless given; or `edit`, `recall`, `reaction`, `read`, `delivered`, `typing`.
    kind: Option<String>,
    /// For `read` and `delivered`: the `seq` up to which.
    up_to: Option<u64>,
    /// As the header of that name: 1 to 128 octets.
    idempotency_key: Option<String>,
    /// The `id` of the message that is answered or, by `edit`, `recall` and `reaction`, changed.
    in_reply_to: Option<String>,
    /// Names of users, as the clients agree on.
    mentions: Option<String>,
    /// Not delivered and not shown from this time on, in milliseconds since 1970 (UTC).
    expires: Option<u64>,
    /// The `id` of an attachment that it refers to.
    attachment: Option<String>,
    /// `text/plain` unless given.
    content_type: Option<String>,
}

/// Where the message is in its conversation; empty for what is not stored: a signal, or what went to
/// a queue or a topic.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Receipt {
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    conversation: Option<ConversationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    /// When it was stored, in milliseconds since 1970 (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
    /// Whether its idempotency key was seen before, so that nothing new was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<bool>,
}

/// Send a message.
///
/// The answer means what a RECEIPT means: stored, and confirmed by the broker for every recipient.
#[utoipa::path(
    post, path = "/messages", tag = "messages", operation_id = "send",
    security(("key" = ["send"])),
    params(
        ("Idempotency-Key" = Option<String>, Header,
            description = "The same key from the same sender within 24 hours sends nothing new."),
        ("traceparent" = Option<String>, Header,
            description = "The trace that the message belongs to (W3C); it travels along, with `tracestate`."),
    ),
    request_body = Outgoing,
    responses((status = 201, description = "It was sent.", body = Receipt))
)]
pub(super) async fn send(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    headers: HeaderMap,
    JsonBody(outgoing): JsonBody<Outgoing>,
) -> Result<(StatusCode, Json<Receipt>), Problem> {
    let request = request(user, &headers, outgoing)?;
    let answer = match rest.gateway.send(request).await? {
        Sent::Stored(receipt) => Receipt {
            message_id: Some(receipt.message_id.to_string()),
            conversation: Some(receipt.conversation),
            seq: Some(receipt.seq),
            timestamp: Some(receipt.timestamp),
            duplicate: Some(receipt.duplicate),
        },
        Sent::Published => Receipt::default(),
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

fn request(
    user: UserName,
    headers: &HeaderMap,
    outgoing: Outgoing,
) -> Result<SendRequest, Problem> {
    let to = Destination::parse(&outgoing.to).map_err(|error| Problem::invalid("to", error))?;
    let key = match (idempotency_key(headers)?, outgoing.idempotency_key) {
        (Some(header), Some(in_body)) if header != in_body => {
            let both = "differs from idempotency_key in the body";
            return Err(Problem::invalid("Idempotency-Key", both));
        }
        (header, in_body) => header.or(in_body),
    };
    let content_type = outgoing.content_type.as_deref().unwrap_or("text/plain");
    let mut request =
        SendRequest::new(user, to, outgoing.body).with_header("content-type", content_type)?;
    if let Some(mentions) = &outgoing.mentions {
        request = request.with_header("mentions", mentions)?;
    }
    if let Some(expires) = outgoing.expires {
        request = request.with_header("expires", &expires.to_string())?;
    }
    if let Some(key) = key {
        request = request.with_idempotency_key(&key)?;
    }
    if let Some(kind) = &outgoing.kind {
        let up_to = outgoing.up_to.map(|seq| seq.to_string());
        request = request.with_kind(kind, up_to.as_deref())?;
    }
    if let Some(attachment) = &outgoing.attachment {
        request = request.with_header("attachment", attachment)?;
    }
    if let Some(message) = &outgoing.in_reply_to {
        request = request.with_header("in-reply-to", message)?;
    }
    for name in [TRACEPARENT, TRACESTATE] {
        // Several of one are one list, and no `traceparent`.
        let all = headers.get_all(name).iter().map(|value| value.to_str());
        if let Ok(all) = all.collect::<Result<Vec<_>, _>>() {
            request = request.with_header(name, &all.join(","))?;
        }
    }
    Ok(request)
}
