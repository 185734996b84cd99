use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Draft, Interceptor};
use crate::auth::Secret;
use crate::error::RefusedError;
use crate::http_client::{Endpoint, HttpClient, InvalidSecret, OutgoingUrl};
use crate::send::SendKind;
use crate::store::StoreError;

/// What becomes of messages while the endpoint does not answer
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "there is no third way")]
pub enum FailMode {
    /// They pass, unseen
    Open,
    /// They are refused for now: their senders try again
    Closed,
}

/// Asks an HTTP endpoint about each message
///
/// It gets a `POST` with `{"from","destination","kind","body","body_encoding","headers"}` and answers 200 with one of
///
/// - `{"action":"allow"}`, or no body (also 204): the message passes as it is;
/// - `{"action":"change","body":"...","headers":{...}}`: it passes with this body (text) and, if given, these headers;
/// - `{"action":"refuse","reason":"..."}`: it is refused, and the sender told why (at most 200 characters of it).
///
/// Anything else, and no answer within the client's timeout, is a failure: then [`FailMode`] counts. With a secret the
/// calls are signed as webhooks are.
#[derive(Clone, Debug)]
pub struct HttpInterceptor {
    endpoint: Endpoint,
    fail: FailMode,
}

/// The longest reason that a sender is told, in characters
const MAX_REASON: usize = 200;

#[derive(Serialize)]
struct Question<'a> {
    from: &'a str,
    destination: String,
    kind: &'static str,
    body: &'a str,
    body_encoding: &'static str,
    headers: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
enum Answer {
    Allow,
    Change { body: String, headers: Option<std::collections::BTreeMap<String, String>> },
    Refuse { reason: Option<String> },
}

impl HttpInterceptor {
    /// Asks `url`; what becomes of messages while it does not answer, you have to say
    #[must_use]
    pub fn new(client: HttpClient, url: OutgoingUrl, fail: FailMode) -> Self {
        Self { endpoint: Endpoint::new(client, url), fail }
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

    async fn ask(&self, draft: &Draft<'_>) -> Result<Answer, String> {
        let encoded;
        let (body, body_encoding) = match std::str::from_utf8(draft.body) {
            Ok(text) => (text, "utf8"),
            Err(_) => {
                encoded = STANDARD.encode(&*draft.body);
                (encoded.as_str(), "base64")
            }
        };
        let headers = draft.headers.iter();
        let question = Question {
            from: draft.from.as_str(),
            destination: draft.destination.to_string(),
            kind: match draft.kind {
                SendKind::Stored(kind) => kind.as_str(),
                _ => "",
            },
            body,
            body_encoding,
            headers: headers.map(|(name, value)| (name.clone(), value.as_str().into())).collect(),
        };
        let answer = self.endpoint.post(&question).await.map_err(|error| error.to_string())?;
        if !answer.status.is_success() {
            return Err(answer.status.to_string());
        }
        if answer.body.is_empty() {
            return Ok(Answer::Allow);
        }
        serde_json::from_slice(&answer.body).map_err(|error| error.to_string())
    }
}

#[async_trait]
impl Interceptor for HttpInterceptor {
    async fn intercept(&self, draft: &mut Draft<'_>) -> Result<(), RefusedError> {
        match self.ask(draft).await {
            Ok(Answer::Allow) => Ok(()),
            Ok(Answer::Change { body, headers }) => {
                *draft.body = Bytes::from(body);
                if let Some(headers) = headers {
                    *draft.headers = headers.into_iter().collect();
                }
                Ok(())
            }
            Ok(Answer::Refuse { reason }) => {
                let reason = reason.unwrap_or_else(|| "the message is not allowed".to_owned());
                let shown = reason.chars().filter(|c| !c.is_control()).take(MAX_REASON);
                Err(RefusedError::Rejected(shown.collect()))
            }
            Err(error) => {
                tracing::warn!(error, fail = ?self.fail, "the interceptor does not answer");
                match self.fail {
                    FailMode::Open => Ok(()),
                    FailMode::Closed => {
                        Err(StoreError::Unavailable("the interceptor".to_owned()).into())
                    }
                }
            }
        }
    }
}
