use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::RestApi;
use super::caller::Caller;
use super::input::{InPath, InQuery, page_size};
use super::messages::Message;
use super::problem::Problem;
use crate::gateway::Gateway;
use crate::names::{ConversationId, ConversationKind, UserName};
use crate::presence::Presence;
use crate::store::{ConversationCursor, ConversationSummary, Page};

pub(super) const NO_SUCH_CONVERSATION: &str = "there is no such conversation";

/// The query of `GET /conversations`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// The `next` of the page before; without it, the first page.
    cursor: Option<String>,
    /// How many at most; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// A page of the conversations of a user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Conversations {
    conversations: Vec<Conversation>,
    /// The `cursor` of the next page; null where there is none.
    next: Option<String>,
}

/// A conversation, as one of its members sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Conversation {
    #[schema(value_type = String, example = "direct:alice:bob")]
    id: ConversationId,
    /// `direct`, `group`, or `broadcast` for what operators tell.
    kind: &'static str,
    /// Where to send to.
    destination: String,
    title: String,
    last_seq: u64,
    unread: u64,
    last_message: Option<Message>,
    /// Whether the caller may send there; `false` for who only hears what operators tell.
    writable: bool,
    members: Vec<Standing>,
}

/// A member of a conversation, and how far this member has come.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Standing {
    #[schema(value_type = String)]
    user: UserName,
    /// `owner`, `admin` or `member`.
    role: &'static str,
    /// Everything up to this `seq` was read.
    read: u64,
    /// Everything up to this `seq` was delivered.
    delivered: u64,
    /// At least one session is signed in.
    online: bool,
    /// All of these have said that nobody looks at them.
    away: bool,
}

/// The caller's conversations, the latest first.
#[utoipa::path(
    get, path = "/conversations", tag = "conversations", operation_id = "listConversations",
    security(("key" = ["read"])), params(Which),
    responses((status = 200, description = "A page of them.", body = Conversations))
)]
pub(super) async fn list(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    InQuery(which): InQuery<Which>,
) -> Result<Json<Conversations>, Problem> {
    let limit = page_size(which.limit)?;
    let after = which.cursor.as_deref().map(str::parse::<ConversationCursor>).transpose();
    let after = after.map_err(|_| Problem::invalid("cursor", "must be the `next` of a page"))?;
    let summaries = rest.gateway.conversations(&user, after.as_ref(), limit).await?;
    let next = summaries.last().filter(|_| summaries.len() == limit).map(ConversationCursor::of);
    let hidden = rest.gateway.directory().blockers(&user).await?;
    let mut conversations = Vec::with_capacity(summaries.len());
    for summary in &summaries {
        conversations.push(overview(&rest.gateway, &user, summary, &hidden).await?);
    }
    Ok(Json(Conversations { conversations, next: next.map(|cursor| cursor.to_string()) }))
}

async fn overview(
    gateway: &Gateway,
    user: &UserName,
    summary: &ConversationSummary,
    hidden: &[UserName],
) -> Result<Conversation, Problem> {
    let id = &summary.conversation;
    let (kind, destination, title) = match id.kind() {
        ConversationKind::Group(group) => {
            let settings = gateway.directory().settings(&group).await?.unwrap_or_default();
            let title = Some(settings.title).filter(|title| !title.is_empty());
            let title = title.unwrap_or_else(|| group.to_string());
            ("group", format!("/group/{group}"), title)
        }
        ConversationKind::Broadcast(to) => {
            ("broadcast", format!("/broadcast/{to}"), to.to_string())
        }
        ConversationKind::Direct(..) => {
            let peer = id.peer_of(user).ok_or_else(|| Problem::not_found(NO_SUCH_CONVERSATION))?;
            ("direct", format!("/user/{peer}"), peer.to_string())
        }
    };
    let members = gateway.members(user, id).await?;
    let users: Vec<UserName> = members.iter().map(|member| member.user.clone()).collect();
    let members = members
        .into_iter()
        .zip(gateway.presence(&users).await?)
        .map(|(member, presence)| {
            let marks = summary.markers.iter().find(|marks| marks.user == member.user);
            Standing {
                role: member.role.as_str(),
                read: marks.map_or(0, |marks| marks.read),
                delivered: marks.map_or(0, |marks| marks.delivered),
                online: presence.is_online() && !hidden.contains(&member.user),
                away: presence == Presence::Away && !hidden.contains(&member.user),
                user: member.user,
            }
        })
        .collect();
    Ok(Conversation {
        id: id.clone(),
        kind,
        destination,
        title,
        last_seq: summary.last_seq,
        unread: summary.unread,
        writable: !id.is_broadcast() || gateway.may_send(user, id).await?,
        last_message: summary.last_message.as_ref().map(Message::from),
        members,
    })
}

