use std::collections::HashMap;
use std::sync::Mutex;

use tokio::sync::oneshot;

use crate::lock::lock;
use crate::names::UserName;

/// The signed-in sessions of this node, so that they can be ended from outside.
#[derive(Debug, Default)]
pub(crate) struct SessionTable {
    inner: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    by_user: HashMap<UserName, HashMap<u64, oneshot::Sender<String>>>,
}

/// The entry of one session; gone when this is dropped.
#[derive(Debug)]
pub(crate) struct SessionEntry {
    user: UserName,
    number: u64,
}

impl SessionTable {
    /// Enters a session; the receiver gets the reason when somebody ends it.
    pub(crate) fn enter(&self, user: &UserName) -> (SessionEntry, oneshot::Receiver<String>) {
        let (end, ended) = oneshot::channel();
        let mut table = lock(&self.inner);
        let number = table.next;
        table.next += 1;
        table.by_user.entry(user.clone()).or_default().insert(number, end);
        (SessionEntry { user: user.clone(), number }, ended)
    }

    pub(crate) fn leave(&self, entry: &SessionEntry) {
        let mut table = lock(&self.inner);
        if let Some(sessions) = table.by_user.get_mut(&entry.user) {
            sessions.remove(&entry.number);
            if sessions.is_empty() {
                table.by_user.remove(&entry.user);
            }
        }
    }

    /// How many sessions there are.
    pub(crate) fn count(&self) -> usize {
        lock(&self.inner).by_user.values().map(HashMap::len).sum()
    }

    /// Ends every session of a user. Gives how many there were.
    pub(crate) fn end(&self, user: &UserName, reason: &str) -> usize {
        let sessions = lock(&self.inner).by_user.remove(user).unwrap_or_default();
        sessions.into_values().map(|end| end.send(reason.to_owned())).filter(Result::is_ok).count()
    }
}
