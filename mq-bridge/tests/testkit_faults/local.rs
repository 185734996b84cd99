//! Faults of a broker in this process: a correct one with something wrong around it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use mq_bridge::testkit::Harness;
use mq_bridge::{
    Acker, Broker, BrokerError, Capabilities, Capability, Confirm, Declaration, DeclarationKind,
    Delivery, DeliverySource, Embedded, EmbeddedConfig, EndReason, Headers, Health, Metrics, Nack,
    Overflow, Publish, Settle, Source, SourceStats, SubscribeOptions, Subscription,
};
use tempfile::TempDir;

use crate::in_this_process::LocalFault as Fault;

pub(crate) struct FaultyHarness {
    folder: TempDir,
    broker: Arc<Faulty>,
}

impl FaultyHarness {
    pub(crate) async fn start(fault: Fault) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Faulty::open(&folder, fault, HashMap::new()).await;
        Self { folder, broker }
    }
}

#[async_trait]
impl Harness for FaultyHarness {
    fn broker(&self) -> Arc<dyn Broker> {
        Arc::<Faulty>::clone(&self.broker)
    }

    fn patience(&self) -> Duration {
        match self.broker.fault {
            Fault::None => Duration::from_secs(30),
            _ => Duration::from_secs(1),
        }
    }

    async fn stop(&mut self) {
        self.broker.flush().await;
        self.broker.inner.shutdown().await;
    }

    async fn kill(&mut self) {
        self.broker.inner.kill().await;
        if self.broker.is(Fault::LosesOnCrash) {
            let path = self.folder.path().join("queue.db");
            let file = rusqlite::Connection::open(path).unwrap();
            file.execute_batch("DELETE FROM entry WHERE id % 5 = 0").unwrap();
        }
    }

    async fn start(&mut self) {
        let declared = std::mem::take(&mut *self.broker.declared.lock().unwrap());
        self.broker = Faulty::open(&self.folder, self.broker.fault, declared).await;
    }
}

/// A correct broker with one fault.
#[derive(Debug)]
struct Faulty {
    fault: Fault,
    inner: Embedded,
    declared: Mutex<HashMap<Source, Declaration>>,
    late: Mutex<Vec<Publish>>,
    subscribed: AtomicUsize,
}

impl Faulty {
    async fn open(
        folder: &TempDir,
        fault: Fault,
        declared: HashMap<Source, Declaration>,
    ) -> Arc<Self> {
        let config = EmbeddedConfig::new(folder.path().join("queue.db"));
        Arc::new(Self {
            fault,
            inner: Embedded::open(config).await.unwrap(),
            declared: Mutex::new(declared),
            late: Mutex::default(),
            subscribed: AtomicUsize::new(0),
        })
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    async fn flush(&self) {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        let _ = self.inner.publish_batch(late).await;
    }
}

#[async_trait]
impl Broker for Faulty {
    fn publish(&self, mut publish: Publish) -> Confirm {
        let message = &mut publish.message;
        match self.fault {
            Fault::IgnoresExpiry => message.expires = None,
            Fault::CutsBodies => message.body.truncate(100_000),
            Fault::ManglesHeaders => {
                let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                message.headers = message
                    .headers
                    .iter()
                    .map(|(name, value)| (name, text(value)))
                    .collect::<Headers>();
            }
            Fault::DuplicatesPerTarget => {
                let Publish { targets, message, .. } = publish;
                let each = targets.into_iter();
                let each = each.map(|target| Publish::new(vec![target], message.clone()));
                return self.inner.publish_batch(each.collect());
            }
            Fault::ForgetsManyTargets => publish.targets.truncate(999),
            Fault::ConfirmsEarly => {
                let mut late = self.late.lock().unwrap();
                late.push(publish);
                if late.len() == 7 {
                    drop(self.inner.publish_batch(std::mem::take(&mut late)));
                }
                return Confirm::ready(Ok(()));
            }
            Fault::AcceptsUndeclared => {
                drop(self.inner.publish(publish));
                return Confirm::ready(Ok(()));
            }
            _ => {}
        }
        self.inner.publish(publish)
    }

    fn publish_batch(&self, batch: Vec<Publish>) -> Confirm {
        if self.is(Fault::SplitsBatches) {
            return Confirm::all(batch.into_iter().map(|one| self.publish(one)).collect());
        }
        self.inner.publish_batch(batch)
    }

    async fn declare(&self, declaration: &Declaration) -> Result<(), BrokerError> {
        let mut declaration = declaration.clone();
        if self.is(Fault::IgnoresPoison) {
            declaration.max_deliveries = None;
        }
        let source = match declaration.kind {
            DeclarationKind::Queue => Source::Queue(declaration.name.clone()),
            DeclarationKind::Durable { .. } => Source::Durable(declaration.name.clone()),
        };
        let known = self.declared.lock().unwrap().insert(source, declaration.clone()).is_some();
        if known && self.is(Fault::IgnoresNewPatterns) {
            return Ok(());
        }
        self.inner.declare(&declaration).await
    }

    async fn delete(&self, source: &Source) -> Result<(), BrokerError> {
        if self.is(Fault::IgnoresDelete) {
            return Ok(());
        }
        self.inner.delete(source).await
    }

