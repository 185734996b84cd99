//! A new device: its inbox, filled with what its user has not read.
//!
//! It is filled between two messages of each conversation, so that the device gets each message once and in order: what
//! was stored before comes from the store, what is stored after comes live. In this node nothing else is done meanwhile.
//! Other nodes are held back in the conversations concerned, and in those alone: the store sets a barrier, and once all
//! that is before it has left the outbox the inbox is made and filled.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mq_bridge::{Declaration, Source};
use tokio::time::{Instant, sleep};

use super::{BATCH, Worker, publication};
use crate::address;
use crate::error::GatewayError;
use crate::names::{ConversationId, DeviceName, UserName};
use crate::store::{Page, StoredMessage, UnreadRange};

/// How long this node waits for others before the device is told to try again.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(5);

impl Worker {
    /// Makes a device's inbox anew, with what its user has not read. The caller has drained.
    pub(super) async fn seed(
        &mut self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<(), GatewayError> {
        let outcome = self.make_and_fill(user, device).await;
        // The barrier ends whatever came of it; if not now, then before anything else is published.
        if self.end_seeding().await.is_err() {
            self.broken = true;
        }
        outcome
    }

    /// Lets other nodes go on that a seeding has held back.
    pub(super) async fn end_seeding(&mut self) -> Result<(), GatewayError> {
        if let (true, Some(shared)) = (self.seeding, self.store.shared()) {
            shared.let_go().await?;
            self.seeding = false;
        }
        Ok(())
    }

    async fn make_and_fill(
        &mut self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<(), GatewayError> {
        // What was published and still is in the outbox would, after a crash, reach the new device as well.
        self.publish_outbox().await?;
        let unread = if self.store.shared().is_some() {
            self.make_behind_barrier(user, device).await?
        } else {
            self.make_inbox(user, device).await?;
            self.unread(user).await?
        };
        self.fill(user, device, unread).await?;
        Ok(self.directory.mark_seeded(user, device).await?)
    }

    /// Makes the inbox when nothing is on its way to it; gives what it is to be filled with. What other nodes store
    /// from then on waits.
    async fn make_behind_barrier(
        &mut self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<Vec<UnreadRange>, GatewayError> {
        let deadline = Instant::now() + PATIENCE;
        let mut known: Vec<ConversationId> = Vec::new();
        loop {
            for range in self.unread(user).await? {
                if !known.contains(&range.conversation) {
                    known.push(range.conversation);
                }
            }
            let store = Arc::clone(&self.store);
            let Some(shared) = store.shared() else { return Err(GatewayError::Overloaded) };
            let Some(last) = shared.hold(user, device, &known).await? else {
                // Another node fills it.
                wait_a_little(deadline).await?;
                continue;
            };
            self.seeding = true;
            while !shared.is_quiet().await? {
                wait_a_little(deadline).await?;
                self.publish_outbox().await?;
            }
            self.make_inbox(user, device).await?;
            let unread = self.unread(user).await?;
            if unread.iter().all(|range| known.contains(&range.conversation)) {
                let last: HashMap<_, _> = known.iter().zip(last).collect();
                let before = |range: UnreadRange| {
                    let last = last.get(&range.conversation).copied()?;
                    Some(UnreadRange::new(range.conversation, range.after_seq, last))
                };
                return Ok(unread.into_iter().filter_map(before).collect());
            }
            // A conversation without a barrier may have gone on before the inbox was there. All anew: two nodes
            // that add to their barriers would wait for each other.
            self.end_seeding().await?;
            wait_a_little(deadline).await?;
        }
    }

    async fn make_inbox(&self, user: &UserName, device: &DeviceName) -> Result<(), GatewayError> {
        let inbox = address::device_inbox(user, device);
        // What an attempt that did not finish has left.
        self.broker.delete(&Source::durable(inbox.as_str())).await?;
        let topics =
            [address::inbox(user), address::device(user, device), address::EVERYBODY.to_owned()];
        Ok(self.broker.declare(&Declaration::durable(inbox, topics)).await?)
    }

    async fn unread(&self, user: &UserName) -> Result<Vec<UnreadRange>, GatewayError> {
        let groups = self.directory.groups_of(user).await?;
        Ok(self.store.unread(user, &ConversationId::of_groups(&groups)).await?)
    }

    async fn fill(
        &self,
        user: &UserName,
        device: &DeviceName,
        unread: Vec<UnreadRange>,
    ) -> Result<(), GatewayError> {
        for unread in unread {
            let mut after = unread.after_seq;
            while after < unread.last_seq {
                let page = Page::between(Some(after), Some(unread.last_seq + 1), BATCH);
                let page = self.store.history(&unread.conversation, page).await?;
                let Some(last) = page.last() else { break };
                after = last.seq;
                let now = self.clock.now_millis();
                let expired = |message: &StoredMessage| {
                    message.expires().is_some_and(|expires| expires <= now)
                };
                let batch = page
                    .iter()
                    .filter(|message| &message.sender != user && !expired(message))
                    .map(|message| publication(message, vec![address::device(user, device)]))
                    .collect();
                self.broker.publish_batch(batch).await?;
            }
        }
        Ok(())
    }
}

async fn wait_a_little(deadline: Instant) -> Result<(), GatewayError> {
    if Instant::now() > deadline {
        return Err(GatewayError::Overloaded);
    }
    sleep(LOOK).await;
    Ok(())
}
