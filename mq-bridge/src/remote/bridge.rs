//! A broker made of a driver.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::local::{Counters, Live, LiveSubscription, Settings, lock};
use crate::{
    Acker, BrokerError, Capabilities, Capability, Confirm, DeadLetterReason, Declaration,
    DeclarationKind, Delivery, DeliverySource, EndReason, Health, Metrics, Nack, Publish, Settle,
    Source, SourceStats, SubscribeOptions, Subscription, Target, validate_name, validate_pattern,
    validate_topic,
};

use super::link::Held;
use super::outbox::Outbox;
use super::settle::{self, Command};
use super::supervisor;
use super::topics::Listened;
use super::{Driver, Inbox, Link, Outbound, RemoteOptions, Topics, Verdict};

pub(super) type HandleOf<D> = <<D as Driver>::Link as Link>::Handle;
type InboxesOf<D> = Vec<Arc<Inbox<HandleOf<D>>>>;

/// A [`Broker`](crate::Broker) in all but name: a backend's public type delegates to it.
pub(crate) struct Bridge<D: Driver> {
    shared: Arc<Shared<D>>,
}

pub(super) struct Shared<D: Driver> {
    pub(super) driver: D,
    pub(super) options: RemoteOptions,
    pub(super) topics: Arc<Topics>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) counters: Arc<Counters>,
    state: watch::Sender<State<D::Link>>,
    health: Mutex<Health>,
    max_message: AtomicUsize,
    /// Those that the link may know, by what they consume.
    inboxes: Mutex<HashMap<Source, InboxesOf<D>>>,
    /// What was declared through this bridge.
    declared: Mutex<HashMap<Source, Declaration>>,
    commands: mpsc::UnboundedSender<Command<HandleOf<D>>>,
    background: Mutex<JoinSet<()>>,
    last_id: AtomicU64,
    shutting_down: AtomicBool,
}

/// How the bridge stands to its broker.
pub(super) enum State<L> {
    Down(Arc<str>),
    Up(Current<L>),
    Stopped,
}

/// The link of now.
pub(super) struct Current<L> {
    pub(super) epoch: u64,
    pub(super) link: Arc<L>,
}

impl<L> Clone for Current<L> {
    fn clone(&self) -> Self {
        Self { epoch: self.epoch, link: Arc::clone(&self.link) }
    }
}

/// What a call of the link gives, or that the link was lost meanwhile.
pub(super) async fn guarded<T>(
    link: &impl Link,
    call: impl Future<Output = Result<T, BrokerError>>,
) -> Result<T, BrokerError> {
    tokio::select! {
        // What has come to an end counts.
        biased;
        outcome = call => outcome,
        reason = link.lost() => Err(BrokerError::Disconnected { reason }),
    }
}

