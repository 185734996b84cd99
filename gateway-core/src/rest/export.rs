use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;

use super::RestApi;
use super::attachments::disposition;
use super::caller::Caller;
use super::conversations::NO_SUCH_CONVERSATION;
use super::input::InPath;
use super::messages::Message;
use super::problem::Problem;
use crate::names::ConversationId;
use crate::store::StoredMessage;

/// All messages of a conversation that the caller may read, one JSON object a line, in the order of `seq`.
///
/// An answer that breaks off is not complete: its last chunk is missing.
#[utoipa::path(
    get, path = "/conversations/{id}/export", tag = "conversations", operation_id = "export",
    security(("key" = ["read"])),
    params(
        ("id" = String, Path, description = "`direct:ALICE:BOB`, the names sorted by octet, or `group:NAME`."),
    ),
    responses((status = 200, description = "The messages.", body = String,
        content_type = "application/x-ndjson"))
)]
pub(super) async fn export(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    InPath(id): InPath<String>,
) -> Result<Response, Problem> {
    let id = ConversationId::new(&id).map_err(|_| Problem::not_found(NO_SUCH_CONVERSATION))?;
    let export = rest.gateway.export(&user, &id).await;
    let export = export.map_err(|error| Problem::hiding(error, NO_SUCH_CONVERSATION))?;
    let mut response =
        Body::from_stream(export.map(|part| part.map(|part| lines(&part)))).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    let name = format!("{id}.ndjson").replace(':', "-");
    if let Ok(name) = HeaderValue::from_str(&disposition(&name)) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

fn lines(part: &[StoredMessage]) -> Bytes {
    let mut lines = Vec::new();
    for message in part {
        // Of texts and numbers; writing to a vector cannot fail.
        let _ = serde_json::to_writer(&mut lines, &Message::from(message));
        lines.push(b'\n');
    }
    lines.into()
}
