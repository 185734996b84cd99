//! What this bridge did over links that are lost.
//!
//! A server writes down a little later what it has delivered and what was acknowledged; one that is
//! killed in between has forgotten it. So the bridge remembers: what was acknowledged is not
//! delivered again, what was delivered is marked and counted.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use async_nats::Subject;

use crate::local::lock;

/// The most acknowledgements of a link that are remembered: far more than the servers take in the
/// tenth of a second after which they have written them down.
const RECENT: usize = 16_384;
/// The most deliveries of lost links that are remembered.
const KNOWN: usize = 65_536;

/// A delivery, as the server names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// The message's place in its stream.
    pub(super) seq: u64,
    /// When it came there: tells it from one with the same place in a stream that was made anew.
    pub(super) time: u64,
    /// How often it was delivered, this time included.
    pub(super) count: u32,
    /// Where to settle it.
    pub(super) reply: Subject,
}

impl Ticket {
    /// Reads the subject that a delivery is settled at.
    pub(super) fn read(reply: &Subject) -> Option<Self> {
        // $JS.ACK, then on newer servers perhaps domain and account, then stream, consumer, count,
        // place, place of the delivery, time, how many wait, and perhaps something random.
        let tokens: Vec<&str> = reply.split('.').collect();
        let first = match tokens.as_slice() {
            ["$JS", "ACK", rest @ ..] if rest.len() == 7 => 2,
            ["$JS", "ACK", rest @ ..] if rest.len() >= 9 => 4,
            _ => return None,
        };
        let number = |index: usize| tokens.get(first + index)?.parse::<u64>().ok();
        Some(Self {
            count: u32::try_from(number(2)?).unwrap_or(u32::MAX),
            seq: number(3)?,
            time: number(5)?,
            reply: reply.clone(),
        })
    }
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was acknowledged, and the server had confirmed that.
    Acknowledged,
    /// It was delivered so often, and not settled.
    Delivered(u32),
}

/// The consumer and the place in its stream.
type Key = (Arc<str>, u64);

#[derive(Debug, Default)]
pub(super) struct Memory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Acknowledged over the link of now.
    recent: VecDeque<(Arc<str>, Ticket)>,
    /// Given back over the link of now.
    returned: VecDeque<(Arc<str>, Ticket)>,
    /// Over links that are lost.
    known: HashMap<Key, (u64, Fate)>,
    order: VecDeque<Key>,
    /// To be given back as soon as there is a link, in this order.
    held: BTreeMap<Key, Subject>,
    /// To be acknowledged again then.
    acknowledged: VecDeque<(Arc<str>, Ticket)>,
    /// When the streams that all this is about were made.
    made: Vec<String>,
}

impl Memory {
    /// The server has confirmed acknowledgements of `consumer`.
    pub(super) fn acknowledged(
        &self,
        consumer: &Arc<str>,
        tickets: impl IntoIterator<Item = Ticket>,
    ) {
        let mut state = lock(&self.state);
        for ticket in tickets {
            if state.recent.len() == RECENT {
                state.recent.pop_front();
            }
            state.recent.push_back((Arc::clone(consumer), ticket));
        }
    }

    /// The server has confirmed that it has these back. It keeps their order only until it stops.
    pub(super) fn given_back(
        &self,
        consumer: &Arc<str>,
        tickets: impl IntoIterator<Item = Ticket>,
    ) {
        let returned = &mut lock(&self.state).returned;
        for ticket in tickets {
            if returned.len() == RECENT {
                returned.pop_front();
            }
            returned.push_back((Arc::clone(consumer), ticket));
        }
    }

    /// The link is lost while `consumer` has this.
    pub(super) fn held(&self, consumer: &Arc<str>, ticket: Ticket) {
        let mut state = lock(&self.state);
        state.hold((Arc::clone(consumer), ticket.seq), ticket);
    }

    /// The link is lost; all that was held is told.
    pub(super) fn link_lost(&self) {
        let state = &mut *lock(&self.state);
        for (consumer, ticket) in std::mem::take(&mut state.returned) {
            state.hold((consumer, ticket.seq), ticket);
        }
        for (consumer, ticket) in std::mem::take(&mut state.recent) {
            let key = (Arc::clone(&consumer), ticket.seq);
            state.held.remove(&key);
            state.know(key, ticket.time, Fate::Acknowledged);
            state.acknowledged.push_back((consumer, ticket));
        }
        let excess = state.acknowledged.len().saturating_sub(RECENT);
        state.acknowledged.drain(..excess);
    }

    /// Where the next link gives back and acknowledges: nowhere if the streams, which were made at
    /// these times, are not those that this was about.
    pub(super) fn to_settle(&self, made: Vec<String>) -> (Vec<Subject>, Vec<Subject>) {
        let mut state = lock(&self.state);
        if state.made != made {
            *state = State { made, ..State::default() };
        }
        let acknowledged = state.acknowledged.iter().map(|(_, ticket)| ticket.reply.clone());
        (state.held.values().cloned().collect(), acknowledged.collect())
    }