impl<D: Driver> Bridge<D> {
    /// Connects, trying again until the time for it is over.
    ///
    /// # Errors
    ///
    /// The last one of the driver.
    pub(crate) async fn open(driver: D, options: RemoteOptions) -> Result<Self, BrokerError> {
        let counters = Arc::<Counters>::default();
        let (commands, received) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            driver,
            options,
            topics: Arc::default(),
            outbox: Arc::new(Outbox::new(options.max_pending_bytes, Arc::clone(&counters))),
            counters,
            state: watch::Sender::new(State::Down("not yet connected".into())),
            health: Mutex::new(Health::Up),
            max_message: AtomicUsize::new(0),
            inboxes: Mutex::default(),
            declared: Mutex::default(),
            commands,
            background: Mutex::default(),
            last_id: AtomicU64::new(0),
            shutting_down: AtomicBool::new(false),
        });
        let first = supervisor::connect_first(&shared).await?;
        shared.set_max_message(first.max_message());
        tokio::spawn(settle::run(Arc::clone(&shared), received));
        tokio::spawn(supervisor::run(Arc::clone(&shared), first));
        Ok(Self { shared })
    }

    pub(crate) fn driver(&self) -> &D {
        &self.shared.driver
    }

    pub(crate) fn publish(&self, publish: Publish) -> Confirm {
        self.publish_batch(vec![publish])
    }

    pub(crate) fn publish_batch(&self, batch: Vec<Publish>) -> Confirm {
        let prepared: Result<Vec<_>, _> =
            batch.into_iter().filter_map(|one| self.shared.prepare(one).transpose()).collect();
        match prepared {
            Ok(publishes) if publishes.is_empty() => Confirm::ready(self.shared.check_running()),
            Ok(publishes) => self.shared.outbox.push(publishes),
            Err(error) => Confirm::ready(Err(error)),
        }
    }

    pub(crate) async fn declare(&self, declaration: &Declaration) -> Result<(), BrokerError> {
        declaration.validate()?;
        let shared = &self.shared;
        shared
            .with_link(|current| {
                let declaration = declaration.clone();
                Box::pin(async move { declare(&*current.link, &declaration).await })
            })
            .await?;
        shared.remember(declaration);
        Ok(())
    }

    pub(crate) async fn delete(&self, source: &Source) -> Result<(), BrokerError> {
        if matches!(source, Source::Topic(_)) {
            return Err(BrokerError::not_declared(source));
        }
        lock(&self.shared.declared).remove(source);
        // Those here first: what they hold goes back before it is deleted with the rest.
        self.shared.end_inboxes(source, &EndReason::Deleted).await;
        let source = source.clone();
        self.shared
            .with_link(|current| {
                let source = source.clone();
                Box::pin(async move { current.link.delete(&source).await })
            })
            .await?;
        self.shared.end_inboxes(&source, &EndReason::Deleted).await;
        Ok(())
    }

    pub(crate) async fn subscribe(
        &self,
        source: Source,
        options: SubscribeOptions,
    ) -> Result<Subscription, BrokerError> {
        self.shared.check_running()?;
        match source {
            Source::Topic(pattern) => self.subscribe_topic(pattern, &options).await,
            kept => self.subscribe_kept(kept, options).await,
        }
    }

    async fn subscribe_topic(
        &self,
        pattern: Arc<str>,
        options: &SubscribeOptions,
    ) -> Result<Subscription, BrokerError> {
        validate_pattern(&pattern)?;
        let shared = &self.shared;
        let counters = Arc::clone(&shared.counters);
        let live = Arc::new(Live::new(shared.next_id(), pattern, options, counters));
        let listened = shared.topics.insert(&live);
        let leaving = Arc::clone(shared);
        let on_drop = move |live: &Live| {
            if let Some(listened) = leaving.topics.remove(live) {
                leaving.command(Command::Unlisten(listened));
            }
        };
        let subscription = Subscription::new(LiveSubscription { live, on_drop }, Acker::none());
        shared
            .with_link(|current| {
                let (shared, listened) = (Arc::clone(shared), Arc::clone(&listened));
                Box::pin(
                    async move { shared.listen(&listened, current.epoch, &current.link).await },
                )
            })
            .await?;
        Ok(subscription)
    }

    async fn subscribe_kept(
        &self,
        source: Source,
        options: SubscribeOptions,
    ) -> Result<Subscription, BrokerError> {
        validate_name(source.name())?;
        let shared = &self.shared;
        if options.takeover {
            self.capabilities().require(&[Capability::Takeover])?;
            shared.end_inboxes(&source, &EndReason::TakenOver).await;
        } else {
            // What those that are on their way out give back comes first.
            shared.ended(&source).await;
        }
        let counters = Arc::clone(&shared.counters);
        let inbox = Arc::new(Inbox::new(shared.next_id(), source.clone(), options, counters));
        if let Some(declaration) = lock(&shared.declared).get(&source) {
            inbox.set_settings(Settings::of(declaration));
        }
        lock(&shared.inboxes).entry(source).or_default().push(Arc::clone(&inbox));
        let reader = Reader { shared: Arc::clone(shared), inbox: Arc::clone(&inbox) };
        let acker = Acker::new(ReaderAcker { shared: Arc::clone(shared), inbox });
        shared
            .with_link(|current| {
                let (shared, inbox) = (Arc::clone(shared), Arc::clone(&reader.inbox));
                Box::pin(async move { shared.consume(&inbox, current.epoch, &current.link).await })
            })
            .await?;
        match reader.inbox.end_reason() {
            // It was attached along with all others to a link that is new, and could not be.
            Some(EndReason::Deleted) => Err(BrokerError::not_declared(&reader.inbox.source)),
            Some(EndReason::Broker(reason)) => Err(BrokerError::Refused { reason }),
            _ => Ok(Subscription::new(reader, acker)),
        }
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        let max_message = self.shared.max_message.load(Relaxed);
        Capabilities::new(self.shared.driver.capabilities(), max_message)
    }

    pub(crate) fn health(&self) -> Health {
        let health = lock(&self.shared.health).clone();
        if health.is_up()
            && let Ok(current) = self.shared.current()
            && let Some(reason) = current.link.trouble()
        {
            return Health::Degraded { reason };
        }
        health
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.shared.counters.snapshot(self.shared.outbox.pending_bytes(), 0)
    }

    pub(crate) async fn stats(&self, source: &Source) -> Result<SourceStats, BrokerError> {
        if let Source::Topic(pattern) = source {
            let consumers = self.shared.topics.count(pattern);
            return Ok(SourceStats { consumers, ..SourceStats::default() });
        }
        let (shared, source) = (&self.shared, source.clone());
        shared
            .with_link(|current| {
                let (held, source) = (shared.held(&source), source.clone());
                Box::pin(async move { current.link.stats(&source, held).await })
            })
            .await
    }

    pub(crate) async fn shutdown(&self) {
        let shared = Arc::clone(&self.shared);
        // Goes on when the caller does not wait.
        let done = tokio::spawn(async move { shared.shut_down().await });
        let _ = done.await;
    }
}

