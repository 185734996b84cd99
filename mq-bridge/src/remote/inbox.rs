//! One consumer of a queue or durable subscription: what its link pushes, what its reader takes.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use tokio::sync::{Mutex as AsyncMutex, Notify};

use crate::local::{Counters, Settings, lock};
use crate::{
    DeadLetterReason, Delivery, Derived, EndReason, Message, Source, SubscribeOptions, Target,
};

/// The most deliveries of one batch, so that a reader that was away yields now and then.
const BATCH: usize = 1024;

/// A message as the broker delivers it to an [`Inbox`].
#[derive(Debug)]
pub(crate) struct Incoming<H> {
    /// What settling it needs.
    pub(crate) handle: H,
    pub(crate) message: Message,
    /// The queue or topic that it was published to.
    pub(crate) target: Target,
    /// Whether it may have been delivered before, or was published as redelivered.
    pub(crate) redelivered: bool,
    /// How often it has been delivered, this time included; 1 or 2 where the broker does not count.
    pub(crate) delivery_count: u32,
    pub(crate) dead_letter: Option<DeadLetterReason>,
}

/// The place that a link delivers to
///
/// A link may push as much as `prefetch_messages` allows and no more: what was pushed and is not
/// settled counts. It either lets the broker keep that count, or asks for [`room`](Self::room).
pub(crate) struct Inbox<H> {
    /// Names it among all of this bridge.
    pub(crate) id: u64,
    pub(crate) source: Source,
    /// With a prefetch of at least one message and one octet.
    pub(crate) options: SubscribeOptions,
    state: Mutex<State<H>>,
    /// Told when room may have grown, and when the inbox has ended.
    changed: Notify,
    /// The epoch of the link that delivers here. Held while the link is told, so that consuming and
    /// its end do not overtake each other.
    pub(super) attached: AsyncMutex<Option<u64>>,
    /// Whether a link that is lost has delivered here.
    pub(super) returning: AtomicBool,
    stopping: AtomicBool,
    gone: AtomicBool,
    /// Calls whose dead letters are on their way.
    burying: AtomicUsize,
    counters: Arc<Counters>,
}

struct State<H> {
    /// Which link pushes: a number that grows with each.
    epoch: u64,
    waiting: VecDeque<Incoming<H>>,
    waiting_bytes: usize,
    unacked: BTreeMap<u64, Held<H>>,
    unacked_bytes: usize,
    last_tag: u64,
    settings: Settings,
    generation: String,
    ended: Option<EndReason>,
    waker: Option<Waker>,
}

/// A delivery that the reader has and has not settled.
struct Held<H> {
    handle: H,
    cost: usize,
    /// Kept for a dead letter.
    message: Message,
    target: Target,
}

/// What the reader settles.
pub(super) struct Settled<H> {
    pub(super) epoch: u64,
    pub(super) handle: H,
    pub(super) message: Message,
    pub(super) target: Target,
}

/// What a poll found.
pub(super) struct Taken<H> {
    pub(super) deliveries: Vec<Delivery>,
    /// To be acknowledged: nobody wants them any more.
    pub(super) expired: Vec<H>,
    /// Delivered as often as is allowed.
    pub(super) dead: Vec<Settled<H>>,
    pub(super) epoch: u64,
}

