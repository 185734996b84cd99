//! A consumer of a group, as the subscription and the acker that the caller holds.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::{
    Acker, BrokerError, Confirm, DeadLetterReason, Delivery, DeliverySource, EndReason, Nack,
    Settle, SubscribeOptions, Subscription,
};

use super::group::Seat;
use super::{Counters, Group, Keeper, lock};

/// Starts to consume a group.
pub(crate) fn consume(
    group: &Arc<Group>,
    options: &SubscribeOptions,
    keeper: &Arc<dyn Keeper>,
    counters: &Arc<Counters>,
) -> Result<Subscription, BrokerError> {
    // Ended between the lookup and now: deleted, or shut down.
    let seat = group.attach(options).map_err(|reason| match reason {
        EndReason::ShutDown => BrokerError::ShutDown,
        _ => group.not_declared(),
    })?;
    let member = Arc::new(Member {
        group: Arc::clone(group),
        keeper: Arc::clone(keeper),
        counters: Arc::clone(counters),
        seat,
    });
    let acker = Acker::new(MemberAcker { member: Arc::clone(&member) });
    Ok(Subscription::new(MemberStream { member }, acker))
}

#[derive(Debug)]
struct Member {
    group: Arc<Group>,
    keeper: Arc<dyn Keeper>,
    counters: Arc<Counters>,
    seat: Seat,
}

#[derive(Debug)]
struct MemberStream {
    member: Arc<Member>,
}

impl DeliverySource for MemberStream {
    fn poll_batch(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Vec<Delivery>>> {
        let Member { group, keeper, counters, seat, .. } = &*self.member;
        let Some(taken) = group.take(seat.consumer, cx.waker()) else {
            return Poll::Ready(None);
        };
        if !taken.recount.is_empty() {
            keeper.recount(group, taken.recount);
        }
        if !taken.expired.is_empty() {
            keeper.expired(group, taken.expired);
        }
        if !taken.dead.is_empty() {
            Counters::add(&counters.dead_lettered, taken.dead.len());
            // Tried until it succeeds; nobody waits for it.
            drop(keeper.dead_letter(group, taken.dead, DeadLetterReason::MaxDeliveries));
        }
        if let Some(generation) = taken.fetch {
            keeper.fetch(group, generation);
        }
        if taken.deliveries.is_empty() {
            return Poll::Pending;
        }
        Counters::add(&counters.delivered, taken.deliveries.len());
        let repeats = taken.deliveries.iter().filter(|one| one.redelivered).count();
        Counters::add(&counters.redelivered, repeats);
        Poll::Ready(Some(taken.deliveries))
    }

    fn end_reason(&self) -> Option<EndReason> {
        lock(&self.member.seat.ending).clone()
    }

    fn dropped(&self) -> u64 {
        0
    }
}

impl Drop for MemberStream {
    fn drop(&mut self) {
        let member = &*self.member;
        member.group.detach(member.seat.consumer, &*member.keeper);
    }
}

#[derive(Debug)]
struct MemberAcker {
    member: Arc<Member>,
}

impl Settle for MemberAcker {
    fn ack(&self, tags: &[u64]) -> Confirm {
        self.settle(tags, None)
    }

    fn nack(&self, tags: &[u64], what: Nack) -> Confirm {
        self.settle(tags, Some(what))
    }
}

impl MemberAcker {
    fn settle(&self, tags: &[u64], nack: Option<Nack>) -> Confirm {
        let Member { group, keeper, counters, seat } = &*self.member;
        let (entries, fetch) = group.settle(seat.consumer, tags);
        if entries.is_empty() {
            return Confirm::ready(Ok(()));
        }
        let confirm = match nack {
            None => {
                Counters::add(&counters.acked, entries.len());
                keeper.settled(group, entries)
            }
            Some(Nack::Requeue) => {
                group.requeue(entries);
                Confirm::ready(Ok(()))
            }
            Some(Nack::DeadLetter) => {
                Counters::add(&counters.dead_lettered, entries.len());
                keeper.dead_letter(group, entries, DeadLetterReason::Rejected)
            }
        };
        if let Some(generation) = fetch {
            keeper.fetch(group, generation);
        }
        confirm
    }
}
