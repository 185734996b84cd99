use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use futures::StreamExt;
use mq_bridge::{Broker, BrokerError, Overflow, Source, SubscribeOptions};
use tokio::sync::OnceCell;
use tokio_util::task::AbortOnDropHandle;

use crate::feed::{Feed, FeedLimits, FeedReader};
use crate::lock::lock;
use crate::metrics::Counter;
use crate::outgoing::Outgoing;

/// What may wait between the broker and the fan-out of one topic, in octets.
const TOPIC_BUFFER: usize = 8 * 1024 * 1024;

/// How many live messages were dropped for slow subscribers, each counted for each of them; cheap to
/// clone, and all clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drops(Arc<[Counter; DropReason::ALL.len()]>);

/// Why live messages are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DropReason {
    /// The buffer of a subscriber was full.
    Subscriber,
    /// The buffer between broker and node was.
    Node,
    /// The client has too much to acknowledge to be told of signals.
    Unacknowledged,
}

impl DropReason {
    pub(crate) const ALL: [Self; 3] = [Self::Subscriber, Self::Node, Self::Unacknowledged];
}

impl Drops {
    pub(crate) fn add(&self, reason: DropReason, count: u64) {
        if count > 0 {
            self.of(reason).add(count);
        }
    }

    pub(crate) fn of(&self, reason: DropReason) -> &Counter {
        let [subscriber, node, unacknowledged] = &*self.0;
        match reason {
            DropReason::Subscriber => subscriber,
            DropReason::Node => node,
            DropReason::Unacknowledged => unacknowledged,
        }
    }

    /// For all reasons.
    pub(crate) fn get(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }
}

/// The fan-out within this node: one broker subscription per topic pattern, however many sessions
/// listen to it. A message is handed to each of them as the same shared value.
#[derive(Debug)]
pub(crate) struct Hub {
    broker: Arc<dyn Broker>,
    drops: Drops,
    topics: Arc<Topics>,
}

type Topics = Mutex<HashMap<Arc<str>, Arc<Topic>>>;

#[derive(Debug)]
struct Topic {
    feeds: Mutex<Vec<Arc<Feed>>>,
    /// Messages that came from the broker.
    taken: Counter,
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
    pub(crate) fn new(broker: Arc<dyn Broker>, drops: Drops) -> Self {
        Self { broker, drops, topics: Arc::default() }
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
        let topic = Arc::downgrade(&subscription.topic);
        let topics = Arc::downgrade(&self.topics);
        let drops = self.drops.clone();
        subscription
            .topic
            .pump
            .get_or_try_init(|| async {
                let options =
                    SubscribeOptions::new().with_buffer(TOPIC_BUFFER, Overflow::DropOldest);
                let source = Source::topic(Arc::clone(&pattern));
                let live = self.broker.subscribe(source, options).await?;
                let pump = pump(live, topic, topics, pattern, drops);
                Ok::<_, BrokerError>(AbortOnDropHandle::new(tokio::spawn(pump)))
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
                let topic = Arc::new(Topic {
                    feeds: Mutex::default(),
                    taken: Counter::default(),
                    pump: OnceCell::new(),
                });
                topics.insert(Arc::clone(&pattern), Arc::clone(&topic));
                (pattern, topic)
            }
        };
        // Under the lock of the map, so that the topic is not taken for deserted meanwhile.
        let feed = Feed::new(limits);
        lock(&topic.feeds).push(Arc::clone(&feed));
        HubSubscription { pattern, feed, topic, topics: Arc::downgrade(&self.topics) }
    }

    /// What is listened to, in no order.
    #[cfg_attr(not(feature = "rest"), allow(dead_code, reason = "only REST shows it"))]
    pub(crate) fn patterns(&self) -> impl Iterator<Item = String> {
        let patterns: Vec<_> = lock(&self.topics).keys().map(|name| name.to_string()).collect();
        patterns.into_iter()
    }

