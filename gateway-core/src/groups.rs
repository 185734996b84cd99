//! Groups: who is in them and as what, and the message that tells of each change.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::address;
use crate::destination::Destination;
use crate::directory::{Contact, GroupSettings, MAX_TITLE_OCTETS, Role};
use crate::error::{GatewayError, RefusedError};
use crate::gateway::Gateway;
use crate::names::{ConversationId, GroupName, UserName};
use crate::send::{SendKind, SendRequest, Sent};
use crate::store::{Marker, MessageKind};
use crate::submit::new_message;

const NOT_A_MEMBER: GatewayError =
    GatewayError::Refused(RefusedError::Denied("no such group, or you are not a member"));

const NOT_MANAGING: GatewayError =
    GatewayError::Refused(RefusedError::Denied("only an owner or an admin may do that"));

/// Keeps a message from being handed in between a change of the members and the message that tells of it:
/// what is sent before goes to the old members, what is sent after to the new ones.
pub(crate) struct GroupLocks(Box<[RwLock<()>]>);

impl Default for GroupLocks {
    fn default() -> Self {
        Self((0..64).map(|_| RwLock::default()).collect())
    }
}

impl fmt::Debug for GroupLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupLocks").finish_non_exhaustive()
    }
}

impl GroupLocks {
    fn of(&self, group: &GroupName) -> Option<&RwLock<()>> {
        let mut hasher = DefaultHasher::new();
        group.hash(&mut hasher);
        self.0.get(hasher.finish() as usize % self.0.len())
    }

    /// While a message is addressed and handed in.
    pub(crate) async fn sending(&self, group: &GroupName) -> Option<RwLockReadGuard<'_, ()>> {
        Some(self.of(group)?.read().await)
    }

    /// While the members change and that is handed in.
    async fn changing(&self, group: &GroupName) -> Option<RwLockWriteGuard<'_, ()>> {
        Some(self.of(group)?.write().await)
    }
}

/// What happened to whom.
struct Event<'a> {
    action: &'static str,
    user: &'a UserName,
    more: Value,
}

impl<'a> Event<'a> {
    const fn new(action: &'static str, user: &'a UserName) -> Self {
        Self { action, user, more: Value::Null }
    }

    fn body(&self) -> String {
        let mut body = json!({ "action": self.action, "user": self.user.as_str() });
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), &self.more) {
            body.extend(more.clone());
        }
        body.to_string()
    }
}

impl Gateway {
    /// Makes a group that its owner and admins bring members into, and that shows all its history;
    /// `owner` owns it, `members` are its plain members.
    ///
    /// # Errors
    ///
    /// As for [`create_group_with`](Self::create_group_with).
    pub async fn create_group(
        &self,
        owner: &UserName,
        group: &GroupName,
        members: &[UserName],
    ) -> Result<(), GatewayError> {
        self.create_group_with(owner, group, members, GroupSettings::default()).await
    }

    /// Makes a group with these settings.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Directory`] where the name is taken or a member does not exist;
    /// [`GatewayError::Refused`] where a member has blocked `owner`; [`GatewayError::Invalid`] for a title
    /// of more than 256 octets or with control characters.
    pub async fn create_group_with(
        &self,
        owner: &UserName,
        group: &GroupName,
        members: &[UserName],
        settings: GroupSettings,
    ) -> Result<(), GatewayError> {
        check_title(&settings.title)?;
        let blockers = self.inner.directory.blockers(owner).await?;
        if members.iter().any(|member| blockers.contains(member)) {
            return Err(NO_INVITATIONS);
        }
        self.inner.directory.create_group(group, owner, members).await?;
        if settings != GroupSettings::default() {
            self.inner.directory.set_settings(group, &settings).await?;
        }
        self.tell(owner, group, Event::new("created", owner), None).await?.await?;
        Ok(())
    }

    /// Adds a member; no error if there is one already.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Refused`] unless `actor` is owner or admin, and where the user has blocked `actor`;
    /// [`GatewayError::Directory`] where the user does not exist.
    pub async fn add_member(
        &self,
        actor: &UserName,
        group: &GroupName,
        user: &UserName,
    ) -> Result<(), GatewayError> {
        self.managing(group, actor).await?;
        if self.inner.directory.contact(actor, user).await? == Contact::Blocked {
            return Err(NO_INVITATIONS);
        }
        self.enter_group(actor, group, Event::new("added", user)).await
    }

