//! Groups: who is in them, and the message that tells of each change.

use crate::address;
use crate::destination::Destination;
use crate::directory::Role;
use crate::error::{GatewayError, RefusedError};
use crate::gateway::{Gateway, member_body, new_message};
use crate::names::{ConversationId, GroupName, UserName};
use crate::send::{SendKind, SendRequest};
use crate::store::{Marker, MessageKind};

const NOT_A_MEMBER: GatewayError =
    GatewayError::Refused(RefusedError::Denied("no such group, or you are not a member"));

impl Gateway {
    /// Makes a group; `owner` owns it, `members` are its plain members.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Directory`] where the name is taken or a member does not exist.
    pub async fn create_group(
        &self,
        owner: &UserName,
        group: &GroupName,
        members: &[UserName],
    ) -> Result<(), GatewayError> {
        self.inner.directory.create_group(group, owner, members).await?;
        self.tell(owner, group, "created", owner, None).await
    }

    /// Adds a member; no error if there is one already.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Refused`] unless `actor` is owner or admin; [`GatewayError::Directory`] where
    /// the user does not exist.
    pub async fn add_member(
        &self,
        actor: &UserName,
        group: &GroupName,
        user: &UserName,
    ) -> Result<(), GatewayError> {
        if self.role(group, actor).await? < Role::Admin {
            return Err(RefusedError::Denied("only an owner or an admin adds members").into());
        }
        if self.inner.directory.add_member(group, user, Role::Member).await? {
            // What was said before is no news to the new member.
            let conversation = ConversationId::group(group);
            let said = self.inner.store.position(&conversation).await?.last_seq;
            self.inner.store.mark(&conversation, user, Marker::Read, said).await?;
            self.tell(actor, group, "added", user, None).await?;
        }
        Ok(())
    }

    /// Removes a member, who may be `actor`: then it is leaving.
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
        let role = self.role(group, actor).await?;
        if actor != user {
            let other = self.inner.directory.role(group, user).await?;
            if role != Role::Owner && Some(role) <= other.max(Some(Role::Member)) {
                return Err(
                    RefusedError::Denied("only an owner or an admin removes members").into()
                );
            }
        }
        if self.inner.directory.remove_member(group, user).await? {
            let action = if actor == user { "left" } else { "removed" };
            self.tell(actor, group, action, user, Some(user)).await?;
        }
        Ok(())
    }

    async fn role(&self, group: &GroupName, user: &UserName) -> Result<Role, GatewayError> {
        self.inner.directory.role(group, user).await?.ok_or(NOT_A_MEMBER)
    }

    /// Stores the change in the group's conversation and tells the members, and whoever was one.
    async fn tell(
        &self,
        actor: &UserName,
        group: &GroupName,
        action: &str,
        user: &UserName,
        also: Option<&UserName>,
    ) -> Result<(), GatewayError> {
        let conversation = ConversationId::group(group);
        let people = self.inner.directory.participants(&conversation).await?;
        let destination = Destination::Group(group.clone());
        let mut request = SendRequest::new(actor.clone(), destination, member_body(action, user))
            .with_header("content-type", "application/json")?;
        request.kind = SendKind::Stored(MessageKind::Member);
        let mut message = new_message(conversation, request, &people);
        message.targets.extend(also.map(address::inbox));
        self.inner.submit_new(message).await?.await?;
        Ok(())
    }
}
