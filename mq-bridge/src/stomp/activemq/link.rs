//! One connected session with the broker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use stomp_codec::Frame;
use stomp_codec::client::SubscriptionHandle;
use stomp_codec::server::AckMode;
use tokio::time::{Instant, sleep};

use crate::local::{lock, read};
use crate::remote::{Held, Inbox, Link, Outgoing, Pending, Settlement, Topics};
use crate::{BrokerError, Declaration, Source, SourceStats};

use super::Handle;
use super::consumers::{Consumers, Sessions, destination};
use super::nodes::Nodes;
use super::registry::Declared;
use super::session::{Receipt, Session};
use super::statistics::Statistics;
use super::{listening, names, routing};

/// The most octets of one transaction, but for one that is larger alone.
const TRANSACTION: usize = 1 << 20;
/// How often to look whether consumers are gone.
const POLL: Duration = Duration::from_millis(5);
/// How often consumers are told to go, for those that came meanwhile.
const REMIND: Duration = Duration::from_millis(500);

pub(super) struct ActiveMqLink {
    publishing: Arc<Session>,
    /// For all that is not publishing or consuming.
    managing: Arc<Session>,
    consumers: Arc<Consumers>,
    nodes: Nodes,
    statistics: Statistics,
    topics: Arc<Topics>,
    listening: Mutex<HashMap<Arc<str>, SubscriptionHandle>>,
    max_message: usize,
}

impl ActiveMqLink {
    pub(super) async fn open(
        publishing: Arc<Session>,
        consuming: Sessions,
        statistics: Statistics,
        topics: &Arc<Topics>,
        max_message: usize,
    ) -> Result<Self, BrokerError> {
        let managing = Arc::clone(&consuming.first);
        let consumers = Arc::new(Consumers::new(consuming));
        let nodes = Nodes::join(&publishing, &consumers, &statistics).await?;
        let (_, listening) = publishing.write(|writer| {
            let handler = listening::to_many(topics);
            writer.subscribe(names::MANY, AckMode::Auto, &[], handler)
        })?;
        listening.received().await?;
        Ok(Self {
            publishing,
            managing,
            consumers,
            nodes,
            statistics,
            topics: Arc::clone(topics),
            listening: Mutex::default(),
            max_message,
        })
    }

    /// Waits until no consumer of a source is left.
    async fn without_consumers(&self, source: &Source) -> Result<(), BrokerError> {
        while self.consumers_of(source).await? > 0 {
            sleep(POLL).await;
        }
        Ok(())
    }

    async fn consumers_of(&self, source: &Source) -> Result<u64, BrokerError> {
        Ok(self.statistics.of(&destination(source)).await?.consumers)
    }

    /// Ends all other consumers of the source of `inbox`, and waits until they are gone or it has
    /// ended itself.
    async fn take_over(&self, inbox: &Arc<Inbox<Handle>>) -> Result<(), BrokerError> {
        let source = &inbox.source;
        let id = self.nodes.unique();
        self.consumers.announce(inbox, &id);
        self.nodes.take_over(source, &id, false).await?;
        let mut next = Instant::now() + REMIND;
        while self.consumers_of(source).await? > 0 {
            if inbox.end_reason().is_some() {
                return Ok(());
            }
            if Instant::now() > next {
                next = Instant::now() + REMIND;
                self.nodes.take_over(source, &id, true).await?;
            }
            sleep(POLL).await;
        }
        // A newer one may have been announced: then this has ended.
        self.nodes.up_to_date().await.map(drop)
    }

    /// Throws away everything that a queue of the broker holds.
    async fn purge(&self, destination: &str) -> Result<(), BrokerError> {
        if self.statistics.of(destination).await?.depth == 0 {
            return Ok(());
        }
        let (subscription, _) = self
            .managing
            .write(|writer| writer.subscribe(destination, AckMode::Auto, &[], Box::new(drop)))?;
        while self.statistics.of(destination).await?.depth > 0 {
            sleep(POLL).await;
        }
        self.managing.write(|writer| writer.unsubscribe(subscription, &[]))?.received().await
    }

    /// Writes frames that are published whole or not at all.
    fn write(&self, frames: Vec<Frame>) -> Result<Receipt, BrokerError> {
        self.publishing.write(|writer| {
            let mut frames = frames.into_iter();
            match (frames.next(), frames.len()) {
                (Some(only), 0) => writer.send_confirmed(only),
                (first, _) => {
                    let transaction = writer.begin()?;
                    for frame in first.into_iter().chain(frames) {
                        writer.send_within(&transaction, frame)?;
                    }
                    writer.commit(transaction)
                }
            }
        })
    }

