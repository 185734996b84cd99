use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{
    Contact, Device, Directory, DirectoryError, GroupSettings, Member, Registration, Role,
};
use crate::auth::PasswordHash;
use crate::lock::lock;
use crate::names::{ConversationId, ConversationKind, DeviceName, GroupName, UserName};

/// How many people are remembered; some megabytes at most
const MAX_PEOPLE: usize = 65_536;
/// How many pairs of people are remembered
const MAX_CONTACTS: usize = 16_384;
/// How long a block that another node has noted may go unnoticed
const STALENESS: Duration = Duration::from_secs(1);

/// A directory that remembers who exists, so that a message to a person need not ask the one below
///
/// Users stay for good. Whether two of them talk to each other is remembered for a second, and forgotten when either
/// blocks the other here: only a block that is noted through another node may be seen so much later. Members of groups
/// are not remembered.
#[derive(Debug)]
pub struct RememberingDirectory {
    inner: Arc<dyn Directory>,
    people: Mutex<HashSet<UserName>>,
    contacts: Mutex<Contacts>,
}

#[derive(Debug, Default)]
struct Contacts {
    known: HashMap<(UserName, UserName), (Contact, Instant)>,
    /// How often something was forgotten: an answer that was asked for before is of no use after.
    forgotten: u64,
}

impl RememberingDirectory {
    /// Asks `inner` for what it does not know
    pub fn new(inner: Arc<dyn Directory>) -> Self {
        Self { inner, people: Mutex::default(), contacts: Mutex::default() }
    }

    fn knows(&self, user: &UserName) -> bool {
        lock(&self.people).contains(user)
    }

    fn remember(&self, user: &UserName) {
        let mut people = lock(&self.people);
        if people.len() >= MAX_PEOPLE {
            // Whoever writes is soon known again.
            people.clear();
        }
        people.insert(user.clone());
    }

    fn forget_contact(&self, one: &UserName, other: &UserName) {
        let mut contacts = lock(&self.contacts);
        contacts.forgotten += 1;
        contacts.known.remove(&(one.clone(), other.clone()));
        contacts.known.remove(&(other.clone(), one.clone()));
    }
}

#[async_trait]
impl Directory for RememberingDirectory {
    async fn create_user(
        &self,
        user: &UserName,
        password: Option<&PasswordHash>,
    ) -> Result<(), DirectoryError> {
        self.inner.create_user(user, password).await
    }

    async fn set_password(
        &self,
        user: &UserName,
        password: &PasswordHash,
    ) -> Result<(), DirectoryError> {
        self.inner.set_password(user, password).await
    }

    async fn user_exists(&self, user: &UserName) -> Result<bool, DirectoryError> {
        if self.knows(user) {
            return Ok(true);
        }
        let exists = self.inner.user_exists(user).await?;
        if exists {
            self.remember(user);
        }
        Ok(exists)
    }

    async fn password_hash(&self, user: &UserName) -> Result<Option<PasswordHash>, DirectoryError> {
        self.inner.password_hash(user).await
    }

