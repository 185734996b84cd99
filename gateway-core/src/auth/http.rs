use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{AttemptLimiter, AuthError, Authenticator, Credentials, Principal, Secret};
use crate::http_client::{Endpoint, HttpClient, HttpError, InvalidSecret, OutgoingUrl};
use crate::names::UserName;

/// Asks an HTTP endpoint who somebody is
///
/// It gets a `POST` with `{"login","secret","bearer","address"}`: what the client gave as login and passcode or token
/// (`bearer` where it came as one), and where from; `login` and `address` may be null. It answers
///
/// - 200 with `{"user":"alice","expires":1700000000000}`: let in as this user, until then (milliseconds since 1970;
///   without `expires`, without end);
/// - 204: not its kind of credentials, the next authenticator may look;
/// - 401 or 403: refused.
///
/// Anything else, and no answer within the client's timeout, is [`AuthError::Unavailable`]: the client is told to try
/// again. Redirections are not followed. With a secret the calls are signed as webhooks are, so that the endpoint can
/// refuse everybody else. It sees passwords: use `https`. The user has to be in the directory as well, or nobody can write
/// to them: [`KnownUsers`](crate::KnownUsers) makes sure.
///
/// Guessing is slowed down before the endpoint is asked: per account and per address, and where no login is given per
/// address. Without a login an answer of 204 counts as a wrong guess, since nobody after this one counts any: in a chain,
/// authenticators that look at tokens belong before it.
#[derive(Clone, Debug)]
pub struct HttpAuthenticator {
    endpoint: Endpoint,
    limiter: Arc<AttemptLimiter>,
}

impl HttpAuthenticator {
    /// Asks `url`
    #[must_use]
    pub const fn new(client: HttpClient, url: OutgoingUrl, limiter: Arc<AttemptLimiter>) -> Self {
        Self { endpoint: Endpoint::new(client, url), limiter }
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

    async fn ask(&self, credentials: &Credentials) -> Result<Option<Principal>, AuthError> {
        let question = Question {
            login: credentials.login.as_deref(),
            secret: credentials.secret.expose(),
            bearer: credentials.bearer,
            address: credentials.address.map(|address| address.to_string()),
        };
        let (status, body) = match self.endpoint.post(&question).await {
            Ok(answer) => (answer.status, answer.body),
            // A refusal may come with a page of any length.
            Err(HttpError::TooLong(status)) if status != StatusCode::OK => {
                (status, Default::default())
            }
            Err(error) => return Err(unavailable(error)),
        };
        match status {
            StatusCode::OK => {
                let answer: Answer = serde_json::from_slice(&body).map_err(unavailable)?;
                Ok(Some(Principal { user: answer.user, expires: answer.expires }))
            }
            StatusCode::NO_CONTENT => Ok(None),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(AuthError::Failed),
            other => Err(unavailable(other)),
        }
    }
}

fn unavailable(cause: impl fmt::Display) -> AuthError {
    AuthError::Unavailable { cause: format!("the endpoint that knows who is who: {cause}") }
}

#[derive(Serialize)]
struct Question<'a> {
    login: Option<&'a str>,
    secret: &'a str,
    bearer: bool,
    address: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    user: UserName,
    expires: Option<u64>,
}

