//! Subscriptions of the bridge: each follows one on the server, and begins another when the server
//! was gone.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use futures::StreamExt;
use mq_bridge::{
    Acker, Broker, BrokerError, Confirm, Delivery, DeliverySource, EndReason, Nack, Settle, Source,
    SubscribeOptions, Subscription,
};
use tokio::sync::mpsc;

use super::{Fault, Shared};

pub(super) async fn subscribe(
    shared: &Arc<Shared>,
    epoch: u64,
    source: Source,
    mut options: SubscribeOptions,
) -> Result<Subscription, BrokerError> {
    if shared.is(Fault::TakesOverOnlyHere) && !shared.first {
        options.takeover = false;
    }
    let subscription = shared.server.inner.subscribe(source.clone(), options).await?;
    options.takeover = false;
    let id = shared.last_id.fetch_add(1, Relaxed) + 1;
    shared.attached.lock().unwrap().insert(id, epoch);
    let consumer = Arc::new(Consumer {
        id,
        shared: Arc::clone(shared),
        source,
        options,
        desk: Mutex::new(Desk { there: Some(subscription), ..Desk::default() }),
    });
    let (sender, batches) = mpsc::channel(1);
    tokio::spawn(Arc::clone(&consumer).pump(epoch, sender));
    let acker = Acker::new(RemoteAcker(Arc::clone(&consumer)));
    Ok(Subscription::new(RemoteStream { consumer, batches }, acker))
}

#[derive(Debug)]
struct Consumer {
    id: u64,
    shared: Arc<Shared>,
    source: Source,
    options: SubscribeOptions,
    desk: Mutex<Desk>,
}

#[derive(Debug, Default)]
struct Desk {
    /// The subscription on the server.
    there: Option<Subscription>,
    /// Tags of here to those of there.
    tags: HashMap<u64, u64>,
    last_tag: u64,
    ended: Option<EndReason>,
}

type Batch = (u64, Vec<Delivery>);

impl Consumer {
    fn is_topic(&self) -> bool {
        matches!(self.source, Source::Topic(_))
    }

    async fn pump(self: Arc<Self>, mut epoch: u64, sender: mpsc::Sender<Batch>) {
        let mut stopped = self.shared.stopped.subscribe();
        loop {
            let reason = tokio::select! {
                reason = self.follow(epoch, &sender) => reason,
                () = sender.closed() => None,
                _ = stopped.wait_for(|stopped| *stopped) => Some(EndReason::ShutDown),
            };
            let lost = !self.shared.server.is_up(epoch) && reason.is_none();
            let there = {
                let mut desk = self.desk.lock().unwrap();
                desk.tags.clear();
                desk.ended = reason;
                desk.there.take()
            };
            if self.shared.is(Fault::HoldsForTheDead) {
                std::mem::forget(there);
            } else {
                drop(there);
            }
            if !lost || sender.is_closed() {
                self.shared.attached.lock().unwrap().remove(&self.id);
                return;
            }
            let forgets = match self.shared.fault {
                Fault::ForgetsConsumers => !self.is_topic(),
                Fault::ForgetsSubscribers => self.is_topic(),
                _ => false,
            };
            if forgets {
                self.shared.attached.lock().unwrap().remove(&self.id);
                sender.closed().await;
                return;
            }
            epoch = self.shared.server.usable().await;
            let again = self.shared.server.inner.subscribe(self.source.clone(), self.options).await;
            {
                let mut desk = self.desk.lock().unwrap();
                match again {
                    Ok(there) => desk.there = Some(there),
                    Err(_) => desk.ended = Some(EndReason::Deleted),
                }
            }
            let mut attached = self.shared.attached.lock().unwrap();
            if self.desk.lock().unwrap().ended.is_some() {
                attached.remove(&self.id);
                return;
            }
            attached.insert(self.id, epoch);
        }
    }

