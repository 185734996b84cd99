use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{Extensions, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::RestApi;
use super::caller::{Caller, from_peer};
use super::input::{InQuery, JsonBody};
use super::problem::Problem;
use crate::auth::{AuthError, Credentials, PasswordError, Secret};
use crate::names::UserName;

/// How many names a search gives at most.
const MAX_FOUND: usize = 50;

/// Name and password, as signing up and signing in take them.
#[derive(Debug, Deserialize)]
pub(super) struct Account {
    name: String,
    #[serde(deserialize_with = "secret")]
    password: Secret,
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

/// `POST /users`
pub(super) async fn sign_up(
    State(rest): State<Arc<RestApi>>,
    JsonBody(account): JsonBody<Account>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let user = UserName::new(&account.name).map_err(|error| Problem::invalid("name", error))?;
    let hasher = rest.hasher.as_ref().ok_or_else(|| {
        Problem::new(StatusCode::FORBIDDEN, "signing up is turned off on this server")
    })?;
    let hash = match hasher.hash(&account.password).await {
        Ok(hash) => hash,
        Err(PasswordError::Failed(cause)) => {
            return Err(AuthError::Unavailable { cause }.into());
        }
        Err(error) => return Err(Problem::invalid("password", error)),
    };
    rest.gateway.create_user(&user, Some(&hash)).await?;
    Ok((StatusCode::CREATED, Json(json!({ "user": user }))))
}

/// `POST /tokens`
pub(super) async fn sign_in(
    State(rest): State<Arc<RestApi>>,
    extensions: Extensions,
    JsonBody(account): JsonBody<Account>,
) -> Result<Json<Value>, Problem> {
    let credentials = Credentials::connect(Some(&account.name), account.password.expose());
    let principal = rest.gateway.authenticate(&from_peer(credentials, &extensions)).await?;
    // A token is no password: whoever got hold of one must not be able to renew it for ever.
    if principal.expires.is_some() {
        return Err(AuthError::Failed.into());
    }
    let issued = rest.tokens.issue(&principal.user)?;
    Ok(Json(json!({
        "token": issued.token.expose(),
        "user": principal.user,
        "expires": issued.expires,
    })))
}

/// `GET /me`
pub(super) async fn me(State(rest): State<Arc<RestApi>>, Caller(user): Caller) -> Json<Value> {
    Json(json!({ "user": user, "signup": rest.hasher.is_some() }))
}

/// The query of `GET /users`.
#[derive(Debug, Deserialize)]
pub(super) struct Search {
    #[serde(default)]
    q: String,
}

/// `GET /users?q=TEXT`
pub(super) async fn find(
    State(rest): State<Arc<RestApi>>,
    _: Caller,
    InQuery(search): InQuery<Search>,
) -> Result<Json<Value>, Problem> {
    let users = rest.gateway.directory().users(&search.q, MAX_FOUND).await?;
    Ok(Json(json!({ "users": users })))
}
