//! Faults of a bridge to a server: an honest server inside this process, which can go, hang and
//! come back, and a bridge to it with something wrong.

mod consumer;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mq_bridge::testkit::Harness;
use mq_bridge::{
    Broker, BrokerError, Capabilities, Capability, Confirm, Confirmer, Declaration, Health, Memory,
    Metrics, Publish, Source, SourceStats, SubscribeOptions, Subscription,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::over_a_network::RemoteFault as Fault;

const MAX_PENDING: usize = 16 << 20;
/// How far away the server is.
const LATENCY: Duration = Duration::from_millis(1);

pub(crate) struct ServerHarness {
    server: Arc<Server>,
    fault: Fault,
    broker: Arc<Bridge>,
}

impl ServerHarness {
    pub(crate) async fn start(fault: Fault) -> Self {
        let server = Arc::<Server>::default();
        let broker = Arc::new(Bridge::open(&server, fault, true));
        Self { server, fault, broker }
    }
}

#[async_trait]
impl Harness for ServerHarness {
    fn broker(&self) -> Arc<dyn Broker> {
        Arc::<Bridge>::clone(&self.broker)
    }

    async fn stop(&mut self) {
        self.kill().await;
    }

    /// Goes with confirmations on their way, if there are any.
    async fn kill(&mut self) {
        self.server.state.send_modify(|state| state.mute = true);
        for _ in 0..20 {
            if self.server.unconfirmed.load(Relaxed) > 0 {
                break;
            }
            sleep(LATENCY).await;
        }
        self.server.state.send_modify(|state| state.up = false);
    }

    async fn start(&mut self) {
        self.server.state.send_modify(|state| {
            *state = State { up: true, mute: false, epoch: state.epoch + 1, ..*state };
        });
    }

    fn reconnects(&self) -> bool {
        true
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(if self.fault == Fault::None { 10 } else { 1 })
    }

    async fn another(&mut self) -> Option<Arc<dyn Broker>> {
        Some(Arc::new(Bridge::open(&self.server, self.fault, false)))
    }

    async fn suspend(&mut self) -> bool {
        self.server.state.send_modify(|state| state.hung = true);
        true
    }

    async fn resume(&mut self) {
        self.server.state.send_modify(|state| state.hung = false);
    }
}

/// What it keeps survives; who is connected does not.
#[derive(Debug)]
struct Server {
    inner: Memory,
    state: watch::Sender<State>,
    /// Publishes that it has and that were not confirmed.
    unconfirmed: AtomicUsize,
}

#[derive(Clone, Copy, Debug)]
struct State {
    up: bool,
    hung: bool,
    /// Confirms nothing.
    mute: bool,
    /// How often it was started.
    epoch: u64,
}

impl Default for Server {
    fn default() -> Self {
        let state = State { up: true, hung: false, mute: false, epoch: 1 };
        Self {
            inner: Memory::default(),
            state: watch::Sender::new(state),
            unconfirmed: AtomicUsize::new(0),
        }
    }
}

impl Server {
    /// Waits until it answers; gives its epoch.
    async fn usable(&self) -> u64 {
        let mut state = self.state.subscribe();
        state.wait_for(|state| state.up && !state.hung).await.unwrap().epoch
    }

    /// Whether a connection made in `epoch` still is one.
    fn is_up(&self, epoch: u64) -> bool {
        let state = *self.state.borrow();
        state.up && state.epoch == epoch
    }

    /// Waits for the confirmation of what was written; gives whether it came.
    async fn confirms(&self, epoch: u64, count: usize) -> bool {
        self.unconfirmed.fetch_add(count, Relaxed);
        sleep(LATENCY).await;
        let mut state = self.state.subscribe();
        let over = |state: &State| !state.up || state.epoch != epoch || !state.mute && !state.hung;
        drop(state.wait_for(over).await);
        self.unconfirmed.fetch_sub(count, Relaxed);
        self.is_up(epoch)
    }

    /// Waits until a connection made in `epoch` is none any more.
    async fn lost(&self, epoch: u64) {
        let mut state = self.state.subscribe();
        drop(state.wait_for(|state| !state.up || state.epoch != epoch).await);
    }
}

fn disconnected() -> BrokerError {
    BrokerError::Disconnected { reason: "the server is gone".into() }
}

#[derive(Debug)]
struct Bridge {
    shared: Arc<Shared>,
    waiting: mpsc::UnboundedSender<Waiting>,
}

#[derive(Debug)]
struct Shared {
    server: Arc<Server>,
    fault: Fault,
    /// Whether it is the first node.
    first: bool,
    pending: AtomicUsize,
    /// In which epoch of the server each consumer was attached.
    attached: Mutex<HashMap<u64, u64>>,
    last_id: AtomicU64,
    dropped: AtomicU64,
    was_down: AtomicBool,
    declared: Mutex<HashMap<Source, Declaration>>,
    stopped: watch::Sender<bool>,
}

/// A publish that waits to be written.
#[derive(Debug)]
struct Waiting {
    batch: Vec<Publish>,
    cost: usize,
    since: Instant,
    /// Whether the server was away when it came.
    was_away: bool,
    confirmer: Confirmer,
}

impl Shared {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// How long publishes and calls wait.
    fn patience(&self) -> Duration {
        Duration::from_millis(if self.is(Fault::None) { 2000 } else { 250 })
    }

    async fn usable(&self, since: Instant) -> Result<u64, BrokerError> {
        if self.is(Fault::RefusesForGood) && !self.server.state.borrow().up {
            return Err(BrokerError::NotApplicable { reason: "the server is gone" });
        }
        let until = since + self.patience();
        timeout_at(until, self.server.usable()).await.map_err(|_| disconnected())
    }

    /// Writes and confirms publishes, some at a time.
    async fn write(self: Arc<Self>, mut waiting: mpsc::UnboundedReceiver<Waiting>) {
        let mut some = Vec::new();
        while waiting.recv_many(&mut some, 64).await > 0 {
            let mut some = std::mem::take(&mut some);
            if self.is(Fault::ReordersWhatWaited) && some.iter().any(|one| one.was_away) {
                self.server.usable().await;
                some.reverse();
            }
            let mut written = Vec::new();
            let mut connection = None;
            for one in some {
                let epoch = match self.usable(one.since).await {
                    Ok(epoch) => epoch,
                    Err(_) if self.is(Fault::WaitsForEver) => self.server.usable().await,
                    Err(error) => {
                        self.fail(one, error);
                        continue;
                    }
                };
                if *connection.get_or_insert(epoch) != epoch {
                    self.complete(one, Err(disconnected()));
                    continue;
                }
                let (at_once, later) = one.batch.split_at(self.at_once(&one));
                let outcome = self.server.inner.publish_batch(at_once.to_vec()).await;
                let later = later.to_vec();
                written.push((one, outcome, later));
            }
            let Some(epoch) = connection else { continue };
            let confirmed = self.server.confirms(epoch, written.len()).await;
            for (one, mut outcome, later) in written {
                if outcome.is_ok() && confirmed && !self.swallows(&one) {
                    outcome = self.server.inner.publish_batch(later).await;
                } else if outcome.is_ok() && !confirmed {
                    outcome = self.unknown(&one).await;
                }
                self.complete(one, outcome);
            }
        }
    }

    /// How much of a batch is published before the server may be lost.
    fn at_once(&self, one: &Waiting) -> usize {
        match self.fault {
            _ if self.swallows(one) => 0,
            Fault::ConfirmsWhatWasCut => 0,
            Fault::SplitsBatches => one.batch.len() / 2,
            _ => one.batch.len(),
        }
    }

    fn swallows(&self, one: &Waiting) -> bool {
        let fault = self.is(Fault::ConfirmsWhatWaited) || self.is(Fault::ForgetsWhatHung);
        fault && one.was_away
    }

    /// The connection was lost before it was confirmed.
    async fn unknown(&self, one: &Waiting) -> Result<(), BrokerError> {
        match self.fault {
            Fault::ConfirmsWhatWasCut => Ok(()),
            Fault::PublishesAgain => {
                self.server.usable().await;
                self.server.inner.publish_batch(one.batch.clone()).await
            }
            _ => Err(disconnected()),
        }
    }

    fn fail(self: &Arc<Self>, one: Waiting, error: BrokerError) {
        if self.is(Fault::PublishesTheFailed) {
            let (shared, batch) = (Arc::clone(self), one.batch.clone());
            tokio::spawn(async move {
                shared.server.usable().await;
                drop(shared.server.inner.publish_batch(batch));
            });
        }
        self.complete(one, Err(error));
    }

    fn complete(&self, one: Waiting, outcome: Result<(), BrokerError>) {
        self.pending.fetch_sub(one.cost, Relaxed);
        one.confirmer.complete(outcome);
    }

    /// Declares once more what was declared, as bridges do for servers that forget.
    async fn declare_again(&self) {
        let declared: Vec<_> = self.declared.lock().unwrap().values().cloned().collect();
        for one in declared {
            self.server.inner.declare(&one).await.unwrap();
        }
    }
}

impl Bridge {
    fn open(server: &Arc<Server>, fault: Fault, first: bool) -> Self {
        let shared = Arc::new(Shared {
            server: Arc::clone(server),
            fault,
            first,
            pending: AtomicUsize::new(0),
            attached: Mutex::default(),
            last_id: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            was_down: AtomicBool::new(false),
            declared: Mutex::default(),
            stopped: watch::Sender::new(false),
        });
        let (waiting, received) = mpsc::unbounded_channel();
        tokio::spawn(Arc::clone(&shared).write(received));
        if fault == Fault::DeclaresDeleted {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                loop {
                    let epoch = shared.server.usable().await;
                    shared.declare_again().await;
                    shared.attached.lock().unwrap().insert(0, epoch);
                    shared.server.lost(epoch).await;
                }
            });
        }
        Self { shared, waiting }
    }

    async fn usable(&self) -> Result<u64, BrokerError> {
        self.shared.usable(Instant::now()).await
    }
}

