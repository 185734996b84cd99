//! Who is signed in on this node.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use tokio::sync::Notify;

use crate::lock::lock;
use crate::names::UserName;

/// Who is signed in on this node, counted by session.
///
/// A person goes offline a while after the last session ended, so that a page reload is no news:
/// [`leave`](Self::leave) hands out a ticket, and whoever holds it says [`expire`](Self::expire)
/// when that while is over. A session that begins in between makes the ticket worthless.
#[derive(Debug, Default)]
pub(super) struct PresenceTable {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    people: HashMap<UserName, Person>,
    /// Who came or went since the last [`PresenceTable::take`].
    changed: HashSet<UserName>,
    /// Grows at each change, which makes older tickets worthless.
    generation: u64,
}

#[derive(Debug, Default)]
struct Person {
    sessions: usize,
    online: bool,
    generation: u64,
    last_seen: u64,
}

/// The right to declare a person offline, unless a session began since.
#[derive(Debug)]
pub(crate) struct LeaveTicket {
    user: UserName,
    generation: u64,
}

/// What is to be told: who is here, and who is not any more, since when.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) here: Vec<UserName>,
    pub(super) gone: Vec<(UserName, u64)>,
}

impl PresenceTable {
    /// A session of `user` began.
    pub(super) fn enter(&self, user: &UserName) {
        let mut state = lock(&self.state);
        state.generation += 1;
        let generation = state.generation;
        let person = state.people.entry(user.clone()).or_default();
        person.sessions += 1;
        person.generation = generation;
        if !std::mem::replace(&mut person.online, true) {
            state.changed.insert(user.clone());
            self.changed.notify_one();
        }
    }

    /// A session of `user` ended at `now`. Gives a ticket if it was the last one.
    pub(super) fn leave(&self, user: &UserName, now: u64) -> Option<LeaveTicket> {
        let mut state = lock(&self.state);
        state.generation += 1;
        let generation = state.generation;
        let person = state.people.get_mut(user)?;
        person.sessions = person.sessions.saturating_sub(1);
        person.last_seen = now;
        if person.sessions > 0 {
            return None;
        }
        person.generation = generation;
        Some(LeaveTicket { user: user.clone(), generation })
    }

    /// Declares the person of the ticket offline, unless a session has begun since.
    pub(super) fn expire(&self, ticket: LeaveTicket) {
        let mut state = lock(&self.state);
        let Some(person) = state.people.get_mut(&ticket.user) else { return };
        if person.generation == ticket.generation {
            person.online = false;
            state.changed.insert(ticket.user);
            self.changed.notify_one();
        }
    }

    /// Whether the person is here.
    pub(super) fn is_online(&self, user: &UserName) -> bool {
        lock(&self.state).people.get(user).is_some_and(|person| person.online)
    }

    /// Ready when somebody came or went. Cancel safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Who came or went, at most `limit` of them; whoever is gone is forgotten here.
    pub(super) fn take(&self, limit: usize) -> Changes {
        let mut state = lock(&self.state);
        let users: Vec<UserName> = state.changed.iter().take(limit).cloned().collect();
        let mut changes = Changes::default();
        for user in users {
            state.changed.remove(&user);
            match state.people.get(&user) {
                Some(person) if person.online => changes.here.push(user),
                Some(person) => {
                    changes.gone.push((user.clone(), person.last_seen));
                    state.people.remove(&user);
                }
                None => {}
            }
        }
        if !state.changed.is_empty() {
            self.changed.notify_one();
        }
        changes
    }

    /// What was taken could not be told: it is to be told again.
    pub(super) fn put_back(&self, changes: Changes) {
        let mut state = lock(&self.state);
        state.changed.extend(changes.here);
        for (user, last_seen) in changes.gone {
            let absent = || Person { last_seen, ..Person::default() };
            state.people.entry(user.clone()).or_insert_with(absent);
            state.changed.insert(user);
        }
        self.changed.notify_one();
    }

    /// Everybody who is here is to be told anew.
    pub(super) fn tell_all(&self) {
        let mut state = lock(&self.state);
        let State { people, changed, .. } = &mut *state;
        changed.extend(people.keys().cloned());
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserName {
        UserName::new(name).unwrap()
    }

    #[test]
    fn a_person_is_online_from_the_first_session_to_a_while_after_the_last() {
        let table = PresenceTable::default();
        let bob = user("bob");
        assert!(!table.is_online(&bob));
        table.enter(&bob);
        assert_eq!(table.take(9).here.len(), 1);
        table.enter(&bob);
        assert_eq!(table.take(9), Changes::default(), "a second session is no news");
        assert!(table.leave(&bob, 1).is_none(), "one session is left");
        let reload = table.leave(&bob, 2).unwrap();
        assert!(table.is_online(&bob));
        table.enter(&bob);
        table.expire(reload);
        assert_eq!(table.take(9), Changes::default(), "back in time");
        let ticket = table.leave(&bob, 3).unwrap();
        table.expire(ticket);
        assert!(!table.is_online(&bob));
        assert_eq!(table.take(9).gone, vec![(bob.clone(), 3)]);
        table.enter(&bob);
        assert_eq!(table.take(9).here, [bob], "online again is news");
    }

    #[test]
    fn what_could_not_be_told_is_told_later_as_it_is_then() {
        let table = PresenceTable::default();
        let (bob, carol) = (user("bob"), user("carol"));
        for user in [&bob, &carol] {
            table.enter(user);
            table.expire(table.leave(user, 7).unwrap());
        }
        let gone = table.take(9);
        assert_eq!(gone.gone.len(), 2);
        table.enter(&bob);
        table.put_back(gone);
        let now = table.take(9);
        assert_eq!((now.here, now.gone), (vec![bob.clone()], vec![(carol, 7)]));
        table.tell_all();
        assert_eq!(table.take(9).here, [bob]);
    }

    #[test]
    fn a_ticket_of_a_session_long_gone_is_worthless() {
        let table = PresenceTable::default();
        let bob = user("bob");
        table.enter(&bob);
        let old = table.leave(&bob, 1).unwrap();
        table.enter(&bob);
        table.expire(table.leave(&bob, 2).unwrap());
        table.take(9);
        table.enter(&bob);
        table.expire(old);
        assert!(table.is_online(&bob));
    }
}
