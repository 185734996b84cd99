//! Who there is: users, groups, members, devices.

mod error;
mod group;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod remembering;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::fmt::Debug;

use async_trait::async_trait;

use crate::auth::PasswordHash;
use crate::names::{ConversationId, ConversationKind, DeviceName, EVERYBODY, GroupName, UserName};

pub use error::DirectoryError;
pub use group::{
    Contact, GroupSettings, HistoryFrom, MAX_BLOCKED, MAX_TITLE_OCTETS, Member, Role,
    UnknownHistoryFrom, UnknownRole,
};
pub use memory::MemoryDirectory;
pub use remembering::RememberingDirectory;

/// Who there is: users, groups, members, devices
///
/// Every method may be called concurrently. Who may do what is the authorizer's business, not the directory's.
///
/// # Durability and cancel safety
///
/// As for [`MessageStore`](crate::MessageStore): what returned `Ok` stays, and dropping the future of a call does not
/// take it back.
#[async_trait]
pub trait Directory: Debug + Send + Sync + 'static {
    /// Makes a user; without a password he cannot sign in with one
    ///
    /// # Errors
    ///
    /// [`DirectoryError::UserExists`], or [`DirectoryError::Store`].
    async fn create_user(
        &self,
        user: &UserName,
        password: Option<&PasswordHash>,
    ) -> Result<(), DirectoryError>;

    /// Gives a user another password
    ///
    /// # Errors
    ///
    /// [`DirectoryError::NoSuchUser`], or [`DirectoryError::Store`].
    async fn set_password(
        &self,
        user: &UserName,
        password: &PasswordHash,
    ) -> Result<(), DirectoryError>;

    /// Whether there is such a user
    ///
    /// Users stay for good: who exists now is taken to exist as long as the process lives.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Store`].
    async fn user_exists(&self, user: &UserName) -> Result<bool, DirectoryError>;

    /// The password hash of a user; `None` if he has none or does not exist
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Store`].
    async fn password_hash(&self, user: &UserName) -> Result<Option<PasswordHash>, DirectoryError>;

    /// The first `limit` users whose names start with `prefix` and come behind `after`, in the order of their octets
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Store`].
    async fn users(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<UserName>, DirectoryError>;

    /// Makes a group with `owner` and, as plain members, `members`
    ///
    /// A group stays for good, and so does its name: were the name free again, whoever took it would get the old
    /// group's history.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::GroupExists`]; [`DirectoryError::NoSuchUser`] for the first of them who does not exist, and no
    /// group is made; [`DirectoryError::Store`].
    async fn create_group(
        &self,
        group: &GroupName,
        owner: &UserName,
        members: &[UserName],
    ) -> Result<(), DirectoryError>;

    /// The members of a group in the order of joining; `None` if there is no such group
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Store`].
    async fn members(&self, group: &GroupName) -> Result<Option<Vec<Member>>, DirectoryError>;

    /// One member of a group; `None` if he is none or there is no such group
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Store`].
    async fn member(
        &self,
        group: &GroupName,
        user: &UserName,
    ) -> Result<Option<Member>, DirectoryError>;

    /// What `user` is in `group`; `None` if he is no member or there is no such group
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Store`].
    async fn role(
        &self,
        group: &GroupName,
        user: &UserName,
    ) -> Result<Option<Role>, DirectoryError> {
        Ok(self.member(group, user).await?.map(|member| member.role))
    }

    /// Adds a member, who may speak; `false` if he was one already, and then he stays what he is
    ///
    /// `since` is the last `seq` of the group's conversation before he joined.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::NoSuchGroup`], [`DirectoryError::NoSuchUser`], or [`DirectoryError::Store`].
    async fn add_member(
        &self,
        group: &GroupName,
        user: &UserName,
        role: Role,
        since: u64,
    ) -> Result<bool, DirectoryError>;

    /// Takes a member's right to speak until a time in milliseconds since 1970, or gives it back; `false` if he is no
    /// member
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Store`].
    async fn mute(
        &self,
        group: &GroupName,
        user: &UserName,
        until: Option<u64>,
    ) -> Result<bool, DirectoryError>;

    /// How a group is run; `None` if there is no such group
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Store`].
    async fn settings(&self, group: &GroupName) -> Result<Option<GroupSettings>, DirectoryError>;

    /// Changes how a group is run
    ///
    /// # Errors
    ///
    /// [`DirectoryError::NoSuchGroup`], or [`DirectoryError::Store`].
    async fn set_settings(
        &self,
        group: &GroupName,
        settings: &GroupSettings,
    ) -> Result<(), DirectoryError>;

    /// Blocks `other` for `user`; `false` if he was blocked already
    ///
    /// # Errors
    ///
    /// [`DirectoryError::NoSuchUser`]; [`DirectoryError::TooManyBlocked`] at [`MAX_BLOCKED`]; [`DirectoryError::Store`].
    async fn block(&self, user: &UserName, other: &UserName) -> Result<bool, DirectoryError>;

    /// Takes a block back; `false` if there was none
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Store`].
    async fn unblock(&self, user: &UserName, other: &UserName) -> Result<bool, DirectoryError>;

    /// Whom `user` has blocked, in the order of their octets
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Store`].
    async fn blocked(&self, user: &UserName) -> Result<Vec<UserName>, DirectoryError>;

    /// Who has blocked `user`, in the order of their octets
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Store`].
    async fn blockers(&self, user: &UserName) -> Result<Vec<UserName>, DirectoryError>;

    /// Whether `user` and `other` talk to each other
    ///
    /// # Errors
    ///
    /// [`DirectoryError::NoSuchUser`] for the first of them who does not exist, or [`DirectoryError::Store`].
    async fn contact(&self, user: &UserName, other: &UserName) -> Result<Contact, DirectoryError>;

    /// Removes a member; `false` if he was none
    ///
    /// A group with members has an owner: when its last owner goes, the longest-standing admin, or else the
    /// longest-standing member, becomes owner.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::NoSuchGroup`], or [`DirectoryError::Store`].
    async fn remove_member(
        &self,
        group: &GroupName,
        user: &UserName,
    ) -> Result<bool, DirectoryError>;

    /// Changes what a member is; `false` if he is none
    ///
    /// # Errors
    ///
    /// [`DirectoryError::NoSuchGroup`]; [`DirectoryError::LastOwner`] where the group would be left without an owner;
    /// [`DirectoryError::Store`].
    async fn set_role(
        &self,
        group: &GroupName,
        user: &UserName,
        role: Role,
    ) -> Result<bool, DirectoryError>;

    /// The groups that `user` is a member of, in the order of their octets
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Store`].
    async fn groups_of(&self, user: &UserName) -> Result<Vec<GroupName>, DirectoryError>;

    /// Notes a device of a user, if it is not known yet
    ///
    /// # Errors
    ///
    /// [`DirectoryError::NoSuchUser`]; [`DirectoryError::TooManyDevices`] at [`MAX_DEVICES`]; [`DirectoryError::Store`].
    async fn register_device(
        &self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<Registration, DirectoryError>;

    /// Notes that a device has been given what its user had not read
    ///
    /// # Errors
    ///
    /// [`DirectoryError::NoSuchDevice`], or [`DirectoryError::Store`].
    async fn mark_seeded(&self, user: &UserName, device: &DeviceName)
    -> Result<(), DirectoryError>;

    /// Forgets a device; `false` if it was not known
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Store`].
    async fn remove_device(
        &self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<bool, DirectoryError>;

    /// Gives a device a name for people to read; `false` if it is not known
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Store`].
    async fn label_device(
        &self,
        user: &UserName,
        device: &DeviceName,
        label: &str,
    ) -> Result<bool, DirectoryError>;

    /// The devices of a user in the order of registering
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Store`].
    async fn devices(&self, user: &UserName) -> Result<Vec<Device>, DirectoryError>;

    /// Whether two users are members of one group
    ///
    /// They may also share a direct conversation: the message store knows whether that has any messages.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Store`].
    async fn share_group(&self, one: &UserName, other: &UserName) -> Result<bool, DirectoryError>;

    /// Everyone who gets a message of this conversation, each once
    ///
    /// # Errors
    ///
    /// [`DirectoryError::NoSuchUser`] where a person of a direct conversation does not exist,
    /// [`DirectoryError::NoSuchGroup`], or [`DirectoryError::Store`].
    async fn participants(
        &self,
        conversation: &ConversationId,
    ) -> Result<Vec<UserName>, DirectoryError> {
        match conversation.kind() {
            ConversationKind::Direct(one, other) => {
                let mut people = vec![one];
                if people.first() != Some(&other) {
                    people.push(other);
                }
                for person in &people {
                    if !self.user_exists(person).await? {
                        return Err(DirectoryError::NoSuchUser(person.clone()));
                    }
                }
                Ok(people)
            }
            ConversationKind::Broadcast(to) if to.as_str() == EVERYBODY => {
                self.users("", "", usize::MAX).await
            }
            ConversationKind::Group(group) | ConversationKind::Broadcast(group) => {
                let members = self.members(&group).await?;
                let members = members.ok_or(DirectoryError::NoSuchGroup(group))?;
                Ok(members.into_iter().map(|member| member.user).collect())
            }
        }
    }
}

