use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::RestApi;
use super::caller::Caller;
use super::input::{InPath, JsonBody, idempotency_key};
use super::problem::Problem;
use crate::directory::{DirectoryError, Member, Role};
use crate::error::GatewayError;
use crate::names::{GroupName, UserName};

const NO_SUCH_GROUP: &str = "there is no such group, or you are not a member";

/// A group to make.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewGroup {
    #[schema(example = "ops")]
    name: String,
    /// Names of users, beside the owner.
    #[serde(default)]
    members: Vec<String>,
}

/// A group.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Group {
    #[schema(value_type = String)]
    name: GroupName,
    members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupMember {
    #[schema(value_type = String)]
    user: UserName,
    /// `owner`, `admin` or `member`.
    role: &'static str,
}

/// Make a group; the caller is its owner.
///
/// 409 where the name is taken; but a repeat of the owner, with an `Idempotency-Key`, gets the group.
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
    let repeat = idempotency_key(&headers)?.is_some();
    match rest.gateway.create_group(&owner, &name, &members).await {
        Ok(()) => {}
        Err(GatewayError::Directory(DirectoryError::GroupExists(_)))
            if repeat
                && rest.gateway.directory().role(&name, &owner).await? == Some(Role::Owner) => {}
        Err(GatewayError::Directory(error @ DirectoryError::NoSuchUser(_))) => {
            return Err(Problem::invalid("members", error));
        }
        Err(other) => return Err(other.into()),
    }
    let members = rest.gateway.directory().members(&name).await?.unwrap_or_default();
    Ok((StatusCode::CREATED, Json(shown(name, members))))
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
    let members = rest.gateway.directory().members(&group).await?.unwrap_or_default();
    Ok(Json(shown(group, members)))
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

fn shown(name: GroupName, members: Vec<Member>) -> Group {
    let members = members
        .into_iter()
        .map(|member| GroupMember { user: member.user, role: member.role.as_str() })
        .collect();
    Group { name, members }
}
