//! What those who run a node see and do: who is connected, what is consumed, and ending sessions.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mq_bridge::{BrokerError, Source, SourceStats};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::RestApi;
use super::caller::Caller;
use super::input::{InPath, InQuery, page_size};
use super::problem::Problem;
use crate::address;
use crate::destination::Destination;
use crate::error::GatewayError;
use crate::names::{DeviceName, UserName};
use crate::session::PREFETCH;
use crate::sessions::SessionInfo;

/// What a session is told that an administrator ends.
const REASON: &str = "ended by an administrator";

/// The query of `GET /admin/sessions`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only those of this user.
    user: Option<String>,
    /// Only slow ones: a page holds those among the next `limit` sessions, and may be empty before the last.
    #[serde(default)]
    slow: bool,
    /// The `next` of the page before; without it, the first page.
    cursor: Option<String>,
    /// How many are looked at; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// A session of this node.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Session {
    /// Its name on this node.
    id: String,
    #[schema(value_type = String)]
    user: UserName,
    #[schema(value_type = String)]
    device: DeviceName,
    /// Where it comes from; null where that is not known.
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
    /// When it signed in, in milliseconds since 1970 (UTC).
    since: u64,
    /// How many messages wait for its device, the unacknowledged included; null where the broker does not count.
    depth: Option<u64>,
    /// How many of them were sent and are not acknowledged.
    unacked: Option<u64>,
    /// Whether nothing more is sent, to its inbox or another subscription, before it acknowledges.
    slow: bool,
}

/// A page of sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sessions {
    sessions: Vec<Session>,
    /// The `cursor` of the next page; null where there is none.
    next: Option<String>,
}

/// Who is connected to this node, in the order of signing in.
#[utoipa::path(
    get, path = "/admin/sessions", tag = "admin", operation_id = "listSessions",
    security(("key" = ["operate"])), params(Which),
    responses((status = 200, description = "A page of sessions.", body = Sessions))
)]
pub(super) async fn sessions(
    State(rest): State<Arc<RestApi>>,
    _: Caller,
    InQuery(which): InQuery<Which>,
) -> Result<Json<Sessions>, Problem> {
    let limit = page_size(which.limit)?;
    let user = which.user.as_deref().map(UserName::new).transpose();
    let user = user.map_err(|error| Problem::invalid("user", error))?;
    let after = which.cursor.as_deref().map(str::parse).transpose();
    let after = after.map_err(|_| Problem::invalid("cursor", "must be the `next` of a page"))?;
    let found = rest.gateway.inner.sessions.page(user.as_ref(), after, limit);
    let next = found.last().filter(|_| found.len() == limit).map(|last| last.number.to_string());
    let mut sessions = Vec::with_capacity(found.len());
    for info in found {
        let session = seen(&rest, info).await?;
        if session.slow || !which.slow {
            sessions.push(session);
        }
    }
    Ok(Json(Sessions { sessions, next }))
}

async fn seen(rest: &RestApi, info: SessionInfo) -> Result<Session, Problem> {
    let inbox = Source::durable(address::device_inbox(&info.user, &info.device));
    let stats = stats(rest, &inbox).await?;
    let (depth, unacked) = (stats.map(|stats| stats.depth), stats.map(|stats| stats.unacked));
    Ok(Session {
        slow: info.stalled() > 0 || unacked.is_some_and(|unacked| unacked >= PREFETCH.into()),
        id: info.number.to_string(),
        user: info.user,
        device: info.device,
        address: info.address,
        since: info.since,
        depth,
        unacked,
    })
}

/// The numbers of a source; zeros where there is none, `None` where the broker does not count.
async fn stats(rest: &RestApi, source: &Source) -> Result<Option<SourceStats>, Problem> {
    match rest.gateway.broker().stats(source).await {
        Ok(stats) => Ok(Some(stats)),
        Err(BrokerError::NotDeclared { .. }) => Ok(Some(SourceStats::default())),
        Err(BrokerError::Unsupported(_)) => Ok(None),
        Err(error) => Err(GatewayError::from(error).into()),
    }
}

/// End a session of this node.
#[utoipa::path(
    delete, path = "/admin/sessions/{id}", tag = "admin", operation_id = "endSession",
    security(("key" = ["operate"])),
    params(("id" = String, Path, description = "The session's `id`.")),
    responses((status = 204, description = "It ends."))
)]
pub(super) async fn end_session(
    State(rest): State<Arc<RestApi>>,
    _: Caller,
    InPath(id): InPath<String>,
) -> Result<StatusCode, Problem> {
    let number = id.parse().ok();
    if number.is_some_and(|number| rest.gateway.inner.sessions.end_one(number, REASON)) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found("there is no such session on this node"))
    }
}

/// What has ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ended {
    /// How many sessions there were on this node.
    ended: usize,
}

