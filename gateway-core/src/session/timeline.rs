//! A conversation's messages in order: from the store, then live, without a hole.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};

use super::input::{Ended, Input};
use crate::feed::{FeedItem, FeedReader};
use crate::gateway::Inner;
use crate::hub::HubSubscription;
use crate::names::ConversationId;
use crate::outgoing::{self, Outgoing};
use crate::store::Page;

/// Messages read from the store at a time.
const PAGE: usize = 100;
/// Octets read from the store at a time.
const PAGE_OCTETS: usize = 1024 * 1024;

struct Timeline {
    inner: Arc<Inner>,
    conversation: ConversationId,
    _subscription: HubSubscription,
    live: FeedReader,
    /// The `seq` of the last message that was given out.
    last: u64,
    /// Whether the store has to be read before the next live message.
    behind: bool,
    /// Live messages that arrived out of step, to be given out once the store was read.
    waiting: VecDeque<(u64, Arc<Outgoing>)>,
}

/// The timeline after `last`. It replays from the store what it must, then goes live; whenever a
/// live message shows a hole, because this subscriber was slow, it reads the store again.
pub(super) fn timeline(
    inner: Arc<Inner>,
    conversation: ConversationId,
    subscription: HubSubscription,
    live: FeedReader,
    last: u64,
    replay: bool,
) -> impl Stream<Item = Input> + Send {
    let timeline = Timeline {
        inner,
        conversation,
        _subscription: subscription,
        live,
        last,
        behind: replay,
        waiting: VecDeque::new(),
    };
    stream::unfold(Some(timeline), async |timeline| timeline?.next().await)
}

impl Timeline {
    async fn next(mut self) -> Option<(Input, Option<Self>)> {
        loop {
            if self.behind {
                let page = Page::after(self.last, PAGE).with_max_octets(PAGE_OCTETS);
                let mut page = match self.inner.read(&self.conversation, page).await {
                    Ok(page) => page,
                    Err(error) => return Some((Input::Ended(Ended::Failed(error)), None)),
                };
                // What is not stored, or not all of it, comes live if at all.
                let whole = (self.last + 1..).zip(&page);
                let whole = whole.take_while(|(seq, next)| next.seq == *seq && next.is_whole());
                page.truncate(whole.count());
                let Some(last) = page.last() else {
                    self.behind = false;
                    continue;
                };
                self.last = last.seq;
                let messages = page
                    .iter()
                    .map(|message| Arc::new(Outgoing::new(outgoing::from_stored(message))))
                    .collect();
                return Some((Input::Timeline(messages), Some(self)));
            }
            if let Some((seq, message)) = self.waiting.pop_front() {
                if seq > self.last + 1 {
                    // Neither here nor in the store: the subscriber must know.
                    return Some((Input::Ended(Ended::Missed), None));
                }
                if seq > self.last {
                    self.last = seq;
                    return Some((Input::Timeline(vec![message]), Some(self)));
                }
                continue;
            }
            match self.live.next().await {
                Some(FeedItem::Messages(messages)) => {
                    let mut next = Vec::new();
                    for message in messages {
                        let Some(seq) = outgoing::seq_of(message.message()) else { continue };
                        self.behind |= seq > self.last + 1;
                        if self.behind {
                            self.waiting.push_back((seq, message));
                        } else if seq > self.last {
                            self.last = seq;
                            next.push(message);
                        }
                    }
                    if !next.is_empty() {
                        return Some((Input::Timeline(next), Some(self)));
                    }
                }
                Some(FeedItem::Lagged(_)) => self.behind = true,
                None => return Some((Input::Ended(Ended::Broker(None)), None)),
            }
        }
    }
}
