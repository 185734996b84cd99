//! The whole conformance kit over a server inside this process, which can be cut off, and what is
//! particular to a lost connection.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::{
    Bridge, DeadLetter, Driver, Held, Inbox, Incoming, Link, Outbound, Outgoing, RemoteOptions,
    Settlement, Topics, Verdict, delegate_broker,
};
use crate::local::lock;
use crate::testkit::Harness;
use crate::{
    Acker, Broker, BrokerError, Capability, Confirm, DeadLetterReason, Declaration, EndReason,
    Headers, Health, Memory, Message, Nack, Overflow, Publish, Source, SourceStats,
    SubscribeOptions, Subscription, Target,
};

/// The server: what it keeps survives, who is connected does not.
#[derive(Clone, Debug)]
struct Server {
    memory: Arc<Memory>,
    /// Whether it can be reached, and how often it was gone.
    reachable: watch::Sender<(bool, u64)>,
    /// Swallows confirmations.
    mute: watch::Sender<bool>,
    /// What serves those who are connected.
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl Server {
    fn start() -> Self {
        Self {
            memory: Arc::default(),
            reachable: watch::Sender::new((true, 0)),
            mute: watch::Sender::new(false),
            tasks: Arc::default(),
        }
    }

    /// Cuts off everyone; what they held is given back.
    async fn go(&self) {
        self.reachable.send_modify(|(up, gone)| {
            *up = false;
            *gone += 1;
        });
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        tasks.shutdown().await;
    }

    fn come(&self) {
        self.reachable.send_modify(|(up, _)| *up = true);
    }

    async fn connect(&self) -> Fake {
        let options =
            RemoteOptions::new().with_backoff(Duration::from_millis(1), Duration::from_millis(10));
        let options = options.with_patience(Duration::from_secs(2));
        Fake { bridge: Bridge::open(self.clone(), options).await.unwrap() }
    }
}

#[derive(Debug)]
struct Fake {
    bridge: Bridge<Server>,
}

delegate_broker!(Fake);

#[async_trait]
impl Driver for Server {
    type Link = FakeLink;

    fn capabilities(&self) -> &[Capability] {
        &[
            Capability::Durable,
            Capability::DurableAck,
            Capability::Order,
            Capability::DeliveryCount,
            Capability::DeadLetter,
            Capability::Expiry,
            Capability::Takeover,
            Capability::AtomicBatch,
            Capability::Depth,
        ]
    }

    async fn connect(&self, topics: &Arc<Topics>) -> Result<FakeLink, BrokerError> {
        let (up, gone) = *self.reachable.borrow();
        if !up {
            return Err(BrokerError::Disconnected { reason: "nobody listens".into() });
        }
        let (server, topics) = (self.clone(), Arc::clone(topics));
        Ok(FakeLink { server, gone, topics, consumers: Mutex::default(), pumps: Mutex::default() })
    }
}

struct FakeLink {
    server: Server,
    gone: u64,
    topics: Arc<Topics>,
    consumers: Mutex<HashMap<u64, Consumer>>,
    pumps: Mutex<HashMap<Arc<str>, AbortHandle>>,
}

struct Consumer {
    acker: Acker,
    end: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl FakeLink {
    fn check(&self) -> Result<(), BrokerError> {
        match *self.server.reachable.borrow() {
            (true, gone) if gone == self.gone => Ok(()),
            _ => Err(BrokerError::Disconnected { reason: "cut".into() }),
        }
    }
}

impl Drop for FakeLink {
    fn drop(&mut self) {
        lock(&self.pumps).values().for_each(AbortHandle::abort);
    }
}

fn encode(outbound: &Outbound) -> Publish {
    let mut message = outbound.message.clone();
    message.body = Bytes::copy_from_slice(&message.body);
    if let Some(DeadLetter { reason, target }) = &outbound.dead_letter {
        let reason = if *reason == DeadLetterReason::Rejected { "rejected" } else { "deliveries" };
        let target = match target {
            Target::Queue(name) => format!("{reason} queue {name}"),
            Target::Topic(name) => format!("{reason} topic {name}"),
        };
        message.headers = message.headers.with("dead", target);
    }
    Publish::new(outbound.targets.clone(), message).with_redelivered(outbound.redelivered)
}

fn decode(mut message: Message, target: Target) -> (Message, Target, Option<DeadLetterReason>) {
    let Some(text) = message.headers.get_str("dead").map(str::to_owned) else {
        return (message, target, None);
    };
    message.headers =
        message.headers.iter().filter(|(name, _)| *name != "dead").collect::<Headers>();
    let mut words = text.splitn(3, ' ');
    let reason = match words.next() {
        Some("rejected") => DeadLetterReason::Rejected,
        _ => DeadLetterReason::MaxDeliveries,
    };
    let target = match (words.next(), words.next()) {
        (Some("queue"), Some(name)) => Target::queue(name),
        (_, name) => Target::topic(name.unwrap_or_default()),
    };
    (message, target, Some(reason))
}

async fn pump(
    mut subscription: Subscription,
    inbox: Arc<Inbox<u64>>,
    mut end: oneshot::Receiver<()>,
) {
    let epoch = inbox.epoch();
    loop {
        let batch = tokio::select! {
            batch = subscription.recv() => batch,
            _ = &mut end => return,
        };
        let Some(batch) = batch else {
            inbox.end(subscription.end_reason().unwrap_or(EndReason::Deleted));
            return;
        };
        inbox.push(
            epoch,
            batch.into_iter().map(|one| {
                let (message, target, dead_letter) = decode(one.message, one.target);
                Incoming {
                    handle: one.tag,
                    message,
                    target,
                    redelivered: one.redelivered,
                    delivery_count: one.delivery_count,
                    dead_letter,
                }
            }),
        );
    }
}

#[async_trait]
impl Link for FakeLink {
    type Handle = u64;

