use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::RestApi;
use super::caller::Caller;
use super::conversations::NO_SUCH_CONVERSATION;
use super::input::{InQuery, page_size};
use super::messages::Message;
use super::problem::Problem;
use crate::names::ConversationId;
use crate::store::{SearchCursor, SearchTerms};

/// The query of `GET /search`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Query {
    /// Words, all of which a message has; `"two words"` side by side, `wo*` for what begins so.
    #[param(example = "\"next week\" 会议 proj*")]
    q: String,
    /// Only in this conversation.
    conversation: Option<String>,
    /// Only what comes after this place: `next` of an earlier page.
    before: Option<String>,
    /// How many at most; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// A page of what a search has found.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Matches {
    /// The newest first.
    messages: Vec<Message>,
    /// Where to go on: `before` of the next call.
    next: Option<String>,
}

/// Find messages by their words, in what the caller may read.
#[utoipa::path(
    get, path = "/search", tag = "conversations", operation_id = "search",
    security(("key" = ["read"])),
    params(Query),
    responses((status = 200, description = "A page of messages.", body = Matches))
)]
pub(super) async fn search(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    InQuery(query): InQuery<Query>,
) -> Result<Json<Matches>, Problem> {
    let limit = page_size(query.limit)?;
    let terms: SearchTerms = query.q.parse().map_err(|error| Problem::invalid("q", error))?;
    let cursor = |text: &String| text.parse().map_err(|error| Problem::invalid("before", error));
    let before: Option<SearchCursor> = query.before.as_ref().map(cursor).transpose()?;
    let within = query.conversation.as_deref().map(ConversationId::new).transpose();
    let within = within.map_err(|_| Problem::not_found(NO_SUCH_CONVERSATION))?;
    let found = rest
        .gateway
        .search(&user, within.as_ref(), terms, before, limit)
        .await
        .map_err(|error| Problem::hiding(error, NO_SUCH_CONVERSATION))?;
    Ok(Json(Matches {
        messages: found.messages.iter().map(Message::from).collect(),
        next: found.next.map(|cursor| cursor.to_string()),
    }))
}
