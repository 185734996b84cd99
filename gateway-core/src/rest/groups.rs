use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::RestApi;
use super::caller::Caller;
use super::input::{InPath, JsonBody};
use super::problem::Problem;
use crate::directory::{DirectoryError, Member};
use crate::names::{GroupName, UserName};

const NO_SUCH_GROUP: &str = "there is no such group, or you are not a member";

/// A group to make.
#[derive(Debug, Deserialize)]
pub(super) struct NewGroup {
    name: String,
    #[serde(default)]
    members: Vec<String>,
}

/// `POST /groups`
pub(super) async fn create(
    State(rest): State<Arc<RestApi>>,
    Caller(owner): Caller,
    JsonBody(group): JsonBody<NewGroup>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let name = GroupName::new(&group.name).map_err(|error| Problem::invalid("name", error))?;
    let members = group
        .members
        .iter()
        .map(|member| UserName::new(member))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Problem::invalid("members", error))?;
    rest.gateway.create_group(&owner, &name, &members).await.map_err(|error| match error {
        crate::error::GatewayError::Directory(error @ DirectoryError::NoSuchUser(_)) => {
            Problem::invalid("members", error)
        }
        other => other.into(),
    })?;
    let members = rest.gateway.directory().members(&name).await?.unwrap_or_default();
    Ok((StatusCode::CREATED, Json(shown(&name, &members))))
}

/// `GET /groups/NAME`
pub(super) async fn show(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    InPath(name): InPath<String>,
) -> Result<Json<Value>, Problem> {
    let group = known_group(&rest, &user, &name).await?;
    let members = rest.gateway.directory().members(&group).await?.unwrap_or_default();
    Ok(Json(shown(&group, &members)))
}

/// `PUT /groups/NAME/members/USER`
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

/// `DELETE /groups/NAME/members/USER`
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

fn shown(name: &GroupName, members: &[Member]) -> Value {
    let members: Vec<Value> = members
        .iter()
        .map(|member| json!({ "user": member.user, "role": member.role.as_str() }))
        .collect();
    json!({ "name": name, "members": members })
}
