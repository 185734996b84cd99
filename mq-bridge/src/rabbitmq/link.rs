//! One session with the broker: two connections, one to publish and one for everything else.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use lapin::types::ShortString;
use lapin::{Connection, Event};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::local::lock;
use crate::remote::{Held, Inbox, Link, Outgoing, Settlement, Topics};
use crate::{BrokerError, Declaration, DeclarationKind, Source, SourceStats};

use super::admin::Admin;
use super::config::{QueueType, RabbitMqConfig};
use super::consumers::{Consumers, Tag};
use super::control::Control;
use super::failure::{Lost, broker_error};
use super::fan::{self, Fan};
use super::names::Names;
use super::patterns::Patterns;
use super::publisher::{Known, Publisher};

/// How long a queue that was deleted may still be there, and how often that is looked at.
const DELETING: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
/// How long the consumers of a lost link may be seen.
const RETURNING: Duration = Duration::from_secs(2);

/// A session with RabbitMQ.
pub(crate) struct RabbitMqLink {
    queue_type: QueueType,
    new_quorum_delay: Duration,
    max_message: usize,
    names: Arc<Names>,
    patterns: Arc<Patterns>,
    known: Arc<Known>,
    admin: Arc<Admin>,
    publisher: Publisher,
    consumers: Arc<Consumers>,
    fan: Fan,
    control: Arc<Control>,
    blocked: Arc<Mutex<Option<Arc<str>>>>,
    lost: Lost,
    /// The broker stops whom it sees publishing when it runs out of memory or disk. What
    /// acknowledges and makes room is not stopped, being on a connection of its own.
    publishing: Arc<Connection>,
    consuming: Arc<Connection>,
    /// Ended when this is dropped.
    _tasks: JoinSet<()>,
}

impl RabbitMqLink {
    pub(super) async fn open(
        config: &RabbitMqConfig,
        names: Arc<Names>,
        patterns: Arc<Patterns>,
        topics: &Arc<Topics>,
        publishing: Connection,
        consuming: Connection,
    ) -> Result<Self, BrokerError> {
        let (publishing, consuming) = (Arc::new(publishing), Arc::new(consuming));
        let (lost, known) = (Lost::new(), Arc::<Known>::default());
        let blocked = Arc::<Mutex<_>>::default();
        let admin = Arc::new(Admin::new(Arc::clone(&consuming), lost.clone()));
        let mut tasks = JoinSet::new();
        tasks.spawn(watch(Arc::clone(&publishing), Arc::clone(&blocked), lost.clone()));
        tasks.spawn(watch(Arc::clone(&consuming), Arc::default(), lost.clone()));
        let (publisher, following) = Publisher::open(
            &publishing,
            Arc::clone(&names),
            Arc::clone(&admin),
            Arc::clone(&known),
            lost.clone(),
        )
        .await
        .map_err(|error| broker_error(&error))?;
        tasks.spawn(following);
        let consumers = Arc::new(Consumers::new(
            Arc::clone(&consuming),
            config.queue_type,
            Arc::clone(&names),
            Arc::clone(&patterns),
            Arc::clone(&admin),
            lost.clone(),
        ));
        let buffer = config.topic_buffer_bytes;
        let (fan, consumer) =
            Fan::open(&consuming, Arc::clone(&names), buffer, lost.clone()).await?;
        let control = Control::open(
            &publishing,
            Arc::clone(&names),
            fan.queue().clone(),
            Arc::clone(&admin),
            Arc::clone(&consumers),
            lost.clone(),
        )
        .await
        .map_err(|error| broker_error(&error))?;
        let control = Arc::new(control);
        let (words, heard) = mpsc::unbounded_channel();
        let (topics, by_name) = (Arc::clone(topics), Arc::clone(&names));
        tasks.spawn(fan::run(consumer, by_name, topics, words, lost.clone()));
        let answering = Arc::clone(&control);
        tasks.spawn(async move { answering.run(heard).await });
        Ok(Self {
            queue_type: config.queue_type,
            new_quorum_delay: config.new_quorum_delay,
            max_message: config.max_message,
            names,
            patterns,
            known,
            admin,
            publisher,
            consumers,
            fan,
            control,
            blocked,
            lost,
            publishing,
            consuming,
            _tasks: tasks,
        })
    }

    /// Waits until the broker has taken back what the consumers of a lost link had: whoever comes
    /// before that gets what is newer first. Those of other nodes cannot be told from them, so not
    /// for long.
    async fn await_return(&self, source: &Source, queue: &ShortString) -> Result<(), BrokerError> {
        if !self.consumers.are_counted_until_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + RETURNING;
        while let Some(found) = self.admin.find(queue).await? {
            if found.certain && found.consumers <= self.consumers.number_of(source)
                || Instant::now() > deadline
            {
                break;
            }
            sleep(POLL).await;
        }
        Ok(())
    }
}

