//! The consumers of this node, spread over a few sessions.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use futures::future::{join_all, select_all};
use stomp_codec::server::AckMode;
use stomp_codec::view;
use tokio::sync::Mutex as AsyncMutex;

use crate::local::lock;
use crate::remote::{Inbox, Settlement, Verdict};
use crate::{BrokerError, EndReason, Source};

use super::notice::Turn;
use super::parking::{Parked, Parking};
use super::session::Receipt;
use super::{Handle, names, wire};

#[derive(Debug)]
pub(super) struct Consumers {
    /// At least one; each consumer has its own among them.
    sessions: Vec<Parking>,
    table: Mutex<HashMap<u64, Consumer>>,
}

#[derive(Debug)]
struct Consumer {
    inbox: Arc<Inbox<Handle>>,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Takes over, and waits until the others have let go.
    Taking(Turn),
    Live(Arc<Live>),
}

#[derive(Debug)]
struct Live {
    open: Arc<Mutex<Open>>,
    /// Taken when it ends, and held until all is given back.
    parked: AsyncMutex<Option<Parked>>,
}

/// What the broker has delivered and nobody has settled, by the numbers of the connection.
#[derive(Debug, Default)]
struct Open {
    messages: BTreeMap<u64, Handle>,
    ended: bool,
}

impl Consumers {
    pub(super) fn new(sessions: Vec<Parking>) -> Self {
        Self { sessions, table: Mutex::default() }
    }

    fn session(&self, inbox: u64) -> Result<&Parking, BrokerError> {
        // Numbers are given one after the other.
        let place = usize::try_from(inbox).unwrap_or_default() % self.sessions.len().max(1);
        let none = || BrokerError::Disconnected { reason: "closed".into() };
        self.sessions.get(place).ok_or_else(none)
    }

    /// Resolves with the reason when one of the sessions has ended.
    pub(super) async fn lost(&self) -> Arc<str> {
        select_all(self.sessions.iter().map(|one| Box::pin(one.session.lost()))).await.0
    }

    /// Leaves in order.
    pub(super) async fn close(&self) {
        join_all(self.sessions.iter().map(|one| one.session.close())).await;
    }

    /// Notes a consumer that takes over.
    pub(super) fn announce(&self, inbox: &Arc<Inbox<Handle>>, turn: Turn) {
        let consumer = Consumer { inbox: Arc::clone(inbox), stage: Stage::Taking(turn) };
        lock(&self.table).insert(inbox.id, consumer);
    }

    /// Begins to deliver, unless the inbox has ended.
    pub(super) async fn attach(&self, inbox: &Arc<Inbox<Handle>>) -> Result<(), BrokerError> {
        let queue = names::queue(&inbox.source)?;
        let prefetch = inbox.options.prefetch_messages.min(u16::MAX.into()).to_string();
        let mut headers = vec![("prefetch-count", prefetch.as_str())];
        headers.extend(names::kept(&queue));
        let open = Arc::<Mutex<Open>>::default();
        let live = Arc::new(Live { open: Arc::clone(&open), parked: AsyncMutex::new(None) });
        // Who ends it meanwhile waits for this.
        let mut parked = live.parked.lock().await;
        {
            let mut table = lock(&self.table);
            if inbox.end_reason().is_some() {
                table.remove(&inbox.id);
                return Ok(());
            }
            let stage = Stage::Live(Arc::clone(&live));
            table.insert(inbox.id, Consumer { inbox: Arc::clone(inbox), stage });
        }
        let (epoch, receiver) = (inbox.epoch(), Arc::clone(inbox));
        let handler = move |messages: Vec<view::Message>| {
            let deliveries = messages.into_iter().map(|one| wire::incoming(&receiver.source, one));
            let deliveries: Vec<_> = deliveries.collect();
            let handles = deliveries.iter().map(|one| &one.handle);
            lock(&open).messages.extend(handles.map(|one| (number(one), Arc::clone(one))));
            receiver.push(epoch, deliveries);
        };
        let session = self.session(inbox.id)?;
        let ack = AckMode::ClientIndividual;
        let made = session.subscribe(names::UNUSED, ack, &headers, Box::new(handler)).await?;
        *parked = Some(made);
        Ok(())
    }

