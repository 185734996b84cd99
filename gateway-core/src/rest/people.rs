//! Whom a user wants to hear from, and on which devices.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::RestApi;
use super::caller::Caller;
use super::input::{InPath, JsonBody};
use super::problem::Problem;
use crate::names::{DeviceName, UserName};

/// The people whom the caller has blocked.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Blocked {
    #[schema(value_type = Vec<String>)]
    users: Vec<UserName>,
}

/// The people whom the caller has blocked.
#[utoipa::path(
    get, path = "/blocks", tag = "users", operation_id = "listBlocked",
    security(("key" = ["read"])),
    responses((status = 200, description = "Their names.", body = Blocked))
)]
pub(super) async fn blocked(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
) -> Result<Json<Blocked>, Problem> {
    Ok(Json(Blocked { users: rest.gateway.directory().blocked(&user).await? }))
}

/// Block a user: no direct message, signal or invitation of theirs comes any more.
#[utoipa::path(
    put, path = "/blocks/{user}", tag = "users", operation_id = "block",
    params(("user" = String, Path, description = "The name of the user.")),
    responses((status = 204, description = "The user is blocked."))
)]
pub(super) async fn block(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    InPath(other): InPath<String>,
) -> Result<StatusCode, Problem> {
    rest.gateway.block(&user, &name(&other)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Take a block back.
#[utoipa::path(
    delete, path = "/blocks/{user}", tag = "users", operation_id = "unblock",
    params(("user" = String, Path, description = "The name of the user.")),
    responses((status = 204, description = "The user is not blocked."))
)]
pub(super) async fn unblock(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    InPath(other): InPath<String>,
) -> Result<StatusCode, Problem> {
    rest.gateway.unblock(&user, &name(&other)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn name(user: &str) -> Result<UserName, Problem> {
    UserName::new(user).map_err(|_| Problem::not_found("there is no such user"))
}

/// The caller's devices.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Devices {
    devices: Vec<Device>,
}

/// A place in the inbox.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Device {
    /// As the `device` header of CONNECT says it.
    #[schema(value_type = String)]
    name: DeviceName,
    /// For people to read; may be empty.
    label: String,
    /// When it was first used, in milliseconds since 1970 (UTC).
    registered: u64,
}

/// The caller's devices, in the order of their first use.
#[utoipa::path(
    get, path = "/devices", tag = "users", operation_id = "listDevices",
    responses((status = 200, description = "The devices.", body = Devices))
)]
pub(super) async fn devices(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
) -> Result<Json<Devices>, Problem> {
    let devices = rest.gateway.directory().devices(&user).await?;
    let shown = devices.into_iter().map(|device| Device {
        name: device.name,
        label: device.label,
        registered: device.registered,
    });
    Ok(Json(Devices { devices: shown.collect() }))
}

/// What a device is called.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Label {
    /// At most 64 characters.
    #[schema(example = "Alice's phone")]
    label: String,
}

/// Call a device something.
#[utoipa::path(
    patch, path = "/devices/{device}", tag = "users", operation_id = "nameDevice",
    params(("device" = String, Path, description = "The name of the device.")),
    request_body = Label,
    responses((status = 204, description = "It is called so."))
)]
pub(super) async fn name_device(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    InPath(device): InPath<String>,
    JsonBody(label): JsonBody<Label>,
) -> Result<StatusCode, Problem> {
    rest.gateway.name_device(&user, &known(&device)?, &label.label).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove a device and what waits for it; if it comes back, it is a new one.
#[utoipa::path(
    delete, path = "/devices/{device}", tag = "users", operation_id = "removeDevice",
    params(("device" = String, Path, description = "The name of the device.")),
    responses((status = 204, description = "There is no such device any more."))
)]
pub(super) async fn remove_device(
    State(rest): State<Arc<RestApi>>,
    Caller(user): Caller,
    InPath(device): InPath<String>,
) -> Result<StatusCode, Problem> {
    rest.gateway.remove_device(&user, &known(&device)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn known(device: &str) -> Result<DeviceName, Problem> {
    DeviceName::new(device).map_err(|_| Problem::not_found("there is no such device"))
}
