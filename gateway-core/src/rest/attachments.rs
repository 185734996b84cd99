use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::RestApi;
use super::caller::Caller;
use super::conversations::NO_SUCH_CONVERSATION;
use super::input::{InPath, InQuery};
use super::problem::Problem;
use crate::error::GatewayError;
use crate::names::ConversationId;

const NO_SUCH_ATTACHMENT: &str = "there is no such attachment";

/// Nothing that an attachment contains may act, should a browser show it all the same.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; sandbox";

/// The query of `POST /conversations/ID/attachments`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Named {
    /// The name of the file: 1 to 255 octets, no control characters and no slashes.
    name: String,
}

/// An attachment. A message refers to it by the header `attachment`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Attachment {
    /// 32 hexadecimal digits.
    id: String,
    /// How many octets it has.
    size: u64,
}

/// Keep a file for the members of a conversation. The body is its content, `Content-Type` its type.
#[utoipa::path(
    post, path = "/conversations/{id}/attachments", tag = "attachments", operation_id = "upload",
    security(("key" = ["send"])),
    params(
        ("id" = String, Path, description = "`direct:ALICE:BOB`, the names sorted by octet, or `group:NAME`."),
        Named,
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, description = "It is kept.", body = Attachment))
)]
pub(super) async fn upload(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    InPath(id): InPath<String>,
    InQuery(named): InQuery<Named>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Attachment>), Problem> {
    let id = ConversationId::new(&id).map_err(|_| Problem::not_found(NO_SUCH_CONVERSATION))?;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let content_type = text(header::CONTENT_TYPE).unwrap_or("application/octet-stream");
    let size = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let upload = rest.gateway.upload(&user, &id, &named.name, content_type, size).await;
    let mut upload = upload.map_err(|error| Problem::hiding(error, NO_SUCH_CONVERSATION))?;
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part =
            part.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
        upload.write(part).await.map_err(GatewayError::from)?;
    }
    let size = upload.size();
    let id = upload.finish().await.map_err(GatewayError::from)?.to_string();
    Ok((StatusCode::CREATED, Json(Attachment { id, size })))
}

/// The content of an attachment, for the members of its conversation: whoever is none gets 404.
#[utoipa::path(
    get, path = "/attachments/{attachment}", tag = "attachments", operation_id = "download",
    security(("key" = ["read"])),
    params(("attachment" = String, Path, description = "Its `id`.")),
    responses((status = 200, description = "Its content.", body = Vec<u8>,
        content_type = "application/octet-stream"))
)]
pub(super) async fn download(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    InPath(id): InPath<String>,
) -> Result<Response, Problem> {
    let id = id.parse().map_err(|_| Problem::not_found(NO_SUCH_ATTACHMENT))?;
    let blob = rest.gateway.attachment(&user, id).await;
    let blob = blob.map_err(|error| Problem::hiding(error, NO_SUCH_ATTACHMENT))?;
    let mut response = Body::from_stream(blob.content).into_response();
    let headers = response.headers_mut();
    let disposition = HeaderValue::from_str(&disposition(&blob.about.name));
    for (name, value) in [
        (header::CONTENT_TYPE, HeaderValue::from_static(harmless(&blob.about.content_type))),
        (header::CONTENT_LENGTH, HeaderValue::from(blob.size)),
        (
            header::CONTENT_DISPOSITION,
            disposition.unwrap_or(HeaderValue::from_static("attachment")),
        ),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
        // It never changes; but who may read it does.
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
    ] {
        headers.insert(name, value);
    }
    Ok(response)
}

/// The type that a browser is told: one that it plays or shows without running anything, or octets.
fn harmless(content_type: &str) -> &'static str {
    const HARMLESS: [&str; 14] = [
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "image/avif",
        "audio/mpeg",
        "audio/ogg",
        "audio/mp4",
        "audio/wav",
        "audio/webm",
        "video/mp4",
        "video/webm",
        "video/ogg",
        "text/plain",
    ];
    let known = HARMLESS.into_iter().find(|known| *known == content_type);
    known.unwrap_or("application/octet-stream")
}

/// To be saved, under this name (RFC 8187).
pub(super) fn disposition(name: &str) -> String {
    let mut value = "attachment; filename*=UTF-8''".to_owned();
    for octet in name.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            value.push(char::from(octet));
        } else {
            value.push_str(&format!("%{octet:02X}"));
        }
    }
    value
}
