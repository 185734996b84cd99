//! Who is there.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::RestApi;
use super::caller::Caller;
use super::input::{InPath, InQuery};
use super::problem::Problem;
use crate::authorizer::Action;
use crate::destination::Destination;
use crate::error::{GatewayError, RefusedError};
use crate::names::UserName;
use crate::presence::Presence;

/// How many people can be asked about at a time.
const MAX_ASKED: usize = 100;

const NO_SUCH_USER: &str = "there is no such user, or you share no conversation";

/// Whether a person is there.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PersonPresence {
    #[schema(value_type = String)]
    user: UserName,
    /// `online`, `away` (all connected devices say so) or `offline`.
    presence: &'static str,
    /// When the last session ended, in milliseconds since 1970 (UTC), if the person is offline and that is known.
    last_seen: Option<u64>,
}

impl PersonPresence {
    const fn new(user: UserName, presence: Presence) -> Self {
        let last_seen = match presence {
            Presence::Offline { last_seen } => last_seen,
            _ => None,
        };
        Self { user, presence: presence.as_str(), last_seen }
    }
}

/// Those of the people asked about whom the caller may see.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct People {
    people: Vec<PersonPresence>,
}

/// The query of `GET /presence`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Names, at most 100, with commas between.
    #[param(example = "bob,carol")]
    users: String,
}

/// Whether some people are there. Whom the caller may not see is left out.
#[utoipa::path(
    get, path = "/presence", tag = "users", operation_id = "listPresence",
    security(("key" = ["read"])),
    params(Asked),
    responses((status = 200, description = "Their presence, in the order asked for.", body = People))
)]
pub(super) async fn list(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    InQuery(asked): InQuery<Asked>,
) -> Result<Json<People>, Problem> {
    let names: Vec<&str> = asked.users.split(',').take(MAX_ASKED + 1).collect();
    if names.len() > MAX_ASKED {
        return Err(Problem::invalid("users", "at most 100 can be asked about at a time"));
    }
    let mut seen = Vec::with_capacity(names.len());
    for name in names {
        let Ok(name) = UserName::new(name) else { continue };
        match may_see(&rest, &user, &name).await {
            Ok(()) => seen.push(name),
            Err(GatewayError::Refused(RefusedError::Denied(_))) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let presence = rest.gateway.presence(&seen).await?;
    let people = seen.into_iter().zip(presence);
    Ok(Json(People { people: people.map(|(user, now)| PersonPresence::new(user, now)).collect() }))
}

/// Whether a person is there, for those who share a conversation and are not blocked.
#[utoipa::path(
    get, path = "/presence/{user}", tag = "users", operation_id = "showPresence",
    security(("key" = ["read"])),
    params(("user" = String, Path, description = "The name of the user.", example = "bob")),
    responses((status = 200, description = "The presence.", body = PersonPresence))
)]
pub(super) async fn show(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    InPath(other): InPath<String>,
) -> Result<Json<PersonPresence>, Problem> {
    let other = UserName::new(&other).map_err(|_| Problem::not_found(NO_SUCH_USER))?;
    let seen = may_see(&rest, &user, &other).await;
    seen.map_err(|error| Problem::hiding(error, NO_SUCH_USER))?;
    let presence = rest.gateway.presence(std::slice::from_ref(&other)).await?;
    let presence = presence.first().copied().unwrap_or(Presence::offline(None));
    Ok(Json(PersonPresence::new(other, presence)))
}

async fn may_see(rest: &RestApi, user: &UserName, other: &UserName) -> Result<(), GatewayError> {
    let destination = Destination::Presence(other.clone());
    rest.gateway.inner.authorize(user, Action::Subscribe, &destination).await
}