    /// Ends to deliver, and gives back what is not settled; who comes later waits for it.
    pub(super) async fn detach(&self, inbox: u64) -> Result<(), BrokerError> {
        let live = {
            let mut table = lock(&self.table);
            match table.get(&inbox).map(|consumer| consumer.stage.clone()) {
                None => return Ok(()),
                Some(Stage::Taking(_)) => {
                    table.remove(&inbox);
                    return Ok(());
                }
                Some(Stage::Live(live)) => {
                    // Nothing is settled from here on.
                    lock(&live.open).ended = true;
                    live
                }
            }
        };
        let session = self.session(inbox)?;
        let mut parked = live.parked.lock().await;
        if let Some(ending) = parked.take() {
            let late = Arc::clone(&live.open);
            let handler = move |messages: Vec<view::Message>| {
                let messages = messages.into_iter().map(Arc::new);
                lock(&late).messages.extend(messages.map(|one| (number(&one), one)));
            };
            let ack = AckMode::ClientIndividual;
            let ended = session.end(ending, ack, Box::new(handler)).await?;
            let held = std::mem::take(&mut lock(&live.open).messages);
            session.session.write(|writer| held.values().try_for_each(|one| writer.nack(one)))?;
            session.forget(ended).await?;
        }
        if let Some(consumer) = lock(&self.table).remove(&inbox) {
            consumer.inbox.give_back();
        }
        Ok(())
    }

    /// Another node has deleted the source: gives those that are to be detached.
    pub(super) fn deleted(&self, source: &Source) -> Vec<u64> {
        self.end(source, &EndReason::Deleted, |_| true)
    }

    /// Another node takes over: gives those that are to be detached, and when the last of those did
    /// so that stay.
    pub(super) fn let_go(
        &self,
        source: &Source,
        by: (Turn, &Arc<str>),
        node: &Arc<str>,
    ) -> (Vec<u64>, Option<Turn>) {
        let mut later = None;
        let ending = self.end(source, &EndReason::TakenOver, |consumer| match &consumer.stage {
            Stage::Taking(turn) => (*turn, node) < by,
            Stage::Live(_) => match consumer.inbox.generation().parse::<Turn>() {
                Ok(turn) if (turn, node) > by => {
                    later = later.max(Some(turn));
                    false
                }
                _ => true,
            },
        });
        (ending, later)
    }

    fn end(
        &self,
        source: &Source,
        reason: &EndReason,
        mut ends: impl FnMut(&Consumer) -> bool,
    ) -> Vec<u64> {
        let ending: Vec<_> = lock(&self.table)
            .values()
            .filter(|consumer| consumer.inbox.source == *source && ends(consumer))
            .map(|consumer| Arc::clone(&consumer.inbox))
            .collect();
        ending.iter().for_each(|inbox| inbox.end(reason.clone()));
        ending.iter().map(|inbox| inbox.id).collect()
    }

    /// Acknowledges, or gives back one by one. Deliveries of consumers that are gone are passed
    /// over.
    pub(super) async fn settle(&self, batch: Vec<Settlement<Handle>>) -> Result<(), BrokerError> {
        for receipt in self.settling(&batch)? {
            receipt.received().await?;
        }
        Ok(())
    }

    fn settling(&self, batch: &[Settlement<Handle>]) -> Result<Vec<Receipt>, BrokerError> {
        let mut receipts = Vec::new();
        // Held until it is written, which so comes before the end of a consumer.
        let table = lock(&self.table);
        for session in &self.sessions {
            let mut settled = Vec::new();
            for one in batch {
                if !std::ptr::eq(self.session(one.inbox.id)?, session) {
                    continue;
                }
                let Some(Consumer { stage: Stage::Live(live), .. }) = table.get(&one.inbox.id)
                else {
                    continue;
                };
                let mut open = lock(&live.open);
                if !open.ended {
                    let known =
                        one.handles.iter().filter_map(|one| open.messages.remove(&number(one)));
                    settled.extend(known.map(|message| (message, one.verdict)));
                }
            }
            let Some((last, verdict)) = settled.pop() else { continue };
            receipts.push(session.session.write(|writer| {
                for (message, verdict) in &settled {
                    match verdict {
                        Verdict::Ack => writer.ack(message)?,
                        Verdict::Requeue => writer.nack(message)?,
                    }
                }
                match verdict {
                    Verdict::Ack => writer.ack_confirmed(&last),
                    Verdict::Requeue => writer.nack_confirmed(&last),
                }
            })?);
        }
        Ok(receipts)
    }
}

/// The number of a delivery on its connection: the end of what acknowledges it.
fn number(message: &view::Message) -> u64 {
    let id = message.header("ack").unwrap_or_default();
    id.rsplit("@@").next().and_then(|number| number.parse().ok()).unwrap_or_default()
}
