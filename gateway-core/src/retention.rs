//! Forgetting what need not be kept, a little at a time beside everything else.

use std::time::Duration;

use crate::error::GatewayError;
use crate::gateway::Gateway;

/// How often the rules are applied by themselves.
const INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Messages forgotten in one transaction: a sender beside it waits for some milliseconds.
const PART: usize = 256;

/// Conversations looked at in one go.
const CONVERSATIONS: usize = 500;

impl Gateway {
    /// Applies the rules of retention, as the gateway does by itself every ten minutes. Gives how many messages were
    /// forgotten.
    ///
    /// What the broker has yet to confirm is kept, and so is everything after it in its conversation.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Store`]; what was forgotten before stays so.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it has done a part.
    pub async fn enforce_retention(&self) -> Result<u64, GatewayError> {
        let (rules, store) = (&self.inner.settings.retention, &self.inner.store);
        let mut forgotten = 0;
        let mut last = None;
        loop {
            let page = store.survey(last.as_ref(), CONVERSATIONS).await?;
            let Some(end) = page.last() else { return Ok(forgotten) };
            last = Some(end.conversation.clone());
            for extent in &page {
                let rule = rules.of(&extent.conversation);
                let Some(cut) = rule.cut(extent, self.inner.clock.now_millis()) else { continue };
                loop {
                    let part = store.forget(&extent.conversation, cut, PART).await?;
                    forgotten += part;
                    if part < PART as u64 {
                        break;
                    }
                }
            }
        }
    }

    /// Applies the rules of retention until the gateway stops.
    pub(crate) fn keep_retention(&self) {
        if self.inner.settings.retention.is_empty() {
            return;
        }
        self.every(INTERVAL, |gateway| async move {
            match gateway.enforce_retention().await {
                Ok(0) => {}
                Ok(messages) => tracing::info!(messages, "old messages were forgotten"),
                Err(error) => tracing::warn!(%error, "old messages could not be forgotten"),
            }
        });
    }
}