    fn max_message(&self) -> usize {
        16 << 20
    }

    async fn lost(&self) -> Arc<str> {
        let mut reachable = self.server.reachable.subscribe();
        let _ = reachable.wait_for(|(up, gone)| !up || *gone != self.gone).await;
        "cut".into()
    }

    async fn publish(&self, batch: Vec<Outgoing>) {
        for Outgoing { publishes, pending } in batch {
            if self.check().is_err() {
                return;
            }
            let confirm = self.server.memory.publish_batch(publishes.iter().map(encode).collect());
            let outcome = confirm.await;
            if *self.server.mute.borrow() {
                // Published, but the link is gone before it is known.
                let mut mute = self.server.mute.subscribe();
                let _ = mute.wait_for(|mute| !mute).await;
            }
            pending.complete(outcome);
        }
    }

    async fn declare(&self, declaration: &Declaration) -> Result<(), BrokerError> {
        self.check()?;
        // As real servers, which know nothing of it.
        let mut plain = declaration.clone();
        plain.max_deliveries = None;
        plain.dead_letter = None;
        self.server.memory.declare(&plain).await
    }

    async fn delete(&self, source: &Source) -> Result<(), BrokerError> {
        self.check()?;
        self.server.memory.delete(source).await
    }

    async fn stats(&self, source: &Source, _: Held) -> Result<SourceStats, BrokerError> {
        self.check()?;
        self.server.memory.stats(source).await
    }

    async fn consume(&self, inbox: &Arc<Inbox<u64>>) -> Result<(), BrokerError> {
        self.check()?;
        let options = SubscribeOptions::new()
            .with_prefetch(inbox.options.prefetch_messages, usize::MAX)
            .with_takeover(inbox.options.takeover);
        let subscription = self.server.memory.subscribe(inbox.source.clone(), options).await?;
        let acker = subscription.acker();
        let (end, asked) = oneshot::channel();
        let (done, ended) = oneshot::channel();
        let pump = pump(subscription, Arc::clone(inbox), asked);
        lock(&self.server.tasks).spawn(async move {
            pump.await;
            let _ = done.send(());
        });
        lock(&self.consumers).insert(inbox.id, Consumer { acker, end, ended });
        Ok(())
    }

    async fn stop(&self, inbox: &Arc<Inbox<u64>>) -> Result<(), BrokerError> {
        let consumer = lock(&self.consumers).remove(&inbox.id);
        if let Some(consumer) = consumer {
            drop(consumer.end);
            let _ = consumer.ended.await;
        }
        inbox.give_back();
        self.check()
    }

    async fn settle(&self, batch: Vec<Settlement<u64>>) -> Result<(), BrokerError> {
        for settlement in batch {
            self.check()?;
            let acker =
                lock(&self.consumers).get(&settlement.inbox.id).map(|one| one.acker.clone());
            let Some(acker) = acker else { continue };
            match settlement.verdict {
                Verdict::Ack => acker.ack(&settlement.handles).await?,
                Verdict::Requeue => acker.nack(&settlement.handles, Nack::Requeue).await?,
            }
        }
        Ok(())
    }