    /// Joins an open group; no error for who is a member already.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Refused`] where the group is not open, or does not exist.
    pub async fn join_group(&self, user: &UserName, group: &GroupName) -> Result<(), GatewayError> {
        if self.inner.directory.role(group, user).await?.is_some() {
            return Ok(());
        }
        match self.inner.directory.settings(group).await? {
            Some(settings) if settings.open => {}
            _ => return Err(NOT_A_MEMBER),
        }
        self.enter_group(user, group, Event::new("joined", user)).await
    }

    async fn enter_group(
        &self,
        actor: &UserName,
        group: &GroupName,
        event: Event<'_>,
    ) -> Result<(), GatewayError> {
        let user = event.user;
        let held = self.inner.groups.changing(group).await;
        // Everything that goes to the old members has its number then.
        self.inner.settled().await?;
        let conversation = ConversationId::group(group);
        let said = self.inner.store.position(&conversation).await?.last_seq;
        if !self.inner.directory.add_member(group, user, Role::Member, said).await? {
            return Ok(());
        }
        // What was said before is no news to the new member.
        self.inner.store.mark(&conversation, user, Marker::Read, said).await?;
        self.inner.catch_up(user, &ConversationId::broadcast(group)).await?;
        let told = self.tell(actor, group, event, None).await?;
        drop(held);
        told.await?;
        Ok(())
    }

    /// Removes a member, who may be `actor`: then it is leaving. Nothing that is said afterwards reaches
    /// the user: timelines end, and inboxes get no more of the group.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Refused`] unless `actor` is the user, an owner, or an admin and the user a plain
    /// member.
    pub async fn remove_member(
        &self,
        actor: &UserName,
        group: &GroupName,
        user: &UserName,
    ) -> Result<(), GatewayError> {
        if actor == user {
            self.role(group, actor).await?;
        } else {
            self.above(group, actor, user).await?;
        }
        let held = self.inner.groups.changing(group).await;
        if self.inner.directory.remove_member(group, user).await? {
            let action = if actor == user { "left" } else { "removed" };
            let told = self.tell(actor, group, Event::new(action, user), Some(user)).await?;
            drop(held);
            told.await?;
        }
        Ok(())
    }

    /// Makes a member an admin, or a plain member again.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Refused`] unless `actor` is an owner and the user a member who is none;
    /// [`GatewayError::Invalid`] for [`Role::Owner`], which [`transfer_group`](Self::transfer_group) gives.
    pub async fn set_role(
        &self,
        actor: &UserName,
        group: &GroupName,
        user: &UserName,
        role: Role,
    ) -> Result<(), GatewayError> {
        if role == Role::Owner {
            return Err(GatewayError::Invalid { name: "role", problem: "must be admin or member" });
        }
        if self.role(group, actor).await? != Role::Owner {
            return Err(RefusedError::Denied("only an owner changes roles").into());
        }
        let before = self.role(group, user).await?;
        if before == Role::Owner {
            return Err(RefusedError::Denied(
                "an owner stays owner until the group is handed over",
            )
            .into());
        }
        if before == role || !self.inner.directory.set_role(group, user, role).await? {
            return Ok(());
        }
        let event = Event { more: json!({ "role": role.as_str() }), ..Event::new("role", user) };
        self.tell(actor, group, event, None).await?.await?;
        Ok(())
    }

    /// Makes another member the owner; `actor`, who was it, is an admin then.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Refused`] unless `actor` is an owner and the user a member.
    ///
    /// # Cancel safety
    ///
    /// Dropped half-way, both are owners; call it again.
    pub async fn transfer_group(
        &self,
        actor: &UserName,
        group: &GroupName,
        user: &UserName,
    ) -> Result<(), GatewayError> {
        if self.role(group, actor).await? != Role::Owner {
            return Err(RefusedError::Denied("only an owner hands the group over").into());
        }
        if actor == user {
            return Ok(());
        }
        if !self.inner.directory.set_role(group, user, Role::Owner).await? {
            return Err(RefusedError::Denied("the new owner must be a member").into());
        }
        self.inner.directory.set_role(group, actor, Role::Admin).await?;
        let event =
            Event { more: json!({ "role": Role::Owner.as_str() }), ..Event::new("role", user) };
        self.tell(actor, group, event, None).await?.await?;
        Ok(())
    }