#[async_trait]
impl Broker for Bridge {
    fn publish(&self, publish: Publish) -> Confirm {
        self.publish_batch(vec![publish])
    }

    fn publish_batch(&self, mut batch: Vec<Publish>) -> Confirm {
        let shared = &self.shared;
        if *shared.stopped.borrow() {
            return Confirm::ready(Err(BrokerError::ShutDown));
        }
        let cost = batch.iter().map(|one| one.message.cost()).sum::<usize>();
        let pending = shared.pending.load(Relaxed);
        let full = pending > 0 && pending + cost > MAX_PENDING;
        if full && !shared.is(Fault::WaitsUnbounded) {
            return Confirm::ready(Err(BrokerError::Overloaded { limit: MAX_PENDING }));
        }
        shared.pending.fetch_add(cost, Relaxed);
        for one in &mut batch {
            // The server has octets of its own.
            one.message.body = Bytes::copy_from_slice(&one.message.body);
        }
        let state = *shared.server.state.borrow();
        let was_away = !state.up || state.hung;
        let (confirmer, confirm) = Confirm::pair();
        let since = Instant::now();
        self.waiting.send(Waiting { batch, cost, since, was_away, confirmer }).unwrap();
        confirm
    }

    async fn declare(&self, declaration: &Declaration) -> Result<(), BrokerError> {
        self.usable().await?;
        let source = Source::durable(declaration.name.clone());
        self.shared.declared.lock().unwrap().insert(source, declaration.clone());
        self.shared.server.inner.declare(declaration).await
    }

