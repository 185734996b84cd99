use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::RestApi;
use super::caller::Caller;
use super::input::{InPath, InQuery};
use super::messages::shown;
use super::problem::Problem;
use crate::gateway::Gateway;
use crate::names::{ConversationId, ConversationKind, UserName};
use crate::presence::Presence;
use crate::store::{ConversationSummary, Page};

/// How many conversations a list has at most.
const MAX_CONVERSATIONS: usize = 500;

/// How many messages a page of a history has, unless the caller says.
const DEFAULT_PAGE: usize = 50;

/// How many messages a page of a history has at most.
const MAX_PAGE: usize = 200;

const NO_SUCH_CONVERSATION: &str = "there is no such conversation";

/// `GET /conversations`
pub(super) async fn list(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
) -> Result<Json<Value>, Problem> {
    let summaries = rest.gateway.conversations(&user, MAX_CONVERSATIONS).await?;
    let mut conversations = Vec::with_capacity(summaries.len());
    for summary in &summaries {
        conversations.push(overview(&rest.gateway, &user, summary).await?);
    }
    Ok(Json(json!({ "conversations": conversations })))
}

async fn overview(
    gateway: &Gateway,
    user: &UserName,
    summary: &ConversationSummary,
) -> Result<Value, Problem> {
    let id = &summary.conversation;
    let (kind, destination, title) = match id.kind() {
        ConversationKind::Group(group) => ("group", format!("/group/{group}"), group.to_string()),
        ConversationKind::Direct(..) => {
            let peer = id.peer_of(user).ok_or_else(|| Problem::not_found(NO_SUCH_CONVERSATION))?;
            ("direct", format!("/user/{peer}"), peer.to_string())
        }
    };
    let members: Vec<Value> = gateway
        .members(user, id)
        .await?
        .into_iter()
        .map(|member| {
            let marks = summary.markers.iter().find(|marks| marks.user == member.user);
            json!({
                "user": member.user,
                "role": member.role.as_str(),
                "read": marks.map_or(0, |marks| marks.read),
                "delivered": marks.map_or(0, |marks| marks.delivered),
                "online": gateway.presence(&member.user) == Presence::Online,
            })
        })
        .collect();
    Ok(json!({
        "id": id,
        "kind": kind,
        "destination": destination,
        "title": title,
        "last_seq": summary.last_seq,
        "unread": summary.unread,
        "last_message": summary.last_message.as_ref().map(shown),
        "members": members,
    }))
}

/// The query of `GET /conversations/ID/messages`.
#[derive(Debug, Deserialize)]
pub(super) struct Range {
    before: Option<u64>,
    after: Option<u64>,
    limit: Option<usize>,
}

/// `GET /conversations/ID/messages`
pub(super) async fn history(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    InPath(id): InPath<String>,
    InQuery(range): InQuery<Range>,
) -> Result<Json<Value>, Problem> {
    let limit = range.limit.unwrap_or(DEFAULT_PAGE);
    if limit == 0 || limit > MAX_PAGE {
        return Err(Problem::invalid("limit", format_args!("must be 1 to {MAX_PAGE}")));
    }
    let id = ConversationId::new(&id).map_err(|_| Problem::not_found(NO_SUCH_CONVERSATION))?;
    let page = Page::between(range.after, range.before, limit);
    let history = rest
        .gateway
        .history(&user, &id, page)
        .await
        .map_err(|error| Problem::hiding(error, NO_SUCH_CONVERSATION))?;
    let messages: Vec<Value> = history.messages.iter().map(shown).collect();
    Ok(Json(json!({
        "messages": messages,
        "first_seq": history.position.first_seq,
        "last_seq": history.position.last_seq,
        "epoch": history.position.epoch.as_str(),
    })))
}