/// Follows what becomes of a connection.
async fn watch(connection: Arc<Connection>, blocked: Arc<Mutex<Option<Arc<str>>>>, lost: Lost) {
    let mut events = Box::pin(connection.events_listener());
    // It may have been lost before anybody listened.
    if !connection.status().connected() {
        return lost.set("the connection was closed");
    }
    while let Some(event) = events.next().await {
        match event {
            Event::ConnectionBlocked(reason) => {
                tracing::warn!(%reason, "RabbitMQ takes no messages");
                let reason = format!("RabbitMQ takes no messages: {reason}");
                *lock(&blocked) = Some(reason.into());
            }
            Event::ConnectionUnblocked => *lock(&blocked) = None,
            // Also those of single channels, which whoever uses them sees.
            Event::Error(error) if !connection.status().connected() => {
                lost.fail(&error);
                return;
            }
            _ => {}
        }
    }
}

#[async_trait]
impl Link for RabbitMqLink {
    type Handle = Tag;

    fn max_message(&self) -> usize {
        self.max_message
    }

    fn trouble(&self) -> Option<Arc<str>> {
        lock(&self.blocked).clone()
    }

    async fn lost(&self) -> Arc<str> {
        self.lost.wait().await
    }

    async fn publish(&self, batch: Vec<Outgoing>) {
        self.publisher.publish(batch).await;
    }

    async fn declare(&self, declaration: &Declaration) -> Result<(), BrokerError> {
        let Declaration { kind, name, .. } = declaration;
        let (source, keys) = match kind {
            DeclarationKind::Queue => (Source::Queue(Arc::clone(name)), Vec::new()),
            DeclarationKind::Durable { patterns } => {
                let keys = patterns.iter().map(|pattern| Names::key(pattern));
                (Source::Durable(Arc::clone(name)), keys.collect::<Result<_, _>>()?)
            }
        };
        let queue = self.names.source(&source)?;
        let new = self.queue_type == QueueType::Quorum && self.admin.find(&queue).await?.is_none();
        self.admin.declare(&queue, self.queue_type, &self.names.topics, keys).await?;
        if new {
            sleep(self.new_quorum_delay).await;
        }
        match kind {
            DeclarationKind::Queue => self.known.insert(name),
            DeclarationKind::Durable { patterns } => self.patterns.add(name, patterns),
        }
        Ok(())
    }

    async fn delete(&self, source: &Source) -> Result<(), BrokerError> {
        let queue = self.names.source(source)?;
        match source {
            Source::Queue(name) => self.known.remove(name),
            Source::Durable(name) | Source::Topic(name) => self.patterns.remove(name),
        }
        // A quorum queue that another call is deleting is still there for a moment.
        let deadline = Instant::now() + DELETING;
        loop {
            self.admin.delete(&queue).await?;
            if self.admin.find(&queue).await?.is_none() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let reason = "the broker has not deleted the queue in time".into();
                return Err(BrokerError::Disconnected { reason });
            }
            sleep(POLL).await;
        }
    }

    async fn stats(&self, source: &Source, _held: Held) -> Result<SourceStats, BrokerError> {
        let queue = self.names.source(source)?;
        let found = self.admin.find(&queue).await?;
        let found = found.ok_or_else(|| BrokerError::not_declared(source))?;
        // The broker does not say what is with the consumers of other nodes.
        let held = self.consumers.held(source).await?;
        Ok(SourceStats { depth: found.ready + held, unacked: held, consumers: found.consumers })
    }

    async fn consume(&self, inbox: &Arc<Inbox<Tag>>) -> Result<(), BrokerError> {
        let source = &inbox.source;
        let queue = self.names.source(source)?;
        if inbox.options.takeover {
            let start = self.consumers.start(inbox, queue.clone());
            return self.control.take_over(inbox, &queue, start).await;
        }
        if self.admin.find(&queue).await?.is_none() {
            return Err(BrokerError::not_declared(source));
        }
        if inbox.is_returning() {
            self.await_return(source, &queue).await?;
        }
        self.consumers.start(inbox, queue).await
    }

    async fn stop(&self, inbox: &Arc<Inbox<Tag>>) -> Result<(), BrokerError> {
        self.control.leave(inbox).await
    }

    async fn settle(&self, batch: Vec<Settlement<Tag>>) -> Result<(), BrokerError> {
        self.consumers.settle(batch).await
    }

    async fn listen(&self, pattern: &Arc<str>) -> Result<(), BrokerError> {
        self.fan.listen(pattern).await
    }

    async fn unlisten(&self, pattern: &Arc<str>) -> Result<(), BrokerError> {
        self.fan.unlisten(pattern).await
    }

    async fn close(&self) {
        for connection in [&self.publishing, &self.consuming] {
            // Closed already, or as good as closed.
            let _ = connection.close(200, "goodbye".into()).await;
        }
    }
}
