use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Mutex;

use crate::lock::lock;
use crate::names::UserName;

/// Whether a person is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Presence {
    /// At least one session is signed in.
    Online,
    /// No session is.
    Offline {
        /// When the last session ended, in milliseconds since 1970 (UTC); `None` if this process
        /// has not seen one.
        last_seen: Option<u64>,
    },
}

/// Who is signed in on this node, counted by session.
///
/// A person goes offline a while after the last session ended, so that a page reload is no news:
/// [`leave`](Self::leave) hands out a ticket, and whoever holds it says [`expire`](Self::expire)
/// when that while is over. A session that begins in between makes the ticket worthless.
#[derive(Debug, Default)]
pub(crate) struct PresenceTable {
    people: Mutex<HashMap<UserName, Person>>,
}

#[derive(Debug, Default)]
struct Person {
    sessions: usize,
    online: bool,
    /// Grows at each change, which makes older tickets worthless.
    generation: u64,
    last_seen: Option<u64>,
}

/// The right to declare a person offline, unless a session began since.
#[derive(Debug)]
pub(crate) struct LeaveTicket {
    user: UserName,
    generation: u64,
}

impl PresenceTable {
    /// A session of `user` began. Tells whether the person came online by that.
    pub(crate) fn enter(&self, user: &UserName) -> bool {
        let mut people = lock(&self.people);
        let person = people.entry(user.clone()).or_default();
        person.sessions += 1;
        person.generation += 1;
        !std::mem::replace(&mut person.online, true)
    }

    /// A session of `user` ended at `now`. Gives a ticket if it was the last one.
    pub(crate) fn leave(&self, user: &UserName, now: u64) -> Option<LeaveTicket> {
        let mut people = lock(&self.people);
        let person = people.get_mut(user)?;
        person.sessions = person.sessions.saturating_sub(1);
        person.last_seen = Some(now);
        if person.sessions > 0 {
            return None;
        }
        person.generation += 1;
        Some(LeaveTicket { user: user.clone(), generation: person.generation })
    }

    /// Declares the person of the ticket offline. Gives when the last session ended, or `None`
    /// if a session has begun since.
    pub(crate) fn expire(&self, ticket: LeaveTicket) -> Option<u64> {
        let mut people = lock(&self.people);
        let Entry::Occupied(mut entry) = people.entry(ticket.user) else { return None };
        let person = entry.get_mut();
        if person.generation != ticket.generation {
            return None;
        }
        person.online = false;
        person.last_seen
    }

    pub(crate) fn get(&self, user: &UserName) -> Presence {
        let people = lock(&self.people);
        match people.get(user) {
            Some(person) if person.online => Presence::Online,
            person => Presence::Offline { last_seen: person.and_then(|person| person.last_seen) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_online_from_the_first_session_to_a_while_after_the_last() {
        let table = PresenceTable::default();
        let bob = UserName::new("bob").unwrap();
        assert_eq!(table.get(&bob), Presence::Offline { last_seen: None });
        assert!(table.enter(&bob));
        assert!(!table.enter(&bob), "a second session is no news");
        assert!(table.leave(&bob, 1).is_none(), "one session is left");
        let reload = table.leave(&bob, 2).unwrap();
        assert_eq!(table.get(&bob), Presence::Online);
        assert!(!table.enter(&bob), "back in time");
        assert_eq!(table.expire(reload), None);
        let ticket = table.leave(&bob, 3).unwrap();
        assert_eq!(table.expire(ticket), Some(3));
        assert_eq!(table.get(&bob), Presence::Offline { last_seen: Some(3) });
        assert!(table.enter(&bob), "online again is news");
    }
}
