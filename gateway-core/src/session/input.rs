use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use mq_bridge::{Delivery, EndReason};

use crate::feed::FeedItem;
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

/// What comes for one subscription.
pub(super) type BoxInput = Pin<Box<dyn Stream<Item = Input> + Send>>;

/// The input of one subscription, as long as it gives something.
///
/// Dropping it drops the stream at once: what was not acknowledged is back in its queue before the client hears
/// that the subscription has ended.
pub(super) struct SubscriberInput {
    stream: Option<BoxInput>,
    /// Nothing is taken from the stream for now.
    paused: bool,
    /// Counts the paused ones of the session.
    stalled: Stalled,
}

impl SubscriberInput {
    pub(super) const fn new(stream: BoxInput, stalled: Stalled) -> Self {
        Self { stream: Some(stream), paused: false, stalled }
    }

    /// Pauses the input, or lets it go on: then it has to be polled. Whether that is another state than before.
    pub(super) fn pause(&mut self, paused: bool) -> bool {
        match (self.paused, paused) {
            (false, true) => self.stalled.enter(),
            (true, false) => self.stalled.leave(),
            _ => return false,
        }
        self.paused = paused;
        true
    }

    /// What comes next. Pending while it is paused and once it has ended, and then wakes nobody.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        let stream = self.stream.as_mut().filter(|_| !self.paused);
        match stream.map(|stream| stream.as_mut().poll_next(cx)) {
            Some(Poll::Ready(Some(input))) => return Poll::Ready(input),
            Some(Poll::Ready(None)) => self.stream = None,
            Some(Poll::Pending) | None => {}
        }
        Poll::Pending
    }
}

impl Drop for SubscriberInput {
    fn drop(&mut self) {
        self.pause(false);
    }
}
