use serde::{Deserialize, Serialize};

use super::EventKind;
use crate::http_client::OutgoingUrl;
use crate::registry::Record;
use crate::store::StoreError;

/// A webhook that is to be made
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewWebhook {
    /// What is called
    pub url: OutgoingUrl,
    /// What is told; nothing, if empty
    pub events: Vec<EventKind>,
    /// What people call it
    pub label: String,
    /// The caller's key for the making: another making with the same key makes nothing
    pub idempotency_key: Option<String>,
}

impl NewWebhook {
    /// A webhook without a label
    #[must_use]
    pub const fn new(url: OutgoingUrl, events: Vec<EventKind>) -> Self {
        Self { url, events, label: String::new(), idempotency_key: None }
    }
}

/// A webhook, without its secret
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Webhook {
    /// Its name
    pub id: String,
    /// What is called
    pub url: String,
    /// What is told
    pub events: Vec<EventKind>,
    /// What people call it
    pub label: String,
    /// When it was made, in milliseconds since 1970, UTC
    pub created: u64,
}

/// How much there is for a webhook
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebhookStats {
    /// What has happened and is to be looked at or delivered
    pub waiting: u64,
    /// What could not be delivered
    pub dead: u64,
}

/// What is kept of a webhook
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) url: String,
    pub(super) events: Vec<EventKind>,
    label: String,
    created: u64,
    /// Signatures are made with it, so it is kept as it is.
    pub(super) secret: String,
    /// It is being removed: nothing more is delivered.
    #[serde(default)]
    pub(super) removed: bool,
}

impl Kept {
    pub(super) fn new(new: &NewWebhook, secret: String, now: u64) -> Self {
        Self {
            url: new.url.to_string(),
            events: new.events.clone(),
            label: new.label.clone(),
            created: now,
            secret,
            removed: false,
        }
    }

    /// Whether this is what would be made of `new`.
    pub(super) fn is_alike(&self, new: &NewWebhook) -> bool {
        let alike = (&self.url, &self.events, &self.label);
        alike == (&new.url.to_string(), &new.events, &new.label)
    }

    pub(super) fn webhook(&self, id: &str) -> Webhook {
        Webhook {
            id: id.to_owned(),
            url: self.url.clone(),
            events: self.events.clone(),
            label: self.label.clone(),
            created: self.created,
        }
    }

    pub(super) fn read(record: &Record) -> Result<Self, StoreError> {
        serde_json::from_str(&record.content)
            .map_err(|error| StoreError::Unusable(format!("a webhook is unreadable: {error}")))
    }

    pub(super) fn record(&self, id: &str) -> Result<Record, StoreError> {
        let content = serde_json::to_string(self).map_err(|error| {
            StoreError::Unusable(format!("a webhook cannot be written: {error}"))
        })?;
        Ok(Record::new(id, content))
    }
}