    /// How many listen to a pattern, and how many messages came for it since somebody does.
    #[cfg_attr(not(feature = "rest"), allow(dead_code, reason = "only REST shows it"))]
    pub(crate) fn numbers(&self, pattern: &str) -> (usize, u64) {
        let topic = lock(&self.topics).get(pattern).map(Arc::clone);
        topic.map_or((0, 0), |topic| (lock(&topic.feeds).len(), topic.taken.get()))
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
async fn pump(
    mut live: mq_bridge::Subscription,
    topic: Weak<Topic>,
    topics: Weak<Topics>,
    pattern: Arc<str>,
    drops: Drops,
) {
    let mut dropped_before = 0;
    while let Some(batch) = live.next().await {
        let Some(topic) = topic.upgrade() else { return };
        let lost = live.dropped() - dropped_before;
        dropped_before += lost;
        topic.taken.add(batch.len() as u64);
        let feeds = lock(&topic.feeds);
        drops.add(DropReason::Node, lost);
        let messages: Vec<_> =
            batch.into_iter().map(|delivery| Arc::new(Outgoing::new(delivery.message))).collect();
        for feed in feeds.iter() {
            feed.lag(lost);
            drops.add(DropReason::Subscriber, feed.push(&messages));
        }
    }
    // The broker has ended it: whoever comes from now on starts anew.
    if let (Some(topics), Some(topic)) = (topics.upgrade(), topic.upgrade()) {
        let mut topics = lock(&topics);
        if topics.get(&pattern).is_some_and(|current| Arc::ptr_eq(current, &topic)) {
            topics.remove(&pattern);
        }
        lock(&topic.feeds).iter().for_each(|feed| feed.close());
    }
}

#[cfg(test)]
mod tests {
    use mq_bridge::{Memory, Message, Publish};

    use super::*;
    use crate::feed::FeedItem;

    const ROOMY: FeedLimits = FeedLimits { bytes: 1 << 20, overflow: Overflow::DropOldest };

    fn publish(broker: &Memory, topic: &str, body: &'static str) {
        drop(broker.publish(Publish::to_topic(topic, Message::new(body))));
    }

    /// What comes next: the bodies of messages, or how many were dropped.
    async fn next(reader: &mut FeedReader) -> Option<String> {
        match reader.next().await? {
            FeedItem::Messages(messages) => {
                let body = |message: &Arc<Outgoing>| message.message().body.to_vec();
                let bodies: Vec<u8> = messages.iter().flat_map(body).collect();
                Some(String::from_utf8(bodies).unwrap())
            }
            FeedItem::Lagged(count) => Some(format!("lagged {count}")),
        }
    }

    /// The bodies of the next messages, so many of them.
    async fn bodies(reader: &mut FeedReader, count: usize) -> String {
        let mut bodies = String::new();
        while bodies.len() < count {
            bodies += &next(reader).await.unwrap();
        }
        bodies
    }

    #[tokio::test]
    async fn many_subscribers_of_a_topic_cost_the_broker_one() {
        let broker = Arc::new(Memory::default());
        let hub = Hub::new(broker.clone(), Drops::default());
        let mut places = Vec::new();
        for _ in 0..100 {
            places.push(hub.subscribe("a.*", ROOMY).await.unwrap());
        }
        let consumers = broker.stats(&Source::topic("a.*")).await.unwrap().consumers;
        assert_eq!((consumers, hub.topics()), (1, 1));
        publish(&broker, "a.b", "x");
        let mut first = None;
        for (_, reader) in &mut places {
            let Some(FeedItem::Messages(messages)) = reader.next().await else {
                panic!("no message")
            };
            let shared = first.get_or_insert_with(|| Arc::clone(&messages[0]));
            assert!(Arc::ptr_eq(shared, &messages[0]), "one value for all");
        }
        drop(places);
        assert_eq!(hub.topics(), 0, "nobody listens: nothing is kept");
    }

    /// P7: what waits for a slow subscriber is bounded, and what is dropped is told.
    #[tokio::test]
    async fn p7_a_slow_subscriber_costs_itself_only() {
        let broker = Arc::new(Memory::default());
        let drops = Drops::default();
        let hub = Hub::new(broker.clone(), drops.clone());
        let two = 2 * Message::new("1").cost();
        let limits = |overflow| FeedLimits { bytes: two, overflow };
        let (_a, mut oldest) = hub.subscribe("t", limits(Overflow::DropOldest)).await.unwrap();
        let (_b, mut newest) = hub.subscribe("t", limits(Overflow::DropNewest)).await.unwrap();
        let (_c, mut cut) = hub.subscribe("t", limits(Overflow::Disconnect)).await.unwrap();
        let (_d, mut quick) = hub.subscribe("t", ROOMY).await.unwrap();
        for body in ["1", "2", "3"] {
            publish(&broker, "t", body);
        }
        assert_eq!(bodies(&mut quick, 3).await, "123");
        assert_eq!(next(&mut oldest).await.as_deref(), Some("lagged 1"));
        assert_eq!(bodies(&mut oldest, 2).await, "23");
        assert_eq!(next(&mut newest).await.as_deref(), Some("lagged 1"));
        assert_eq!(bodies(&mut newest, 2).await, "12");
        assert_eq!(next(&mut cut).await, None);
        assert!(cut.overflowed());
        assert_eq!(drops.get(), 1 + 1 + 3, "every drop is counted");
    }

    #[tokio::test]
    async fn when_the_broker_ends_so_do_the_feeds() {
        let broker = Arc::new(Memory::default());
        let hub = Hub::new(broker.clone(), Drops::default());
        let (_place, mut reader) = hub.subscribe("t", ROOMY).await.unwrap();
        broker.shutdown().await;
        assert_eq!(next(&mut reader).await, None);
        assert_eq!(hub.topics(), 0);
    }
}
