use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use mq_bridge::{
    BrokerError, Declaration, Delivery, EndReason, Message, Source, SubscribeOptions, Subscription,
};

use super::{Notice, Notifier, NotifyError, NotifyOptions, SUBSCRIPTION};
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::names::{ConversationId, UserName};

/// How many messages are in one batch, and how many octets of them
const PREFETCH: (u32, usize) = (256, 1 << 20);

/// How often a node that does not tell looks whether the one that does is gone
const STANDBY: Duration = Duration::from_secs(5);

/// The pause after a failure of the broker, the directory or the presence store
const PAUSE: Duration = Duration::from_secs(1);

/// Tells those who are away, one batch after the other.
pub(super) struct Worker {
    gateway: Gateway,
    notifier: Arc<dyn Notifier>,
    options: NotifyOptions,
}

impl Worker {
    pub(super) fn new(
        gateway: Gateway,
        notifier: Arc<dyn Notifier>,
        options: NotifyOptions,
    ) -> Self {
        Self { gateway, notifier, options }
    }

    /// Until the gateway stops.
    pub(super) async fn run(self) {
        let stop = self.gateway.inner.stop.clone();
        let work = async {
            loop {
                if let Err(error) = self.work().await {
                    tracing::warn!(%error, "those who are away have to wait for their news");
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    }

    /// Until another node tells, or something fails.
    async fn work(&self) -> Result<(), GatewayError> {
        let broker = self.gateway.broker();
        broker.declare(&Declaration::durable(SUBSCRIPTION, vec!["conv.#".to_owned()])).await?;
        // A node that takes over from a living one would tell once more what that is telling.
        while !self.gateway.holds_lease() || self.somebody_tells().await? {
            tokio::time::sleep(STANDBY).await;
        }
        let options =
            SubscribeOptions::new().with_prefetch(PREFETCH.0, PREFETCH.1).with_takeover(true);
        let mut news = broker.subscribe(Source::durable(SUBSCRIPTION), options).await?;
        let acker = news.acker();
        while let Some(first) = news.recv().await {
            let batch = self.gather(&mut news, first).await;
            // Without the lease another node may be at it already.
            if !self.gateway.holds_lease() {
                return Ok(());
            }
            self.tell_all(&batch).await?;
            let tags: Vec<u64> = batch.iter().map(|delivery| delivery.tag).collect();
            acker.ack(&tags).await?;
        }
        match news.end_reason() {
            Some(EndReason::TakenOver) | None => Ok(()),
            Some(reason) => {
                tracing::warn!(%reason, "the broker ended the subscription of the notifier");
                Ok(())
            }
        }
    }

    async fn somebody_tells(&self) -> Result<bool, BrokerError> {
        let stats = self.gateway.broker().stats(&Source::durable(SUBSCRIPTION)).await?;
        Ok(stats.consumers > 0)
    }

    /// What comes within the window, as far as the broker hands over without an acknowledgement.
    async fn gather(&self, news: &mut Subscription, first: Vec<Delivery>) -> Vec<Delivery> {
        let mut batch = first;
        let more = async {
            while batch.len() < PREFETCH.0 as usize
                && let Some(next) = news.recv().await
            {
                batch.extend(next);
            }
        };
        let _ = tokio::time::timeout(self.options.window, more).await;
        batch
    }

    async fn tell_all(&self, batch: &[Delivery]) -> Result<(), GatewayError> {
        let mut by_conversation: HashMap<ConversationId, Vec<Notice>> = HashMap::new();
        for notice in batch.iter().filter_map(|delivery| notice(&delivery.message)) {
            by_conversation.entry(notice.conversation.clone()).or_default().push(notice);
        }
        let mut by_user: HashMap<UserName, Vec<Notice>> = HashMap::new();
        for (conversation, notices) in by_conversation {
            let people = self.gateway.directory().participants(&conversation).await?;
            let presence = self.gateway.presence(&people).await?;
            for (user, presence) in people.into_iter().zip(presence) {
                if !presence.is_online() {
                    let news: Vec<_> =
                        notices.iter().filter(|notice| notice.from != user).cloned().collect();
                    by_user.entry(user).or_default().extend(news);
                }
            }
        }
        by_user.retain(|_, news| !news.is_empty());
        stream::iter(by_user)
            .for_each_concurrent(self.options.parallel.max(1), async |(user, news)| {
                self.tell(&user, &news).await;
            })
            .await;
        Ok(())
    }

    /// Tells somebody, again and again until that is done or given up.
    async fn tell(&self, user: &UserName, news: &[Notice]) {
        let mut backoff = self.options.backoff;
        for attempt in 1..=self.options.attempts.max(1) {
            match self.notifier.notify(user, news).await {
                Ok(()) => return,
                Err(NotifyError::Later(error)) if attempt < self.options.attempts => {
                    tracing::debug!(%user, error, attempt, "somebody could not be notified");
                    tokio::time::sleep(backoff).await;
                    backoff = backoff.saturating_mul(2);
                }
                Err(error) => {
                    tracing::warn!(%user, %error, "somebody is not notified");
                    return;
                }
            }
        }
    }
}

/// The message as people are told of it; `None` for what is no message to anybody.
fn notice(message: &Message) -> Option<Notice> {
    let header = |name| message.headers.get_str(name);
    if header("kind") != Some("message") {
        return None;
    }
    Some(Notice {
        message_id: header("message-id")?.parse().ok()?,
        conversation: ConversationId::new(header("conversation")?).ok()?,
        seq: header("seq")?.parse().ok()?,
        from: UserName::new(header("from")?).ok()?,
        timestamp: header("timestamp")?.parse().ok()?,
        body: message.body.clone(),
        content_type: header("content-type").map(str::to_owned),
    })
}