    async fn subscribe(
        &self,
        mut source: Source,
        mut options: SubscribeOptions,
    ) -> Result<Subscription, BrokerError> {
        let nth = self.subscribed.fetch_add(1, Relaxed);
        match self.fault {
            Fault::IgnoresPrefetch => options.prefetch_messages = 1000,
            Fault::IgnoresBytePrefetch => options.prefetch_bytes = usize::MAX,
            Fault::IgnoresTakeover => options.takeover = false,
            Fault::IgnoresBuffer => {
                options = options.with_buffer(usize::MAX, Overflow::DropOldest);
            }
            Fault::TakesHashForStar => {
                if let Source::Topic(pattern) = &mut source {
                    *pattern = pattern.replace('#', "*").into();
                }
            }
            Fault::ForgetsAbsent => {
                let declared = self.declared.lock().unwrap().get(&source).cloned();
                if let (Source::Durable(_), Some(declaration)) = (&source, declared) {
                    self.inner.delete(&source).await?;
                    self.inner.declare(&declaration).await?;
                }
            }
            _ => {}
        }
        let subscription = self.inner.subscribe(source.clone(), options).await?;
        let silent = match self.fault {
            Fault::Starves => nth > 0,
            Fault::TiresOfTopics => nth > 5000,
            _ => false,
        };
        let late = self.is(Fault::SubscribesLate) && matches!(source, Source::Topic(_));
        let acker = subscription.acker();
        let faulty = FaultyAcker { fault: self.fault, inner: acker.clone() };
        let state = if silent {
            StreamState::Silent
        } else if late {
            StreamState::Late { subscription, skip: true }
        } else {
            StreamState::Open(subscription)
        };
        Ok(Subscription::new(FaultyStream { fault: self.fault, acker, state }, Acker::new(faulty)))
    }

    fn capabilities(&self) -> Capabilities {
        let inner = self.inner.capabilities();
        let has = |capability| match (self.fault, capability) {
            (Fault::DeniesCount, Capability::DeliveryCount)
            | (Fault::DeniesDurable, Capability::Durable)
            | (Fault::DeniesDepth, Capability::Depth)
            | (Fault::DeniesExpiry, Capability::Expiry)
            | (Fault::DeniesTakeover, Capability::Takeover)
            | (Fault::DeniesDeadLetter, Capability::DeadLetter) => false,
            (Fault::DeclaresPriority, Capability::Priority) => true,
            _ => inner.has(capability),
        };
        let all: Vec<_> = Capability::ALL.into_iter().filter(|one| has(*one)).collect();
        Capabilities::new(&all, inner.max_message())
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
        if self.is(Fault::LosesOnShutdown) {
            self.inner.kill().await;
        } else {
            self.flush().await;
            self.inner.shutdown().await;
        }
    }
}

#[derive(Debug)]
enum StreamState {
    Open(Subscription),
    /// Loses the first that it should have delivered.
    Late {
        subscription: Subscription,
        skip: bool,
    },
    Silent,
}

#[derive(Debug)]
struct FaultyStream {
    fault: Fault,
    acker: Acker,
    state: StreamState,
}

impl DeliverySource for FaultyStream {
    fn poll_batch(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Vec<Delivery>>> {
        let Self { fault, acker, state } = &mut *self;
        let batch = match state {
            StreamState::Silent => return Poll::Pending,
            StreamState::Open(subscription) => {
                ready!(futures::StreamExt::poll_next_unpin(subscription, cx))
            }
            StreamState::Late { subscription, skip } => loop {
                let batch = ready!(futures::StreamExt::poll_next_unpin(subscription, cx));
                if !std::mem::take(skip) {
                    break batch;
                }
            },
        };
        let Some(mut batch) = batch else { return Poll::Ready(None) };
        match fault {
            Fault::AcksEarly => {
                let tags: Vec<u64> = batch.iter().map(|one| one.tag).collect();
                drop(acker.ack(&tags));
            }
            Fault::Reorders if batch.len() > 1 => batch.swap(0, 1),
            Fault::DuplicatesUnmarked => batch.iter_mut().for_each(|one| one.redelivered = false),
            Fault::MarksEverything => batch.iter_mut().for_each(|one| one.redelivered = true),
            Fault::CountsWrongly => batch.iter_mut().for_each(|one| one.delivery_count = 1),
            _ => {}
        }
        Poll::Ready(Some(batch))
    }

    fn end_reason(&self) -> Option<EndReason> {
        match &self.state {
            StreamState::Open(subscription) | StreamState::Late { subscription, .. } => {
                subscription.end_reason()
            }
            StreamState::Silent => None,
        }
    }

    fn dropped(&self) -> u64 {
        match &self.state {
            StreamState::Open(subscription) if self.fault != Fault::CountsNoLosses => {
                subscription.dropped()
            }
            _ => 0,
        }
    }
}

#[derive(Debug)]
struct FaultyAcker {
    fault: Fault,
    inner: Acker,
}

impl Settle for FaultyAcker {
    fn ack(&self, tags: &[u64]) -> Confirm {
        if self.fault == Fault::ForgetsAcks {
            return Confirm::ready(Ok(()));
        }
        self.inner.ack(tags)
    }

    fn nack(&self, tags: &[u64], what: Nack) -> Confirm {
        if self.fault == Fault::RefusalAcks {
            return self.inner.ack(tags);
        }
        self.inner.nack(tags, what)
    }
}
