//! Where it is kept who is there.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Mutex;

use async_trait::async_trait;

use super::Presence;
use crate::lock::lock;
use crate::names::UserName;
use crate::store::StoreError;

/// Who is there, on any node
///
/// Each node tells of its own users; a person is there while any node has a session of theirs. What a node told counts
/// as long as the node lives.
#[async_trait]
pub trait PresenceStore: Debug + Send + Sync + 'static {
    /// On this node there are sessions of `here`, sessions of `away` that are all away, and, since these times (in
    /// milliseconds since 1970, UTC), none of `gone`
    ///
    /// Gives those whose presence changed by that, over all nodes.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be written: nothing was noted.
    async fn update(
        &self,
        here: &[UserName],
        away: &[UserName],
        gone: &[(UserName, u64)],
    ) -> Result<Vec<UserName>, StoreError>;

    /// Whether these people are there, in their order
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    async fn presence(&self, users: &[UserName]) -> Result<Vec<Presence>, StoreError>;

    /// Forgets what nodes told that are gone; gives whom it was about
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be written.
    async fn forget_the_dead(&self) -> Result<Vec<UserName>, StoreError> {
        Ok(Vec::new())
    }

    /// The number of this node among those that share the store; none, which is the default, where it is alone
    ///
    /// When it changes, what this node told before is forgotten, and it tells all of it again.
    fn node(&self) -> Option<u64> {
        None
    }
}

/// Who is there, in the memory of this process: for one node
#[derive(Debug, Default)]
pub struct MemoryPresence {
    people: Mutex<HashMap<UserName, Presence>>,
}

#[async_trait]
impl PresenceStore for MemoryPresence {
    async fn update(
        &self,
        here: &[UserName],
        away: &[UserName],
        gone: &[(UserName, u64)],
    ) -> Result<Vec<UserName>, StoreError> {
        let mut people = lock(&self.people);
        let here = here.iter().map(|user| (user, Presence::Online));
        let away = away.iter().map(|user| (user, Presence::Away));
        let gone = gone.iter().map(|(user, time)| (user, Presence::offline(Some(*time))));
        let mut news = Vec::new();
        for (user, now) in here.chain(away).chain(gone) {
            let before = people.insert(user.clone(), now).unwrap_or(Presence::offline(None));
            if before.as_str() != now.as_str() {
                news.push(user.clone());
            }
        }
        Ok(news)
    }

    async fn presence(&self, users: &[UserName]) -> Result<Vec<Presence>, StoreError> {
        let people = lock(&self.people);
        let unknown = Presence::offline(None);
        Ok(users.iter().map(|user| people.get(user).copied().unwrap_or(unknown)).collect())
    }
}
