//! The consumers of a link, by what they consume, and who of them is to look for messages.
//!
//! A notice says that a source has messages. One idle consumer is told; it reads, and tells the next
//! where it left something. So a message wakes one consumer and not all, and nothing waits while
//! somebody is idle.

use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::task::AbortHandle;

use crate::EndReason;
use crate::local::{Settings, lock};
use crate::remote::Inbox;

use super::connection::Connection;
use super::entry::EntryId;
use super::error::Fault;

#[derive(Debug, Default)]
pub(super) struct Consumers {
    sources: Mutex<HashMap<String, Arc<Watched>>>,
}

/// A source that somebody here consumes.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Held while the server is told, so that subscribing and its end do not overtake each other.
    channel: AsyncMutex<Channel>,
    consumers: Mutex<HashMap<u64, Consumer>>,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Channel {
    users: usize,
    subscribed: bool,
    /// No longer among the sources.
    gone: bool,
}

#[derive(Debug)]
pub(super) struct Consumer {
    inbox: Arc<Inbox<EntryId>>,
    /// As the server knows it.
    pub(super) name: String,
    pump: Option<AbortHandle>,
}

#[derive(Debug, Default)]
struct Idle {
    waiting: VecDeque<oneshot::Sender<()>>,
    /// A notice came while nobody was idle.
    missed: bool,
}

/// Max and dead as the server keeps them.
pub(super) fn settings(max: &str, dead: &str) -> Settings {
    Settings {
        max_deliveries: max.parse().ok().and_then(NonZeroU32::new),
        dead_letter: Some(dead).filter(|name| !name.is_empty()).map(Arc::from),
    }
}

impl Consumers {
    /// Has the notices about a source delivered here, until [`unwatch`](Self::unwatch).
    pub(super) async fn watch(
        &self,
        source: &str,
        channel: &str,
        connection: &Connection,
    ) -> Result<Arc<Watched>, Fault> {
        loop {
            let watched = Arc::clone(lock(&self.sources).entry(source.to_owned()).or_default());
            let mut state = watched.channel.lock().await;
            if state.gone {
                continue;
            }
            if !state.subscribed {
                connection.subscribe(channel).await?;
                state.subscribed = true;
            }
            state.users += 1;
            drop(state);
            return Ok(watched);
        }
    }

    pub(super) async fn unwatch(
        &self,
        source: &str,
        channel: &str,
        connection: &Connection,
    ) -> Result<(), Fault> {
        let watched = lock(&self.sources).get(source).cloned();
        let Some(watched) = watched else { return Ok(()) };
        let mut state = watched.channel.lock().await;
        state.users = state.users.saturating_sub(1);
        if state.users > 0 {
            return Ok(());
        }
        state.gone = true;
        lock(&self.sources).remove(source);
        connection.unsubscribe(channel).await
    }

    pub(super) fn get(&self, source: &str) -> Option<Arc<Watched>> {
        lock(&self.sources).get(source).cloned()
    }

    /// Sources with consumers that may be idle.
    pub(super) fn sources(&self) -> Vec<String> {
        let sources = lock(&self.sources);
        let idle = sources.iter().filter(|(_, watched)| watched.has_idle());
        idle.map(|(source, _)| source.clone()).collect()
    }

    /// What a notice says: see `lua/common.lua`.
    pub(super) fn notice(&self, source: &str, notice: &[u8]) {
        let Some(watched) = self.get(source) else { return };
        let text = String::from_utf8_lossy(notice);
        match text.split_at_checked(1) {
            None => watched.wake(),
            Some(("d", names)) => watched.end(&EndReason::Deleted, names),
            Some(("o", names)) => watched.end(&EndReason::TakenOver, names),
            Some(("s", changed)) => {
                let (max, dead) = changed.split_once('\n').unwrap_or((changed, ""));
                for consumer in lock(&watched.consumers).values() {
                    consumer.inbox.set_settings(settings(max, dead));
                }
            }
            Some(_) => {}
        }
    }

    pub(super) fn abort_all(&self) {
        for watched in lock(&self.sources).values() {
            lock(&watched.consumers).values().for_each(Consumer::abort);
        }
    }
}

impl Consumer {
    pub(super) fn abort(&self) {
        if let Some(pump) = &self.pump {
            pump.abort();
        }
    }
}

impl Watched {
    /// Takes a consumer in, so that notices reach it, before the server knows it.
    pub(super) fn insert(&self, inbox: &Arc<Inbox<EntryId>>, name: String) {
        let consumer = Consumer { inbox: Arc::clone(inbox), name, pump: None };
        let older = lock(&self.consumers).insert(inbox.id, consumer);
        older.iter().for_each(Consumer::abort);
    }

    pub(super) fn set_pump(&self, inbox: u64, pump: AbortHandle) {
        match lock(&self.consumers).get_mut(&inbox) {
            Some(consumer) => consumer.pump = Some(pump),
            None => pump.abort(),
        }
    }

    pub(super) fn remove(&self, inbox: u64) -> Option<Consumer> {
        lock(&self.consumers).remove(&inbox)
    }

    fn end(&self, reason: &EndReason, names: &str) {
        let names: HashSet<&str> = names.split('\n').collect();
        for consumer in lock(&self.consumers).values() {
            if names.contains(&*consumer.name) {
                consumer.inbox.end(reason.clone());
            }
        }
    }

    /// Has one idle consumer look for messages, or the next that would be idle.
    pub(super) fn wake(&self) {
        let mut idle = lock(&self.idle);
        while let Some(waiting) = idle.waiting.pop_front() {
            if waiting.send(()).is_ok() {
                return;
            }
        }
        idle.missed = true;
    }

    pub(super) fn has_idle(&self) -> bool {
        lock(&self.idle).waiting.iter().any(|waiting| !waiting.is_closed())
    }

    /// Waits for its turn to look for messages.
    pub(super) async fn turn(&self) {
        let waiting = {
            let mut idle = lock(&self.idle);
            if std::mem::take(&mut idle.missed) {
                return;
            }
            let (sender, receiver) = oneshot::channel();
            idle.waiting.retain(|waiting| !waiting.is_closed());
            idle.waiting.push_back(sender);
            receiver
        };
        let _ = waiting.await;
    }
}
