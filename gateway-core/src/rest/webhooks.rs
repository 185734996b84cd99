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
use crate::error::GatewayError;
use crate::http_client::OutgoingUrl;
use crate::keys::MAX_LABEL_CHARS;
use crate::webhooks::{EventKind, NewWebhook, Webhook, WebhookError, WebhookStats, Webhooks};

const NO_SUCH_WEBHOOK: &str = "there is no such webhook";

/// A webhook to make.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Subscription {
    /// What is called: `http://` or `https://`, at most 2048 octets, without credentials.
    #[schema(example = "https://crm.example/hooks/chat")]
    url: String,
    /// What is told.
    #[schema(min_items = 1)]
    events: Vec<EventKind>,
    /// What people call it: at most 128 characters.
    #[serde(default)]
    #[schema(max_length = 128)]
    label: String,
}

/// A webhook, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Webhook)]
pub(super) struct Shown {
    id: String,
    url: String,
    events: Vec<EventKind>,
    label: String,
    /// In milliseconds since 1970 (UTC).
    created: u64,
}

impl From<Webhook> for Shown {
    fn from(webhook: Webhook) -> Self {
        Self {
            id: webhook.id,
            url: webhook.url,
            events: webhook.events,
            label: webhook.label,
            created: webhook.created,
        }
    }
}

/// A webhook that was made just now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadeWebhook {
    #[serde(flatten)]
    about: Shown,
    /// What its signatures are made with (`whsec_...`). It is shown here and never again.
    secret: String,
}

/// A webhook, and how much there is for it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WebhookState {
    #[serde(flatten)]
    about: Shown,
    /// What has happened and is to be looked at or delivered.
    waiting: u64,
    /// What could not be delivered.
    dead: u64,
}

/// A page of webhooks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page {
    webhooks: Vec<Shown>,
    /// The `cursor` of the next page; null where there is none.
    next: Option<String>,
}

/// What is tried again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Redelivered {
    /// How many dead letters there were.
    redelivered: u64,
}

/// Make a webhook: what happens from now on is sent to it, until it has it.
///
/// A repeat with the same `Idempotency-Key` gets the webhook that was made; with 422 where that is another.
#[utoipa::path(
    post, path = "/webhooks", tag = "webhooks", operation_id = "createWebhook",
    security(("key" = ["webhooks"])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 128 octets.")),
    request_body = Subscription,
    responses((status = 201, description = "The webhook, with its secret.", body = MadeWebhook))
)]
pub(super) async fn create(
    State(rest): State<Arc<RestApi>>,
    _: Caller,
    headers: HeaderMap,
    JsonBody(wanted): JsonBody<Subscription>,
) -> Result<(StatusCode, Json<MadeWebhook>), Problem> {
    let url: OutgoingUrl = wanted.url.parse().map_err(|error| Problem::invalid("url", error))?;
    if wanted.events.is_empty() {
        return Err(Problem::invalid("events", "name at least one"));
    }
    if wanted.label.chars().count() > MAX_LABEL_CHARS {
        return Err(Problem::invalid(
            "label",
            format_args!("at most {MAX_LABEL_CHARS} characters"),
        ));
    }
    let mut new = NewWebhook::new(url, wanted.events);
    new.label = wanted.label;
    new.idempotency_key = idempotency_key(&headers)?;
    let (webhook, secret) = webhooks(&rest)?.create(new).await.map_err(|error| match error {
        WebhookError::Gateway(error) => error.into(),
        WebhookError::Exists => Problem::invalid("Idempotency-Key", OTHER_BODY),
        error => Problem::new(StatusCode::CONFLICT, error.to_string()),
    })?;
    let secret = Secret::expose(&secret).to_owned();
    Ok((StatusCode::CREATED, Json(MadeWebhook { about: webhook.into(), secret })))
}

/// The webhooks, without their secrets.
#[utoipa::path(
    get, path = "/webhooks", tag = "webhooks", operation_id = "listWebhooks",
    security(("key" = ["webhooks"])), params(Cursor),
    responses((status = 200, description = "A page of webhooks.", body = Page))
)]
pub(super) async fn list(
    State(rest): State<Arc<RestApi>>,
    _: Caller,
    InQuery(cursor): InQuery<Cursor>,
) -> Result<Json<Page>, Problem> {
    let limit = cursor.limit()?;
    let found = webhooks(&rest)?.list(cursor.after(), limit).await.map_err(GatewayError::from)?;
    let next = Cursor::next(limit, &found, |webhook| &webhook.id);
    Ok(Json(Page { webhooks: found.into_iter().map(Shown::from).collect(), next }))
}

/// A webhook, and how much waits for it.
#[utoipa::path(
    get, path = "/webhooks/{id}", tag = "webhooks", operation_id = "showWebhook",
    security(("key" = ["webhooks"])),
    params(("id" = String, Path, description = "The webhook's `id`.")),
    responses((status = 200, description = "The webhook.", body = WebhookState))
)]
pub(super) async fn show(
    State(rest): State<Arc<RestApi>>,
    _: Caller,
    InPath(id): InPath<String>,
) -> Result<Json<WebhookState>, Problem> {
    let found = webhooks(&rest)?.get(&id).await?;
    let (webhook, WebhookStats { waiting, dead }) =
        found.ok_or_else(|| Problem::not_found(NO_SUCH_WEBHOOK))?;
    Ok(Json(WebhookState { about: webhook.into(), waiting, dead }))
}

/// Remove a webhook, with all that waits for it.
#[utoipa::path(
    delete, path = "/webhooks/{id}", tag = "webhooks", operation_id = "removeWebhook",
    security(("key" = ["webhooks"])),
    params(("id" = String, Path, description = "The webhook's `id`.")),
    responses((status = 204, description = "There is no such webhook any more."))
)]
pub(super) async fn remove(
    State(rest): State<Arc<RestApi>>,
    _: Caller,
    InPath(id): InPath<String>,
) -> Result<StatusCode, Problem> {
    if webhooks(&rest)?.remove(&id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found(NO_SUCH_WEBHOOK))
    }
}

/// Try again what could not be delivered.
#[utoipa::path(
    post, path = "/webhooks/{id}/redeliver", tag = "webhooks", operation_id = "redeliver",
    security(("key" = ["webhooks"])),
    params(("id" = String, Path, description = "The webhook's `id`.")),
    responses((status = 200, description = "They wait to be delivered.", body = Redelivered))
)]
pub(super) async fn redeliver(
    State(rest): State<Arc<RestApi>>,
    _: Caller,
    InPath(id): InPath<String>,
) -> Result<Json<Redelivered>, Problem> {
    let redelivered = webhooks(&rest)?.redeliver(&id).await?;
    let redelivered = redelivered.ok_or_else(|| Problem::not_found(NO_SUCH_WEBHOOK))?;
    Ok(Json(Redelivered { redelivered }))
}

fn webhooks(rest: &RestApi) -> Result<&Webhooks, Problem> {
    rest.webhooks.as_ref().ok_or_else(|| Problem::not_found("this server has no webhooks"))
}
