use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures::Stream;
use mq_bridge::{Delivery, EndReason};

use crate::feed::FeedItem;
use crate::lock::lock;
use crate::outgoing::Outgoing;
use crate::sessions::Stalled;

/// What comes to a session for one of its subscriptions.
#[derive(Debug)]
pub(super) enum Input {
    /// Messages of a queue, an inbox or a durable subscription: to be settled.
    Deliveries(Vec<Delivery>),
    /// What came live through the hub: a signal where the subscription is an inbox.
    Live(FeedItem),
    /// A part of a timeline, in order and without a hole.
    Timeline(Vec<Arc<Outgoing>>),
    /// The subscription delivers no more.
    Ended(Ended),
}

/// Why a subscription delivers no more.
#[derive(Debug)]
pub(super) enum Ended {
    Broker(Option<EndReason>),
    /// The subscriber was too slow and its destination's policy is to disconnect.
    TooSlow,
    /// The subscriber was too slow, and the store does not have what it missed.
    Missed,
    /// What it gives could not be read.
    Failed(crate::error::GatewayError),
}

type BoxInput = Pin<Box<dyn Stream<Item = Input> + Send>>;

/// The stream of one subscription within the session, with its key. Its other end, the
/// [`InputHandle`], drops the stream at once: what was not acknowledged is back in its queue
/// before the client hears that the subscription has ended.
#[derive(Debug)]
pub(super) struct KeyedInput {
    key: u64,
    slot: Arc<Mutex<Slot>>,
}

struct Slot {
    stream: Option<BoxInput>,
    /// Nothing is taken from the stream for now.
    paused: bool,
    /// Counts the paused ones of the session.
    stalled: Stalled,
    waker: Option<Waker>,
}

impl Slot {
    fn set_paused(&mut self, paused: bool) {
        match (self.paused, paused) {
            (false, true) => self.stalled.enter(),
            (true, false) => self.stalled.leave(),
            _ => {}
        }
        self.paused = paused;
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("live", &self.stream.is_some()).finish_non_exhaustive()
    }
}

/// Ends the input when dropped.
#[derive(Debug)]
pub(super) struct InputHandle(Arc<Mutex<Slot>>);

pub(super) fn keyed(
    key: u64,
    stream: impl Stream<Item = Input> + Send + 'static,
    stalled: Stalled,
) -> (KeyedInput, InputHandle) {
    let stream: Option<BoxInput> = Some(Box::pin(stream));
    let slot = Arc::new(Mutex::new(Slot { stream, paused: false, stalled, waker: None }));
    (KeyedInput { key, slot: Arc::clone(&slot) }, InputHandle(slot))
}

impl Stream for KeyedInput {
    type Item = (u64, Input);

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut slot = lock(&self.slot);
        if slot.paused && slot.stream.is_some() {
            slot.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let Some(stream) = &mut slot.stream else { return Poll::Ready(None) };
        match stream.as_mut().poll_next(cx) {
            Poll::Ready(Some(input)) => Poll::Ready(Some((self.key, input))),
            Poll::Ready(None) => {
                slot.stream = None;
                Poll::Ready(None)
            }
            Poll::Pending => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl InputHandle {
    /// Pauses the input, or lets it go on.
    pub(super) fn pause(&self, paused: bool) {
        let mut slot = lock(&self.0);
        slot.set_paused(paused);
        let waker = if paused { None } else { slot.waker.take() };
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for InputHandle {
    fn drop(&mut self) {
        let (stream, waker) = {
            let mut slot = lock(&self.0);
            slot.set_paused(false);
            (slot.stream.take(), slot.waker.take())
        };
        drop(stream);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
