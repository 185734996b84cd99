//! Who is signed in on this node.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use tokio::sync::Notify;

use crate::lock::lock;
use crate::names::UserName;

/// How somebody stands on one node, from the least to the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    #[default]
    Gone,
    /// All sessions are away.
    Away,
    Online,
}

/// Who is signed in on this node, counted by session.
///
/// A person goes offline a while after the last session ended, so that a page reload is no news, and away a while after
/// the last one that was not away: [`leave`](Self::leave) and [`set_away`](Self::set_away) hand out a ticket, one at a
/// time for each person, and whoever holds it says [`expire`](Self::expire) when that while is over. Whatever happens in
/// between makes it worthless, and one for a further while is given if need be. Who comes back is back at once.
#[derive(Debug, Default)]
pub(super) struct PresenceTable {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    people: HashMap<UserName, Person>,
    /// Whose standing changed since the last [`PresenceTable::take`].
    changed: HashSet<UserName>,
    /// Grows at each change, which makes older tickets worthless.
    generation: u64,
}

#[derive(Debug, Default)]
struct Person {
    sessions: usize,
    /// How many of them are away.
    away: usize,
    /// As the others are told.
    standing: Standing,
    /// There is a ticket.
    waiting: bool,
    generation: u64,
    last_seen: u64,
}

impl Person {
    /// As it is, without waiting for a while.
    const fn now(&self) -> Standing {
        match self.sessions {
            0 => Standing::Gone,
            sessions if sessions == self.away => Standing::Away,
            _ => Standing::Online,
        }
    }
}

/// The right to declare a person away or offline, unless something happened since.
#[derive(Debug)]
pub(crate) struct Ticket {
    user: UserName,
    generation: u64,
}

/// What is to be told: who is here, who is away, and who is not here any more, since when.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) here: Vec<UserName>,
    pub(super) away: Vec<UserName>,
    pub(super) gone: Vec<(UserName, u64)>,
}

impl PresenceTable {
    /// A session of `user` began.
    pub(super) fn enter(&self, user: &UserName) {
        let mut state = lock(&self.state);
        state.people.entry(user.clone()).or_default().sessions += 1;
        // Nobody gets less by coming.
        let _ = self.settle(&mut state, user);
    }

    /// A session of `user`, `away` or not, ended at `now`. Gives a ticket if less is left of them, and there is none.
    pub(super) fn leave(&self, user: &UserName, away: bool, now: u64) -> Option<Ticket> {
        let mut state = lock(&self.state);
        let person = state.people.get_mut(user)?;
        person.sessions = person.sessions.saturating_sub(1);
        person.away = person.away.saturating_sub(away.into());
        person.last_seen = now;
        self.settle(&mut state, user)
    }

    /// A session of `user` is `away` now and was not, or the other way round. Gives a ticket if less is left of them.
    pub(super) fn set_away(&self, user: &UserName, away: bool) -> Option<Ticket> {
        let mut state = lock(&self.state);
        let person = state.people.get_mut(user)?;
        person.away = if away { person.away + 1 } else { person.away.saturating_sub(1) };
        self.settle(&mut state, user)
    }

    /// More is told at once, less once the ticket expires.
    fn settle(&self, state: &mut State, user: &UserName) -> Option<Ticket> {
        state.generation += 1;
        let generation = state.generation;
        let person = state.people.get_mut(user)?;
        person.generation = generation;
        let now = person.now();
        if now < person.standing {
            return (!std::mem::replace(&mut person.waiting, true))
                .then(|| Ticket { user: user.clone(), generation });
        }
        if std::mem::replace(&mut person.standing, now) != now {
            state.changed.insert(user.clone());
            self.changed.notify_one();
        }
        None
    }