impl<D: Driver> Drop for Bridge<D> {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.outbox.shut_down();
        shared.set_state(State::Stopped);
        shared.inboxes().iter().for_each(|inbox| inbox.end(EndReason::ShutDown));
        shared.topics.end_all(&EndReason::ShutDown);
        shared.outbox.fail(&BrokerError::ShutDown);
    }
}

/// Declares with the dead-letter queue first.
async fn declare(link: &impl Link, declaration: &Declaration) -> Result<(), BrokerError> {
    if let Some(name) = &declaration.dead_letter
        && !(declaration.kind == DeclarationKind::Queue && *name == declaration.name)
    {
        // Not with settings of its own: it keeps those it has.
        let found = link.stats(&Source::Queue(Arc::clone(name)), Held::default()).await;
        if matches!(found, Err(BrokerError::NotDeclared { .. })) {
            link.declare(&Declaration::queue(Arc::clone(name))).await?;
        }
    }
    link.declare(declaration).await
}

impl<D: Driver> Shared<D> {
    fn check_running(&self) -> Result<(), BrokerError> {
        if self.shutting_down.load(Relaxed) { Err(BrokerError::ShutDown) } else { Ok(()) }
    }

    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Relaxed) + 1
    }

    /// Everything that can be refused here, before anything is done; `None` without a target.
    fn prepare(&self, publish: Publish) -> Result<Option<Outbound>, BrokerError> {
        let Publish { mut targets, message, redelivered } = publish;
        let size = message.headers.as_bytes().len() + message.body.len();
        let limit = self.max_message.load(Relaxed);
        if size > limit {
            return Err(BrokerError::TooLarge { size, limit });
        }
        targets.iter().try_for_each(|target| match target {
            Target::Queue(name) => validate_name(name),
            Target::Topic(name) => validate_topic(name),
        })?;
        if targets.len() > 1 {
            let mut seen = HashSet::with_capacity(targets.len());
            targets.retain(|target| seen.insert(target.clone()));
        }
        let outbound = Outbound { targets, message, redelivered, dead_letter: None };
        Ok(if outbound.targets.is_empty() { None } else { Some(outbound) })
    }

    /// Makes a call of the link, and where the link is lost meanwhile again on the next one, for as
    /// long as calls may wait. The call goes on when the caller does not wait for it.
    async fn with_link<T: Send + 'static>(
        self: &Arc<Self>,
        call: impl Fn(Current<D::Link>) -> BoxFuture<'static, Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let deadline = Instant::now() + self.options.patience;
        let mut last = 0;
        loop {
            let current = timeout_at(deadline, self.newer(last)).await;
            let current =
                current.map_err(|_| BrokerError::Disconnected { reason: self.down_reason() })??;
            last = current.epoch;
            let (link, made) = (Arc::clone(&current.link), call(current));
            let task = tokio::spawn(async move { guarded(&*link, made).await });
            match timeout_at(deadline, task).await {
                Ok(Ok(Err(BrokerError::Disconnected { .. }))) => {}
                Ok(Ok(outcome)) => return outcome,
                // A bug in a link; the caller is told that nobody knows.
                Ok(Err(panicked)) => {
                    return Err(BrokerError::Disconnected { reason: panicked.to_string().into() });
                }
                Err(_) => {
                    let reason = format!("no answer within {:?}", self.options.patience).into();
                    return Err(BrokerError::Disconnected { reason });
                }
            }
        }
    }

    /// Waits for a link that came after `last`.
    async fn newer(&self, last: u64) -> Result<Current<D::Link>, BrokerError> {
        let mut state = self.state.subscribe();
        let found = state
            .wait_for(|state| match state {
                State::Up(current) => current.epoch > last,
                State::Down(_) => false,
                State::Stopped => true,
            })
            .await;
        match found.as_deref() {
            Ok(State::Up(current)) => Ok(current.clone()),
            _ => Err(BrokerError::ShutDown),
        }
    }

    /// The link of now, if there is one.
    pub(super) fn current(&self) -> Result<Current<D::Link>, BrokerError> {
        match &*self.state.borrow() {
            State::Up(current) => Ok(current.clone()),
            State::Down(reason) => Err(BrokerError::Disconnected { reason: Arc::clone(reason) }),
            State::Stopped => Err(BrokerError::ShutDown),
        }
    }

    /// Resolves when the bridge is stopped.
    pub(super) async fn stopped(&self) {
        let mut state = self.state.subscribe();
        let _ = state.wait_for(|state| matches!(state, State::Stopped)).await;
    }

    pub(super) fn set_state(&self, state: State<D::Link>) {
        self.state.send_if_modified(|now| {
            let change = !matches!(now, State::Stopped);
            if change {
                *now = state;
            }
            change
        });
    }

    pub(super) fn set_health(&self, health: Health) {
        let mut now = lock(&self.health);
        if !self.shutting_down.load(Relaxed) {
            *now = health;
        }
    }

    pub(super) fn set_max_message(&self, octets: usize) {
        self.max_message.store(octets, Relaxed);
    }

    /// The link is lost: `epoch` will be that of the next.
    pub(super) fn down(&self, epoch: u64, reason: &Arc<str>) {
        self.set_down_reason(Arc::clone(reason));
        self.inboxes().iter().for_each(|inbox| inbox.begin(epoch));
    }

    pub(super) fn set_down_reason(&self, reason: Arc<str>) {
        self.set_state(State::Down(Arc::clone(&reason)));
        self.set_health(Health::Down { reason });
    }

    pub(super) fn down_reason(&self) -> Arc<str> {
        match &*self.state.borrow() {
            State::Down(reason) => Arc::clone(reason),
            State::Up(_) => "the connection was lost".into(),
            State::Stopped => "shut down".into(),
        }
    }

    /// Lets a link listen to a pattern, unless it does or nobody wants it any more.
    pub(super) async fn listen(
        &self,
        listened: &Listened,
        epoch: u64,
        link: &Arc<D::Link>,
    ) -> Result<(), BrokerError> {
        let mut listening = listened.epoch.lock().await;
        if *listening != Some(epoch) && listened.is_wanted() {
            guarded(&**link, link.listen(&listened.pattern)).await?;
            *listening = Some(epoch);
        }
        Ok(())
    }

    /// Lets a link consume for an inbox, unless it does or the inbox has ended.
    pub(super) async fn consume(
        &self,
        inbox: &Arc<Inbox<HandleOf<D>>>,
        epoch: u64,
        link: &Arc<D::Link>,
    ) -> Result<(), BrokerError> {
        let mut attached = inbox.attached.lock().await;
        if *attached != Some(epoch) && inbox.end_reason().is_none() {
            inbox.begin(epoch);
            inbox.returning.store(attached.is_some(), Relaxed);
            guarded(&**link, link.consume(inbox)).await?;
            *attached = Some(epoch);
        }
        Ok(())
    }

    pub(super) async fn declare_again(
        &self,
        source: &Source,
        link: &Arc<D::Link>,
    ) -> Result<(), BrokerError> {
        let declaration = lock(&self.declared).get(source).cloned();
        match declaration {
            Some(declaration) => guarded(&**link, declare(&**link, &declaration)).await,
            None => Err(BrokerError::not_declared(source)),
        }
    }

    fn remember(&self, declaration: &Declaration) {
        let source = declaration.source();
        let settings = Settings::of(declaration);
        for inbox in lock(&self.inboxes).get(&source).into_iter().flatten() {
            inbox.set_settings(settings.clone());
        }
        let mut declared = lock(&self.declared);
        let Some(known) = declared.get_mut(&source) else {
            declared.insert(source, declaration.clone());
            return;
        };
        known.max_deliveries = declaration.max_deliveries;
        known.dead_letter.clone_from(&declaration.dead_letter);
        if let (
            DeclarationKind::Durable { patterns: known },
            DeclarationKind::Durable { patterns },
        ) = (&mut known.kind, &declaration.kind)
        {
            for pattern in patterns {
                if !known.contains(pattern) {
                    known.push(Arc::clone(pattern));
                }
            }
        }
    }

    pub(super) fn inboxes(&self) -> InboxesOf<D> {
        lock(&self.inboxes).values().flatten().map(Arc::clone).collect()
    }

    fn inboxes_of(&self, source: &Source) -> InboxesOf<D> {
        lock(&self.inboxes).get(source).cloned().unwrap_or_default()
    }

    pub(super) fn forget(&self, inbox: &Inbox<HandleOf<D>>) {
        let mut inboxes = lock(&self.inboxes);
        if let Some(same) = inboxes.get_mut(&inbox.source) {
            same.retain(|one| one.id != inbox.id);
            if same.is_empty() {
                inboxes.remove(&inbox.source);
            }
        }
    }

    fn held(&self, source: &Source) -> Held {
        let inboxes = lock(&self.inboxes);
        let of_source = inboxes.get(source).into_iter().flatten();
        let mut held = Held::default();
        for inbox in of_source {
            held.unacked += inbox.held();
            // Also one that is about to give back what it holds.
            held.consumers += 1;
        }
        held
    }

    /// Ends the inboxes of a source and waits until they have given back what they held.
    async fn end_inboxes(&self, source: &Source, reason: &EndReason) {
        for inbox in self.inboxes_of(source) {
            inbox.end(reason.clone());
            self.stop(&inbox);
        }
        self.ended(source).await;
    }

    /// Waits until the inboxes of a source that have ended have given back what they held.
    async fn ended(&self, source: &Source) {
        for inbox in self.inboxes_of(source) {
            if inbox.end_reason().is_some() {
                self.stop(&inbox);
                inbox.gone().await;
            }
        }
    }

    /// Has the link stop an inbox that has ended; once is enough.
    fn stop(&self, inbox: &Arc<Inbox<HandleOf<D>>>) {
        if inbox.begin_stopping() {
            self.command(Command::Stop(Arc::clone(inbox)));
        }
    }

    pub(super) fn command(&self, command: Command<HandleOf<D>>) {
        // Nobody listens any more only after the bridge was stopped; then nothing is left to do.
        let _ = self.commands.send(command);
    }

    /// Runs a task that a shutdown waits for.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut background = lock(&self.background);
        while background.try_join_next().is_some() {}
        background.spawn(task);
    }

    async fn shut_down(self: Arc<Self>) {
        let first = !self.shutting_down.swap(true, Relaxed);
        if !first {
            return self.stopped().await;
        }
        *lock(&self.health) = Health::Down { reason: "shut down".into() };
        self.outbox.shut_down();
        let finishing = async {
            self.outbox.drained().await;
            let mut background = std::mem::take(&mut *lock(&self.background));
            while background.join_next().await.is_some() {}
            for inbox in self.inboxes() {
                inbox.end(EndReason::ShutDown);
                self.stop(&inbox);
            }
            self.topics.end_all(&EndReason::ShutDown);
            for inbox in self.inboxes() {
                inbox.gone().await;
            }
        };
        let patience = self.options.patience;
        if timeout(patience, finishing).await.is_err() {
            tracing::warn!(broker = ?self.driver, "could not finish in time what was taken");
            self.inboxes().iter().for_each(|inbox| inbox.end(EndReason::ShutDown));
            self.topics.end_all(&EndReason::ShutDown);
        }
        let current = self.current();
        self.set_state(State::Stopped);
        self.outbox.fail(&BrokerError::ShutDown);
        if let Ok(current) = current {
            let _ = timeout(patience, current.link.close()).await;
        }
    }
}