    async fn listen(&self, pattern: &Arc<str>) -> Result<(), BrokerError> {
        self.check()?;
        let options = SubscribeOptions::new().with_buffer(usize::MAX, Overflow::Disconnect);
        let source = Source::Topic(Arc::clone(pattern));
        let mut subscription = self.server.memory.subscribe(source, options).await?;
        let (topics, name) = (Arc::clone(&self.topics), Arc::clone(pattern));
        let pump = lock(&self.server.tasks).spawn(async move {
            while let Some(batch) = subscription.recv().await {
                for one in batch {
                    let targets = [one.target];
                    let [target] = &targets;
                    topics.deliver_copy(&name, target, &targets, &one.message, one.redelivered);
                }
            }
        });
        if let Some(before) = lock(&self.pumps).insert(Arc::clone(pattern), pump) {
            before.abort();
        }
        Ok(())
    }

    async fn unlisten(&self, pattern: &Arc<str>) -> Result<(), BrokerError> {
        if let Some(pump) = lock(&self.pumps).remove(pattern) {
            pump.abort();
        }
        self.check()
    }

    async fn close(&self) {}
}

struct FakeHarness {
    server: Server,
    broker: Arc<Fake>,
}

impl FakeHarness {
    async fn start() -> Self {
        let server = Server::start();
        let broker = Arc::new(server.connect().await);
        Self { server, broker }
    }
}

#[async_trait]
impl Harness for FakeHarness {
    fn broker(&self) -> Arc<dyn Broker> {
        Arc::<Fake>::clone(&self.broker)
    }

    async fn stop(&mut self) {
        self.kill().await;
    }

    async fn kill(&mut self) {
        self.server.go().await;
        until(|| !self.broker.health().is_up()).await;
    }

    async fn start(&mut self) {
        self.server.come();
        if self.broker.health() == (Health::Down { reason: "shut down".into() }) {
            self.broker = Arc::new(self.server.connect().await);
        }
    }

    fn reconnects(&self) -> bool {
        true
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(10)
    }

