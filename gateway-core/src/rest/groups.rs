use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::RestApi;
use super::caller::Caller;
use super::input::{InPath, JsonBody};
use super::once::Once;
use super::problem::Problem;
use crate::directory::{DirectoryError, GroupSettings, HistoryFrom, Role};
use crate::error::GatewayError;
use crate::names::{GroupName, UserName};

const NO_SUCH_GROUP: &str = "there is no such group, or you are not a member";

/// A group to make.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(super) struct NewGroup {
    #[schema(example = "ops")]
    name: String,
    /// Names of users, beside the owner.
    #[serde(default)]
    members: Vec<String>,
    /// Empty unless given; the name is shown then.
    #[serde(default)]
    title: String,
    /// Whether anybody may join.
    #[serde(default)]
    open: bool,
    /// What members see of the time before they joined: everything (`start`) or nothing (`joining`).
    history: Option<String>,
}

/// A group.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Group {
    #[schema(value_type = String)]
    name: GroupName,
    title: String,
    open: bool,
    /// `start` or `joining`.
    history: &'static str,
    members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupMember {
    #[schema(value_type = String)]
    user: UserName,
    /// `owner`, `admin` or `member`.
    role: &'static str,
    /// Until when the member may not speak, in milliseconds since 1970 (UTC).
    muted_until: Option<u64>,
}

/// Make a group; the caller is its owner.
///
/// 409 where the name is taken; but a repeat of the owner with the same `Idempotency-Key` gets the group, or 422 where it
/// asks for another.
#[utoipa::path(
    post, path = "/groups", tag = "groups", operation_id = "createGroup",
    security(("key" = ["groups"])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 128 octets.")),
    request_body = NewGroup,
    responses((status = 201, description = "The group was made.", body = Group))
)]
pub(super) async fn create(
    State(rest): State<Arc<RestApi>>,
    Caller(owner): Caller,
    headers: HeaderMap,
    JsonBody(group): JsonBody<NewGroup>,
) -> Result<(StatusCode, Json<Group>), Problem> {
    let name = GroupName::new(&group.name).map_err(|error| Problem::invalid("name", error))?;
    let members = group
        .members
        .iter()
        .map(|member| UserName::new(member))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Problem::invalid("members", error))?;
    let history = history(group.history.as_deref())?.unwrap_or_default();
    let once = Once::begin(&rest, &headers, &format!("group/{owner}"), &group).await?;
    let settings = GroupSettings::default()
        .with_title(group.title)
        .with_open(group.open)
        .with_history(history);
    match rest.gateway.create_group_with(&owner, &name, &members, settings).await {
        Ok(()) => {}
        Err(GatewayError::Directory(DirectoryError::GroupExists(_)))
            if once.is_repeat
                && rest.gateway.directory().role(&name, &owner).await? == Some(Role::Owner) => {}
        Err(error) => {
            once.undo().await?;
            return Err(match error {
                GatewayError::Directory(error @ DirectoryError::NoSuchUser(_)) => {
                    Problem::invalid("members", error)
                }
                other => other.into(),
            });
        }
    }
    Ok((StatusCode::CREATED, Json(shown(&rest, name).await?)))
}

/// A group and its members, for a member.
#[utoipa::path(
    get, path = "/groups/{group}", tag = "groups", operation_id = "showGroup",
    security(("key" = ["read"])),
    params(("group" = String, Path, description = "The name of the group.", example = "ops")),
    responses((status = 200, description = "The group.", body = Group))
)]
pub(super) async fn show(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    InPath(name): InPath<String>,
) -> Result<Json<Group>, Problem> {
    let group = known_group(&rest, &user, &name).await?;
    Ok(Json(shown(&rest, group).await?))
}

/// What is to be changed of a group; the rest stays.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct GroupChange {
    title: Option<String>,
    open: Option<bool>,
    /// `start` or `joining`.
    history: Option<String>,
}

/// Change how a group is run, as owner or admin.
#[utoipa::path(
    patch, path = "/groups/{group}", tag = "groups", operation_id = "changeGroup",
    security(("key" = ["groups"])),
    params(("group" = String, Path, description = "The name of the group.")),
    request_body = GroupChange,
    responses((status = 200, description = "The group as it is then.", body = Group))
)]
pub(super) async fn update(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    InPath(name): InPath<String>,
    JsonBody(change): JsonBody<GroupChange>,
) -> Result<Json<Group>, Problem> {
    let group = known_group(&rest, &user, &name).await?;
    let mut settings = rest.gateway.directory().settings(&group).await?.unwrap_or_default();
    settings.title = change.title.unwrap_or(settings.title);
    settings.open = change.open.unwrap_or(settings.open);
    settings.history = history(change.history.as_deref())?.unwrap_or(settings.history);
    rest.gateway.change_group(&user, &group, settings).await?;
    Ok(Json(shown(&rest, group).await?))
}

/// Join an open group.
#[utoipa::path(
    post, path = "/groups/{group}/join", tag = "groups", operation_id = "joinGroup",
    security(("key" = ["groups"])),
    params(("group" = String, Path, description = "The name of the group.")),
    responses((status = 200, description = "The group.", body = Group))
)]
pub(super) async fn join(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    InPath(name): InPath<String>,
) -> Result<Json<Group>, Problem> {
    let group = GroupName::new(&name).map_err(|_| Problem::not_found(NO_SUCH_GROUP))?;
    let joined = rest.gateway.join_group(&user, &group).await;
    joined.map_err(|error| Problem::hiding(error, NO_SUCH_GROUP))?;
    Ok(Json(shown(&rest, group).await?))
}

