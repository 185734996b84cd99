use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{Extensions, HeaderMap, Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::RestApi;
use super::caller::{Caller, from_peer};
use super::input::{InPath, InQuery, JsonBody, page_size};
use super::once::{OTHER_BODY, Once};
use super::problem::Problem;
use crate::auth::{AuthError, Credentials, PasswordError, PasswordHash, PasswordHasher, Secret};
use crate::directory::DirectoryError;
use crate::error::GatewayError;
use crate::names::{NameError, UserName};

/// Name and password, as signing up and signing in take them.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Account {
    #[schema(example = "alice")]
    name: String,
    /// At most 1024 octets.
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String, format = Password)]
    password: Secret,
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

/// A user that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NewUser {
    #[schema(value_type = String)]
    user: UserName,
}

/// Sign up.
///
/// Refused with 403 where the server does not let people sign up, with 409 where the name is taken; but a repeat with the
/// same `Idempotency-Key` is answered as before, or with 422 where it has another password.
#[utoipa::path(
    post, path = "/users", tag = "users", operation_id = "signUp", security(()),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 128 octets.")),
    request_body = Account,
    responses((status = 201, description = "The user was made.", body = NewUser))
)]
pub(super) async fn sign_up(
    State(rest): State<Arc<RestApi>>,
    extensions: Extensions,
    headers: HeaderMap,
    JsonBody(account): JsonBody<Account>,
) -> Result<(StatusCode, Json<NewUser>), Problem> {
    let user = UserName::new(&account.name).map_err(|error| Problem::invalid("name", error))?;
    let hasher = rest.sign_up.as_ref().ok_or_else(|| {
        Problem::new(StatusCode::FORBIDDEN, "signing up is turned off on this server")
    })?;
    let hash = hashed(hasher, &account.password).await?;
    // Of a password no quick hash may be kept: whether it is the same, the authenticator says.
    let once = Once::begin(&rest, &headers, &format!("user/{user}"), &()).await?;
    match rest.gateway.create_user(&user, Some(&hash)).await {
        Ok(()) => {}
        Err(GatewayError::Directory(DirectoryError::UserExists(_))) if once.is_repeat => {
            let credentials = Credentials::connect(Some(user.as_str()), account.password.expose());
            let known = rest.gateway.authenticate(&from_peer(credentials, &extensions)).await;
            known.map_err(|error| match error {
                AuthError::Failed => Problem::invalid("Idempotency-Key", OTHER_BODY),
                error => error.into(),
            })?;
        }
        Err(error) => {
            once.undo().await?;
            return Err(error.into());
        }
    }
    Ok((StatusCode::CREATED, Json(NewUser { user })))
}

async fn hashed(hasher: &PasswordHasher, password: &Secret) -> Result<PasswordHash, Problem> {
    hasher.hash(password).await.map_err(|error| match error {
        PasswordError::Failed(cause) => AuthError::Unavailable { cause }.into(),
        error => Problem::invalid("password", error),
    })
}

/// What a service says of a user.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct UserSettings {
    /// Without one, a user who is made signs in by other means, and one who is there keeps theirs.
    #[serde(default, deserialize_with = "optional_secret")]
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<Secret>,
}

fn optional_secret<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
}

/// Make a user, or give one a password, as an administrator.
#[utoipa::path(
    put, path = "/users/{user}", tag = "users", operation_id = "putUser",
    security(("key" = ["users"])),
    params(("user" = String, Path, description = "The name of the user.")),
    request_body = UserSettings,
    responses(
        (status = 201, description = "The user was made.", body = NewUser),
        (status = 200, description = "There was a user of this name.", body = NewUser),
    )
)]
pub(super) async fn put(
    State(rest): State<Arc<RestApi>>,
    _: Caller,
    InPath(user): InPath<String>,
    JsonBody(settings): JsonBody<UserSettings>,
) -> Result<(StatusCode, Json<NewUser>), Problem> {
    let user = UserName::new(&user).map_err(|error| Problem::invalid("user", error))?;
    let hash = match &settings.password {
        Some(password) => Some(hashed(&rest.hasher, password).await?),
        None => None,
    };
    let status = match rest.gateway.create_user(&user, hash.as_ref()).await {
        Ok(()) => StatusCode::CREATED,
        Err(GatewayError::Directory(DirectoryError::UserExists(_))) => {
            if let Some(hash) = &hash {
                rest.gateway.directory().set_password(&user, hash).await?;
            }
            StatusCode::OK
        }
        Err(error) => return Err(error.into()),
    };
    Ok((status, Json(NewUser { user })))
}

/// How somebody signs in.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct SignIn {
    #[schema(example = "alice")]
    name: String,
    /// At most 1024 octets.
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String, format = Password)]
    password: Secret,
    /// Whether the token comes in a cookie, out of reach of scripts; for pages of this server.
    #[serde(default)]
    cookie: bool,
}