    async fn another(&mut self) -> Option<Arc<dyn Broker>> {
        Some(Arc::new(self.server.connect().await))
    }
}

mod conformance {
    crate::testkit::suite!(super::FakeHarness::start());
}

fn numbers(range: std::ops::Range<u64>) -> impl Iterator<Item = Publish> {
    range.map(|number| Publish::to_queue("q", Message::new(number.to_string())))
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "it never became true");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_waits_while_the_broker_is_away_is_published_when_it_is_back() {
    let server = Server::start();
    let broker = server.connect().await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    server.go().await;
    until(|| !broker.health().is_up()).await;
    let mut confirms: Vec<Confirm> = numbers(0..10).map(|one| broker.publish(one)).collect();
    assert!(futures::poll!(&mut confirms[0]).is_pending());
    server.come();
    for confirm in confirms {
        assert_eq!(confirm.await, Ok(()));
    }
    until(|| broker.health().is_up()).await;
    let stats = broker.stats(&Source::queue("q")).await.unwrap();
    assert_eq!((stats.depth, broker.metrics().pending_bytes), (10, 0));
}

#[tokio::test]
async fn what_was_written_and_not_confirmed_fails_as_unknown() {
    let server = Server::start();
    let broker = server.connect().await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    server.mute.send_replace(true);
    let written = broker.publish(numbers(0..1).next().unwrap());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while server.memory.stats(&Source::queue("q")).await.unwrap().depth == 0 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    server.go().await;
    let error = written.await.unwrap_err();
    assert!(matches!(error, BrokerError::Disconnected { .. }) && error.is_retryable(), "{error}");
    assert_eq!(broker.metrics().publish_failures, 1);
}

#[tokio::test]
async fn who_waits_longer_than_the_patience_is_told() {
    let server = Server::start();
    let options = RemoteOptions::new().with_patience(Duration::from_millis(50));
    let broker = Fake { bridge: Bridge::open(server.clone(), options).await.unwrap() };
    broker.declare(&Declaration::queue("q")).await.unwrap();
    server.go().await;
    until(|| !broker.health().is_up()).await;
    let error = broker.publish(numbers(0..1).next().unwrap()).await.unwrap_err();
    assert!(matches!(error, BrokerError::Disconnected { .. }), "{error}");
    let error = broker.stats(&Source::queue("q")).await.unwrap_err();
    assert!(matches!(error, BrokerError::Disconnected { .. }), "{error}");
    // Not even kept any more, until the broker is back.
    let mut late = broker.publish(numbers(0..1).next().unwrap());
    assert!(futures::poll!(&mut late).is_ready());
    server.come();
    until(|| broker.health().is_up()).await;
    assert_eq!(broker.publish(numbers(0..1).next().unwrap()).await, Ok(()));
}

#[tokio::test]
async fn more_than_may_wait_is_refused() {
    let server = Server::start();
    let options = RemoteOptions::new().with_max_pending_bytes(300);
    let broker = Fake { bridge: Bridge::open(server.clone(), options).await.unwrap() };
    broker.declare(&Declaration::queue("q")).await.unwrap();
    server.go().await;
    until(|| !broker.health().is_up()).await;
    let kept: Vec<Confirm> = numbers(0..4).map(|one| broker.publish(one)).collect();
    let refused = broker.publish(numbers(4..5).next().unwrap()).await;
    assert_eq!(refused, Err(BrokerError::Overloaded { limit: 300 }));
    server.come();
    assert_eq!(Confirm::all(kept).await, Ok(()));
    assert_eq!(broker.publish(numbers(5..6).next().unwrap()).await, Ok(()));
}

#[tokio::test]
async fn a_consumer_resumes_and_its_late_acknowledgements_are_unknown() {
    let server = Server::start();
    let broker = server.connect().await;
    broker.declare(&Declaration::queue("q")).await.unwrap();
    let mut live = broker.subscribe(Source::topic("t"), SubscribeOptions::new()).await.unwrap();
    Confirm::all(numbers(0..3).map(|one| broker.publish(one)).collect()).await.unwrap();
    let mut consumer = broker.subscribe(Source::queue("q"), SubscribeOptions::new()).await.unwrap();
    let mut first = Vec::new();
    while first.len() < 3 {
        first.extend(consumer.recv().await.unwrap());
    }
    server.go().await;
    until(|| !broker.health().is_up()).await;
    server.come();
    until(|| broker.health().is_up()).await;
    // Passed over: what they name is delivered again.
    consumer.acker().ack(&[first[0].tag]).await.unwrap();
    let mut again = Vec::new();
    while again.len() < 3 {
        again.extend(consumer.recv().await.unwrap());
    }
    assert!(again.iter().all(|one| one.redelivered));
    assert!(again.iter().all(|one| first.iter().all(|before| before.tag != one.tag)));
    broker.publish(Publish::to_topic("t", Message::new("x"))).await.unwrap();
    assert_eq!(live.recv().await.unwrap()[0].message.body, "x");
}

#[tokio::test]
async fn opening_gives_up_with_the_reason() {
    let server = Server::start();
    server.go().await;
    let options = RemoteOptions::new().with_connect_timeout(Duration::from_millis(60));
    let error = Bridge::open(server, options).await.unwrap_err();
    assert_eq!(error, BrokerError::Disconnected { reason: "nobody listens".into() });
}

#[tokio::test]
async fn a_pattern_is_listened_to_once_and_no_longer_than_somebody_subscribes() {
    let server = Server::start();
    let broker = server.connect().await;
    let mut subscribers = Vec::new();
    for _ in 0..3 {
        let options = SubscribeOptions::new();
        subscribers.push(broker.subscribe(Source::topic("a.*"), options).await.unwrap());
    }
    let listening = async || server.memory.stats(&Source::topic("a.*")).await.unwrap().consumers;
    assert_eq!(listening().await, 1);
    assert_eq!(broker.stats(&Source::topic("a.*")).await.unwrap().consumers, 3);
    broker.publish(Publish::to_topic("a.b", Message::new("x"))).await.unwrap();
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.recv().await.unwrap().len(), 1);
    }
    subscribers.truncate(1);
    assert_eq!(broker.stats(&Source::topic("a.*")).await.unwrap().consumers, 1);
    drop(subscribers);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while listening().await > 0 {
        assert!(tokio::time::Instant::now() < deadline, "still listening");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(broker.bridge.health(), Health::Up);
}

#[tokio::test]
async fn who_subscribes_while_a_link_is_new_is_told_what_is_missing() {
    let server = Server::start();
    for _ in 0..50 {
        let broker = server.connect().await;
        let missing = broker.subscribe(Source::queue("missing"), SubscribeOptions::new()).await;
        assert!(matches!(missing, Err(BrokerError::NotDeclared { .. })), "{missing:?}");
    }
}