/// How many devices a user may have: each keeps its own place in the inbox, so each costs storage
pub const MAX_DEVICES: usize = 64;

/// A device of a user
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Device {
    /// Its name
    pub name: DeviceName,
    /// Its name for people to read; may be empty
    pub label: String,
    /// When it was registered, in milliseconds since 1970, UTC
    pub registered: u64,
    /// Whether it has been given what its user had not read
    pub seeded: bool,
}

impl Device {
    /// A device
    #[must_use]
    pub const fn new(name: DeviceName, registered: u64, seeded: bool) -> Self {
        Self { name, label: String::new(), registered, seeded }
    }

    /// Sets its name for people to read
    #[must_use]
    pub fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }
}

/// What registering a device found
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registration {
    /// The device was not known before
    pub new: bool,
    /// The device has been given what its user had not read; never so for a new one
    pub seeded: bool,
}

impl Registration {
    /// The outcome of registering a device
    #[must_use]
    pub const fn new(new: bool, seeded: bool) -> Self {
        Self { new, seeded }
    }
}

/// Who becomes owner of a group that has members, in the order of joining, and no owner
fn successor(members: &[Member]) -> Option<UserName> {
    if members.iter().any(|member| member.role == Role::Owner) {
        return None;
    }
    let admin = members.iter().find(|member| member.role == Role::Admin);
    admin.or_else(|| members.first()).map(|member| member.user.clone())
}

/// Whether two people, who are known or not, talk to each other
#[cfg(any(feature = "postgres", feature = "sqlite"))]
fn contact(
    user: (&UserName, bool),
    other: (&UserName, bool),
    blocked: bool,
    blocks: bool,
) -> Result<Contact, DirectoryError> {
    for (person, known) in [user, other] {
        if !known {
            return Err(DirectoryError::NoSuchUser(person.clone()));
        }
    }
    Ok(match (blocked, blocks) {
        (true, _) => Contact::Blocked,
        (false, true) => Contact::Blocks,
        (false, false) => Contact::Open,
    })
}
