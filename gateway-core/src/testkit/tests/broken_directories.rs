//! Directories that break one promise each, and the check that says so.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Barrier;

use super::super::*;
use crate::auth::PasswordHash;
use crate::directory::{
    Contact, Device, Directory, DirectoryError, GroupSettings, Member, MemoryDirectory,
    Registration, Role,
};
use crate::names::DeviceName;

/// What is wrong with a [`Broken`] directory
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    ForgetsOnCrash,
    TakesOverUsers,
    MakesUsersOutsideTheLock,
    FindsInTheMiddle,
    BeginsAnewAtEachPage,
    MakesGroupsInParts,
    ChangesRolesWhenAdding,
    LeavesGroupsOwnerless,
    FreesTheNamesOfGroups,
    SharesWithEverybody,
    SeesEveryDeviceAsNew,
    NeverSeeds,
    ForgetsWhenMembersJoined,
    ForgetsSettings,
    BlocksBothWays,
}

/// A good directory with one fault
#[derive(Debug)]
struct Broken {
    inner: MemoryDirectory,
    fault: Fault,
    both: Barrier,
}

#[async_trait]
impl Directory for Broken {
    async fn create_user(
        &self,
        user: &UserName,
        password: Option<&PasswordHash>,
    ) -> Result<(), DirectoryError> {
        match self.fault {
            Fault::TakesOverUsers => {
                let made = self.inner.create_user(user, password).await;
                match (made, password) {
                    (Err(_), Some(password)) => self.inner.set_password(user, password).await,
                    (made, _) => made,
                }
            }
            Fault::MakesUsersOutsideTheLock => {
                if self.inner.user_exists(user).await? {
                    return Err(DirectoryError::UserExists(user.clone()));
                }
                // Until another one has looked as well; nobody waits for long in vain.
                let _ = tokio::time::timeout(Duration::from_millis(200), self.both.wait()).await;
                let _ = self.inner.create_user(user, password).await;
                Ok(())
            }
            _ => self.inner.create_user(user, password).await,
        }
    }

    async fn set_password(
        &self,
        user: &UserName,
        password: &PasswordHash,
    ) -> Result<(), DirectoryError> {
        self.inner.set_password(user, password).await
    }

    async fn user_exists(&self, user: &UserName) -> Result<bool, DirectoryError> {
        self.inner.user_exists(user).await
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
        if self.fault == Fault::FindsInTheMiddle {
            let all = self.inner.users("", after, usize::MAX).await?;
            let found = all.into_iter().filter(|name| name.as_str().contains(prefix));
            return Ok(found.take(limit).collect());
        }
        let after = if self.fault == Fault::BeginsAnewAtEachPage { "" } else { after };
        self.inner.users(prefix, after, limit).await
    }

    async fn create_group(
        &self,
        group: &GroupName,
        owner: &UserName,
        members: &[UserName],
    ) -> Result<(), DirectoryError> {
        if self.fault == Fault::MakesGroupsInParts {
            self.inner.create_group(group, owner, &[]).await?;
            for user in members {
                self.inner.add_member(group, user, Role::Member, 0).await?;
            }
            return Ok(());
        }
        let empty = self.inner.members(group).await?.is_some_and(|members| members.is_empty());
        if self.fault == Fault::FreesTheNamesOfGroups && empty {
            self.inner.add_member(group, owner, Role::Owner, 0).await?;
            return Ok(());
        }
        self.inner.create_group(group, owner, members).await
    }

    async fn members(&self, group: &GroupName) -> Result<Option<Vec<Member>>, DirectoryError> {
        self.inner.members(group).await
    }

    async fn member(
        &self,
        group: &GroupName,
        user: &UserName,
    ) -> Result<Option<Member>, DirectoryError> {
        self.inner.member(group, user).await
    }

    async fn add_member(
        &self,
        group: &GroupName,
        user: &UserName,
        role: Role,
        since: u64,
    ) -> Result<bool, DirectoryError> {
        if self.fault == Fault::ChangesRolesWhenAdding {
            self.inner.set_role(group, user, role).await?;
        }
        let since = if self.fault == Fault::ForgetsWhenMembersJoined { 0 } else { since };
        self.inner.add_member(group, user, role, since).await
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
        if self.fault == Fault::ForgetsSettings {
            return Ok(());
        }
        self.inner.set_settings(group, settings).await
    }