#[async_trait]
impl Authenticator for HttpAuthenticator {
    async fn authenticate(
        &self,
        credentials: &Credentials,
    ) -> Result<Option<Principal>, AuthError> {
        let login = credentials.login.as_deref();
        let attempt = self.limiter.begin(login, credentials.address)?;
        let outcome = self.ask(credentials).await;
        let wrong = match &outcome {
            Ok(None) => login.is_none(),
            outcome => *outcome == Err(AuthError::Failed),
        };
        if !wrong {
            attempt.forgive();
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::Router;
    use axum::http::HeaderMap;
    use axum::response::{IntoResponse as _, Redirect};
    use axum::routing::post;
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::Clock;
    use crate::http_client::Reach;
    use crate::webhooks::sign;

    /// Answers as the secret says.
    async fn endpoint() -> OutgoingUrl {
        let answer = async |axum::Json(question): axum::Json<Value>| match question["secret"]
            .as_str()
            .unwrap()
        {
            "right" => axum::Json(json!({"user": question["login"], "expires": 7})).into_response(),
            "a.b.c" => {
                assert_eq!((&question["bearer"], &question["login"]), (&json!(true), &json!(null)));
                axum::Json(json!({"user": "bob"})).into_response()
            }
            "other" => StatusCode::NO_CONTENT.into_response(),
            "wrong" => StatusCode::UNAUTHORIZED.into_response(),
            "long refusal" => (StatusCode::FORBIDDEN, "x".repeat(128 * 1024)).into_response(),
            "long" => {
                let name = "x".repeat(128 * 1024);
                axum::Json(json!({"user": "alice", "name": name})).into_response()
            }
            "redirect" => Redirect::temporary("/other").into_response(),
            "no name" => axum::Json(json!({"user": "a/b"})).into_response(),
            "hang" => std::future::pending().await,
            _ => StatusCode::BAD_GATEWAY.into_response(),
        };
        let other = async || axum::Json(json!({"user": "mallory"}));
        let router = Router::new().route("/", post(answer)).route("/other", post(other));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url.parse().unwrap()
    }

    #[tokio::test]
    async fn the_endpoint_decides_and_its_failure_is_no_refusal() {
        let client = HttpClient::new(Reach::Everywhere).unwrap();
        let client = client.with_timeout(Duration::from_millis(300));
        let limiter = Arc::new(AttemptLimiter::new(Clock::manual(1)));
        let hook = HttpAuthenticator::new(client, endpoint().await, limiter);
        let ask =
            async |secret| hook.authenticate(&Credentials::connect(Some("alice"), secret)).await;
        let alice = Principal::new(UserName::new("alice").unwrap()).with_expires(7);
        assert_eq!(ask("right").await, Ok(Some(alice)));
        assert_eq!(ask("other").await, Ok(None));
        for secret in ["hang", "broken", "no name", "redirect", "long"] {
            assert!(ask(secret).await.unwrap_err().is_retryable(), "{secret}");
        }
        let bearer = Credentials::authorization("Bearer a.b.c").unwrap();
        let bob = Principal::new(UserName::new("bob").unwrap());
        assert_eq!(hook.authenticate(&bearer).await, Ok(Some(bob)));
        assert_eq!(ask("long refusal").await, Err(AuthError::Failed));
        // V-30: who guesses is slowed down before the endpoint is asked.
        for _ in 0..9 {
            assert_eq!(ask("wrong").await, Err(AuthError::Failed));
        }
        assert!(matches!(ask("right").await, Err(AuthError::Throttled { .. })));
    }

    /// V-30: what names no account is counted by its address, also where the endpoint leaves it to others.
    #[tokio::test]
    async fn what_comes_without_a_login_is_slowed_down_by_address() {
        let client = HttpClient::new(Reach::Everywhere).unwrap();
        let limiter = Arc::new(AttemptLimiter::new(Clock::manual(1)));
        let hook = HttpAuthenticator::new(client, endpoint().await, limiter);
        let ask = async |token: &str, address: &str| {
            let credentials = Credentials::bearer(token).with_address(address.parse().unwrap());
            hook.authenticate(&credentials).await
        };
        for _ in 0..200 {
            assert!(ask("a.b.c", "192.0.2.1").await.is_ok(), "a right token costs nothing");
        }
        for number in 0..100 {
            let outcome = ask(["wrong", "other"][number % 2], "192.0.2.1").await;
            assert!(!matches!(outcome, Err(AuthError::Throttled { .. })), "{number}");
        }
        assert!(matches!(ask("a.b.c", "192.0.2.1").await, Err(AuthError::Throttled { .. })));
        assert!(ask("a.b.c", "192.0.2.2").await.is_ok(), "another address suffers");
    }

    /// Failures of the endpoint are not counted as guesses.
    #[tokio::test]
    async fn calls_are_signed_and_nobody_listening_is_no_refusal() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let answer = async |headers: HeaderMap, body: axum::body::Bytes| {
            let text = |name: &str| headers[name].to_str().unwrap().to_owned();
            let seconds = text("webhook-timestamp").parse().unwrap();
            let wanted = sign::headers(secret, &text("webhook-id"), seconds, &body).unwrap();
            assert_eq!(headers["webhook-signature"], wanted["webhook-signature"]);
            axum::Json(json!({"user": "alice"}))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: OutgoingUrl =
            format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().route("/", post(answer));
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let client = HttpClient::new(Reach::Everywhere).unwrap();
        let limiter = Arc::new(AttemptLimiter::new(Clock::manual(1)));
        let hook = HttpAuthenticator::new(client, url, limiter);
        assert!(hook.clone().with_secret(Secret::new("secret")).is_err());
        let hook = hook.with_secret(Secret::new(secret)).unwrap();
        let credentials = Credentials::connect(Some("alice"), "open sesame");
        assert!(hook.authenticate(&credentials).await.unwrap().is_some());
        server.abort();
        let _ = server.await;
        for _ in 0..20 {
            assert!(hook.authenticate(&credentials).await.unwrap_err().is_retryable());
        }
    }
}
