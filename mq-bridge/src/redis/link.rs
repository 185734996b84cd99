//! One session with the server.

use std::sync::Arc;

use ::redis::Value;
use async_trait::async_trait;
use tokio::task::JoinSet;

use crate::remote::{Held, Inbox, Link, Outgoing, Settlement, Verdict};
use crate::{BrokerError, Declaration, DeclarationKind, EndReason, Source, SourceStats};

use super::config::RedisConfig;
use super::connection::{Connection, Loss};
use super::consumers::{Consumers, Watched, settings};
use super::entry::{EntryId, source_key};
use super::error::Fault;
use super::listener::Listener;
use super::publisher::Publisher;
use super::pump::Pump;
use super::script::{ATTACH, DECLARE, DELETE, DETACH, SETTLE, STATS};
use super::session::{keep_alive, lease_millis, poll, renew};
use super::value::{items, number, text};

pub(super) struct RedisLink {
    shared: Arc<Shared>,
    publisher: Publisher,
    listener: Arc<Listener>,
    max_message: usize,
    /// Ended with the link.
    _background: JoinSet<()>,
}

/// What the tasks of a link share.
pub(super) struct Shared {
    /// `{PREFIX}:`
    pub(super) prefix: String,
    pub(super) session: String,
    pub(super) control: Connection,
    pub(super) listening: Connection,
    pub(super) consumers: Arc<Consumers>,
    pub(super) loss: Loss,
}

impl RedisLink {
    pub(super) fn new(
        shared: Arc<Shared>,
        publisher: Publisher,
        listener: Arc<Listener>,
        config: &RedisConfig,
        max_message: usize,
    ) -> Self {
        let mut background = JoinSet::new();
        let publishing = publisher.connection().clone();
        background.spawn(keep_alive(Arc::clone(&shared), publishing, lease_millis(config)));
        background.spawn(poll(Arc::clone(&shared), config.poll_interval));
        Self { shared, publisher, listener, max_message, _background: background }
    }

    fn consumer_name(&self, inbox: &Inbox<EntryId>) -> String {
        format!("{}.{}", self.shared.session, inbox.id)
    }

    fn notices(&self, source: &str) -> String {
        format!("{}n:{source}", self.shared.prefix)
    }

    /// Makes a consumer, unless a newer one has taken over.
    async fn attach(
        &self,
        inbox: &Arc<Inbox<EntryId>>,
        watched: &Arc<Watched>,
    ) -> Result<bool, BrokerError> {
        let shared = &self.shared;
        let (source, name) = (source_key(&inbox.source), self.consumer_name(inbox));
        let epoch = inbox.epoch();
        let mut call = ATTACH.call(&shared.prefix);
        call.arg(source).arg(&name);
        call.arg(if inbox.options.takeover { "takeover" } else { "compete" });
        call.arg(inbox.generation());
        let answer = shared.control.run(&call).await.map_err(Fault::into_error)?;
        if !matches!(answer, Value::Array(_)) {
            if text(answer) == "taken over" {
                inbox.end(EndReason::TakenOver);
                return Ok(false);
            }
            return Err(BrokerError::not_declared(&inbox.source));
        }
        let [generation, max, dead] = items(answer);
        let generation = text(generation);
        inbox.set_generation(&generation);
        inbox.set_settings(settings(&text(max), &text(dead)));
        let pump = Pump {
            shared: Arc::clone(shared),
            watched: Arc::clone(watched),
            inbox: Arc::clone(inbox),
            name,
            generation,
            epoch,
        };
        watched.set_pump(inbox.id, tokio::spawn(pump.run()).abort_handle());
        Ok(true)
    }
}

#[async_trait]
impl Link for RedisLink {
    type Handle = EntryId;

    fn max_message(&self) -> usize {
        self.max_message
    }

    async fn lost(&self) -> Arc<str> {
        self.shared.loss.wait().await
    }

    async fn publish(&self, batch: Vec<Outgoing>) {
        self.publisher.publish(batch).await;
    }

    async fn declare(&self, declaration: &Declaration) -> Result<(), BrokerError> {
        let name = Arc::clone(&declaration.name);
        let (source, patterns) = match &declaration.kind {
            DeclarationKind::Queue => (Source::Queue(name), &[][..]),
            DeclarationKind::Durable { patterns } => (Source::Durable(name), &patterns[..]),
        };
        let mut call = DECLARE.call(&self.shared.prefix);
        call.arg(source_key(&source));
        call.arg(declaration.max_deliveries.map_or(0, std::num::NonZeroU32::get));
        call.arg(declaration.dead_letter.as_deref().unwrap_or_default());
        for pattern in patterns {
            call.arg(&**pattern);
        }
        self.shared.control.run(&call).await.map(drop).map_err(Fault::into_error)
    }