    async fn delete(&self, source: &Source) -> Result<(), BrokerError> {
        if self.shared.is(Fault::DeletesOnlyHere) {
            return Ok(());
        }
        self.usable().await?;
        self.shared.server.inner.delete(source).await
    }

    async fn subscribe(
        &self,
        source: Source,
        options: SubscribeOptions,
    ) -> Result<Subscription, BrokerError> {
        let epoch = self.usable().await?;
        consumer::subscribe(&self.shared, epoch, source, options).await
    }

    fn capabilities(&self) -> Capabilities {
        let inner = self.shared.server.inner.capabilities();
        let has = |one: &Capability| {
            inner.has(*one) || matches!(one, Capability::Durable | Capability::DurableAck)
        };
        let all: Vec<_> = Capability::ALL.into_iter().filter(has).collect();
        Capabilities::new(&all, inner.max_message())
    }

    fn health(&self) -> Health {
        let shared = &self.shared;
        let State { up, epoch, .. } = *shared.server.state.borrow();
        shared.was_down.fetch_or(!up, Relaxed);
        let up = match shared.fault {
            Fault::HealthStaysUp => true,
            Fault::HealthStaysDown => !shared.was_down.load(Relaxed),
            _ => {
                let attached = shared.attached.lock().unwrap().values().all(|one| *one == epoch);
                up && attached && !*shared.stopped.borrow()
            }
        };
        if up { Health::Up } else { Health::Down { reason: "the server is gone".into() } }
    }

    fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::default();
        metrics.pending_bytes = self.shared.pending.load(Relaxed) as u64;
        metrics.dropped = self.shared.dropped.load(Relaxed);
        metrics
    }

    async fn stats(&self, source: &Source) -> Result<SourceStats, BrokerError> {
        self.usable().await?;
        self.shared.server.inner.stats(source).await
    }

    async fn shutdown(&self) {
        self.shared.stopped.send_replace(true);
        let deadline = Instant::now() + self.shared.patience();
        while self.shared.pending.load(Relaxed) > 0 && Instant::now() < deadline {
            sleep(LATENCY).await;
        }
    }
}