impl<H> Inbox<H> {
    pub(super) fn new(
        id: u64,
        source: Source,
        mut options: SubscribeOptions,
        counters: Arc<Counters>,
    ) -> Self {
        options.prefetch_messages = options.prefetch_messages.max(1);
        options.prefetch_bytes = options.prefetch_bytes.max(1);
        let state = State {
            epoch: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            unacked: BTreeMap::new(),
            unacked_bytes: 0,
            last_tag: 0,
            settings: Settings::default(),
            generation: String::new(),
            ended: None,
            waker: None,
        };
        Self {
            id,
            source,
            options,
            state: Mutex::new(state),
            changed: Notify::new(),
            attached: AsyncMutex::default(),
            returning: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            burying: AtomicUsize::new(0),
            counters,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<H>> {
        lock(&self.state)
    }

    /// Hands deliveries to the reader. What a lost link pushes belatedly is passed over: the
    /// broker delivers it again. `epoch` is what [`epoch`](Self::epoch) gave when the link began to
    /// consume.
    pub(crate) fn push(&self, epoch: u64, deliveries: impl IntoIterator<Item = Incoming<H>>) {
        let mut state = self.state();
        if state.epoch != epoch || state.ended.is_some() {
            return;
        }
        for delivery in deliveries {
            state.waiting_bytes += delivery.message.cost();
            state.waiting.push_back(delivery);
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The number of the link that may push now.
    pub(crate) fn epoch(&self) -> u64 {
        self.state().epoch
    }

    /// Whether a link that is lost has delivered here: the broker may still count that one's consumer.
    pub(crate) fn is_returning(&self) -> bool {
        self.returning.load(Relaxed)
    }

    /// When and where messages of its source are dead-lettered, as a declaration says; links that
    /// keep that with the broker tell it when they begin to consume.
    pub(crate) fn set_settings(&self, settings: Settings) {
        self.state().settings = settings;
    }

    pub(super) fn settings(&self) -> Settings {
        self.state().settings.clone()
    }

    /// What the broker called this consumer's turn among takeovers, to be told again by the links to
    /// come; empty until [`set_generation`](Self::set_generation).
    pub(crate) fn generation(&self) -> String {
        self.state().generation.clone()
    }

    pub(crate) fn set_generation(&self, generation: &str) {
        generation.clone_into(&mut self.state().generation);
    }

    /// How many octets may be pushed now, at least one: a hint for links that can bound what they
    /// fetch.
    pub(crate) fn room_bytes(&self) -> usize {
        let state = self.state();
        let pushed = state.waiting_bytes.saturating_add(state.unacked_bytes);
        self.options.prefetch_bytes.saturating_sub(pushed).max(1)
    }

    /// How many messages may be pushed now, for links that fetch. None while the octets of what
    /// was pushed and is not settled reach the prefetch in octets.
    pub(crate) fn room(&self) -> usize {
        let state = self.state();
        let pushed = state.waiting.len() + state.unacked.len();
        let bytes = state.waiting_bytes.saturating_add(state.unacked_bytes);
        if state.ended.is_some() || (pushed > 0 && bytes >= self.options.prefetch_bytes) {
            return 0;
        }
        (self.options.prefetch_messages as usize).saturating_sub(pushed)
    }

    /// Waits until there is room, and gives how much; `None` when the inbox has ended or another
    /// link has taken it.
    ///
    /// Cancel safe.
    pub(crate) async fn wait_for_room(&self, epoch: u64) -> Option<usize> {
        loop {
            let changed = self.changed.notified();
            if self.end_reason().is_some() || self.epoch() != epoch {
                return None;
            }
            match self.room() {
                0 => changed.await,
                room => return Some(room),
            }
        }
    }

    /// Ends it: the reader gets nothing more and settles nothing more. The first reason counts. A
    /// link that ends it because of what the broker said (deleted, taken over on another node)
    /// [gives back](Self::give_back) what is left, if it can, before.
    pub(crate) fn end(&self, reason: EndReason) {
        let mut state = self.state();
        state.ended.get_or_insert(reason);
        let waker = state.waker.take();
        drop(state);
        self.changed.notify_waiters();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes out, in the order of their delivery, what was pushed and is not settled; nothing can be
    /// pushed any more. For a link that has stopped to deliver.
    pub(crate) fn give_back(&self) -> Vec<H> {
        let mut state = self.state();
        // No link has this epoch.
        state.epoch = u64::MAX;
        let unacked = std::mem::take(&mut state.unacked).into_values().map(|held| held.handle);
        let waiting = std::mem::take(&mut state.waiting).into_iter().map(|one| one.handle);
        let handles = unacked.chain(waiting).collect();
        state.forget();
        handles
    }

    /// Why it ended; `None` while it lives.
    pub(crate) fn end_reason(&self) -> Option<EndReason> {
        self.state().ended.clone()
    }

    /// A new link takes over: what the old one pushed is delivered again, and settlements of it
    /// are passed over.
    pub(super) fn begin(&self, epoch: u64) {
        let mut state = self.state();
        if state.epoch != epoch && state.ended.is_none() {
            state.epoch = epoch;
            state.forget();
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// Whether its end is to be told to the link now: once.
    pub(super) fn begin_stopping(&self) -> bool {
        !self.stopping.swap(true, Relaxed)
    }

    /// Dead letters are on their way, until what this gives is dropped.
    pub(super) fn bury(self: &Arc<Self>) -> Burial<H> {
        self.burying.fetch_add(1, Relaxed);
        Burial(Arc::clone(self))
    }

    /// Waits until no dead letters are on their way.
    pub(super) async fn buried(&self) {
        loop {
            let changed = self.changed.notified();
            if self.burying.load(Relaxed) == 0 {
                return;
            }
            changed.await;
        }
    }

    /// The link has nothing to do with it any more.
    pub(super) fn is_gone(&self) {
        self.gone.store(true, Relaxed);
        self.changed.notify_waiters();
    }

    /// Waits until the link has nothing to do with it any more.
    pub(super) async fn gone(&self) {
        loop {
            let changed = self.changed.notified();
            if self.gone.load(Relaxed) {
                return;
            }
            changed.await;
        }
    }

    /// Pushed and not settled.
    pub(super) fn held(&self) -> u64 {
        let state = self.state();
        (state.waiting.len() + state.unacked.len()) as u64
    }

    /// What the reader may have now.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Taken<H>>> {
        let mut state = self.state();
        if state.ended.is_some() {
            return Poll::Ready(None);
        }
        let mut taken = Taken {
            deliveries: Vec::new(),
            expired: Vec::new(),
            dead: Vec::new(),
            epoch: state.epoch,
        };
        let mut now = None;
        while taken.deliveries.len() < BATCH
            && state.unacked.len() < self.options.prefetch_messages as usize
            && state.unacked_bytes < self.options.prefetch_bytes
        {
            let Some(next) = state.waiting.pop_front() else { break };
            let cost = next.message.cost();
            state.waiting_bytes -= cost;
            if next.message.expires.is_some()
                && next.message.is_expired(*now.get_or_insert_with(SystemTime::now))
            {
                taken.expired.push(next.handle);
                continue;
            }
            if state.settings.max_deliveries.is_some_and(|max| next.delivery_count > max.get()) {
                let Incoming { handle, message, target, .. } = next;
                taken.dead.push(Settled { epoch: state.epoch, handle, message, target });
                continue;
            }
            taken.deliveries.push(state.hand_out(next, cost));
        }
        if taken.is_empty() {
            match &mut state.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        drop(state);
        if !taken.expired.is_empty() || !taken.dead.is_empty() {
            self.changed.notify_waiters();
            Counters::add(&self.counters.expired, taken.expired.len());
        }
        Counters::add(&self.counters.delivered, taken.deliveries.len());
        let repeats = taken.deliveries.iter().filter(|one| one.redelivered).count();
        Counters::add(&self.counters.redelivered, repeats);
        Poll::Ready(Some(taken))
    }

    /// Takes out what the reader settles; tags that are not known are passed over.
    pub(super) fn settle(&self, tags: &[u64]) -> Vec<Settled<H>> {
        let mut state = self.state();
        let mut settled = Vec::with_capacity(tags.len());
        if state.ended.is_some() {
            return settled;
        }
        let epoch = state.epoch;
        for tag in tags {
            if let Some(Held { handle, cost, message, target }) = state.unacked.remove(tag) {
                state.unacked_bytes -= cost;
                settled.push(Settled { epoch, handle, message, target });
            }
        }
        // Octets that were taken up may let a delivery out that waits here already.
        let waker = if state.waiting.is_empty() { None } else { state.waker.take() };
        drop(state);
        self.changed.notify_waiters();
        if let Some(waker) = waker {
            waker.wake();
        }
        settled
    }
}

/// Dead letters of an inbox that are on their way.
pub(super) struct Burial<H>(Arc<Inbox<H>>);

impl<H> Drop for Burial<H> {
    fn drop(&mut self) {
        self.0.burying.fetch_sub(1, Relaxed);
        self.0.changed.notify_waiters();
    }
}

impl<H> Taken<H> {
    fn is_empty(&self) -> bool {
        self.deliveries.is_empty() && self.expired.is_empty() && self.dead.is_empty()
    }
}

impl<H> State<H> {
    fn hand_out(&mut self, incoming: Incoming<H>, cost: usize) -> Delivery {
        let Incoming { handle, message, target, redelivered, delivery_count, dead_letter } =
            incoming;
        self.last_tag += 1;
        self.unacked_bytes += cost;
        let held = Held { handle, cost, message: message.clone(), target: target.clone() };
        self.unacked.insert(self.last_tag, held);
        Delivery {
            tag: self.last_tag,
            message,
            target,
            redelivered,
            delivery_count,
            dead_letter,
            derived: Derived::new(),
        }
    }

    fn forget(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.unacked.clear();
        self.unacked_bytes = 0;
    }
}

impl<H> fmt::Debug for Inbox<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("source", &self.source).finish_non_exhaustive()
    }
}
