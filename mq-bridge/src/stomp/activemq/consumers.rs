//! The consumers of this node, spread over a few sessions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::future::{join_all, select_all};
use stomp_codec::client::{ClientError, SubscriptionHandle};
use stomp_codec::server::AckMode;
use stomp_codec::view;

use crate::local::lock;
use crate::remote::{Inbox, Settlement, Verdict};
use crate::{BrokerError, EndReason, Source};

use super::session::{Receipt, Session, Writer};
use super::{Handle, names, wire};

/// At least one session; each consumer has its own among them.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) first: Arc<Session>,
    pub(super) more: Vec<Arc<Session>>,
}

#[derive(Debug)]
pub(super) struct Consumers {
    sessions: Sessions,
    table: Mutex<HashMap<u64, Consumer>>,
}

#[derive(Debug)]
struct Consumer {
    inbox: Arc<Inbox<Handle>>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Takes over, and waits until the others are gone. What other nodes said before its own notice
    /// does not concern it.
    Taking {
        id: Arc<str>,
        heard: bool,
    },
    Live(SubscriptionHandle),
}

/// The destination of what a source keeps.
pub(super) fn destination(source: &Source) -> String {
    match source {
        Source::Durable(name) => names::durable(name),
        Source::Queue(name) | Source::Topic(name) => names::queue(name),
    }
}

impl Sessions {
    /// That of a consumer.
    fn of(&self, inbox: u64) -> &Arc<Session> {
        // Numbers are given one after the other.
        let place = usize::try_from(inbox).unwrap_or_default() % (self.more.len() + 1);
        place.checked_sub(1).and_then(|place| self.more.get(place)).unwrap_or(&self.first)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Session>> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

impl Consumers {
    pub(super) fn new(sessions: Sessions) -> Self {
        Self { sessions, table: Mutex::default() }
    }

    /// Resolves with the reason when one of the sessions has ended.
    pub(super) async fn lost(&self) -> Arc<str> {
        select_all(self.sessions.all().map(|session| Box::pin(session.lost()))).await.0
    }

    /// Leaves in order.
    pub(super) async fn close(&self) {
        join_all(self.sessions.all().map(|session| session.close())).await;
    }

    /// Notes a consumer that takes over, under the name of its notice.
    pub(super) fn announce(&self, inbox: &Arc<Inbox<Handle>>, id: &Arc<str>) {
        let stage = Stage::Taking { id: Arc::clone(id), heard: false };
        lock(&self.table).insert(inbox.id, Consumer { inbox: Arc::clone(inbox), stage });
    }

    /// Begins to deliver, unless the inbox has ended.
    pub(super) fn attach(
        &self,
        inbox: &Arc<Inbox<Handle>>,
    ) -> Result<Option<Receipt>, BrokerError> {
        let mut table = lock(&self.table);
        if inbox.end_reason().is_some() {
            table.remove(&inbox.id);
            return Ok(None);
        }
        let prefetch = inbox.options.prefetch_messages.to_string();
        let headers = [("activemq.prefetchSize", prefetch.as_str())];
        let (epoch, receiver) = (inbox.epoch(), Arc::clone(inbox));
        let handler = move |messages: Vec<view::Message>| {
            let source = &receiver.source;
            receiver
                .push(epoch, messages.into_iter().map(|message| wire::incoming(source, message)));
        };
        let (subscription, receipt) = self.sessions.of(inbox.id).write(|writer| {
            let destination = destination(&inbox.source);
            writer.subscribe(&destination, AckMode::ClientIndividual, &headers, Box::new(handler))
        })?;
        let stage = Stage::Live(subscription);
        table.insert(inbox.id, Consumer { inbox: Arc::clone(inbox), stage });
        Ok(Some(receipt))
    }

    /// Ends to deliver; the broker gives what was not acknowledged to others, when the receipt has
    /// come.
    pub(super) fn detach(&self, inbox: u64) -> Result<Option<Receipt>, BrokerError> {
        let mut table = lock(&self.table);
        let Some(Consumer { inbox, stage }) = table.remove(&inbox) else { return Ok(None) };
        let receipt = match stage {
            Stage::Live(subscription) => {
                let session = self.sessions.of(inbox.id);
                Some(session.write(|writer| writer.unsubscribe(subscription, &[]))?)
            }
            Stage::Taking { .. } => None,
        };
        drop(table);
        // The broker has it all.
        inbox.give_back();
        Ok(receipt)
    }

    /// Another node has deleted the source.
    pub(super) fn deleted(&self, source: &Source) {
        self.end(source, &EndReason::Deleted, |_| true);
    }

    /// A consumer, on whatever node, has taken over.
    pub(super) fn taken_over(&self, source: &Source, by: &Arc<str>, again: bool) {
        self.end(source, &EndReason::TakenOver, |stage| match stage {
            Stage::Taking { id, heard } if id == by => {
                *heard = true;
                false
            }
            Stage::Taking { heard, .. } => *heard && !again,
            Stage::Live(_) => true,
        });
    }

    fn end(&self, source: &Source, reason: &EndReason, mut ends: impl FnMut(&mut Stage) -> bool) {
        let mut ended = Vec::new();
        for consumer in lock(&self.table).values_mut() {
            if consumer.inbox.source == *source && ends(&mut consumer.stage) {
                ended.push(Arc::clone(&consumer.inbox));
            }
        }
        for inbox in ended {
            inbox.end(reason.clone());
            // The receipt tells nobody anything, and a lost session ends it as well.
            let _ = self.detach(inbox.id);
        }
    }

    /// Acknowledges, or gives back one by one. Deliveries of consumers that are gone are passed
    /// over.
    pub(super) async fn settle(&self, batch: Vec<Settlement<Handle>>) -> Result<(), BrokerError> {
        let receipts = self.settling(&batch)?;
        for receipt in receipts {
            receipt.received().await?;
        }
        Ok(())
    }

    fn settling(&self, batch: &[Settlement<Handle>]) -> Result<Vec<Receipt>, BrokerError> {
        let table = lock(&self.table);
        let mut receipts = Vec::new();
        for session in self.sessions.all() {
            // Still known: what others held is not theirs any more.
            let own: Vec<_> = batch
                .iter()
                .filter(|one| table.contains_key(&one.inbox.id))
                .filter(|one| Arc::ptr_eq(self.sessions.of(one.inbox.id), session))
                .collect();
            if !own.is_empty() {
                receipts.extend(session.write(|writer| settle(writer, &own))?);
            }
        }
        Ok(receipts)
    }
}

/// Settles deliveries of one session. The receipts that it gives tell of all.
fn settle(
    writer: &mut Writer<'_>,
    batch: &[&Settlement<Handle>],
) -> Result<Vec<Receipt>, ClientError> {
    let with = |verdict: Verdict| batch.iter().filter(move |one| one.verdict == verdict);
    let mut receipts = Vec::new();
    let mut done = with(Verdict::Ack).flat_map(|one| &one.handles).peekable();
    while let Some(message) = done.next() {
        if done.peek().is_some() {
            writer.ack(message)?;
        } else {
            receipts.push(writer.ack_confirmed(message)?);
        }
    }
    for one in with(Verdict::Requeue) {
        let destination = destination(&one.inbox.source);
        for message in &one.handles {
            // A NACK would dead-letter it.
            let transaction = writer.begin()?;
            writer.send_within(&transaction, wire::again(&destination, message))?;
            writer.ack_within(&transaction, message)?;
            receipts.push(writer.commit(transaction)?);
        }
    }
    Ok(receipts)
}
