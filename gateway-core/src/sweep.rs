//! Removing attachments that no message refers to any more.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::attachments::AttachmentError;
use crate::blob::BlobId;
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::names::ConversationId;
use crate::store::Page;

/// How often it is looked for them: it reads the history of each conversation that has attachments.
const INTERVAL: Duration = Duration::from_secs(6 * 60 * 60);

/// A message that refers to an upload comes within this time, in milliseconds.
const GRACE: u64 = 24 * 60 * 60 * 1000;

/// Attachments looked for in one go.
const ATTACHMENTS: usize = 4096;

/// Messages read at a time.
const MESSAGES: usize = 500;

impl Gateway {
    /// Removes the attachments that are more than a day old and that no message of their conversation refers to: those
    /// of messages that were recalled, have expired or were forgotten, and uploads that were never used. The gateway
    /// does so by itself every six hours. Gives how many they were; none where the gateway keeps no attachments.
    ///
    /// Of a conversation of which messages are [not stored](crate::Keep::Nothing) all attachments stay: nobody knows
    /// what refers to them.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Store`], [`GatewayError::Attachment`]; what was removed before stays so.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it has done a part.
    pub async fn sweep_attachments(&self) -> Result<u64, GatewayError> {
        let Some(blobs) = &self.inner.blobs else { return Ok(0) };
        let before = self.inner.clock.now_millis().saturating_sub(GRACE);
        let mut removed = 0;
        let mut last = None;
        loop {
            let page = blobs.list(last, ATTACHMENTS).await.map_err(AttachmentError::from)?;
            let Some(end) = page.last() else { return Ok(removed) };
            last = Some(end.id);
            let mut old: HashMap<ConversationId, HashSet<BlobId>> = HashMap::new();
            for entry in page.into_iter().filter(|entry| entry.time < before) {
                old.entry(entry.conversation).or_default().insert(entry.id);
            }
            for (conversation, mut unused) in old {
                self.keep_used(&conversation, &mut unused).await?;
                for id in unused {
                    let gone = blobs.remove(id).await.map_err(AttachmentError::from)?;
                    removed += u64::from(gone);
                }
            }
        }
    }

    /// Takes out what a message refers to, or what one may refer to that is not stored.
    ///
    /// The history is read upwards. So what a later message refers to again is not missed, even if that comes, and the
    /// earlier one goes, in the meantime.
    async fn keep_used(
        &self,
        conversation: &ConversationId,
        attachments: &mut HashSet<BlobId>,
    ) -> Result<(), GatewayError> {
        let position = self.inner.store.position(conversation).await?;
        let mut next = position.first_seq;
        // Messages that are not stored look like those that were forgotten if they are the first.
        let mut known = position.gap == 0 || position.gap + 1 != next;
        while known && !attachments.is_empty() {
            let page = Page::after(next.saturating_sub(1), MESSAGES);
            let messages = self.inner.read(conversation, page).await?;
            if messages.is_empty() {
                known = next > position.last_seq;
                break;
            }
            for message in messages {
                known &= message.seq == next;
                next = message.seq + 1;
                for (_, id) in message.headers.iter().filter(|(name, _)| name == "attachment") {
                    if let Ok(id) = id.parse() {
                        attachments.remove(&id);
                    }
                }
            }
        }
        if !known {
            attachments.clear();
        }
        Ok(())
    }

    /// Removes what nothing refers to until the gateway stops.
    pub(crate) fn keep_sweeping(&self) {
        if self.inner.blobs.is_none() {
            return;
        }
        self.every(INTERVAL, |gateway| async move {
            match gateway.sweep_attachments().await {
                Ok(0) => {}
                Ok(attachments) => tracing::info!(attachments, "unused attachments were removed"),
                Err(error) => tracing::warn!(%error, "unused attachments could not be removed"),
            }
        });
    }
}