    async fn delete(&self, source: &Source) -> Result<(), BrokerError> {
        let mut call = DELETE.call(&self.shared.prefix);
        call.arg(source_key(source));
        self.shared.control.run(&call).await.map(drop).map_err(Fault::into_error)
    }

    async fn stats(&self, source: &Source, _: Held) -> Result<SourceStats, BrokerError> {
        let mut call = STATS.call(&self.shared.prefix);
        call.arg(source_key(source));
        let answer = self.shared.control.run(&call).await.map_err(Fault::into_error)?;
        if matches!(answer, Value::Nil) {
            return Err(BrokerError::not_declared(source));
        }
        let [depth, unacked, consumers] = items(answer);
        let count = |value: &Value| u64::try_from(number(value)).unwrap_or_default();
        Ok(SourceStats {
            depth: count(&depth),
            unacked: count(&unacked),
            consumers: count(&consumers),
        })
    }

    async fn consume(&self, inbox: &Arc<Inbox<EntryId>>) -> Result<(), BrokerError> {
        let Shared { consumers, listening, .. } = &*self.shared;
        let source = source_key(&inbox.source);
        let channel = self.notices(&source);
        let watched = consumers.watch(&source, &channel, listening).await;
        let watched = watched.map_err(Fault::into_error)?;
        watched.insert(inbox, self.consumer_name(inbox));
        let attached = self.attach(inbox, &watched).await;
        if attached != Ok(true) {
            watched.remove(inbox.id);
            consumers.unwatch(&source, &channel, listening).await.map_err(Fault::into_error)?;
        }
        attached.map(drop)
    }

    async fn stop(&self, inbox: &Arc<Inbox<EntryId>>) -> Result<(), BrokerError> {
        let Shared { prefix, consumers, listening, control, .. } = &*self.shared;
        let source = source_key(&inbox.source);
        let consumer = consumers.get(&source).and_then(|watched| watched.remove(inbox.id));
        // The server knows what the consumer has, and gives back all of it.
        inbox.give_back();
        let Some(consumer) = consumer else { return Ok(()) };
        consumer.abort();
        let mut call = DETACH.call(prefix);
        call.arg(&source).arg(&consumer.name);
        let detached = control.run(&call).await;
        let unwatched = consumers.unwatch(&source, &self.notices(&source), listening).await;
        detached.map(drop).and(unwatched).map_err(Fault::into_error)
    }

    async fn settle(&self, batch: Vec<Settlement<EntryId>>) -> Result<(), BrokerError> {
        let mut call = SETTLE.call(&self.shared.prefix);
        for Settlement { inbox, handles, verdict } in batch {
            call.arg(source_key(&inbox.source)).arg(self.consumer_name(&inbox));
            call.arg(match verdict {
                Verdict::Ack => "ack",
                Verdict::Requeue => "requeue",
            });
            let (shared, own): (Vec<_>, Vec<_>) =
                handles.iter().partition(|one| !one.shared.is_empty());
            call.arg(own.len());
            for entry in own {
                call.arg(&entry.id);
            }
            call.arg(shared.len());
            for entry in shared {
                call.arg(&entry.id).arg(&entry.shared);
            }
        }
        self.shared.control.run(&call).await.map(drop).map_err(Fault::into_error)
    }

    async fn listen(&self, pattern: &Arc<str>) -> Result<(), BrokerError> {
        let listening = &self.shared.listening;
        self.listener.listen(pattern, listening).await.map_err(Fault::into_error)
    }

    async fn unlisten(&self, pattern: &Arc<str>) -> Result<(), BrokerError> {
        let listening = &self.shared.listening;
        self.listener.unlisten(pattern, listening).await.map_err(Fault::into_error)
    }

    async fn close(&self) {
        let Shared { prefix, session, control, consumers, .. } = &*self.shared;
        consumers.abort_all();
        // What fails here, the lease does.
        let _ = renew(control, prefix, session, 0).await;
    }
}

impl Drop for RedisLink {
    fn drop(&mut self) {
        self.shared.consumers.abort_all();
    }
}
