use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{
    Contact, Device, Directory, DirectoryError, GroupSettings, MAX_BLOCKED, MAX_DEVICES, Member,
    Registration, Role, successor,
};
use crate::auth::PasswordHash;
use crate::clock::Clock;
use crate::names::{DeviceName, GroupName, UserName};

/// A directory that forgets everything when the process ends
#[derive(Default)]
pub struct MemoryDirectory {
    state: Mutex<State>,
    clock: Clock,
}

impl MemoryDirectory {
    /// A directory of nobody
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the time from `clock`
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics between two changes that belong together, so a poisoned state is a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDirectory").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    users: BTreeMap<UserName, User>,
    groups: BTreeMap<GroupName, Group>,
    /// Who has blocked whom
    blocks: BTreeSet<(UserName, UserName)>,
}

#[derive(Default)]
struct Group {
    settings: GroupSettings,
    members: Vec<Member>,
}

#[derive(Default)]
struct User {
    password: Option<PasswordHash>,
    groups: BTreeSet<GroupName>,
    devices: Vec<Device>,
}

impl State {
    fn user(&mut self, user: &UserName) -> Result<&mut User, DirectoryError> {
        self.users.get_mut(user).ok_or_else(|| DirectoryError::NoSuchUser(user.clone()))
    }

    fn group(&mut self, group: &GroupName) -> Result<&mut Group, DirectoryError> {
        self.groups.get_mut(group).ok_or_else(|| DirectoryError::NoSuchGroup(group.clone()))
    }

    fn member(&mut self, group: &GroupName, user: &UserName) -> Option<&mut Member> {
        let group = self.groups.get_mut(group)?;
        group.members.iter_mut().find(|member| member.user == *user)
    }
}

#[async_trait]
impl Directory for MemoryDirectory {
    async fn create_user(
        &self,
        user: &UserName,
        password: Option<&PasswordHash>,
    ) -> Result<(), DirectoryError> {
        let mut state = self.state();
        if state.users.contains_key(user) {
            return Err(DirectoryError::UserExists(user.clone()));
        }
        let record = User { password: password.cloned(), ..User::default() };
        state.users.insert(user.clone(), record);
        Ok(())
    }

    async fn set_password(
        &self,
        user: &UserName,
        password: &PasswordHash,
    ) -> Result<(), DirectoryError> {
        self.state().user(user)?.password = Some(password.clone());
        Ok(())
    }

    async fn user_exists(&self, user: &UserName) -> Result<bool, DirectoryError> {
        Ok(self.state().users.contains_key(user))
    }

    async fn password_hash(&self, user: &UserName) -> Result<Option<PasswordHash>, DirectoryError> {
        Ok(self.state().users.get(user).and_then(|record| record.password.clone()))
    }

