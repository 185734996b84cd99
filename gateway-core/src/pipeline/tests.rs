use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use mq_bridge::{
    Capabilities, Confirmer, Declaration, Health, Memory, Metrics, Source, SourceStats,
    SubscribeOptions, Subscription,
};

use super::*;
use crate::directory::MemoryDirectory;
use crate::lock::lock;
use crate::store::{
    ConversationCursor, ConversationSummary, Cut, Extent, Imported, Marker, Marks, MemoryStore,
    Page, Position, Search, StoredMessage, Unpublished, UnreadRange,
};

/// A broker whose confirmations a test can hold back and decide.
#[derive(Debug, Default)]
struct HeldBroker {
    inner: Memory,
    hold: AtomicBool,
    held: Mutex<Vec<Confirmer>>,
}

#[async_trait]
impl Broker for HeldBroker {
    fn publish(&self, publish: Publish) -> Confirm {
        if self.hold.load(Ordering::SeqCst) {
            let (confirmer, confirm) = Confirm::pair();
            lock(&self.held).push(confirmer);
            return confirm;
        }
        self.inner.publish(publish)
    }

    async fn declare(&self, declaration: &Declaration) -> Result<(), BrokerError> {
        self.inner.declare(declaration).await
    }

    async fn delete(&self, source: &Source) -> Result<(), BrokerError> {
        self.inner.delete(source).await
    }

    async fn subscribe(
        &self,
        source: Source,
        options: SubscribeOptions,
    ) -> Result<Subscription, BrokerError> {
        self.inner.subscribe(source, options).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn metrics(&self) -> Metrics {
        self.inner.metrics()
    }

    async fn stats(&self, source: &Source) -> Result<SourceStats, BrokerError> {
        self.inner.stats(source).await
    }

    async fn shutdown(&self) {
        self.inner.shutdown().await;
    }
}

/// A store whose appends take as long as a test wants.
#[derive(Debug)]
struct SlowStore {
    inner: MemoryStore,
    appends: Semaphore,
    begun: Semaphore,
}

#[async_trait]
impl MessageStore for SlowStore {
    async fn append(&self, batch: Vec<NewMessage>) -> Vec<Result<Appended, StoreError>> {
        self.begun.add_permits(1);
        if let Ok(permit) = self.appends.acquire().await {
            permit.forget();
        }
        self.inner.append(batch).await
    }

    async fn history(
        &self,
        conversation: &ConversationId,
        page: Page,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        self.inner.history(conversation, page).await
    }

    async fn find(
        &self,
        conversation: &ConversationId,
        message: MessageId,
        original: bool,
    ) -> Result<Option<StoredMessage>, StoreError> {
        self.inner.find(conversation, message, original).await
    }

    async fn position(&self, conversation: &ConversationId) -> Result<Position, StoreError> {
        self.inner.position(conversation).await
    }

    async fn mark(
        &self,
        conversation: &ConversationId,
        user: &UserName,
        marker: Marker,
        up_to: u64,
    ) -> Result<Marks, StoreError> {
        self.inner.mark(conversation, user, marker, up_to).await
    }

    async fn markers(&self, conversation: &ConversationId) -> Result<Vec<Marks>, StoreError> {
        self.inner.markers(conversation).await
    }

    async fn conversations(
        &self,
        user: &UserName,
        others: &[ConversationId],
        after: Option<&ConversationCursor>,
        limit: usize,
    ) -> Result<Vec<ConversationSummary>, StoreError> {
        self.inner.conversations(user, others, after, limit).await
    }

    async fn unread(
        &self,
        user: &UserName,
        others: &[ConversationId],
    ) -> Result<Vec<UnreadRange>, StoreError> {
        self.inner.unread(user, others).await
    }

    async fn search(&self, search: Search) -> Result<Vec<StoredMessage>, StoreError> {
        self.inner.search(search).await
    }

    async fn survey(
        &self,
        after: Option<&ConversationId>,
        limit: usize,
    ) -> Result<Vec<Extent>, StoreError> {
        self.inner.survey(after, limit).await
    }

    async fn forget(
        &self,
        conversation: &ConversationId,
        cut: Cut,
        limit: usize,
    ) -> Result<u64, StoreError> {
        self.inner.forget(conversation, cut, limit).await
    }

    async fn unpublished(
        &self,
        after: Option<OutboxId>,
        limit: usize,
    ) -> Result<Vec<Unpublished>, StoreError> {
        self.inner.unpublished(after, limit).await
    }

    async fn mark_published(&self, ids: &[OutboxId]) -> Result<(), StoreError> {
        self.inner.mark_published(ids).await
    }