    /// That was done, over the link of now: whether the server has written it down when it is killed
    /// again, nobody knows.
    pub(super) fn settled(&self) {
        let state = &mut *lock(&self.state);
        state.held.clear();
        let mut again = std::mem::take(&mut state.acknowledged);
        again.append(&mut state.recent);
        again.drain(..again.len().saturating_sub(RECENT));
        state.recent = again;
    }

    /// What is to be made of a delivery, if there was an earlier one of the same message over a lost
    /// link: it is acknowledged, or it has another count than the server says.
    pub(super) fn fate(&self, consumer: &Arc<str>, ticket: &Ticket) -> Option<Fate> {
        let mut state = lock(&self.state);
        if state.known.is_empty() {
            return None;
        }
        let (time, fate) = state.known.get_mut(&(Arc::clone(consumer), ticket.seq))?;
        if let Fate::Delivered(count) = fate {
            *count = ticket.count.max(count.saturating_add(1));
        }
        (*time == ticket.time).then_some(*fate)
    }
}

impl State {
    fn hold(&mut self, key: Key, ticket: Ticket) {
        let count = match self.known.get(&key) {
            Some((time, Fate::Delivered(count))) if *time == ticket.time => {
                ticket.count.max(*count)
            }
            _ => ticket.count,
        };
        self.held.insert(key.clone(), ticket.reply);
        self.know(key, ticket.time, Fate::Delivered(count));
    }

    fn know(&mut self, key: Key, time: u64, fate: Fate) {
        if self.known.insert(key.clone(), (time, fate)).is_none() {
            self.order.push_back(key);
            if self.order.len() > KNOWN
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
                self.held.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(seq: u64, count: u32) -> Ticket {
        let reply = format!("$JS.ACK.mq-queues.jobs.{count}.{seq}.9.{}.0", seq + 1000);
        Ticket::read(&Subject::from(reply)).unwrap()
    }

    #[test]
    fn both_forms_of_a_ticket_are_read() {
        let one = ticket(7, 2);
        assert_eq!((one.seq, one.count, one.time), (7, 2, 1007));
        let long = Subject::from("$JS.ACK.hub.ACCT.mq-queues.jobs.3.8.9.1008.5.random");
        let two = Ticket::read(&long).unwrap();
        assert_eq!((two.seq, two.count, two.time), (8, 3, 1008));
        for other in ["_INBOX.x", "$JS.ACK.a.b.c", "$JS.ACK.a.b.x.1.2.3.4"] {
            assert_eq!(Ticket::read(&Subject::from(other)), None);
        }
    }

    #[test]
    fn only_what_a_lost_link_did_is_remembered_and_by_its_time() {
        let memory = Memory::default();
        let consumer: Arc<str> = "q.jobs".into();
        let made = || vec!["today".to_owned()];
        assert_eq!(memory.to_settle(made()), (vec![], vec![]));
        memory.acknowledged(&consumer, [ticket(1, 1)]);
        assert_eq!(memory.fate(&consumer, &ticket(1, 1)), None);
        memory.held(&consumer, ticket(3, 1));
        memory.held(&consumer, ticket(2, 4));
        memory.given_back(&consumer, [ticket(2, 3), ticket(1, 1), ticket(4, 1)]);
        memory.link_lost();
        assert_eq!(memory.fate(&consumer, &ticket(1, 1)), Some(Fate::Acknowledged));
        assert_eq!(memory.fate(&consumer, &ticket(2, 1)), Some(Fate::Delivered(5)));
        assert_eq!(memory.fate(&consumer, &ticket(2, 9)), Some(Fate::Delivered(9)));
        assert_eq!(memory.fate(&"q.other".into(), &ticket(1, 1)), None);
        let anew = Ticket { time: 5, ..ticket(1, 1) };
        assert_eq!(memory.fate(&consumer, &anew), None);
        let (held, acknowledged) = memory.to_settle(made());
        assert_eq!(held, [ticket(2, 3).reply, ticket(3, 1).reply, ticket(4, 1).reply]);
        assert_eq!(acknowledged, [ticket(1, 1).reply]);
        memory.settled();
        assert_eq!(memory.to_settle(made()), (vec![], vec![]));
        assert_eq!(memory.fate(&consumer, &ticket(3, 1)), Some(Fate::Delivered(2)));
        // The next link may be lost before the server has written down what it was told again.
        memory.link_lost();
        assert_eq!(memory.to_settle(made()), (vec![], vec![ticket(1, 1).reply]));
        memory.to_settle(vec!["tomorrow".to_owned()]);
        assert_eq!(memory.fate(&consumer, &ticket(2, 1)), None);
    }

    #[test]
    fn it_is_bounded() {
        let memory = Memory::default();
        let consumer: Arc<str> = "q.jobs".into();
        for seq in 0..KNOWN as u64 + 100 {
            memory.held(&consumer, ticket(seq, 1));
            memory.acknowledged(&consumer, [ticket(seq, 1)]);
        }
        let state = lock(&memory.state);
        assert_eq!((state.known.len(), state.order.len()), (KNOWN, KNOWN));
        assert_eq!((state.held.len(), state.recent.len()), (KNOWN, RECENT));
    }
}
