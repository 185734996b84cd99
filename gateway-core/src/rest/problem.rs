use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mq_bridge::BrokerError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::attachments::AttachmentError;
use crate::auth::AuthError;
use crate::directory::DirectoryError;
use crate::error::{GatewayError, RefusedError};
use crate::store::{ChangeError, StoreError};

/// An answer that says why a call was not done: a problem document (RFC 9457).
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    retry_after: Option<Duration>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), retry_after: None }
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(super) fn invalid(name: &str, problem: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{name}: {problem}"))
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this call takes another method")
    }

    /// As if it did not exist: for whoever may not know whether it does (promise P8).
    pub(super) fn hiding(error: GatewayError, what: &str) -> Self {
        match error {
            GatewayError::Refused(RefusedError::Denied(_)) => Self::not_found(what),
            other => other.into(),
        }
    }

    /// With another detail, unless it says only that the server failed.
    pub(super) fn saying(mut self, detail: String) -> Self {
        if self.status != StatusCode::INTERNAL_SERVER_ERROR {
            self.detail = detail;
        }
        self
    }

    pub(super) fn too_many(retry_after: Duration) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            detail: "too many calls: try again later".to_owned(),
            retry_after: Some(retry_after),
        }
    }

    pub(super) fn later(detail: impl Into<String>, after: Duration) -> Self {
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        problem.retry_after = Some(after);
        problem
    }

    fn internal(error: &GatewayError) -> Self {
        tracing::error!(%error, "a REST call failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the server failed; its log says why")
    }
}

/// Why a call was not done (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemDocument {
    /// The status in words.
    title: &'static str,
    /// As in the head of the answer.
    status: u16,
    /// What is wrong, and the limit where there is one.
    detail: String,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = ProblemDocument {
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: self.detail,
        };
        let mut response = (self.status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            // Not `Basic`, which is understood as well: browsers would ask with a window of their own.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after {
            // Rounded up: a client that comes exactly then must not come too early.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

impl From<GatewayError> for Problem {
    fn from(error: GatewayError) -> Self {
        if error.is_retryable() {
            tracing::warn!(%error, "a REST call has to be repeated");
            return Self::later(
                format!("{error}; try again with the same idempotency key"),
                Duration::from_secs(1),
            );
        }
        let status = match &error {
            GatewayError::Refused(RefusedError::Denied(_) | RefusedError::Rejected(_)) => {
                StatusCode::FORBIDDEN
            }
            GatewayError::Store(StoreError::Change(fault)) => match fault {
                ChangeError::NoTarget => StatusCode::UNPROCESSABLE_ENTITY,
                ChangeError::NotAuthor | ChangeError::TooLate => StatusCode::FORBIDDEN,
                _ => StatusCode::CONFLICT,
            },
            GatewayError::Destination(_)
            | GatewayError::Invalid { .. }
            | GatewayError::Store(StoreError::Refused(_))
            | GatewayError::Directory(DirectoryError::Store(StoreError::Refused(_))) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            GatewayError::Directory(
                DirectoryError::UserExists(_)
                | DirectoryError::GroupExists(_)
                | DirectoryError::LastOwner(_)
                | DirectoryError::TooManyBlocked
                | DirectoryError::TooManyDevices,
            ) => StatusCode::CONFLICT,
            GatewayError::Directory(
                DirectoryError::NoSuchUser(_)
                | DirectoryError::NoSuchGroup(_)
                | DirectoryError::NoSuchDevice(_),
            ) => StatusCode::NOT_FOUND,
            GatewayError::Broker(BrokerError::TooLarge { .. })
            | GatewayError::Attachment(AttachmentError::TooLarge(_)) => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            GatewayError::Attachment(AttachmentError::Off) => StatusCode::NOT_FOUND,
            GatewayError::Attachment(AttachmentError::Type) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            GatewayError::Attachment(AttachmentError::Name) => StatusCode::UNPROCESSABLE_ENTITY,
            _ => return Self::internal(&error),
        };
        Self::new(status, error.to_string())
    }
}

impl From<DirectoryError> for Problem {
    fn from(error: DirectoryError) -> Self {
        GatewayError::from(error).into()
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let detail = error.to_string();
        match error {
            AuthError::Throttled { retry_after } => Self {
                status: StatusCode::TOO_MANY_REQUESTS,
                detail,
                retry_after: Some(retry_after),
            },
            AuthError::Unavailable { cause } => {
                tracing::warn!(cause, "credentials could not be checked");
                Self::later(detail, Duration::from_secs(1))
            }
            _ => Self::new(StatusCode::UNAUTHORIZED, detail),
        }
    }
}
