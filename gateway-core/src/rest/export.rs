use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::{Buf as _, BytesMut};
use futures::StreamExt as _;
use serde::Serialize;
use utoipa::ToSchema;

use super::RestApi;
use super::attachments::disposition;
use super::caller::Caller;
use super::conversations::NO_SUCH_CONVERSATION;
use super::input::InPath;
use super::problem::Problem;
use crate::archive::{ImportError, ImportFault, MAX_IMPORT_LINE};
use crate::names::ConversationId;

/// All of a conversation that the caller may read, one JSON object a line.
///
/// The first line has `record: conversation`; then come, of a group, its members (`record: member`); the messages in
/// the order of `seq`, as in the history, edited ones with `original`; and how far everybody has read
/// (`record: marker`). An answer that breaks off is not complete: its last chunk is missing.
#[utoipa::path(
    get, path = "/conversations/{id}/export", tag = "conversations", operation_id = "export",
    security(("key" = ["read"])),
    params(
        ("id" = String, Path, description = "`direct:ALICE:BOB`, the names sorted by octet, or `group:NAME`."),
    ),
    responses((status = 200, description = "The lines.", body = String,
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
    let mut response = Body::from_stream(export).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    let name = format!("{id}.ndjson").replace(':', "-");
    if let Ok(name) = HeaderValue::from_str(&disposition(&name)) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// What an import has done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImportReport {
    /// How many messages are new here; those that were there already are not counted.
    imported: u64,
}

/// Import a conversation from the lines of an export, as an administrator.
///
/// The conversation must be new, or have been imported from the same export: what is there already is passed over, so
/// that an import can be repeated. A line that is not taken is named (422; 409 where the conversation has other
/// messages); what stands before it stays. A line has at most 8 MiB.
#[utoipa::path(
    post, path = "/conversations/{id}/import", tag = "conversations", operation_id = "import",
    security(("key" = ["admin"])),
    params(
        ("id" = String, Path, description = "`direct:ALICE:BOB`, the names sorted by octet, or `group:NAME`."),
    ),
    request_body(content = String, content_type = "application/x-ndjson"),
    responses((status = 200, description = "All of it is here.", body = ImportReport))
)]
pub(super) async fn import(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    InPath(id): InPath<String>,
    body: Body,
) -> Result<Json<ImportReport>, Problem> {
    let id = ConversationId::new(&id).map_err(|_| Problem::not_found(NO_SUCH_CONVERSATION))?;
    let mut import = rest.gateway.import(&user, &id);
    let mut parts = body.into_data_stream();
    let mut waiting = BytesMut::new();
    while let Some(part) = parts.next().await {
        let part =
            part.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
        let mut searched = waiting.len();
        waiting.extend_from_slice(&part);
        while let Some(end) = waiting.iter().skip(searched).position(|octet| *octet == b'\n') {
            let line = waiting.split_to(searched + end);
            waiting.advance(1);
            searched = 0;
            import.line(&line).await?;
        }
        // The import says of a line that is too long which one it is.
        if waiting.len() > MAX_IMPORT_LINE {
            break;
        }
    }
    if !waiting.is_empty() {
        import.line(&waiting).await?;
    }
    Ok(Json(ImportReport { imported: import.finish().await? }))
}

impl From<ImportError> for Problem {
    fn from(error: ImportError) -> Self {
        let detail = error.to_string();
        match error.fault {
            ImportFault::Failed(fault) => Self::from(fault).saying(detail),
            ImportFault::Conflict(_) => Self::new(StatusCode::CONFLICT, detail),
            ImportFault::Invalid(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail),
        }
    }
}