/// The query of `GET /conversations/ID/messages/MESSAGE`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Version {
    /// As it was before its first edit.
    #[serde(default)]
    original: bool,
}

/// One message of a conversation, as it is now or as it was at first.
#[utoipa::path(
    get, path = "/conversations/{id}/messages/{message}", tag = "conversations",
    operation_id = "showMessage",
    security(("key" = ["read"])),
    params(
        ("id" = String, Path, description = "`direct:ALICE:BOB`, the names sorted by octet, or `group:NAME`."),
        ("message" = String, Path, description = "The `id` of the message."),
        Version,
    ),
    responses((status = 200, description = "The message.", body = Message))
)]
pub(super) async fn message(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    InPath((id, message)): InPath<(String, String)>,
    InQuery(version): InQuery<Version>,
) -> Result<Json<Message>, Problem> {
    let id = ConversationId::new(&id).map_err(|_| Problem::not_found(NO_SUCH_CONVERSATION))?;
    let no_message = || Problem::not_found("there is no such message");
    let message = message.parse().map_err(|_| no_message())?;
    let found = rest
        .gateway
        .message(&user, &id, message, version.original)
        .await
        .map_err(|error| Problem::hiding(error, NO_SUCH_CONVERSATION))?;
    Ok(Json(Message::from(&found.ok_or_else(no_message)?)))
}

/// The query of `GET /conversations/ID/messages`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Range {
    /// Only messages before this `seq`.
    before: Option<u64>,
    /// Only messages after this `seq`, from the first one on; without it, the last ones.
    after: Option<u64>,
    /// How many at most; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// A page of a conversation's messages.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Messages {
    /// In the order of `seq`.
    messages: Vec<Message>,
    /// The first one that the server has of this conversation.
    first_seq: u64,
    /// The last one that the server has of this conversation.
    last_seq: u64,
    /// Changes only if the server lost the history.
    epoch: String,
}

/// The messages of a conversation, for a member: whoever is none gets 404.
#[utoipa::path(
    get, path = "/conversations/{id}/messages", tag = "conversations", operation_id = "history",
    security(("key" = ["read"])),
    params(
        ("id" = String, Path, description = "`direct:ALICE:BOB`, the names sorted by octet, or `group:NAME`."),
        Range,
    ),
    responses((status = 200, description = "A page of messages.", body = Messages))
)]
pub(super) async fn history(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    InPath(id): InPath<String>,
    InQuery(range): InQuery<Range>,
) -> Result<Json<Messages>, Problem> {
    let limit = page_size(range.limit)?;
    let id = ConversationId::new(&id).map_err(|_| Problem::not_found(NO_SUCH_CONVERSATION))?;
    let page = Page::between(range.after, range.before, limit);
    let history = rest
        .gateway
        .history(&user, &id, page)
        .await
        .map_err(|error| Problem::hiding(error, NO_SUCH_CONVERSATION))?;
    Ok(Json(Messages {
        messages: history.messages.iter().map(Message::from).collect(),
        first_seq: history.position.first_seq,
        last_seq: history.position.last_seq,
        epoch: history.position.epoch.as_str().to_owned(),
    }))
}
