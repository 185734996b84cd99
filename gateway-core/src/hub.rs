use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::StreamExt;
use mq_bridge::{Broker, BrokerError, Overflow, Source, SubscribeOptions};
use tokio::sync::OnceCell;
use tokio_util::task::AbortOnDropHandle;

use crate::feed::{Feed, FeedLimits, FeedReader};
use crate::outgoing::Outgoing;

/// What may wait between the broker and the fan-out of one topic, in octets.
const TOPIC_BUFFER: usize = 8 * 1024 * 1024;

/// The fan-out within this node: one broker subscription per topic pattern, however many sessions
/// listen to it. A message is handed to each of them as the same shared value.
#[derive(Debug)]
pub(crate) struct Hub {
    broker: Arc<dyn Broker>,
    topics: Arc<Topics>,
}

type Topics = Mutex<HashMap<Arc<str>, Arc<Topic>>>;

#[derive(Debug)]
struct Topic {
    feeds: Mutex<Vec<Arc<Feed>>>,
    /// Set once the broker subscription is live; its task ends with the topic.
    pump: OnceCell<AbortOnDropHandle<()>>,
}

/// A place in the fan-out of one topic; dropping it leaves.
#[derive(Debug)]
pub(crate) struct HubSubscription {
    pattern: Arc<str>,
    feed: Arc<Feed>,
    topic: Arc<Topic>,
    topics: Weak<Topics>,
}

impl Hub {
    pub(crate) fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker, topics: Arc::default() }
    }

    /// Joins the fan-out of `pattern`. It is live on return: what is published after it is seen
    /// (P5).
    ///
    /// Cancel safe: dropped before it is ready nothing stays subscribed.
    pub(crate) async fn subscribe(
        &self,
        pattern: &str,
        limits: FeedLimits,
    ) -> Result<(HubSubscription, FeedReader), BrokerError> {
        let subscription = self.join(pattern, limits);
        let reader = FeedReader(Arc::clone(&subscription.feed));
        let pattern = Arc::clone(&subscription.pattern);
        let feeds = Arc::downgrade(&subscription.topic);
        subscription
            .topic
            .pump
            .get_or_try_init(|| async {
                let options =
                    SubscribeOptions::new().with_buffer(TOPIC_BUFFER, Overflow::DropOldest);
                let live = self.broker.subscribe(Source::topic(pattern), options).await?;
                Ok::<_, BrokerError>(AbortOnDropHandle::new(tokio::spawn(pump(live, feeds))))
            })
            .await?;
        Ok((subscription, reader))
    }

    fn join(&self, pattern: &str, limits: FeedLimits) -> HubSubscription {
        let mut topics = lock(&self.topics);
        let (pattern, topic) = match topics.get_key_value(pattern) {
            Some((pattern, topic)) => (Arc::clone(pattern), Arc::clone(topic)),
            None => {
                let pattern: Arc<str> = pattern.into();
                let topic = Arc::new(Topic { feeds: Mutex::default(), pump: OnceCell::new() });
                topics.insert(Arc::clone(&pattern), Arc::clone(&topic));
                (pattern, topic)
            }
        };
        // Under the lock of the map, so that the topic is not taken for deserted meanwhile.
        let feed = Feed::new(limits);
        lock(&topic.feeds).push(Arc::clone(&feed));
        HubSubscription { pattern, feed, topic, topics: Arc::downgrade(&self.topics) }
    }

    #[cfg(test)]
    pub(crate) fn topics(&self) -> usize {
        lock(&self.topics).len()
    }
}

impl Drop for HubSubscription {
    fn drop(&mut self) {
        let Some(topics) = self.topics.upgrade() else { return };
        let mut topics = lock(&topics);
        let mut feeds = lock(&self.topic.feeds);
        feeds.retain(|feed| !Arc::ptr_eq(feed, &self.feed));
        if feeds.is_empty()
            && topics.get(&self.pattern).is_some_and(|topic| Arc::ptr_eq(topic, &self.topic))
        {
            topics.remove(&self.pattern);
        }
    }
}

/// Hands what comes from the broker to every feed, until the broker or the last feed is gone.
async fn pump(mut live: mq_bridge::Subscription, topic: Weak<Topic>) {
    let mut dropped_before = 0;
    while let Some(batch) = live.next().await {
        let Some(topic) = topic.upgrade() else { return };
        let lost = live.dropped() - dropped_before;
        dropped_before += lost;
        let feeds = lock(&topic.feeds);
        for feed in feeds.iter() {
            feed.lag(lost);
        }
        for delivery in batch {
            let message = Arc::new(Outgoing::new(delivery.message));
            let dropped: u64 = feeds.iter().map(|feed| feed.push(&message)).sum();
            if dropped > 0 {
                tracing::debug!(dropped, "messages dropped for slow subscribers");
            }
        }
    }
    if let Some(topic) = topic.upgrade() {
        lock(&topic.feeds).iter().for_each(|feed| feed.close());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
