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

/// What comes out of a feed.
#[derive(Debug)]
pub(crate) enum FeedItem {
    Message(Arc<Outgoing>),
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

    /// Offers a message. Gives how many messages were dropped by that.
    pub(crate) fn push(&self, message: &Arc<Outgoing>) -> u64 {
        let mut state = self.lock();
        if state.closed {
            return 0;
        }
        let mut dropped = 0;
        if state.bytes + message.bytes() > self.limits.bytes && !state.queue.is_empty() {
            match self.limits.overflow {
                Overflow::DropNewest => {
                    state.lagged += 1;
                    return 1;
                }
                Overflow::Disconnect => {
                    dropped = state.queue.len() as u64 + 1;
                    *state = State {
                        closed: true,
                        overflowed: true,
                        waker: state.waker.take(),
                        ..State::default()
                    };
                }
                _ => {
                    while state.bytes + message.bytes() > self.limits.bytes {
                        let Some(oldest) = state.queue.pop_front() else { break };
                        state.bytes -= oldest.bytes();
                        dropped += 1;
                    }
                    state.lagged += dropped;
                }
            }
        }
        if !state.closed {
            state.bytes += message.bytes();
            state.queue.push_back(Arc::clone(message));
        }
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
        if let Some(message) = state.queue.pop_front() {
            state.bytes -= message.bytes();
            return Poll::Ready(Some(FeedItem::Message(message)));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