/// Who shall own a group.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewOwner {
    user: String,
}

/// Hand a group over to another member, as its owner.
#[utoipa::path(
    put, path = "/groups/{group}/owner", tag = "groups", operation_id = "transferGroup",
    security(("key" = ["groups"])),
    params(("group" = String, Path, description = "The name of the group.")),
    request_body = NewOwner,
    responses((status = 204, description = "The member is its owner, the caller an admin."))
)]
pub(super) async fn transfer(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    InPath(name): InPath<String>,
    JsonBody(owner): JsonBody<NewOwner>,
) -> Result<StatusCode, Problem> {
    let group = known_group(&rest, &user, &name).await?;
    let owner = UserName::new(&owner.user).map_err(|error| Problem::invalid("user", error))?;
    rest.gateway.transfer_group(&user, &group, &owner).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What is to be changed of a member; the rest stays.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct MemberChange {
    /// `admin` or `member`.
    role: Option<String>,
    /// Until when the member may not speak, in milliseconds since 1970 (UTC); 0 lets the member speak.
    muted_until: Option<u64>,
}

/// Change the role of a member, as owner; or take the right to speak, as owner or admin.
#[utoipa::path(
    patch, path = "/groups/{group}/members/{user}", tag = "groups", operation_id = "changeMember",
    security(("key" = ["groups"])),
    params(
        ("group" = String, Path, description = "The name of the group."),
        ("user" = String, Path, description = "The name of the user."),
    ),
    request_body = MemberChange,
    responses((status = 204, description = "It is so."))
)]
pub(super) async fn change_member(
    State(rest): State<Arc<RestApi>>,
    Caller(caller): Caller,
    InPath((group, user)): InPath<(String, String)>,
    JsonBody(change): JsonBody<MemberChange>,
) -> Result<StatusCode, Problem> {
    let group = known_group(&rest, &caller, &group).await?;
    let user = UserName::new(&user).map_err(|_| Problem::not_found("there is no such user"))?;
    if let Some(role) = change.role {
        let role = role.parse().map_err(|error| Problem::invalid("role", error))?;
        rest.gateway.set_role(&caller, &group, &user, role).await?;
    }
    if let Some(until) = change.muted_until {
        let until = Some(until).filter(|until| *until > 0);
        rest.gateway.mute_member(&caller, &group, &user, until).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Add a member, as owner or admin; no error for who is one already.
#[utoipa::path(
    put, path = "/groups/{group}/members/{user}", tag = "groups", operation_id = "addMember",
    security(("key" = ["groups"])),
    params(
        ("group" = String, Path, description = "The name of the group.", example = "ops"),
        ("user" = String, Path, description = "The name of the user."),
    ),
    responses((status = 204, description = "The user is a member."))
)]
pub(super) async fn add_member(
    State(rest): State<Arc<RestApi>>,
    Caller(caller): Caller,
    InPath((group, user)): InPath<(String, String)>,
) -> Result<StatusCode, Problem> {
    let group = known_group(&rest, &caller, &group).await?;
    let user = UserName::new(&user).map_err(|_| Problem::not_found("there is no such user"))?;
    rest.gateway.add_member(&caller, &group, &user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove a member, or leave.
#[utoipa::path(
    delete, path = "/groups/{group}/members/{user}", tag = "groups", operation_id = "removeMember",
    security(("key" = ["groups"])),
    params(
        ("group" = String, Path, description = "The name of the group.", example = "ops"),
        ("user" = String, Path, description = "The name of the user."),
    ),
    responses((status = 204, description = "The user is no member."))
)]
pub(super) async fn remove_member(
    State(rest): State<Arc<RestApi>>,
    Caller(caller): Caller,
    InPath((group, user)): InPath<(String, String)>,
) -> Result<StatusCode, Problem> {
    let group = known_group(&rest, &caller, &group).await?;
    let user = UserName::new(&user).map_err(|_| Problem::not_found("there is no such user"))?;
    rest.gateway.remove_member(&caller, &group, &user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The group of this name, if the caller is in it: to others it does not exist.
async fn known_group(rest: &RestApi, caller: &UserName, name: &str) -> Result<GroupName, Problem> {
    let group = GroupName::new(name).map_err(|_| Problem::not_found(NO_SUCH_GROUP))?;
    match rest.gateway.directory().role(&group, caller).await? {
        Some(_) => Ok(group),
        None => Err(Problem::not_found(NO_SUCH_GROUP)),
    }
}

fn history(from: Option<&str>) -> Result<Option<HistoryFrom>, Problem> {
    from.map(str::parse).transpose().map_err(|error| Problem::invalid("history", error))
}

async fn shown(rest: &RestApi, name: GroupName) -> Result<Group, Problem> {
    let directory = rest.gateway.directory();
    let GroupSettings { title, open, history } =
        directory.settings(&name).await?.unwrap_or_default();
    let now = rest.gateway.inner.clock.now_millis();
    let members = directory.members(&name).await?.unwrap_or_default().into_iter();
    let members = members.map(|member| GroupMember {
        role: member.role.as_str(),
        muted_until: member.muted_until.filter(|until| *until > now),
        user: member.user,
    });
    let members = members.collect();
    Ok(Group { name, title, open, history: history.as_str(), members })
}