    async fn block(&self, user: &UserName, other: &UserName) -> Result<bool, DirectoryError> {
        if self.fault == Fault::BlocksBothWays {
            self.inner.block(other, user).await?;
        }
        self.inner.block(user, other).await
    }

    async fn unblock(&self, user: &UserName, other: &UserName) -> Result<bool, DirectoryError> {
        self.inner.unblock(user, other).await
    }

    async fn blocked(&self, user: &UserName) -> Result<Vec<UserName>, DirectoryError> {
        self.inner.blocked(user).await
    }

    async fn blockers(&self, user: &UserName) -> Result<Vec<UserName>, DirectoryError> {
        self.inner.blockers(user).await
    }

    async fn contact(&self, user: &UserName, other: &UserName) -> Result<Contact, DirectoryError> {
        self.inner.contact(user, other).await
    }

    async fn remove_member(
        &self,
        group: &GroupName,
        user: &UserName,
    ) -> Result<bool, DirectoryError> {
        let removed = self.inner.remove_member(group, user).await?;
        if self.fault == Fault::LeavesGroupsOwnerless {
            // The heir gets the lowest role back, with a helper so that the good directory allows it.
            let helper = UserName::new("helper").unwrap();
            let _ = self.inner.create_user(&helper, None).await;
            self.inner.add_member(group, &helper, Role::Owner, 0).await?;
            for member in self.inner.members(group).await?.unwrap_or_default() {
                if member.user != helper {
                    self.inner.set_role(group, &member.user, Role::Member).await?;
                }
            }
        }
        Ok(removed)
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
        if self.fault == Fault::SeesEveryDeviceAsNew {
            self.inner.remove_device(user, device).await?;
        }
        self.inner.register_device(user, device).await
    }

    async fn mark_seeded(
        &self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<(), DirectoryError> {
        if self.fault == Fault::NeverSeeds {
            return Ok(());
        }
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
        Ok(self.fault == Fault::SharesWithEverybody || self.inner.share_group(one, other).await?)
    }
}

struct Breaking(Fault);

impl Breaking {
    fn make(&self, clock: Clock) -> Arc<dyn Directory> {
        let inner = MemoryDirectory::new().with_clock(clock);
        Arc::new(Broken { inner, fault: self.0, both: Barrier::new(2) })
    }
}

#[async_trait]
impl Harness<dyn Directory> for Breaking {
    async fn create(&mut self, clock: Clock) -> Arc<dyn Directory> {
        self.make(clock)
    }

    async fn restart(&mut self, people: Arc<dyn Directory>) -> Option<Arc<dyn Directory>> {
        Some(if self.0 == Fault::ForgetsOnCrash { self.make(Clock::system()) } else { people })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_suite_catches_broken_directories_by_name() {
    for (fault, name) in [
        (Fault::ForgetsOnCrash, "who_is_known_survives_a_restart"),
        (Fault::TakesOverUsers, "a_user_is_made_once"),
        (Fault::MakesUsersOutsideTheLock, "concurrent_sign_ups_make_one_user"),
        (Fault::FindsInTheMiddle, "users_are_found_by_the_start_of_their_names"),
        (Fault::BeginsAnewAtEachPage, "users_are_found_by_the_start_of_their_names"),
        (Fault::MakesGroupsInParts, "a_group_is_made_once_and_with_all_or_nobody"),
        (Fault::ChangesRolesWhenAdding, "members_come_and_go"),
        (Fault::LeavesGroupsOwnerless, "a_group_with_members_has_an_owner"),
        (Fault::FreesTheNamesOfGroups, "the_name_of_an_empty_group_stays_taken"),
        (Fault::SharesWithEverybody, "groups_of_a_user_are_those_he_is_in"),
        (Fault::SeesEveryDeviceAsNew, "a_device_is_new_once"),
        (Fault::NeverSeeds, "a_device_is_new_once"),
        (Fault::ForgetsWhenMembersJoined, "a_member_is_kept_as_he_joined"),
        (Fault::ForgetsSettings, "a_group_is_run_as_it_was_set"),
        (Fault::BlocksBothWays, "a_block_is_of_one_by_another"),
    ] {
        let check = directory_checks().into_iter().find(|check| check.name() == name).unwrap();
        let caught = check.run(&mut Breaking(fault)).await;
        assert!(caught.is_err(), "{fault:?} passes {name}");
    }
}
