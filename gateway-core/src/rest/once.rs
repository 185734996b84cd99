//! What is made once, however often it is asked for: the calls that name an `Idempotency-Key`.

use std::sync::Arc;

use axum::http::HeaderMap;
use serde::Serialize;

use super::RestApi;
use super::input::idempotency_key;
use super::problem::Problem;
use crate::error::GatewayError;
use crate::keys::{hash, record_id};
use crate::registry::{Record, RecordKind, Registry};

/// What a repeat with another body is told.
pub(super) const OTHER_BODY: &str = "was used with another body";

/// A call that makes something, and whether it is a repeat.
///
/// It is noted before the thing is made: a repeat after a crash in between makes it.
pub(super) struct Once {
    registry: Arc<dyn Registry>,
    /// `None` for a call without a key.
    id: Option<String>,
    pub(super) is_repeat: bool,
}

impl Once {
    /// Notes a call of `maker`. Of `body` a hash is kept: it must hold no password.
    pub(super) async fn begin(
        rest: &RestApi,
        headers: &HeaderMap,
        maker: &str,
        body: &impl Serialize,
    ) -> Result<Self, Problem> {
        let registry = Arc::clone(&rest.gateway.inner.registry);
        let Some(key) = idempotency_key(headers)? else {
            return Ok(Self { registry, id: None, is_repeat: false });
        };
        let id = record_id(maker, Some(&key));
        let body = serde_json::to_string(body).unwrap_or_default();
        let record = Record::new(&id, format!("\"{}\"", hash(&body)));
        let failed = GatewayError::from;
        let is_new = registry.insert(RecordKind::Made, &record).await.map_err(failed)?;
        if !is_new {
            let before = registry.get(RecordKind::Made, &id).await.map_err(failed)?;
            if before.is_some_and(|before| before.content != record.content) {
                return Err(Problem::invalid("Idempotency-Key", OTHER_BODY));
            }
        }
        Ok(Self { registry, id: Some(id), is_repeat: !is_new })
    }

    /// Nothing was made: the key may be used again.
    pub(super) async fn undo(&self) -> Result<(), Problem> {
        if let Some(id) = self.id.as_ref().filter(|_| !self.is_repeat) {
            self.registry.remove(RecordKind::Made, id).await.map_err(GatewayError::from)?;
        }
        Ok(())
    }
}