    async fn users(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<UserName>, DirectoryError> {
        self.inner.users(prefix, after, limit).await
    }

    async fn create_group(
        &self,
        group: &GroupName,
        owner: &UserName,
        members: &[UserName],
    ) -> Result<(), DirectoryError> {
        self.inner.create_group(group, owner, members).await
    }

    async fn members(&self, group: &GroupName) -> Result<Option<Vec<Member>>, DirectoryError> {
        self.inner.members(group).await
    }

    async fn role(
        &self,
        group: &GroupName,
        user: &UserName,
    ) -> Result<Option<Role>, DirectoryError> {
        self.inner.role(group, user).await
    }

    async fn add_member(
        &self,
        group: &GroupName,
        user: &UserName,
        role: Role,
        since: u64,
    ) -> Result<bool, DirectoryError> {
        self.inner.add_member(group, user, role, since).await
    }

    async fn member(
        &self,
        group: &GroupName,
        user: &UserName,
    ) -> Result<Option<Member>, DirectoryError> {
        self.inner.member(group, user).await
    }

    async fn mute(
        &self,
        group: &GroupName,
        user: &UserName,
        until: Option<u64>,
    ) -> Result<bool, DirectoryError> {
        self.inner.mute(group, user, until).await
    }

    async fn settings(&self, group: &GroupName) -> Result<Option<GroupSettings>, DirectoryError> {
        self.inner.settings(group).await
    }

    async fn set_settings(
        &self,
        group: &GroupName,
        settings: &GroupSettings,
    ) -> Result<(), DirectoryError> {
        self.inner.set_settings(group, settings).await
    }

    async fn block(&self, user: &UserName, other: &UserName) -> Result<bool, DirectoryError> {
        let outcome = self.inner.block(user, other).await;
        self.forget_contact(user, other);
        outcome
    }

    async fn unblock(&self, user: &UserName, other: &UserName) -> Result<bool, DirectoryError> {
        let outcome = self.inner.unblock(user, other).await;
        self.forget_contact(user, other);
        outcome
    }

    async fn blocked(&self, user: &UserName) -> Result<Vec<UserName>, DirectoryError> {
        self.inner.blocked(user).await
    }

    async fn blockers(&self, user: &UserName) -> Result<Vec<UserName>, DirectoryError> {
        self.inner.blockers(user).await
    }

    async fn contact(&self, user: &UserName, other: &UserName) -> Result<Contact, DirectoryError> {
        let pair = (user.clone(), other.clone());
        let forgotten = {
            let contacts = lock(&self.contacts);
            if let Some((contact, since)) = contacts.known.get(&pair)
                && since.elapsed() < STALENESS
            {
                return Ok(*contact);
            }
            contacts.forgotten
        };
        let since = Instant::now();
        let contact = self.inner.contact(user, other).await?;
        let mut contacts = lock(&self.contacts);
        if contacts.forgotten == forgotten {
            if contacts.known.len() >= MAX_CONTACTS {
                contacts.known.clear();
            }
            contacts.known.insert(pair, (contact, since));
        }
        Ok(contact)
    }

    async fn remove_member(
        &self,
        group: &GroupName,
        user: &UserName,
    ) -> Result<bool, DirectoryError> {
        self.inner.remove_member(group, user).await
    }

    async fn set_role(
        &self,
        group: &GroupName,
        user: &UserName,
        role: Role,
    ) -> Result<bool, DirectoryError> {
        self.inner.set_role(group, user, role).await
    }

    async fn groups_of(&self, user: &UserName) -> Result<Vec<GroupName>, DirectoryError> {
        self.inner.groups_of(user).await
    }

    async fn register_device(
        &self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<Registration, DirectoryError> {
        self.inner.register_device(user, device).await
    }

    async fn mark_seeded(
        &self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<(), DirectoryError> {
        self.inner.mark_seeded(user, device).await
    }

    async fn remove_device(
        &self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<bool, DirectoryError> {
        self.inner.remove_device(user, device).await
    }

    async fn label_device(
        &self,
        user: &UserName,
        device: &DeviceName,
        label: &str,
    ) -> Result<bool, DirectoryError> {
        self.inner.label_device(user, device, label).await
    }

    async fn devices(&self, user: &UserName) -> Result<Vec<Device>, DirectoryError> {
        self.inner.devices(user).await
    }

    async fn share_group(&self, one: &UserName, other: &UserName) -> Result<bool, DirectoryError> {
        self.inner.share_group(one, other).await
    }

    async fn participants(
        &self,
        conversation: &ConversationId,
    ) -> Result<Vec<UserName>, DirectoryError> {
        if let ConversationKind::Direct(one, other) = conversation.kind()
            && self.knows(&one)
            && self.knows(&other)
        {
            return Ok(if one == other { vec![one] } else { vec![one, other] });
        }
        let people = self.inner.participants(conversation).await?;
        if matches!(conversation.kind(), ConversationKind::Direct(..)) {
            people.iter().for_each(|user| self.remember(user));
        }
        Ok(people)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::MemoryDirectory;

    #[tokio::test]
    async fn who_exists_is_asked_once_and_who_does_not_each_time() {
        let inner = Arc::new(MemoryDirectory::new());
        let directory = RememberingDirectory::new(inner.clone());
        let [alice, bob] = ["alice", "bob"].map(|name| UserName::new(name).unwrap());
        let both = ConversationId::direct(&alice, &bob);
        inner.create_user(&alice, None).await.unwrap();
        assert!(!directory.user_exists(&bob).await.unwrap());
        assert!(directory.participants(&both).await.is_err());
        inner.create_user(&bob, None).await.unwrap();
        assert!(directory.user_exists(&bob).await.unwrap(), "what was not there may come");
        assert_eq!(directory.participants(&both).await.unwrap(), [alice.clone(), bob.clone()]);
        let gone = RememberingDirectory {
            inner: Arc::new(MemoryDirectory::new()),
            people: Mutex::new([alice.clone(), bob.clone()].into()),
            contacts: Mutex::default(),
        };
        assert_eq!(gone.participants(&both).await.unwrap(), [alice.clone(), bob]);
        let own = ConversationId::direct(&alice, &alice);
        assert_eq!(gone.participants(&own).await.unwrap(), [alice]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_counts_at_once_here_and_soon_from_elsewhere() {
        let inner = Arc::new(MemoryDirectory::new());
        let directory = RememberingDirectory::new(inner.clone());
        let [alice, bob] = ["alice", "bob"].map(|name| UserName::new(name).unwrap());
        inner.create_user(&alice, None).await.unwrap();
        inner.create_user(&bob, None).await.unwrap();
        let talk = async || directory.contact(&alice, &bob).await.unwrap();
        assert_eq!(talk().await, Contact::Open);
        directory.block(&bob, &alice).await.unwrap();
        assert_eq!(talk().await, Contact::Blocked);
        directory.unblock(&bob, &alice).await.unwrap();
        assert_eq!(talk().await, Contact::Open);
        inner.block(&alice, &bob).await.unwrap();
        assert_eq!(talk().await, Contact::Open, "it is remembered");
        tokio::time::advance(STALENESS).await;
        assert_eq!(talk().await, Contact::Blocks);
    }
}