/// End all sessions of a user, on all nodes. The user may sign in again.
#[utoipa::path(
    delete, path = "/admin/users/{user}/sessions", tag = "admin", operation_id = "endSessions",
    security(("key" = ["operate"])),
    params(("user" = String, Path, description = "The name of the user.")),
    responses((status = 200, description = "They end.", body = Ended))
)]
pub(super) async fn end_sessions(
    State(rest): State<Arc<RestApi>>,
    _: Caller,
    InPath(user): InPath<String>,
) -> Result<Json<Ended>, Problem> {
    let user = UserName::new(&user).map_err(|_| Problem::not_found("there is no such user"))?;
    Ok(Json(Ended { ended: rest.gateway.kick(&user, REASON).await? }))
}

/// The query of `GET /admin/destinations`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// This one alone, whether it is consumed here or not: `/queue/...` or `/topic/...`.
    name: Option<String>,
    /// The `next` of the page before; without it, the first page.
    #[serde(default)]
    cursor: String,
    /// How many at most; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// A destination.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Destination)]
pub(super) struct Shown {
    /// `/queue/...`, `/topic/...`, or `durable.USER.ID` for a durable subscription.
    name: String,
    /// Messages that it keeps; 0 for a topic, null where the broker does not count.
    depth: Option<u64>,
    /// How many of them were sent and are not acknowledged.
    unacked: Option<u64>,
    /// Subscriptions: of a topic those of this node, else those of all nodes.
    consumers: Option<u64>,
    /// Messages that this node was given for it, repeats included, since somebody here listens: 0 where nobody does.
    /// A topic's message counts once, however many listen.
    taken: u64,
}

/// A page of destinations.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Destinations {
    destinations: Vec<Shown>,
    /// The `cursor` of the next page; null where there is none.
    next: Option<String>,
}

/// The queues, topics and durable subscriptions that sessions of this node listen to, by name.
#[utoipa::path(
    get, path = "/admin/destinations", tag = "admin", operation_id = "listDestinations",
    security(("key" = ["operate"])), params(Asked),
    responses((status = 200, description = "A page of destinations.", body = Destinations))
)]
pub(super) async fn destinations(
    State(rest): State<Arc<RestApi>>,
    _: Caller,
    InQuery(asked): InQuery<Asked>,
) -> Result<Json<Destinations>, Problem> {
    let limit = page_size(asked.limit)?;
    let names = match &asked.name {
        Some(name) => match Destination::parse(name) {
            Ok(Destination::Queue(queue)) => vec![address::queue(&queue)],
            Ok(Destination::Topic(topic)) => vec![address::topic(&topic)],
            _ => return Err(Problem::invalid("name", "must be /queue/... or /topic/...")),
        },
        None => consumed(&rest, &asked.cursor, limit),
    };
    let next = names.last().filter(|_| names.len() == limit && asked.name.is_none()).cloned();
    let mut destinations = Vec::with_capacity(names.len());
    for name in names {
        destinations.push(numbers(&rest, name).await?);
    }
    Ok(Json(Destinations { destinations, next }))
}

/// Names in the broker, behind the one named `after`.
fn consumed(rest: &RestApi, after: &str, limit: usize) -> Vec<String> {
    let inner = &rest.gateway.inner;
    let mut names = inner.consumed.names();
    names.extend(inner.hub.patterns().filter(|name| name.starts_with("topic.")));
    names.retain(|name| name.as_str() > after);
    names.sort_unstable();
    names.truncate(limit);
    names
}

async fn numbers(rest: &RestApi, name: String) -> Result<Shown, Problem> {
    if let Some(topic) = name.strip_prefix("topic.") {
        let (consumers, taken) = rest.gateway.inner.hub.numbers(&name);
        let (name, consumers) = (format!("/topic/{topic}"), Some(consumers as u64));
        return Ok(Shown { name, depth: Some(0), unacked: Some(0), consumers, taken });
    }
    let taken = rest.gateway.inner.consumed.taken(&name);
    let (source, name) = match name.strip_prefix("queue.") {
        Some(queue) => (Source::queue(name.as_str()), format!("/queue/{queue}")),
        None => (Source::durable(name.as_str()), name.clone()),
    };
    let stats = stats(rest, &source).await?;
    Ok(Shown {
        name,
        depth: stats.map(|stats| stats.depth),
        unacked: stats.map(|stats| stats.unacked),
        consumers: stats.map(|stats| stats.consumers),
        taken,
    })
}

/// Drain this node: it takes no new session and ends the others, each at a moment of its own.
///
/// All else goes on, this call included, until the process is told to end.
#[utoipa::path(
    post, path = "/admin/drain", tag = "admin", operation_id = "drain",
    security(("key" = ["operate"])),
    responses((status = 202, description = "It has begun."))
)]
pub(super) async fn drain(State(rest): State<Arc<RestApi>>, _: Caller) -> StatusCode {
    let gateway = rest.gateway.clone();
    tokio::spawn(async move { gateway.drain().await });
    StatusCode::ACCEPTED
}