    /// Declares the person of the ticket away or offline, unless something happened since. Gives the ticket for another
    /// while if that is still to be done then.
    pub(super) fn expire(&self, ticket: Ticket) -> Option<Ticket> {
        let mut state = lock(&self.state);
        let person = state.people.get_mut(&ticket.user)?;
        let now = person.now();
        if person.generation != ticket.generation && now < person.standing {
            return Some(Ticket { generation: person.generation, ..ticket });
        }
        person.waiting = false;
        if std::mem::replace(&mut person.standing, now) != now {
            state.changed.insert(ticket.user);
            self.changed.notify_one();
        }
        None
    }

    /// How the person stands here.
    pub(super) fn standing(&self, user: &UserName) -> Standing {
        lock(&self.state).people.get(user).map_or(Standing::Gone, |person| person.standing)
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
            let Some(person) = state.people.get(&user) else { continue };
            match person.standing {
                Standing::Online => changes.here.push(user),
                Standing::Away => changes.away.push(user),
                Standing::Gone => {
                    changes.gone.push((user.clone(), person.last_seen));
                    state.people.remove(&user);
                }
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
        state.changed.extend(changes.away);
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
        assert_eq!(table.standing(&bob), Standing::Gone);
        table.enter(&bob);
        assert_eq!(table.take(9).here.len(), 1);
        table.enter(&bob);
        assert_eq!(table.take(9), Changes::default(), "a second session is no news");
        assert!(table.leave(&bob, false, 1).is_none(), "one session is left");
        let reload = table.leave(&bob, false, 2).unwrap();
        assert_eq!(table.standing(&bob), Standing::Online);
        table.enter(&bob);
        table.expire(reload);
        assert_eq!(table.take(9), Changes::default(), "back in time");
        let ticket = table.leave(&bob, false, 3).unwrap();
        table.expire(ticket);
        assert_eq!(table.standing(&bob), Standing::Gone);
        assert_eq!(table.take(9).gone, vec![(bob.clone(), 3)]);
        table.enter(&bob);
        assert_eq!(table.take(9).here, [bob], "online again is news");
    }

    #[test]
    fn a_person_is_away_a_while_after_the_last_session_that_was_not() {
        let table = PresenceTable::default();
        let bob = user("bob");
        table.enter(&bob);
        table.enter(&bob);
        table.take(9);
        assert!(table.set_away(&bob, true).is_none(), "one session is not away");
        let ticket = table.set_away(&bob, true).unwrap();
        assert_eq!(table.standing(&bob), Standing::Online);
        assert!(table.set_away(&bob, false).is_none());
        table.expire(ticket);
        assert_eq!(table.take(9), Changes::default(), "back in time");
        // The one that is not away ends.
        let ticket = table.leave(&bob, false, 1).unwrap();
        table.expire(ticket);
        assert_eq!(table.take(9), Changes { away: vec![bob.clone()], ..Changes::default() });
        assert!(table.set_away(&bob, false).is_none());
        assert_eq!(table.take(9).here, vec![bob.clone()], "back at once");
        let away = table.set_away(&bob, true).unwrap();
        assert!(table.leave(&bob, true, 2).is_none(), "one ticket is enough");
        let gone = table.expire(away).unwrap();
        assert_eq!(table.take(9), Changes::default(), "the while begins anew");
        assert!(table.expire(gone).is_none());
        assert_eq!(table.take(9).gone, [(bob.clone(), 2)]);
        table.enter(&bob);
        assert_eq!(table.take(9).here, [bob]);
    }

    #[test]
    fn what_could_not_be_told_is_told_later_as_it_is_then() {
        let table = PresenceTable::default();
        let (bob, carol) = (user("bob"), user("carol"));
        for user in [&bob, &carol] {
            table.enter(user);
            table.expire(table.leave(user, false, 7).unwrap());
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
        let old = table.leave(&bob, false, 1).unwrap();
        table.enter(&bob);
        assert!(table.leave(&bob, false, 2).is_none(), "one ticket is enough");
        let later = table.expire(old).unwrap();
        table.enter(&bob);
        assert!(table.expire(later).is_none());
        assert_eq!(table.standing(&bob), Standing::Online);
    }
}
