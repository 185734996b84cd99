//! This node among the others: its copy of the registry, and what all of them are asked for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::Duration;

use stomp_codec::server::AckMode;
use stomp_codec::view;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::time::timeout;

use crate::local::{lock, read, write};
use crate::{BrokerError, Source};

use super::consumers::Consumers;
use super::notice::{Notice, Turn};
use super::registry::{Declared, Entry, Registry};
use super::scratch::Scratch;
use super::session::Session;
use super::syncs::Syncs;
use super::{Ties, names, store};

/// How long answers may take before it is looked whether a node is there at all: at first, and from
/// then on.
const ANSWER: Duration = Duration::from_millis(200);
const ANSWER_LATER: Duration = Duration::from_secs(2);
/// After so many changes a node removes from what is kept what they have replaced.
const TIDY: u64 = 10_000;

pub(super) struct Nodes {
    session: Arc<Session>,
    scratch: Arc<Scratch>,
    last: AtomicU64,
    changes: AtomicU64,
    known: Arc<Known>,
    /// Held while it is looked whether a node is dead.
    burying: AsyncMutex<()>,
}

/// What notices change.
struct Known {
    /// The name of this node: that of its queue, which goes with its connection.
    node: Arc<str>,
    /// Which hands notices to this.
    session: Weak<Session>,
    registry: RwLock<Registry>,
    syncs: Syncs,
    questions: Mutex<HashMap<Arc<str>, mpsc::UnboundedSender<Answer>>>,
    consumers: Arc<Consumers>,
}

struct Answer {
    node: Arc<str>,
    later: Option<Turn>,
}

impl Nodes {
    /// Listens to the others, reads what is declared, and says that this node is there.
    pub(super) async fn join(
        node: &Arc<str>,
        session: &Arc<Session>,
        consumers: &Arc<Consumers>,
        scratch: &Arc<Scratch>,
        ties: &Ties,
    ) -> Result<Self, BrokerError> {
        let known = Arc::new(Known {
            node: Arc::clone(node),
            session: Arc::downgrade(session),
            registry: RwLock::default(),
            syncs: Syncs::default(),
            questions: Mutex::default(),
            consumers: Arc::clone(consumers),
        });
        let hearing = Arc::clone(&known);
        let handler = move |messages: Vec<view::Message>| {
            messages.iter().filter_map(Notice::decode).for_each(|notice| hearing.hear(notice));
        };
        let (_, listening) = session.write(|writer| {
            let headers = names::own(node);
            writer.subscribe(names::CONTROL, AckMode::Auto, &headers, Box::new(handler))
        })?;
        listening.received().await?;
        let nodes = Self {
            session: Arc::clone(session),
            scratch: Arc::clone(scratch),
            last: AtomicU64::new(0),
            changes: AtomicU64::new(1),
            known,
            burying: AsyncMutex::default(),
        };
        for entry in store::load(&scratch.dial, &nodes.unique()).await? {
            write(&nodes.known.registry).apply(&entry);
        }
        nodes.introduce(ties).await?;
        Ok(nodes)
    }

    /// Joins, in the place of what an earlier link of this node has said.
    async fn introduce(&self, ties: &Ties) -> Result<(), BrokerError> {
        let before = lock(&ties.0).clone();
        if let Some(before) = before {
            self.leave_as(&before.source, vec![before.id]).await?;
        }
        let source = Source::topic(Arc::clone(&self.known.node));
        let entry = self.entry(&source, Vec::new(), Some(Declared::default()));
        *lock(&ties.0) = Some(entry.clone());
        self.tell(&entry).await
    }

    /// Says that this node is going.
    pub(super) async fn leave(&self) -> Result<(), BrokerError> {
        let source = Source::topic(Arc::clone(&self.known.node));
        let ids = read(&self.known.registry).ids(&source);
        self.leave_as(&source, ids).await
    }

    async fn leave_as(&self, node: &Source, ids: Vec<Arc<str>>) -> Result<(), BrokerError> {
        self.tell(&self.entry(node, ids, None)).await
    }

    /// What is declared, as of when this was called or later.
    pub(super) async fn up_to_date(&self) -> Result<&RwLock<Registry>, BrokerError> {
        let number = self.last.fetch_add(1, Relaxed);
        let notice = Notice::Sync { number }.to_node(&self.known.node);
        self.known.syncs.pass(&self.session, number, notice).await?;
        Ok(&self.known.registry)
    }

    /// Declares on all nodes; the queue is there.
    pub(super) async fn declare(
        &self,
        source: &Source,
        more: &Declared,
    ) -> Result<(), BrokerError> {
        let (before, ids) = {
            let registry = read(self.up_to_date().await?);
            (registry.get(source), registry.ids(source))
        };
        let Some(declared) = more.added_to(before.as_ref()) else { return Ok(()) };
        self.tell(&self.entry(source, ids, Some(declared))).await
    }

    /// Deletes on all nodes; says whether there was something. Nobody consumes it any more when this
    /// returns.
    pub(super) async fn delete(&self, source: &Source) -> Result<bool, BrokerError> {
        let ids = read(self.up_to_date().await?).ids(source);
        if ids.is_empty() {
            return Ok(false);
        }
        let entry = self.entry(source, ids, None);
        let answers = self.question(&entry.id);
        self.tell(&entry).await?;
        self.answered(answers, &entry.id).await?;
        Ok(true)
    }

