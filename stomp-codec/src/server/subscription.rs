use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::{AckMode, SubscriptionId};
use crate::{ByteStr, Transmit};

/// What a client names a subscription by
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Id(ByteStr),
    /// 1.0, where `id` is optional
    Destination(ByteStr),
}

/// One live subscription and what was delivered in it
#[derive(Debug)]
pub(super) struct Subscription<T> {
    pub(super) id: SubscriptionId,
    pub(super) ack: AckMode,
    /// Command and `subscription` header of every MESSAGE.
    pub(super) head: Arc<Bytes>,
    pub(super) window: usize,
    /// Messages held back until the RECEIPT of SUBSCRIBE has left.
    pub(super) held: Option<VecDeque<Transmit>>,
    /// By ascending number; settled ones in between stay until they come to the front, or outnumber
    /// the others.
    deliveries: VecDeque<Delivery<T>>,
    unacked: usize,
}

#[derive(Debug)]
struct Delivery<T> {
    number: u64,
    /// None in 1.2, where `ack` names the delivery.
    message_id: Option<Arc<str>>,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    Unsettled(T),
    /// An open transaction holds the token.
    Staged,
    Settled,
}

/// Deliveries that one ACK or NACK covers, with their numbers
pub(super) type Covered<T> = Vec<(u64, T)>;

impl<T> Subscription<T> {
    pub(super) const fn unacked(&self) -> usize {
        self.unacked
    }

    /// How many more messages may be delivered now
    pub(super) const fn room(&self) -> usize {
        match self.ack {
            AckMode::Auto => usize::MAX,
            AckMode::Client | AckMode::ClientIndividual => self.window.saturating_sub(self.unacked),
        }
    }

    pub(super) fn delivered(&mut self, number: u64, message_id: Option<Arc<str>>, token: T) {
        self.unacked += 1;
        self.deliveries.push_back(Delivery { number, message_id, state: State::Unsettled(token) });
    }

    pub(super) fn find_number(&self, number: u64) -> Option<usize> {
        let index = self.deliveries.binary_search_by_key(&number, |it| it.number).ok()?;
        self.is_unsettled(index).then_some(index)
    }

    pub(super) fn find_message(&self, message_id: &str) -> Option<usize> {
        self.deliveries.iter().position(|delivery| {
            matches!(delivery.state, State::Unsettled(_))
                && delivery.message_id.as_deref() == Some(message_id)
        })
    }

    fn is_unsettled(&self, index: usize) -> bool {
        self.deliveries.get(index).is_some_and(|it| matches!(it.state, State::Unsettled(_)))
    }

    /// Takes the tokens that an ACK or NACK of the delivery at `index` covers
    ///
    /// They stay counted as unacknowledged until [`Subscription::settle`].
    pub(super) fn cover(&mut self, index: usize) -> Covered<T> {
        let first = if self.ack == AckMode::Client { 0 } else { index };
        let mut covered = Vec::new();
        for delivery in self.deliveries.range_mut(first..=index) {
            if matches!(delivery.state, State::Unsettled(_)) {
                if let State::Unsettled(token) =
                    std::mem::replace(&mut delivery.state, State::Staged)
                {
                    covered.push((delivery.number, token));
                }
            }
        }
        covered
    }

    /// Forgets deliveries whose tokens were taken
    pub(super) fn settle(&mut self, numbers: impl Iterator<Item = u64>) {
        for number in numbers {
            if let Ok(index) = self.deliveries.binary_search_by_key(&number, |it| it.number) {
                if let Some(delivery) = self.deliveries.get_mut(index) {
                    delivery.state = State::Settled;
                    self.unacked -= 1;
                }
            }
        }
        let settled = |delivery: &Delivery<T>| matches!(delivery.state, State::Settled);
        while self.deliveries.front().is_some_and(settled) {
            self.deliveries.pop_front();
        }
        if self.deliveries.len() > 2 * self.unacked + 16 {
            self.deliveries.retain(|delivery| !settled(delivery));
        }
    }

    /// Gives back tokens that were taken and not settled
    pub(super) fn restore(&mut self, covered: Covered<T>) {
        for (number, token) in covered {
            if let Ok(index) = self.deliveries.binary_search_by_key(&number, |it| it.number) {
                if let Some(delivery) = self.deliveries.get_mut(index) {
                    delivery.state = State::Unsettled(token);
                }
            }
        }
    }

    /// The tokens of all unsettled deliveries, in order
    pub(super) fn into_tokens(self) -> impl Iterator<Item = T> {
        self.deliveries.into_iter().filter_map(|delivery| match delivery.state {
            State::Unsettled(token) => Some(token),
            State::Staged | State::Settled => None,
        })
    }
}

/// The live subscriptions of a session
#[derive(Debug)]
pub(super) struct Subscriptions<T> {
    slots: Vec<Option<Subscription<T>>>,
    free: Vec<usize>,
    by_key: HashMap<Key, usize>,
    next_number: u64,
}

impl<T> Subscriptions<T> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), by_key: HashMap::new(), next_number: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.by_key.contains_key(key)
    }

    /// Adds a subscription under a key that is not in use
    pub(super) fn insert(
        &mut self,
        key: Key,
        ack: AckMode,
        head: Bytes,
        window: usize,
    ) -> SubscriptionId {
        let slot = self.free.pop().unwrap_or_else(|| {
            // Many sessions have one, and never another.
            if self.slots.is_empty() {
                self.slots.reserve_exact(1);
            }
            self.slots.push(None);
            self.slots.len() - 1
        });
        let name = match &key {
            Key::Id(name) => Some(name.clone()),
            Key::Destination(_) => None,
        };
        let id = SubscriptionId { number: self.next_number, slot, name };
        self.next_number += 1;
        self.by_key.insert(key, slot);
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(Subscription {
                id: id.clone(),
                ack,
                head: Arc::new(head),
                window,
                held: None,
                deliveries: VecDeque::new(),
                unacked: 0,
            });
        }
        id
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Subscription<T>> {
        let slot = self.by_key.remove(key)?;
        let subscription = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        Some(subscription)
    }

    pub(super) fn get(&self, id: &SubscriptionId) -> Option<&Subscription<T>> {
        self.slot(id.slot).filter(|subscription| subscription.id == *id)
    }

    pub(super) fn get_mut(&mut self, id: &SubscriptionId) -> Option<&mut Subscription<T>> {
        self.at(id.slot, id.number)
    }

    pub(super) fn at(&mut self, slot: usize, number: u64) -> Option<&mut Subscription<T>> {
        self.slot_mut(slot).filter(|subscription| subscription.id.number == number)
    }

    pub(super) fn slot(&self, slot: usize) -> Option<&Subscription<T>> {
        self.slots.get(slot)?.as_ref()
    }

    pub(super) fn slot_mut(&mut self, slot: usize) -> Option<&mut Subscription<T>> {
        self.slots.get_mut(slot)?.as_mut()
    }

    pub(super) fn find(&self, key: &Key) -> Option<&Subscription<T>> {
        self.slot(*self.by_key.get(key)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Subscription<T>> {
        self.slots.iter().flatten()
    }

    /// Ends all of them
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Subscription<T>> + use<T> {
        self.by_key.clear();
        self.free.clear();
        std::mem::take(&mut self.slots).into_iter().flatten()
    }
}
