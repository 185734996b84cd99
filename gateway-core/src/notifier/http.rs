use std::fmt;

use async_trait::async_trait;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::{Notice, Notifier, NotifyError};
use crate::auth::Secret;
use crate::http_client::{Endpoint, HttpClient, HttpError, InvalidSecret, OutgoingUrl};
use crate::names::UserName;

/// Tells an HTTP endpoint, which tells the devices: one that speaks to the push services
///
/// It gets a `POST` with `{"user":"bob","messages":[{"id","conversation","seq","from","timestamp","body","body_encoding",
/// "content_type"}]}` and answers 2xx. 400, 404 and 410 give the batch up; anything else, and no answer within the client's
/// timeout, is tried again. Redirections are not followed. With a secret the calls are signed as webhooks are.
#[derive(Clone, Debug)]
pub struct HttpNotifier {
    endpoint: Endpoint,
}

impl HttpNotifier {
    /// Tells `url`
    #[must_use]
    pub const fn new(client: HttpClient, url: OutgoingUrl) -> Self {
        Self { endpoint: Endpoint::new(client, url) }
    }

    /// Signs the calls with a secret of the form `whsec_` and base64
    ///
    /// # Errors
    ///
    /// Where the secret is of another form.
    pub fn with_secret(mut self, secret: Secret) -> Result<Self, InvalidSecret> {
        self.endpoint = self.endpoint.with_secret(secret)?;
        Ok(self)
    }
}

#[derive(Serialize)]
struct News<'a> {
    user: &'a str,
    messages: Vec<Told<'a>>,
}

#[derive(Serialize)]
struct Told<'a> {
    id: String,
    conversation: &'a str,
    seq: u64,
    from: &'a str,
    timestamp: u64,
    body: String,
    body_encoding: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
}

impl<'a> Told<'a> {
    fn of(notice: &'a Notice) -> Self {
        let (body, body_encoding) = match std::str::from_utf8(&notice.body) {
            Ok(text) => (text.to_owned(), "utf8"),
            Err(_) => (STANDARD.encode(&notice.body), "base64"),
        };
        Self {
            id: notice.message_id.to_string(),
            conversation: notice.conversation.as_str(),
            seq: notice.seq,
            from: notice.from.as_str(),
            timestamp: notice.timestamp,
            body,
            body_encoding,
            content_type: notice.content_type.as_deref(),
        }
    }
}

#[async_trait]
impl Notifier for HttpNotifier {
    async fn notify(&self, user: &UserName, messages: &[Notice]) -> Result<(), NotifyError> {
        let never = |error: &dyn fmt::Display| NotifyError::Never(error.to_string());
        let news = News { user: user.as_str(), messages: messages.iter().map(Told::of).collect() };
        match self.endpoint.post(&news).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => match answer.status {
                StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::GONE => {
                    Err(never(&answer.status))
                }
                other => Err(NotifyError::Later(other.to_string())),
            },
            // What it says beside its status is of no interest.
            Err(HttpError::TooLong(status)) if status.is_success() => Ok(()),
            Err(error @ HttpError::Forbidden) => Err(never(&error)),
            Err(error) => Err(NotifyError::Later(error.to_string())),
        }
    }
}
