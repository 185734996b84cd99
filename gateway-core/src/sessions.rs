use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use crate::lock::lock;
use crate::names::{DeviceName, UserName};

/// The signed-in sessions of this node, so that they can be looked at and ended from outside.
#[derive(Debug, Default)]
pub(crate) struct SessionTable {
    inner: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    sessions: BTreeMap<u64, (SessionInfo, oneshot::Sender<String>)>,
    by_user: HashMap<UserName, BTreeSet<u64>>,
}

/// What is known of a session.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "rest"), allow(dead_code, reason = "only REST shows it"))]
pub(crate) struct SessionInfo {
    pub(crate) number: u64,
    pub(crate) user: UserName,
    pub(crate) device: DeviceName,
    pub(crate) address: Option<IpAddr>,
    /// In milliseconds since 1970, UTC.
    pub(crate) since: u64,
    stalled: Stalled,
}

impl SessionInfo {
    /// How many of its subscriptions wait for ACKs before anything more is sent to them.
    #[cfg_attr(not(feature = "rest"), allow(dead_code, reason = "only REST shows it"))]
    pub(crate) fn stalled(&self) -> usize {
        self.stalled.0.load(Ordering::Relaxed)
    }
}

/// How many subscriptions of a session are paused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stalled(Arc<AtomicUsize>);

impl Stalled {
    pub(crate) fn enter(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The entry of one session; its session takes it out when it ends.
#[derive(Debug)]
pub(crate) struct SessionEntry {
    user: UserName,
    number: u64,
    pub(crate) stalled: Stalled,
}

impl SessionTable {
    /// Enters a session; the receiver gets the reason when somebody ends it.
    pub(crate) fn enter(
        &self,
        user: &UserName,
        device: &DeviceName,
        address: Option<IpAddr>,
        since: u64,
    ) -> (SessionEntry, oneshot::Receiver<String>) {
        let (end, ended) = oneshot::channel();
        let stalled = Stalled::default();
        let mut table = lock(&self.inner);
        let number = table.next;
        table.next += 1;
        table.by_user.entry(user.clone()).or_default().insert(number);
        let (user, device) = (user.clone(), device.clone());
        let entry = SessionEntry { user: user.clone(), number, stalled: stalled.clone() };
        let info = SessionInfo { number, user, device, address, since, stalled };
        table.sessions.insert(number, (info, end));
        (entry, ended)
    }

    pub(crate) fn leave(&self, entry: &SessionEntry) {
        lock(&self.inner).remove(&entry.user, entry.number);
    }

    /// How many sessions there are.
    pub(crate) fn count(&self) -> usize {
        lock(&self.inner).sessions.len()
    }

    /// At most `limit` sessions, of this user or of all, that were entered after the one of this number.
    #[cfg_attr(not(feature = "rest"), allow(dead_code, reason = "only REST shows it"))]
    pub(crate) fn page(
        &self,
        user: Option<&UserName>,
        after: Option<u64>,
        limit: usize,
    ) -> Vec<SessionInfo> {
        let table = lock(&self.inner);
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let info = |(info, _): &(SessionInfo, _)| info.clone();
        match user {
            None => table.sessions.range(range).take(limit).map(|(_, one)| info(one)).collect(),
            Some(user) => {
                let numbers = table.by_user.get(user).into_iter();
                let numbers = numbers.flat_map(|numbers| numbers.range(range)).take(limit);
                numbers.filter_map(|number| table.sessions.get(number)).map(info).collect()
            }
        }
    }

    /// Ends every session of a user. Gives how many there were.
    pub(crate) fn end(&self, user: &UserName, reason: &str) -> usize {
        let mut table = lock(&self.inner);
        let numbers = table.by_user.remove(user).unwrap_or_default();
        let ends = numbers.iter().filter_map(|number| table.sessions.remove(number));
        ends.map(|(_, end)| end.send(reason.to_owned())).filter(Result::is_ok).count()
    }

    /// Ends one session; `false` where there is none of this number.
    #[cfg_attr(not(feature = "rest"), allow(dead_code, reason = "only REST shows it"))]
    pub(crate) fn end_one(&self, number: u64, reason: &str) -> bool {
        let mut table = lock(&self.inner);
        let Some(user) = table.sessions.get(&number).map(|(info, _)| info.user.clone()) else {
            return false;
        };
        let removed = table.remove(&user, number);
        removed.is_some_and(|end| end.send(reason.to_owned()).is_ok())
    }
}

impl Table {
    fn remove(&mut self, user: &UserName, number: u64) -> Option<oneshot::Sender<String>> {
        if let Some(numbers) = self.by_user.get_mut(user) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_user.remove(user);
            }
        }
        self.sessions.remove(&number).map(|(_, end)| end)
    }
}