    /// Hands on what comes, until the connection is lost (`None`) or the subscription ends.
    async fn follow(&self, epoch: u64, sender: &mpsc::Sender<Batch>) -> Option<EndReason> {
        let silent = match self.shared.fault {
            Fault::IsolatesNodes => !self.shared.first && self.is_topic(),
            Fault::StarvesNodes => !self.shared.first,
            _ => false,
        };
        let handing = async {
            loop {
                let room = sender.reserve().await.ok()?;
                if silent {
                    std::future::pending().await
                }
                let batch = poll_fn(|cx| match &mut self.desk.lock().unwrap().there {
                    Some(there) => there.poll_next_unpin(cx),
                    None => Poll::Ready(None),
                });
                match batch.await {
                    Some(batch) => room.send((epoch, self.enter(batch))),
                    None if self.shared.is(Fault::DeafToDeletion) => std::future::pending().await,
                    None => return self.desk.lock().unwrap().there.as_ref()?.end_reason(),
                }
            }
        };
        tokio::select! {
            biased;
            () = self.shared.server.lost(epoch) => None,
            reason = handing => reason,
        }
    }

    fn enter(&self, mut batch: Vec<Delivery>) -> Vec<Delivery> {
        let desk = &mut *self.desk.lock().unwrap();
        for one in &mut batch {
            desk.last_tag += 1;
            desk.tags.insert(desk.last_tag, one.tag);
            one.tag = desk.last_tag;
            if self.shared.is(Fault::UnmarksTheDead) {
                one.redelivered = false;
            }
        }
        batch
    }
}

#[derive(Debug)]
struct RemoteStream {
    consumer: Arc<Consumer>,
    batches: mpsc::Receiver<Batch>,
}

impl DeliverySource for RemoteStream {
    fn poll_batch(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Vec<Delivery>>> {
        loop {
            let Some((epoch, batch)) = ready!(self.batches.poll_recv(cx)) else {
                return Poll::Ready(None);
            };
            // What came before the connection was lost comes again.
            if self.consumer.shared.server.is_up(epoch) {
                return Poll::Ready(Some(batch));
            }
        }
    }

    fn end_reason(&self) -> Option<EndReason> {
        self.consumer.desk.lock().unwrap().ended.clone()
    }

    fn dropped(&self) -> u64 {
        let dropped =
            self.consumer.desk.lock().unwrap().there.as_ref().map_or(0, Subscription::dropped);
        self.consumer.shared.dropped.store(dropped, Relaxed);
        dropped
    }
}

impl Drop for RemoteStream {
    fn drop(&mut self) {
        let desk = &mut *self.consumer.desk.lock().unwrap();
        desk.tags.clear();
        let there = desk.there.take();
        if self.consumer.shared.is(Fault::HoldsForTheDead) {
            std::mem::forget(there);
        }
    }
}

#[derive(Debug)]
struct RemoteAcker(Arc<Consumer>);

impl RemoteAcker {
    fn settle(&self, tags: &[u64], nack: Option<Nack>) -> Confirm {
        let Consumer { shared, desk, .. } = &*self.0;
        let desk = &mut *desk.lock().unwrap();
        let there: Vec<u64> = tags.iter().filter_map(|tag| desk.tags.remove(tag)).collect();
        let Some(acker) = desk.there.as_ref().map(Subscription::acker) else {
            return Confirm::ready(Ok(()));
        };
        if !shared.server.state.borrow().up {
            return Confirm::ready(Ok(()));
        }
        match nack {
            None if shared.is(Fault::CopiesToNodes) && !shared.first => {
                acker.nack(&there, Nack::Requeue)
            }
            None => acker.ack(&there),
            Some(what) => acker.nack(&there, what),
        }
    }
}

impl Settle for RemoteAcker {
    fn ack(&self, tags: &[u64]) -> Confirm {
        self.settle(tags, None)
    }

    fn nack(&self, tags: &[u64], what: Nack) -> Confirm {
        self.settle(tags, Some(what))
    }
}