/// A token, to be sent as `Authorization: Bearer TOKEN`, or as the passcode of a CONNECT.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Token {
    /// Not where it is in a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[schema(value_type = String)]
    user: UserName,
    /// When it ends, in milliseconds since 1970 (UTC).
    expires: u64,
}

/// Sign in: a token for a name and a password.
#[utoipa::path(
    post, path = "/tokens", tag = "users", operation_id = "signIn", security(()),
    request_body = SignIn,
    responses((status = 200, description = "A token.", body = Token))
)]
pub(super) async fn sign_in(
    State(rest): State<Arc<RestApi>>,
    extensions: Extensions,
    headers: HeaderMap,
    JsonBody(account): JsonBody<SignIn>,
) -> Result<(HeaderMap, Json<Token>), Problem> {
    let cookie = match &rest.cookie {
        Some(cookie) if account.cookie => {
            // Nobody is signed in as somebody else by a page of a stranger.
            cookie.check(&Method::POST, &headers)?;
            Some(cookie)
        }
        None if account.cookie => {
            return Err(Problem::invalid("cookie", "this server sets none"));
        }
        _ => None,
    };
    let credentials = Credentials::connect(Some(&account.name), account.password.expose());
    let principal = rest.gateway.authenticate(&from_peer(credentials, &extensions)).await?;
    // A token is no password: whoever got hold of one must not be able to renew it for ever.
    if principal.expires.is_some() {
        return Err(AuthError::Failed.into());
    }
    let issued = rest.tokens.issue(&principal.user)?;
    let (mut set, token) = (HeaderMap::new(), issued.token.expose());
    if let Some(cookie) = cookie {
        let now = rest.gateway.inner.clock.now_millis();
        let lasts = Duration::from_millis(issued.expires.saturating_sub(now));
        set.extend(cookie.set(token, lasts).map(|value| (header::SET_COOKIE, value)));
    }
    let token = cookie.is_none().then(|| token.to_owned());
    Ok((set, Json(Token { token, user: principal.user, expires: issued.expires })))
}

/// Sign out: take the cookie back.
///
/// The token in it stays good until it ends, wherever else it is.
#[utoipa::path(
    delete, path = "/tokens", tag = "users", operation_id = "signOut", security(()),
    responses((status = 204, description = "The browser has no cookie any more."))
)]
pub(super) async fn sign_out(
    State(rest): State<Arc<RestApi>>,
    headers: HeaderMap,
) -> Result<(StatusCode, HeaderMap), Problem> {
    let mut set = HeaderMap::new();
    if let Some(cookie) = &rest.cookie {
        cookie.check(&Method::DELETE, &headers)?;
        set.extend(cookie.set("", Duration::ZERO).map(|value| (header::SET_COOKIE, value)));
    }
    Ok((StatusCode::NO_CONTENT, set))
}

/// The caller.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Me {
    #[schema(value_type = String)]
    user: UserName,
    /// Whether others can sign up.
    signup: bool,
}

/// Who the caller is.
#[utoipa::path(
    get, path = "/me", tag = "users", operation_id = "me", security(("key" = ["read"])),
    responses((status = 200, description = "The caller.", body = Me))
)]
pub(super) async fn me(State(rest): State<Arc<RestApi>>, Caller(user): Caller) -> Json<Me> {
    Json(Me { user, signup: rest.sign_up.is_some() })
}

/// The query of `GET /users`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Search {
    /// What the names start with.
    #[serde(default)]
    q: String,
    /// The `next` of the page before; without it, the first page.
    #[serde(default)]
    cursor: String,
    /// How many at most; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// A page of names of users.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Users {
    #[schema(value_type = Vec<String>)]
    users: Vec<UserName>,
    /// The `cursor` of the next page; null where there is none.
    next: Option<String>,
}

/// Find users: names that start with a text.
#[utoipa::path(
    get, path = "/users", tag = "users", operation_id = "findUsers", security(("key" = ["read"])),
    params(Search),
    responses((status = 200, description = "A page of names, in order of their octets.", body = Users))
)]
pub(super) async fn find(
    State(rest): State<Arc<RestApi>>,
    _: Caller,
    InQuery(search): InQuery<Search>,
) -> Result<Json<Users>, Problem> {
    let limit = page_size(search.limit)?;
    if !search.cursor.is_empty() && UserName::new(&search.cursor).is_err() {
        return Err(Problem::invalid("cursor", "must be the `next` of a page"));
    }
    // What no name can start with, no store need look for.
    let users = match UserName::new(&search.q) {
        Err(NameError::TooLong | NameError::BadCharacter(_)) => Vec::new(),
        _ => rest.gateway.directory().users(&search.q, &search.cursor, limit).await?,
    };
    let next = users.last().filter(|_| users.len() == limit).map(ToString::to_string);
    Ok(Json(Users { users, next }))
}