/// The stream of a consumer.
struct Reader<D: Driver> {
    shared: Arc<Shared<D>>,
    inbox: Arc<Inbox<HandleOf<D>>>,
}

impl<D: Driver> DeliverySource for Reader<D> {
    fn poll_batch(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Vec<Delivery>>> {
        let Self { shared, inbox } = &*self;
        loop {
            let Some(taken) = ready!(inbox.poll(cx)) else { return Poll::Ready(None) };
            if !taken.expired.is_empty() {
                shared.settle(inbox, taken.epoch, taken.expired, Verdict::Ack, None);
            }
            if !taken.dead.is_empty() {
                // Nobody waits for it; what fails comes again.
                drop(shared.dead_letter(inbox, taken.dead, DeadLetterReason::MaxDeliveries));
            }
            if !taken.deliveries.is_empty() {
                return Poll::Ready(Some(taken.deliveries));
            }
        }
    }

    fn end_reason(&self) -> Option<EndReason> {
        self.inbox.end_reason()
    }

    fn dropped(&self) -> u64 {
        0
    }
}

impl<D: Driver> Drop for Reader<D> {
    fn drop(&mut self) {
        // Nobody sees the reason any more.
        self.inbox.end(EndReason::ShutDown);
        self.shared.stop(&self.inbox);
    }
}

struct ReaderAcker<D: Driver> {
    shared: Arc<Shared<D>>,
    inbox: Arc<Inbox<HandleOf<D>>>,
}

impl<D: Driver> Settle for ReaderAcker<D> {
    fn ack(&self, tags: &[u64]) -> Confirm {
        let settled = self.inbox.settle(tags);
        Counters::add(&self.shared.counters.acked, settled.len());
        self.shared.acknowledge(&self.inbox, settled, Verdict::Ack)
    }

    fn nack(&self, tags: &[u64], what: Nack) -> Confirm {
        let settled = self.inbox.settle(tags);
        match what {
            Nack::Requeue => self.shared.acknowledge(&self.inbox, settled, Verdict::Requeue),
            Nack::DeadLetter => {
                self.shared.dead_letter(&self.inbox, settled, DeadLetterReason::Rejected)
            }
        }
    }
}

impl<D: Driver> fmt::Debug for Bridge<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge").field("driver", &self.shared.driver).finish_non_exhaustive()
    }
}

impl<D: Driver> fmt::Debug for Reader<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inbox.fmt(f)
    }
}

impl<D: Driver> fmt::Debug for ReaderAcker<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inbox.fmt(f)
    }
}
