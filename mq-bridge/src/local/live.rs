//! Subscribers of a topic that keep nothing: a bounded buffer each.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use crate::{Delivery, DeliverySource, EndReason, Message, Overflow, SubscribeOptions, Target};

use super::{Counters, lock};

/// The most deliveries of one batch, so that a reader that was away yields now and then.
const BATCH: usize = 1024;

/// One live subscriber of a topic pattern.
pub(crate) struct Live {
    pub(crate) id: u64,
    pub(crate) pattern: Arc<str>,
    limit: usize,
    overflow: Overflow,
    counters: Arc<Counters>,
    buffer: Mutex<Buffer>,
}

#[derive(Default)]
struct Buffer {
    waiting: VecDeque<Delivery>,
    bytes: usize,
    last_tag: u64,
    dropped: u64,
    ended: Option<EndReason>,
    waker: Option<Waker>,
}

impl Live {
    pub(crate) fn new(
        id: u64,
        pattern: Arc<str>,
        options: &SubscribeOptions,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            id,
            pattern,
            limit: options.buffer_bytes,
            overflow: options.overflow,
            counters,
            buffer: Mutex::default(),
        }
    }

    /// Hands a message to the subscriber as its overflow policy allows.
    pub(crate) fn push(&self, message: &Message, target: &Target, redelivered: bool) {
        let cost = message.cost();
        let mut buffer = lock(&self.buffer);
        if buffer.ended.is_some() {
            return;
        }
        let mut dropped = 0;
        if buffer.bytes + cost > self.limit {
            match self.overflow {
                Overflow::DropOldest => {
                    while buffer.bytes + cost > self.limit {
                        let Some(oldest) = buffer.waiting.pop_front() else { break };
                        buffer.bytes -= oldest.message.cost();
                        dropped += 1;
                    }
                }
                Overflow::DropNewest => {}
                Overflow::Disconnect => buffer.ended = Some(EndReason::Overflow),
            }
        }
        if buffer.bytes + cost > self.limit {
            dropped += 1;
        } else {
            buffer.last_tag += 1;
            buffer.bytes += cost;
            let mut delivery = Delivery::new(buffer.last_tag, message.clone(), target.clone());
            delivery.redelivered = redelivered;
            buffer.waiting.push_back(delivery);
        }
        buffer.dropped += dropped as u64;
        let waker = buffer.waker.take();
        drop(buffer);
        if dropped > 0 {
            Counters::add(&self.counters.dropped, dropped);
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends the subscription after what waits already.
    pub(crate) fn end(&self, reason: EndReason) {
        let mut buffer = lock(&self.buffer);
        buffer.ended.get_or_insert(reason);
        let waker = buffer.waker.take();
        drop(buffer);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("pattern", &self.pattern).finish_non_exhaustive()
    }
}

/// The stream of a [`Live`] subscriber; `on_drop` takes it off the routing table.
pub(crate) struct LiveSubscription<F: Fn(&Live)> {
    pub(crate) live: Arc<Live>,
    pub(crate) on_drop: F,
}

impl<F: Fn(&Live) + Send + Sync + Unpin + 'static> DeliverySource for LiveSubscription<F> {
    fn poll_batch(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Vec<Delivery>>> {
        let mut buffer = lock(&self.live.buffer);
        if buffer.waiting.is_empty() {
            if buffer.ended.is_some() {
                return Poll::Ready(None);
            }
            match &mut buffer.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        let count = buffer.waiting.len().min(BATCH);
        let batch: Vec<Delivery> = buffer.waiting.drain(..count).collect();
        buffer.bytes -= batch.iter().map(|delivery| delivery.message.cost()).sum::<usize>();
        drop(buffer);
        Counters::add(&self.live.counters.delivered, batch.len());
        Poll::Ready(Some(batch))
    }

    fn end_reason(&self) -> Option<EndReason> {
        lock(&self.live.buffer).ended.clone()
    }

    fn dropped(&self) -> u64 {
        lock(&self.live.buffer).dropped
    }
}

impl<F: Fn(&Live)> Drop for LiveSubscription<F> {
    fn drop(&mut self) {
        (self.on_drop)(&self.live);
    }
}

impl<F: Fn(&Live)> fmt::Debug for LiveSubscription<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.live.fmt(f)
    }
}