    async fn users(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<UserName>, DirectoryError> {
        let state = self.state();
        let from = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        let range = (from, Bound::Unbounded);
        let from = state.users.range::<str, _>(range).map(|(name, _)| name);
        Ok(from.take_while(|name| name.as_str().starts_with(prefix)).take(limit).cloned().collect())
    }

    async fn create_group(
        &self,
        group: &GroupName,
        owner: &UserName,
        members: &[UserName],
    ) -> Result<(), DirectoryError> {
        let mut state = self.state();
        if state.groups.contains_key(group) {
            return Err(DirectoryError::GroupExists(group.clone()));
        }
        let mut all = vec![Member::new(owner.clone(), Role::Owner)];
        for user in members {
            if all.iter().all(|member| member.user != *user) {
                all.push(Member::new(user.clone(), Role::Member));
            }
        }
        for member in &all {
            state.user(&member.user)?;
        }
        for member in &all {
            state.user(&member.user)?.groups.insert(group.clone());
        }
        state.groups.insert(group.clone(), Group { members: all, ..Group::default() });
        Ok(())
    }

    async fn members(&self, group: &GroupName) -> Result<Option<Vec<Member>>, DirectoryError> {
        Ok(self.state().groups.get(group).map(|group| group.members.clone()))
    }

    async fn member(
        &self,
        group: &GroupName,
        user: &UserName,
    ) -> Result<Option<Member>, DirectoryError> {
        Ok(self.state().member(group, user).cloned())
    }

    async fn add_member(
        &self,
        group: &GroupName,
        user: &UserName,
        role: Role,
        since: u64,
    ) -> Result<bool, DirectoryError> {
        let mut state = self.state();
        state.group(group)?;
        if !state.user(user)?.groups.insert(group.clone()) {
            return Ok(false);
        }
        let member = Member::new(user.clone(), role).with_since(since);
        state.group(group)?.members.push(member);
        Ok(true)
    }

    async fn mute(
        &self,
        group: &GroupName,
        user: &UserName,
        until: Option<u64>,
    ) -> Result<bool, DirectoryError> {
        let mut state = self.state();
        let Some(member) = state.member(group, user) else { return Ok(false) };
        member.muted_until = until;
        Ok(true)
    }

    async fn settings(&self, group: &GroupName) -> Result<Option<GroupSettings>, DirectoryError> {
        Ok(self.state().groups.get(group).map(|group| group.settings.clone()))
    }

    async fn set_settings(
        &self,
        group: &GroupName,
        settings: &GroupSettings,
    ) -> Result<(), DirectoryError> {
        self.state().group(group)?.settings = settings.clone();
        Ok(())
    }

    async fn block(&self, user: &UserName, other: &UserName) -> Result<bool, DirectoryError> {
        let mut state = self.state();
        for person in [user, other] {
            state.user(person)?;
        }
        let block = (user.clone(), other.clone());
        if state.blocks.contains(&block) {
            return Ok(false);
        }
        if state.blocks.iter().filter(|(by, _)| by == user).count() >= MAX_BLOCKED {
            return Err(DirectoryError::TooManyBlocked);
        }
        Ok(state.blocks.insert(block))
    }

    async fn unblock(&self, user: &UserName, other: &UserName) -> Result<bool, DirectoryError> {
        Ok(self.state().blocks.remove(&(user.clone(), other.clone())))
    }

    async fn blocked(&self, user: &UserName) -> Result<Vec<UserName>, DirectoryError> {
        let state = self.state();
        let blocks = state.blocks.iter().filter(|(by, _)| by == user);
        Ok(blocks.map(|(_, other)| other.clone()).collect())
    }

    async fn blockers(&self, user: &UserName) -> Result<Vec<UserName>, DirectoryError> {
        let state = self.state();
        let blocks = state.blocks.iter().filter(|(_, other)| other == user);
        Ok(blocks.map(|(by, _)| by.clone()).collect())
    }

    async fn contact(&self, user: &UserName, other: &UserName) -> Result<Contact, DirectoryError> {
        let mut state = self.state();
        for person in [user, other] {
            state.user(person)?;
        }
        if state.blocks.is_empty() {
            return Ok(Contact::Open);
        }
        let blocks =
            |by: &UserName, whom: &UserName| state.blocks.contains(&(by.clone(), whom.clone()));
        Ok(match (blocks(other, user), blocks(user, other)) {
            (true, _) => Contact::Blocked,
            (false, true) => Contact::Blocks,
            (false, false) => Contact::Open,
        })
    }

    async fn remove_member(
        &self,
        group: &GroupName,
        user: &UserName,
    ) -> Result<bool, DirectoryError> {
        let mut state = self.state();
        let members = &mut state.group(group)?.members;
        let before = members.len();
        members.retain(|member| member.user != *user);
        if members.len() == before {
            return Ok(false);
        }
        if let Some(heir) = successor(members)
            && let Some(heir) = members.iter_mut().find(|member| member.user == heir)
        {
            heir.role = Role::Owner;
        }
        state.user(user)?.groups.remove(group);
        Ok(true)
    }

    async fn set_role(
        &self,
        group: &GroupName,
        user: &UserName,
        role: Role,
    ) -> Result<bool, DirectoryError> {
        let mut state = self.state();
        let members = &mut state.group(group)?.members;
        let others = members.iter().filter(|member| member.user != *user);
        let other_owner = others.map(|member| member.role).any(|role| role == Role::Owner);
        let Some(member) = members.iter_mut().find(|member| member.user == *user) else {
            return Ok(false);
        };
        if role != Role::Owner && !other_owner {
            return Err(DirectoryError::LastOwner(group.clone()));
        }
        member.role = role;
        Ok(true)
    }

    async fn groups_of(&self, user: &UserName) -> Result<Vec<GroupName>, DirectoryError> {
        let state = self.state();
        let groups = state.users.get(user).map(|record| record.groups.iter().cloned().collect());
        Ok(groups.unwrap_or_default())
    }

    async fn register_device(
        &self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<Registration, DirectoryError> {
        let now = self.clock.now_millis();
        let mut state = self.state();
        let devices = &mut state.user(user)?.devices;
        if let Some(known) = devices.iter().find(|known| known.name == *device) {
            return Ok(Registration::new(false, known.seeded));
        }
        if devices.len() >= MAX_DEVICES {
            return Err(DirectoryError::TooManyDevices);
        }
        devices.push(Device::new(device.clone(), now, false));
        Ok(Registration::new(true, false))
    }

    async fn mark_seeded(
        &self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<(), DirectoryError> {
        let mut state = self.state();
        let missing = || DirectoryError::NoSuchDevice(device.clone());
        let record = state.users.get_mut(user).ok_or_else(missing)?;
        let known = record.devices.iter_mut().find(|known| known.name == *device);
        known.ok_or_else(missing)?.seeded = true;
        Ok(())
    }

    async fn remove_device(
        &self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<bool, DirectoryError> {
        let mut state = self.state();
        let Some(record) = state.users.get_mut(user) else { return Ok(false) };
        let before = record.devices.len();
        record.devices.retain(|known| known.name != *device);
        Ok(record.devices.len() < before)
    }

    async fn label_device(
        &self,
        user: &UserName,
        device: &DeviceName,
        label: &str,
    ) -> Result<bool, DirectoryError> {
        let mut state = self.state();
        let devices = state.users.get_mut(user).map(|record| &mut record.devices);
        let known = devices.into_iter().flatten().find(|known| known.name == *device);
        let Some(known) = known else { return Ok(false) };
        label.clone_into(&mut known.label);
        Ok(true)
    }

    async fn devices(&self, user: &UserName) -> Result<Vec<Device>, DirectoryError> {
        let state = self.state();
        Ok(state.users.get(user).map(|record| record.devices.clone()).unwrap_or_default())
    }

    async fn share_group(&self, one: &UserName, other: &UserName) -> Result<bool, DirectoryError> {
        let state = self.state();
        let (Some(one), Some(other)) = (state.users.get(one), state.users.get(other)) else {
            return Ok(false);
        };
        Ok(!one.groups.is_disjoint(&other.groups))
    }
}