    /// Ends the consumers of a source on all other nodes, but for those that took over later: gives
    /// when the last of these did.
    pub(super) async fn let_go(
        &self,
        source: &Source,
        turn: Turn,
    ) -> Result<Option<Turn>, BrokerError> {
        let id = self.unique();
        let answers = self.question(&id);
        let (source, node) = (source.clone(), Arc::clone(&self.known.node));
        let notice = Notice::LetGo { source, turn, id: Arc::clone(&id), node }.to_all();
        self.session.write(|writer| writer.send_confirmed(notice))?.received().await?;
        self.answered(answers, &id).await
    }

    /// A name that no other node gives.
    fn unique(&self) -> Arc<str> {
        let number = self.last.fetch_add(1, Relaxed);
        format!("{}-{number:08x}", self.known.node).into()
    }

    fn entry(&self, source: &Source, ids: Vec<Arc<str>>, declared: Option<Declared>) -> Entry {
        Entry { id: self.unique(), covers: ids, source: source.clone(), declared }
    }

    /// Keeps an entry and tells it to all: when this returns they have it, or will before anything
    /// that is said from now on.
    async fn tell(&self, entry: &Entry) -> Result<(), BrokerError> {
        let node = Arc::clone(&self.known.node);
        let notice = Notice::Entry { entry: entry.clone(), node }.to_all();
        let (kept, told) = self.session.write(|writer| {
            Ok((writer.send_confirmed(store::keep(entry))?, writer.send_confirmed(notice)?))
        })?;
        kept.received().await?;
        write(&self.known.registry).apply(entry);
        if self.changes.fetch_add(1, Relaxed).is_multiple_of(TIDY) {
            let (dial, id) = (self.scratch.dial.clone(), self.unique());
            tokio::spawn(async move {
                if let Err(error) = store::load(&dial, &id).await {
                    tracing::warn!(%error, "could not tidy up what is declared");
                }
            });
        }
        told.received().await
    }

    fn question(&self, id: &Arc<str>) -> mpsc::UnboundedReceiver<Answer> {
        let (sender, answers) = mpsc::unbounded_channel();
        lock(&self.known.questions).insert(Arc::clone(id), sender);
        answers
    }

    /// Waits until all that were there when this was called have answered, or are dead.
    async fn answered(
        &self,
        mut answers: mpsc::UnboundedReceiver<Answer>,
        id: &Arc<str>,
    ) -> Result<Option<Turn>, BrokerError> {
        let _forget = Forget { known: &self.known, id };
        let mut silent = read(self.up_to_date().await?).nodes();
        silent.retain(|node| *node != self.known.node);
        let mut later = None;
        let mut patience = ANSWER;
        while !silent.is_empty() {
            if let Ok(Some(answer)) = timeout(patience, answers.recv()).await {
                silent.retain(|node| *node != answer.node);
                later = later.max(answer.later);
                continue;
            }
            patience = ANSWER_LATER;
            let mut alive = Vec::new();
            for node in silent {
                if !self.is_dead(&node).await? {
                    alive.push(node);
                }
            }
            silent = alive;
        }
        Ok(later)
    }

    /// Whether a node is dead, which then all are told.
    async fn is_dead(&self, node: &Arc<str>) -> Result<bool, BrokerError> {
        let _one = self.burying.lock().await;
        let source = Source::topic(Arc::clone(node));
        let ids = read(&self.known.registry).ids(&source);
        if ids.is_empty() {
            return Ok(true);
        }
        let is_dead = self.scratch.is_gone(node).await?;
        if is_dead {
            self.leave_as(&source, ids).await?;
        }
        Ok(is_dead)
    }
}

/// Nobody waits for answers any more.
struct Forget<'a> {
    known: &'a Known,
    id: &'a Arc<str>,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.known.questions).remove(self.id);
    }
}

impl Known {
    fn hear(self: &Arc<Self>, notice: Notice) {
        match notice {
            Notice::Entry { entry, node } => {
                write(&self.registry).apply(&entry);
                let kept = !matches!(entry.source, Source::Topic(_));
                if kept && entry.declared.is_none() && node != self.node {
                    let ending = self.consumers.deleted(&entry.source);
                    self.answer(ending, entry.id, node, None);
                }
            }
            Notice::LetGo { source, turn, id, node } => {
                if node != self.node {
                    let (ending, later) = self.consumers.let_go(&source, (turn, &node), &self.node);
                    self.answer(ending, id, node, later);
                }
            }
            Notice::Answer { id, node, later } => {
                if let Some(waiting) = lock(&self.questions).get(&id) {
                    let _given_up = waiting.send(Answer { node, later });
                }
            }
            Notice::Sync { number } => self.syncs.heard(number),
        }
    }

    /// Lets go of consumers that have ended, and says so.
    fn answer(self: &Arc<Self>, ending: Vec<u64>, id: Arc<str>, to: Arc<str>, later: Option<Turn>) {
        let known = Arc::clone(self);
        tokio::spawn(async move {
            for inbox in ending {
                if known.consumers.detach(inbox).await.is_err() {
                    // Lost, and with it what they held.
                    return;
                }
            }
            let notice = Notice::Answer { id, node: Arc::clone(&known.node), later }.to_node(&to);
            let Some(session) = known.session.upgrade() else { return };
            let _lost = session.write(|writer| writer.send(notice));
        });
    }
}
