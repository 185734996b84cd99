//! This node's copy of the registry, and how it stays the same as that of the others.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, RwLock};

use stomp_codec::server::AckMode;
use stomp_codec::view;

use crate::local::{read, write};
use crate::{BrokerError, Source};

use super::consumers::Consumers;
use super::control::{self, Notice};
use super::registry::{Declared, Entry, Registry};
use super::session::Session;
use super::statistics::Statistics;
use super::syncs::Syncs;
use super::{names, shards};

#[derive(Debug)]
pub(super) struct Nodes {
    session: Arc<Session>,
    /// Names this link of this node.
    node: String,
    last: AtomicU64,
    known: Arc<Known>,
}

/// What notices change.
#[derive(Debug)]
struct Known {
    registry: RwLock<Registry>,
    syncs: Syncs,
    consumers: Arc<Consumers>,
}

impl Nodes {
    /// Listens to the others, and reads what is declared.
    pub(super) async fn join(
        session: &Arc<Session>,
        consumers: &Arc<Consumers>,
        statistics: &Statistics,
    ) -> Result<Self, BrokerError> {
        let known = Arc::new(Known {
            registry: RwLock::default(),
            syncs: Syncs::default(),
            consumers: Arc::clone(consumers),
        });
        let node = names::random();
        let selector = control::selector(&node);
        let hearing = Arc::clone(&known);
        let handler = move |messages: Vec<view::Message>| {
            messages.iter().filter_map(Notice::decode).for_each(|notice| hearing.hear(&notice));
        };
        let (_, listening) = session.write(|writer| {
            let headers = [("selector", selector.as_str())];
            writer.subscribe(names::CONTROL, AckMode::Auto, &headers, Box::new(handler))
        })?;
        listening.received().await?;
        for entry in shards::load(session, statistics).await? {
            write(&known.registry).apply(&entry);
        }
        Ok(Self { session: Arc::clone(session), node, last: AtomicU64::new(0), known })
    }

    /// What is declared, as of when this was called or later.
    pub(super) async fn up_to_date(&self) -> Result<&RwLock<Registry>, BrokerError> {
        let number = self.last.fetch_add(1, Relaxed) + 1;
        let notice = Notice::Sync { number }.encode(&self.node);
        self.known.syncs.pass(&self.session, number, notice).await?;
        Ok(&self.known.registry)
    }

    /// Declares on all nodes.
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
        let entry = self.entry(source, ids, Some(declared)).await?;
        self.tell(&entry).await?;
        shards::remove(&self.session, source, &entry.covers).await.map(drop)
    }

    /// Deletes on all nodes, whose consumers end; says whether there was something. What was kept
    /// is still there.
    pub(super) async fn delete(&self, source: &Source) -> Result<Option<Entry>, BrokerError> {
        let ids = read(self.up_to_date().await?).ids(source);
        if ids.is_empty() {
            return Ok(None);
        }
        let entry = self.entry(source, ids, None).await?;
        self.tell(&entry).await?;
        Ok(Some(entry))
    }

    /// Removes what a deletion has left in the registry.
    pub(super) async fn tidy(&self, deletion: &Entry) -> Result<(), BrokerError> {
        if shards::remove(&self.session, &deletion.source, &deletion.covers).await? {
            let own = [Arc::clone(&deletion.id)];
            shards::remove(&self.session, &deletion.source, &own).await?;
        }
        Ok(())
    }

    /// Ends the consumers of a source on all nodes, but for the one that `id` names.
    pub(super) async fn take_over(
        &self,
        source: &Source,
        id: &Arc<str>,
        again: bool,
    ) -> Result<(), BrokerError> {
        let notice = Notice::Takeover { source: source.clone(), id: Arc::clone(id), again };
        let notice = notice.encode(&self.node);
        self.session.write(|writer| writer.send_confirmed(notice))?.received().await
    }

    /// A name that no other node gives.
    pub(super) fn unique(&self) -> Arc<str> {
        let number = self.last.fetch_add(1, Relaxed) + 1;
        format!("{}-{number:08x}", self.node).into()
    }

    /// An entry in the place of others.
    async fn entry(
        &self,
        source: &Source,
        mut ids: Vec<Arc<str>>,
        declared: Option<Declared>,
    ) -> Result<Entry, BrokerError> {
        let covered = read(&self.known.registry).covered_by(source);
        ids.extend(shards::kept(&self.session, source, &covered).await?);
        Ok(Entry { id: self.unique(), covers: ids, source: source.clone(), declared })
    }

    /// Keeps an entry and tells it to all: when this returns they have it, or will before anything
    /// that is said from now on.
    async fn tell(&self, entry: &Entry) -> Result<(), BrokerError> {
        let notice = Notice::Entry(entry.clone()).encode(&self.node);
        let (kept, told) = self.session.write(|writer| {
            Ok((writer.send_confirmed(shards::keep(entry))?, writer.send_confirmed(notice)?))
        })?;
        kept.received().await?;
        self.known.hear(&Notice::Entry(entry.clone()));
        told.received().await
    }
}

impl Known {
    fn hear(&self, notice: &Notice) {
        match notice {
            Notice::Entry(entry) => {
                if write(&self.registry).apply(entry) {
                    self.consumers.deleted(&entry.source);
                }
            }
            Notice::Takeover { source, id, again } => {
                self.consumers.taken_over(source, id, *again);
            }
            Notice::Sync { number } => self.syncs.heard(*number),
        }
    }
}
