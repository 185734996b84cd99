//! What JetStream's API answers.

use std::fmt;

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::BrokerError;

use super::session::Session;

/// Why a call did not do what it should.
#[derive(Debug)]
pub(super) enum ApiError {
    /// JetStream refuses.
    Refused(Refusal),
    /// The link is lost.
    Broken(BrokerError),
}

/// What JetStream says when it refuses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) err_code: u32,
    pub(super) description: String,
}

impl Refusal {
    pub(super) const CONSUMER_NOT_FOUND: u32 = 10014;
    pub(super) const NO_MESSAGE: u32 = 10037;
    pub(super) const NAME_IN_USE: u32 = 10058;
    pub(super) const STREAM_NOT_FOUND: u32 = 10059;
    pub(super) const WRONG_LAST_SEQUENCE: u32 = 10071;
    /// Of the account, of the server.
    const NOT_ENABLED: [u32; 2] = [10039, 10076];
    /// Of the cluster or server, of a stream: without a leader for the moment.
    const UNAVAILABLE: [u32; 2] = [10008, 10118];

    pub(super) fn is_temporary(&self) -> bool {
        Self::UNAVAILABLE.contains(&self.err_code)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JetStream says: {} (error {})", self.description, self.err_code)
    }
}

impl From<BrokerError> for ApiError {
    fn from(error: BrokerError) -> Self {
        Self::Broken(error)
    }
}

impl From<Refusal> for BrokerError {
    fn from(refusal: Refusal) -> Self {
        if Refusal::NOT_ENABLED.contains(&refusal.err_code) {
            return Self::Refused { reason: refusal.to_string().into() };
        }
        Self::Storage { reason: refusal.to_string().into() }
    }
}

impl From<ApiError> for BrokerError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Refused(refusal) => refusal.into(),
            ApiError::Broken(error) => error,
        }
    }
}

/// Reads an answer.
pub(super) fn parse<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Refusal> {
    #[derive(Deserialize)]
    struct Failed {
        error: Refusal,
    }
    if let Ok(Failed { error }) = serde_json::from_slice(answer) {
        return Err(error);
    }
    serde_json::from_slice(answer).map_err(|error| Refusal {
        description: format!("something else than was asked: {error}"),
        ..Refusal::default()
    })
}

/// Any answer that is no refusal.
#[derive(Debug, Deserialize)]
pub(super) struct Done {}

#[derive(Debug, Deserialize)]
pub(super) struct StreamInfo {
    pub(super) config: StreamConfig,
    pub(super) state: StreamState,
    /// When it was made.
    #[serde(default)]
    pub(super) created: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct StreamConfig {
    #[serde(default)]
    pub(super) subjects: Vec<String>,
    #[serde(default)]
    pub(super) retention: String,
    #[serde(default)]
    pub(super) num_replicas: usize,
}

#[derive(Debug, Deserialize)]
pub(super) struct StreamState {
    pub(super) messages: u64,
    pub(super) last_seq: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct ConsumerInfo {
    pub(super) config: ConsumerConfig,
    /// When it was made.
    #[serde(default)]
    pub(super) created: String,
    pub(super) delivered: Sequences,
    pub(super) ack_floor: Sequences,
    #[serde(default)]
    pub(super) num_ack_pending: u64,
    #[serde(default)]
    pub(super) num_pending: u64,
    #[serde(default)]
    pub(super) num_waiting: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct ConsumerConfig {
    #[serde(default)]
    filter_subject: String,
    #[serde(default)]
    filter_subjects: Vec<String>,
}

impl ConsumerConfig {
    pub(super) fn filters(&self) -> Vec<&str> {
        if self.filter_subject.is_empty() {
            self.filter_subjects.iter().map(String::as_str).collect()
        } else {
            vec![&self.filter_subject]
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Sequences {
    pub(super) consumer_seq: u64,
    pub(super) stream_seq: u64,
}

/// A message that is kept in a stream.
#[derive(Debug, Deserialize)]
pub(super) struct Kept {
    pub(super) subject: String,
    pub(super) seq: u64,
    /// In base64, as the payload.
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

impl Kept {
    pub(super) fn payload(&self) -> Vec<u8> {
        STANDARD.decode(&self.data).unwrap_or_default()
    }

    pub(super) fn headers(&self) -> HeaderMap {
        let block = STANDARD.decode(&self.hdrs).unwrap_or_default();
        let block = String::from_utf8(block).unwrap_or_default();
        let pairs = block.lines().filter_map(|line| line.split_once(':'));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            if let (Ok(name), Ok(value)) = (name.parse(), value.trim().parse::<HeaderValue>()) {
                headers.append::<HeaderName, _>(name, value);
            }
        }
        headers
    }
}

impl Session {
    pub(super) async fn consumer_info(
        &self,
        stream: &str,
        consumer: &str,
    ) -> Result<Option<ConsumerInfo>, BrokerError> {
        let call = format!("CONSUMER.INFO.{stream}.{consumer}");
        match self.api(call, &json!({})).await {
            Ok(info) => Ok(Some(info)),
            Err(ApiError::Refused(refusal)) if refusal.err_code == Refusal::CONSUMER_NOT_FOUND => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The first message from `from` on with a subject that `filter` lets through.
    pub(super) async fn next_kept(
        &self,
        stream: &str,
        filter: &str,
        from: u64,
    ) -> Result<Option<Kept>, BrokerError> {
        self.kept(stream, &json!({ "seq": from, "next_by_subj": filter })).await
    }

    /// The last message with this subject.
    pub(super) async fn last_kept(
        &self,
        stream: &str,
        subject: &str,
    ) -> Result<Option<Kept>, BrokerError> {
        self.kept(stream, &json!({ "last_by_subj": subject })).await
    }

    /// Whether the message at this place is there.
    pub(super) async fn is_kept(&self, stream: &str, seq: u64) -> Result<bool, BrokerError> {
        self.kept(stream, &json!({ "seq": seq })).await.map(|kept| kept.is_some())
    }

    async fn kept(
        &self,
        stream: &str,
        which: &serde_json::Value,
    ) -> Result<Option<Kept>, BrokerError> {
        #[derive(Deserialize)]
        struct Found {
            message: Kept,
        }
        match self.api::<Found>(format!("STREAM.MSG.GET.{stream}"), which).await {
            Ok(found) => Ok(Some(found.message)),
            Err(ApiError::Refused(refusal)) if refusal.err_code == Refusal::NO_MESSAGE => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_an_answer() {
        let refused = br#"{"type":"x","error":{"code":404,"err_code":10014,"description":"consumer not found"}}"#;
        let refusal = parse::<Done>(refused).unwrap_err();
        assert_eq!(refusal.err_code, Refusal::CONSUMER_NOT_FOUND);
        assert!(!refusal.is_temporary());
        assert!(parse::<Done>(br#"{"type":"x","success":true}"#).is_ok());
        assert!(parse::<Done>(b"nonsense").is_err());
        let enabled = br#"{"error":{"code":503,"err_code":10039,"description":"not enabled"}}"#;
        let error = BrokerError::from(parse::<Done>(enabled).unwrap_err());
        assert!(!error.is_retryable());
    }
}