    /// Takes a member's right to speak until a time in milliseconds since 1970 (UTC), or gives it back.
    /// A muted member reads on, and says how far.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Refused`] unless `actor` is an owner, or an admin and the user a plain member.
    pub async fn mute_member(
        &self,
        actor: &UserName,
        group: &GroupName,
        user: &UserName,
        until: Option<u64>,
    ) -> Result<(), GatewayError> {
        self.above(group, actor, user).await?;
        if !self.inner.directory.mute(group, user, until).await? {
            return Err(RefusedError::Denied("the user is not a member").into());
        }
        let event = match until {
            Some(until) => Event { more: json!({ "until": until }), ..Event::new("muted", user) },
            None => Event::new("unmuted", user),
        };
        self.tell(actor, group, event, None).await?.await?;
        Ok(())
    }

    /// Changes how a group is run.
    ///
    /// Where the history becomes visible from the start, it does so to all who are members.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Refused`] unless `actor` is owner or admin; [`GatewayError::Invalid`] for a title of
    /// more than 256 octets or with control characters.
    pub async fn change_group(
        &self,
        actor: &UserName,
        group: &GroupName,
        settings: GroupSettings,
    ) -> Result<(), GatewayError> {
        self.managing(group, actor).await?;
        check_title(&settings.title)?;
        if self.inner.directory.settings(group).await?.as_ref() == Some(&settings) {
            return Ok(());
        }
        self.inner.directory.set_settings(group, &settings).await?;
        let GroupSettings { title, open, history } = settings;
        let more = json!({ "title": title, "open": open, "history": history.as_str() });
        let event = Event { more, ..Event::new("changed", actor) };
        self.tell(actor, group, event, None).await?.await?;
        Ok(())
    }

    async fn role(&self, group: &GroupName, user: &UserName) -> Result<Role, GatewayError> {
        self.inner.directory.role(group, user).await?.ok_or(NOT_A_MEMBER)
    }

    async fn managing(&self, group: &GroupName, actor: &UserName) -> Result<Role, GatewayError> {
        let role = self.role(group, actor).await?;
        if role < Role::Admin { Err(NOT_MANAGING) } else { Ok(role) }
    }

    /// Whether `actor` may do something to `user`: an owner to everyone, an admin to plain members.
    async fn above(
        &self,
        group: &GroupName,
        actor: &UserName,
        user: &UserName,
    ) -> Result<(), GatewayError> {
        let role = self.managing(group, actor).await?;
        let other = self.inner.directory.role(group, user).await?;
        if role != Role::Owner && Some(role) <= other { Err(NOT_MANAGING) } else { Ok(()) }
    }

    /// Hands in a message of the change, to the members and whoever was one; what comes back is its
    /// receipt.
    async fn tell(
        &self,
        actor: &UserName,
        group: &GroupName,
        event: Event<'_>,
        also: Option<&UserName>,
    ) -> Result<BoxFuture<'static, Result<Sent, GatewayError>>, GatewayError> {
        let conversation = ConversationId::group(group);
        let people = self.inner.directory.participants(&conversation).await?;
        let destination = Destination::Group(group.clone());
        let mut request = SendRequest::new(actor.clone(), destination, event.body())
            .with_header("content-type", "application/json")?;
        request.kind = SendKind::Stored(MessageKind::Member);
        let mut message = new_message(conversation, request, &people);
        message.targets.extend(also.map(address::inbox));
        self.inner.submit_new(message).await
    }
}

const NO_INVITATIONS: GatewayError =
    GatewayError::Refused(RefusedError::Denied("somebody takes no invitation from you"));

pub(crate) fn check_title(title: &str) -> Result<(), GatewayError> {
    if title.len() > MAX_TITLE_OCTETS || title.chars().any(char::is_control) {
        let problem = "must have at most 256 octets and no control characters";
        return Err(GatewayError::Invalid { name: "title", problem });
    }
    Ok(())
}