    async fn import(
        &self,
        conversation: &ConversationId,
        batch: Vec<Imported>,
    ) -> Result<u64, StoreError> {
        self.inner.import(conversation, batch).await
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.inner.health().await
    }
}

struct Bench {
    broker: Arc<HeldBroker>,
    store: Arc<SlowStore>,
    pipeline: Pipeline,
    inbox: Subscription,
}

async fn bench() -> Bench {
    let broker = Arc::new(HeldBroker::default());
    let store = Arc::new(SlowStore {
        inner: MemoryStore::new(),
        appends: Semaphore::new(0),
        begun: Semaphore::new(0),
    });
    broker.declare(&Declaration::durable("inbox", ["inbox.bob"])).await.unwrap();
    let source = Source::durable("inbox");
    let inbox = broker.subscribe(source, SubscribeOptions::new()).await.unwrap();
    let directory = Arc::new(MemoryDirectory::new());
    let (pipeline, _) = Pipeline::start(
        Arc::default(),
        Clock::system(),
        store.clone(),
        directory,
        broker.clone(),
        1 << 20,
    );
    Bench { broker, store, pipeline, inbox }
}

fn message(body: &'static str) -> NewMessage {
    let (alice, bob) = (UserName::new("alice").unwrap(), UserName::new("bob").unwrap());
    NewMessage::new(ConversationId::direct(&alice, &bob), alice, body)
        .with_idempotency_key(body)
        .with_targets(["inbox.bob"])
}

impl Bench {
    /// Sends, lets the store take it, and waits until the broker has it and holds it.
    async fn send_and_hold(
        &self,
        body: &'static str,
    ) -> impl Future<Output = Result<SendReceipt, GatewayError>> + use<> {
        self.broker.hold.store(true, Ordering::SeqCst);
        let receipt = self.pipeline.send(message(body)).await.unwrap();
        self.store.begun.acquire().await.unwrap().forget();
        self.store.appends.add_permits(1);
        self.until_held().await;
        receipt
    }

    async fn until_held(&self) {
        while lock(&self.broker.held).is_empty() {
            tokio::task::yield_now().await;
        }
    }

    fn fail_what_is_held(&self) {
        self.broker.hold.store(false, Ordering::SeqCst);
        for confirmer in lock(&self.broker.held).drain(..) {
            confirmer.complete(Err(BrokerError::Storage { reason: "disk full".into() }));
        }
    }

    async fn delivered(&mut self, count: usize) -> Vec<(String, bool)> {
        let mut seen = Vec::new();
        while seen.len() < count {
            for delivery in self.inbox.recv().await.unwrap() {
                let body = String::from_utf8(delivery.message.body.to_vec()).unwrap();
                seen.push((body, delivery.redelivered));
            }
        }
        seen
    }
}

/// The broker fails for one message while the next one is being stored: the next one must not
/// overtake, and its sender gets the receipt once both are through.
#[tokio::test]
async fn p3_a_message_does_not_overtake_one_that_fails_while_it_is_stored() {
    let mut bench = bench().await;
    let first = bench.send_and_hold("one").await;
    let second = bench.pipeline.send(message("two")).await.unwrap();
    bench.store.begun.acquire().await.unwrap().forget();
    bench.fail_what_is_held();
    assert!(first.await.unwrap_err().is_retryable());
    bench.store.appends.add_permits(1);
    assert_eq!(second.await.unwrap().seq, 2);
    let seen = bench.delivered(2).await;
    // The second one was never on its way before.
    assert_eq!(seen, [("one".to_owned(), true), ("two".to_owned(), false)]);
}

/// The next message is stored while the broker has not confirmed the last one: it is published
/// after that, or with it when that fails.
#[tokio::test]
async fn p3_a_message_is_published_when_the_one_before_it_is_confirmed() {
    let mut bench = bench().await;
    let first = bench.send_and_hold("one").await;
    let second = bench.pipeline.send(message("two")).await.unwrap();
    bench.store.begun.acquire().await.unwrap().forget();
    bench.store.appends.add_permits(1);
    let conversation = message("two").conversation;
    while bench.store.position(&conversation).await.unwrap().last_seq < 2 {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
        assert_eq!(lock(&bench.broker.held).len(), 1, "published before the confirmation");
    }
    bench.fail_what_is_held();
    assert!(first.await.unwrap_err().is_retryable());
    assert_eq!(second.await.unwrap().seq, 2);
    let seen = bench.delivered(2).await;
    // The second one was never on its way before.
    assert_eq!(seen, [("one".to_owned(), true), ("two".to_owned(), false)]);
}

/// The sender repeats in the very moment in which the broker fails: no receipt before the message
/// is confirmed.
#[tokio::test]
async fn p1_a_repeat_of_a_failing_message_waits_for_its_confirmation() {
    let bench = bench().await;
    let first = bench.send_and_hold("one").await;
    let repeat = bench.pipeline.send(message("one")).await.unwrap();
    bench.store.begun.acquire().await.unwrap().forget();
    bench.fail_what_is_held();
    bench.broker.hold.store(true, Ordering::SeqCst);
    assert!(first.await.is_err());
    bench.store.appends.add_permits(1);
    bench.until_held().await;
    let mut repeat = pin!(repeat);
    assert!(futures::poll!(&mut repeat).is_pending(), "a receipt before the confirmation");
    for confirmer in lock(&bench.broker.held).drain(..) {
        confirmer.complete(Ok(()));
    }
    assert!(repeat.await.unwrap().duplicate);
}

/// A repeat that comes while the first one is under way waits for the same confirmation.
#[tokio::test]
async fn p4_a_repeat_joins_the_message_that_is_under_way() {
    let bench = bench().await;
    let first = bench.send_and_hold("one").await;
    let repeat = bench.pipeline.send(message("one")).await.unwrap();
    bench.store.begun.acquire().await.unwrap().forget();
    bench.store.appends.add_permits(1);
    for confirmer in lock(&bench.broker.held).drain(..) {
        confirmer.complete(Ok(()));
    }
    let (first, repeat) = (first.await.unwrap(), repeat.await.unwrap());
    assert_eq!(first.message_id, repeat.message_id);
    assert_eq!((first.duplicate, repeat.duplicate), (false, true));
}
