//! What is declared, and who consumes alone: kept in a stream of its own, one message for each.

use std::num::NonZeroU32;
use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::local::Settings;
use crate::{BrokerError, Declaration, DeclarationKind, pattern_matches};

use super::api::{ApiError, Done, Refusal, parse};
use super::plan::Address;
use super::session::{ANSWERING, Session};

/// What is declared of a queue or durable subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_deliveries: Option<NonZeroU32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) patterns: Vec<Binding>,
}

/// A pattern of a durable subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Binding {
    pub(super) pattern: String,
    /// The last message of the stream that came before the pattern was declared.
    #[serde(default)]
    pub(super) after: u64,
}

impl Record {
    /// This and what a declaration says, in force after message `after` of the stream.
    pub(super) fn with(mut self, declaration: &Declaration, after: u64) -> Self {
        self.name = declaration.name.as_ref().to_owned();
        self.max_deliveries = declaration.max_deliveries;
        self.dead_letter = declaration.dead_letter.as_deref().map(str::to_owned);
        if let DeclarationKind::Durable { patterns } = &declaration.kind {
            for pattern in patterns {
                if !self.patterns.iter().any(|one| one.pattern == **pattern) {
                    self.patterns.push(Binding { pattern: pattern.as_ref().to_owned(), after });
                }
            }
        }
        self
    }

    /// Takes the patterns of another record that this one lacks.
    pub(super) fn adopt(&mut self, other: &Self) {
        for binding in &other.patterns {
            if !self.patterns.iter().any(|one| one.pattern == binding.pattern) {
                self.patterns.push(binding.clone());
            }
        }
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            max_deliveries: self.max_deliveries,
            dead_letter: self.dead_letter.as_deref().map(Arc::from),
        }
    }

    /// The patterns that message `seq` of the stream is subject to, if one of them matches `topic`.
    pub(super) fn patterns_for(&self, topic: &str, seq: u64) -> Option<Vec<&str>> {
        let in_force = self.patterns.iter().filter(|one| one.after < seq);
        let in_force: Vec<_> = in_force.map(|one| one.pattern.as_str()).collect();
        in_force.iter().any(|pattern| pattern_matches(pattern, topic)).then_some(in_force)
    }
}

/// A record with its place in the registry, which names this version of it; 0 if there is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Version {
    pub(super) record: Record,
    pub(super) revision: u64,
}

impl Session {
    pub(super) async fn record(&self, address: &Address) -> Result<Version, BrokerError> {
        let subject = self.plan.record(address);
        let Some(kept) = self.last_kept(&self.plan.registry, &subject).await? else {
            return Ok(Version::default());
        };
        let record = serde_json::from_slice(&kept.payload()).unwrap_or_else(|error| {
            tracing::error!(%subject, %error, "the registry holds something else");
            Record::default()
        });
        Ok(Version { record, revision: kept.seq })
    }

    /// Replaces a version; gives the revision, or `None` if it is not the last one any more.
    pub(super) async fn put_record(
        &self,
        address: &Address,
        record: &Record,
        replaced: u64,
    ) -> Result<Option<u64>, BrokerError> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, replaced.to_string());
        let body = serde_json::to_vec(record).map_err(|error| self.broken(error))?;
        match self.register(self.plan.record(address), headers, body.into()).await {
            Ok(revision) => Ok(Some(revision)),
            Err(ApiError::Refused(refusal)) if refusal.err_code == Refusal::WRONG_LAST_SEQUENCE => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The number of the last takeover; 0 if there was none.
    pub(super) async fn owner(&self, address: &Address) -> Result<u64, BrokerError> {
        let kept = self.last_kept(&self.plan.registry, &self.plan.owner(address)).await?;
        Ok(kept.map_or(0, |kept| kept.seq))
    }

    /// Begins a takeover; gives its number, which is larger than that of all before it.
    pub(super) async fn become_owner(&self, address: &Address) -> Result<u64, BrokerError> {
        let subject = self.plan.owner(address);
        Ok(self.register(subject, HeaderMap::new(), Bytes::new()).await?)
    }

    /// Forgets what is registered of a source, up to the last message that the registry had then.
    pub(super) async fn unregister(&self, address: &Address, last: u64) -> Result<(), BrokerError> {
        for subject in [self.plan.record(address), self.plan.owner(address)] {
            self.purge(&self.plan.registry, &subject, last).await?;
        }
        Ok(())
    }

    /// Removes the messages with this subject up to `last`.
    pub(super) async fn purge(
        &self,
        stream: &str,
        subject: &str,
        last: u64,
    ) -> Result<(), BrokerError> {
        let call = format!("STREAM.PURGE.{stream}");
        let Done {} = self.api(call, &json!({ "filter": subject, "seq": last + 1 })).await?;
        Ok(())
    }

    /// Publishes something and gives its place in the stream.
    pub(super) async fn register(
        &self,
        subject: String,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<u64, ApiError> {
        #[derive(Deserialize)]
        struct Stored {
            seq: u64,
        }
        let stored: Stored = self
            .patiently(|| async {
                let answer =
                    self.ask_with(subject.clone(), headers.clone(), body.clone(), ANSWERING);
                Ok(answer.await?.map(|message| parse(&message.payload)))
            })
            .await?;
        Ok(stored.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declaring_again_adds_patterns_that_are_in_force_from_then_on() {
        let first = Declaration::durable("d", ["a.*"]).with_max_deliveries(3);
        let record = Record::default().with(&first, 0);
        let again = Declaration::durable("d", ["a.*", "b"]).with_dead_letter("dead");
        let record = record.with(&again, 10);
        assert_eq!(record.settings(), Settings::of(&again));
        assert_eq!(record.patterns_for("a.x", 5), Some(vec!["a.*"]));
        assert_eq!(record.patterns_for("b", 10), None);
        assert_eq!(record.patterns_for("b", 11), Some(vec!["a.*", "b"]));
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
        assert_eq!(serde_json::from_str::<Record>("{}").unwrap(), Record::default());
    }
}
