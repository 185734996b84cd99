use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::{IntoParams, ToSchema};

use super::RestApi;
use super::caller::Caller;
use super::conversations::NO_SUCH_CONVERSATION;
use super::input::{InPath, InQuery, idempotency_key};
use super::once::OTHER_BODY;
use super::problem::Problem;
use crate::error::GatewayError;
use crate::keys::record_id;
use crate::names::{ConversationId, UserName};
use crate::registry::{Record, RecordKind};

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

/// What an upload with an idempotency key has made.
#[derive(Serialize, Deserialize)]
struct Made {
    id: String,
    size: u64,
    /// A hash of the content and of all that was said about it.
    digest: String,
}

/// Keep a file for the members of a conversation. The body is its content, `Content-Type` its type.
#[utoipa::path(
    post, path = "/conversations/{id}/attachments", tag = "attachments", operation_id = "upload",
    security(("key" = ["send"])),
    params(
        ("id" = String, Path, description = "`direct:ALICE:BOB`, the names sorted by octet, or `group:NAME`."),
        Named,
        ("Idempotency-Key" = Option<String>, Header,
            description = "The same upload with the same key gives the attachment that there is."),
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
    let key = idempotency_key(&headers)?;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let content_type = text(header::CONTENT_TYPE).unwrap_or("application/octet-stream");
    let size = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let upload = rest.gateway.upload(&user, &id, &named.name, content_type, size).await;
    let mut upload = upload.map_err(|error| Problem::hiding(error, NO_SUCH_CONVERSATION))?;
    let mut digest = Sha256::new();
    for said in [id.as_str(), &named.name, content_type] {
        // None of them has a line break.
        digest.update(said);
        digest.update("\n");
    }
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part =
            part.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
        digest.update(&part);
        upload.write(part).await.map_err(GatewayError::from)?;
    }
    let size = upload.size();
    let Some(key) = key else {
        let id = upload.finish().await.map_err(GatewayError::from)?.to_string();
        return Ok((StatusCode::CREATED, Json(Attachment { id, size })));
    };
    // No name of a user begins with a slash: nothing else is noted under this one.
    let record = record_id(&format!("/upload/{user}"), Some(&key));
    let digest = digest.finalize().iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    if let Some(made) = made_before(&rest, &user, &record, &digest).await? {
        // What has come is dropped.
        return Ok((StatusCode::CREATED, Json(made)));
    }
    let id = upload.finish().await.map_err(GatewayError::from)?.to_string();
    let made = serde_json::to_string(&Made { id: id.clone(), size, digest: digest.clone() });
    let noted = Record::new(&record, made.unwrap_or_default());
    let is_new = rest.gateway.registry().insert(RecordKind::Made, &noted).await;
    if is_new.map_err(GatewayError::from)? {
        return Ok((StatusCode::CREATED, Json(Attachment { id, size })));
    }
    // A repeat was quicker. No message refers to this one, so that it will be removed.
    let made = made_before(&rest, &user, &record, &digest).await?;
    Ok((StatusCode::CREATED, Json(made.unwrap_or(Attachment { id, size }))))
}

/// What an earlier call with the key has made, if that is still there.
async fn made_before(
    rest: &RestApi,
    user: &UserName,
    record: &str,
    digest: &str,
) -> Result<Option<Attachment>, Problem> {
    let registry = rest.gateway.registry();
    let noted = registry.get(RecordKind::Made, record).await.map_err(GatewayError::from)?;
    let made = noted.and_then(|noted| serde_json::from_str::<Made>(&noted.content).ok());
    let Some(made) = made else { return Ok(None) };
    if made.digest != digest {
        return Err(Problem::invalid("Idempotency-Key", OTHER_BODY));
    }
    let id = made.id.parse().map_err(|_| Problem::not_found(NO_SUCH_ATTACHMENT))?;
    match rest.gateway.attachment(user, id).await {
        Ok(_) => Ok(Some(Attachment { id: made.id, size: made.size })),
        Err(GatewayError::Refused(_)) => {
            // No message ever referred to it, and it was removed.
            registry.remove(RecordKind::Made, record).await.map_err(GatewayError::from)?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
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
