use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::RestApi;
use super::caller::Caller;
use super::input::{Cursor, InPath, InQuery, JsonBody, idempotency_key};
use super::once::OTHER_BODY;
use super::problem::Problem;
use crate::auth::Secret;
use crate::directory::DirectoryError;
use crate::error::GatewayError;
use crate::keys::{ApiKey, MAX_LABEL_CHARS, NewApiKey, Scope};
use crate::names::UserName;

/// A key to make.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewKey {
    /// The user that the service is; made if missing.
    #[schema(example = "billing")]
    service: String,
    /// What people call the key: at most 128 characters.
    #[serde(default)]
    #[schema(max_length = 128)]
    label: String,
    /// What it is good for.
    #[schema(min_items = 1)]
    scopes: Vec<Scope>,
    /// When it ends, in milliseconds since 1970 (UTC); never, unless given.
    expires: Option<u64>,
}

/// A key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Key {
    id: String,
    #[schema(value_type = String)]
    service: UserName,
    label: String,
    scopes: Vec<Scope>,
    /// In milliseconds since 1970 (UTC), as are the others.
    created: u64,
    expires: Option<u64>,
    /// To the minute.
    last_used: Option<u64>,
}

impl From<ApiKey> for Key {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            service: key.service,
            label: key.label,
            scopes: key.scopes,
            created: key.created,
            expires: key.expires,
            last_used: key.last_used,
        }
    }
}

/// A key that was made just now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadeKey {
    #[serde(flatten)]
    about: Key,
    /// What the service sends as `Authorization: Bearer KEY`. It is shown here and never again.
    key: String,
}

/// Make a key for a service.
///
/// A repeat with the same `Idempotency-Key` is refused: with 409, as the key was shown once; with 422 where the key of
/// the service was another.
#[utoipa::path(
    post, path = "/keys", tag = "keys", operation_id = "createKey", security(("key" = ["admin"])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 128 octets.")),
    request_body = NewKey,
    responses((status = 201, description = "The key, with its secret.", body = MadeKey))
)]
pub(super) async fn create(
    State(rest): State<Arc<RestApi>>,
    _: Caller,
    headers: HeaderMap,
    JsonBody(key): JsonBody<NewKey>,
) -> Result<(StatusCode, Json<MadeKey>), Problem> {
    let service =
        UserName::new(&key.service).map_err(|error| Problem::invalid("service", error))?;
    if key.scopes.is_empty() {
        return Err(Problem::invalid("scopes", "name at least one"));
    }
    if key.label.chars().count() > MAX_LABEL_CHARS {
        return Err(Problem::invalid(
            "label",
            format_args!("at most {MAX_LABEL_CHARS} characters"),
        ));
    }
    match rest.gateway.create_user(&service, None).await {
        Ok(()) | Err(GatewayError::Directory(DirectoryError::UserExists(_))) => {}
        Err(error) => return Err(error.into()),
    }
    let mut new = NewApiKey::new(service, key.scopes);
    new.label = key.label;
    new.expires = key.expires;
    new.idempotency_key = idempotency_key(&headers)?;
    let made = rest.keys.create(new.clone()).await.map_err(GatewayError::from)?;
    let Some((about, secret)) = made else {
        if !rest.keys.is_alike(&new).await.map_err(GatewayError::from)? {
            return Err(Problem::invalid("Idempotency-Key", OTHER_BODY));
        }
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "a key was made with this Idempotency-Key, and was shown then",
        ));
    };
    let key = Secret::expose(&secret).to_owned();
    Ok((StatusCode::CREATED, Json(MadeKey { about: about.into(), key })))
}

/// A page of keys.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Keys {
    keys: Vec<Key>,
    /// The `cursor` of the next page; null where there is none.
    next: Option<String>,
}

/// The keys, without their secrets.
#[utoipa::path(
    get, path = "/keys", tag = "keys", operation_id = "listKeys", security(("key" = ["admin"])),
    params(Cursor),
    responses((status = 200, description = "A page of keys.", body = Keys))
)]
pub(super) async fn list(
    State(rest): State<Arc<RestApi>>,
    _: Caller,
    InQuery(cursor): InQuery<Cursor>,
) -> Result<Json<Keys>, Problem> {
    let limit = cursor.limit()?;
    let keys = rest.keys.list(cursor.after(), limit).await.map_err(GatewayError::from)?;
    let next = Cursor::next(limit, &keys, |key| &key.id);
    Ok(Json(Keys { keys: keys.into_iter().map(Key::from).collect(), next }))
}

/// Revoke a key: it is good for nothing from now on.
#[utoipa::path(
    delete, path = "/keys/{id}", tag = "keys", operation_id = "revokeKey",
    security(("key" = ["admin"])),
    params(("id" = String, Path, description = "The key's `id`.")),
    responses((status = 204, description = "There is no such key any more."))
)]
pub(super) async fn revoke(
    State(rest): State<Arc<RestApi>>,
    _: Caller,
    InPath(id): InPath<String>,
) -> Result<StatusCode, Problem> {
    if rest.keys.revoke(&id).await.map_err(GatewayError::from)? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found("there is no such key"))
    }
}
