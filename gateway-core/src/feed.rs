use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use futures::Stream;
use mq_bridge::Overflow;

use crate::lock::lock;
use crate::outgoing::Outgoing;

/// The bounds of what may wait for one subscriber.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FeedLimits {
    pub(crate) bytes: usize,
    pub(crate) overflow: Overflow,
}

/// Messages that come out of a feed at once, at most: no more than a subscription that is acknowledged
/// has places for beyond its prefetch.
const BATCH: usize = 128;

/// What comes out of a feed.
#[derive(Debug)]
pub(crate) enum FeedItem {
    /// One or more, in order.
    Messages(VecDeque<Arc<Outgoing>>),
    /// So many messages were dropped here, because the subscriber was too slow.
    Lagged(u64),
}

/// The queue between the fan-out of a topic and one subscriber: bounded in bytes, never blocking
/// the sender. Its two ends are the feed itself and the [`FeedReader`].
#[derive(Debug)]
pub(crate) struct Feed {
    limits: FeedLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Arc<Outgoing>>,
    bytes: usize,
    /// Dropped since the reader was last told.
    lagged: u64,
    closed: bool,
    /// It was closed because the subscriber was too slow.
    overflowed: bool,
    waker: Option<Waker>,
}

impl Feed {
    pub(crate) fn new(limits: FeedLimits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default() })
    }

    /// Offers messages. Gives how many messages were dropped by that.
    pub(crate) fn push(&self, messages: &[Arc<Outgoing>]) -> u64 {
        let mut state = self.lock();
        let dropped = messages.iter().map(|message| state.push(message, &self.limits)).sum();
        wake(state);
        dropped
    }

    /// Tells the reader that so many messages were lost before they came here.
    pub(crate) fn lag(&self, lost: u64) {
        if lost > 0 {
            let mut state = self.lock();
            state.lagged += lost;
            wake(state);
        }
    }

    /// Ends the feed: the reader gets what waits, then the end.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        wake(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// Takes a message in. Gives how many messages were dropped by that.
    fn push(&mut self, message: &Arc<Outgoing>, limits: &FeedLimits) -> u64 {
        if self.closed {
            return u64::from(self.overflowed);
        }
        let mut dropped = 0;
        if self.bytes + message.bytes() > limits.bytes && !self.queue.is_empty() {
            match limits.overflow {
                Overflow::DropNewest => {
                    self.lagged += 1;
                    return 1;
                }
                Overflow::Disconnect => {
                    let dropped = self.queue.len() as u64 + 1;
                    let waker = self.waker.take();
                    *self = Self { closed: true, overflowed: true, waker, ..Self::default() };
                    return dropped;
                }
                _ => {
                    while self.bytes + message.bytes() > limits.bytes {
                        let Some(oldest) = self.queue.pop_front() else { break };
                        self.bytes -= oldest.bytes();
                        dropped += 1;
                    }
                    self.lagged += dropped;
                }
            }
        }
        self.bytes += message.bytes();
        self.queue.push_back(Arc::clone(message));
        dropped
    }
}

/// Wakes outside of the lock: the woken task takes it at once.
fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The subscriber's end of a [`Feed`].
#[derive(Debug)]
pub(crate) struct FeedReader(pub(crate) Arc<Feed>);

impl FeedReader {
    /// Whether the feed has ended because this reader was too slow.
    pub(crate) fn overflowed(&self) -> bool {
        self.0.lock().overflowed
    }
}

impl Stream for FeedReader {
    type Item = FeedItem;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<FeedItem>> {
        let mut state = self.0.lock();
        if state.lagged > 0 {
            return Poll::Ready(Some(FeedItem::Lagged(std::mem::take(&mut state.lagged))));
        }
        if state.queue.len() > BATCH {
            let batch: VecDeque<_> = state.queue.drain(..BATCH).collect();
            state.bytes -= batch.iter().map(|message| message.bytes()).sum::<usize>();
            return Poll::Ready(Some(FeedItem::Messages(batch)));
        }
        if !state.queue.is_empty() {
            state.bytes = 0;
            // With its buffer: a feed that waits holds none.
            return Poll::Ready(Some(FeedItem::Messages(std::mem::take(&mut state.queue))));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}