    fn flush(&self, written: &mut Written) {
        let Written { frames, pending, .. } = std::mem::take(written);
        if pending.is_empty() {
            return;
        }
        // Pending that are dropped say that nobody knows.
        let Ok(receipt) = self.write(frames) else { return };
        tokio::spawn(async move {
            let outcome = receipt.received().await;
            for one in pending {
                one.complete(outcome.clone());
            }
        });
    }
}

/// What goes into one transaction.
#[derive(Default)]
struct Written {
    frames: Vec<Frame>,
    octets: usize,
    pending: Vec<Pending>,
}

#[async_trait]
impl Link for ActiveMqLink {
    type Handle = Handle;

    fn max_message(&self) -> usize {
        self.max_message
    }

    async fn lost(&self) -> Arc<str> {
        tokio::select! {
            reason = self.publishing.lost() => reason,
            reason = self.consumers.lost() => reason,
        }
    }

    async fn publish(&self, batch: Vec<Outgoing>) {
        let Ok(registry) = self.nodes.up_to_date().await else { return };
        let mut written = Written::default();
        for outgoing in batch {
            let routed =
                routing::route_all(&read(registry), &outgoing.publishes, routing::ACTIVEMQ);
            match routed {
                Ok(frames) => {
                    let octets: usize = frames.iter().map(Frame::size).sum();
                    if written.octets + octets > TRANSACTION {
                        self.flush(&mut written);
                        self.publishing.room().await;
                    }
                    written.octets += octets;
                    written.frames.extend(frames);
                    written.pending.push(outgoing.pending);
                }
                Err(error) => outgoing.pending.complete(Err(error)),
            }
        }
        self.flush(&mut written);
        self.publishing.room().await;
    }

    async fn declare(&self, declaration: &Declaration) -> Result<(), BrokerError> {
        self.nodes.declare(&declaration.source(), &Declared::of(declaration)).await
    }

    async fn delete(&self, source: &Source) -> Result<(), BrokerError> {
        let deletion = self.nodes.delete(source).await?;
        // What is not declared may be left of a deletion that was interrupted, or be another
        // program's queue.
        if deletion.is_none() && matches!(source, Source::Queue(_)) {
            return Ok(());
        }
        self.without_consumers(source).await?;
        self.purge(&destination(source)).await?;
        match deletion {
            Some(deletion) => self.nodes.tidy(&deletion).await,
            None => Ok(()),
        }
    }

    async fn stats(&self, source: &Source, _: Held) -> Result<SourceStats, BrokerError> {
        if !read(self.nodes.up_to_date().await?).has(source) {
            return Err(BrokerError::not_declared(source));
        }
        self.statistics.of(&destination(source)).await
    }

    async fn consume(&self, inbox: &Arc<Inbox<Handle>>) -> Result<(), BrokerError> {
        let source = &inbox.source;
        let declared = read(self.nodes.up_to_date().await?).get(source);
        let declared = declared.ok_or_else(|| BrokerError::not_declared(source))?;
        inbox.set_settings(declared.settings);
        if inbox.options.takeover {
            self.take_over(inbox).await?;
        }
        match self.consumers.attach(inbox)? {
            Some(live) => live.received().await,
            None => Ok(()),
        }
    }

    async fn stop(&self, inbox: &Arc<Inbox<Handle>>) -> Result<(), BrokerError> {
        match self.consumers.detach(inbox.id)? {
            Some(gone) => gone.received().await,
            None => Ok(()),
        }
    }

    async fn settle(&self, batch: Vec<Settlement<Handle>>) -> Result<(), BrokerError> {
        self.consumers.settle(batch).await
    }

    async fn listen(&self, pattern: &Arc<str>) -> Result<(), BrokerError> {
        if lock(&self.listening).contains_key(pattern) {
            return Ok(());
        }
        let handler = listening::to_pattern(&self.topics, pattern, names::topic_of);
        let (subscription, live) = self.publishing.write(|writer| {
            let destination = names::pattern(pattern);
            writer.subscribe(&destination, AckMode::Auto, &[], handler)
        })?;
        lock(&self.listening).insert(Arc::clone(pattern), subscription);
        live.received().await
    }

    async fn unlisten(&self, pattern: &Arc<str>) -> Result<(), BrokerError> {
        let subscription = lock(&self.listening).remove(pattern);
        match subscription {
            Some(subscription) => {
                let gone = self.publishing.write(|writer| writer.unsubscribe(subscription, &[]))?;
                gone.received().await
            }
            None => Ok(()),
        }
    }

    async fn close(&self) {
        futures::join!(self.publishing.close(), self.consumers.close());
    }
}
