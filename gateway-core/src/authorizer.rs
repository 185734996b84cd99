mod guests;
mod rules;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::destination::Destination;
use crate::directory::{Contact, Directory};
use crate::error::RefusedError;
use crate::names::{ConversationId, EVERYBODY, UserName};
use crate::store::MessageStore;

pub use guests::Closed;
pub use rules::{InvalidRule, Rule, Rules};

/// What somebody wants to do with a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// SEND to it.
    Send,
    /// SUBSCRIBE to it.
    Subscribe,
    /// Read what is stored of it.
    Read,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Send => "send to",
            Self::Subscribe => "subscribe to",
            Self::Read => "read",
        })
    }
}

/// Decides who may do what: the one place that sees user, action and resolved destination.
///
/// It is asked before anything is published, subscribed, replayed or read. What it does not
/// allow is refused (promise P8).
#[async_trait]
pub trait Authorizer: fmt::Debug + Send + Sync + 'static {
    /// Allows, or refuses with a reason that the user may see.
    ///
    /// # Errors
    ///
    /// [`RefusedError::Denied`] refuses; [`RefusedError::Unavailable`] refuses for now, where the
    /// decision could not be made.
    ///
    /// # Cancel safety
    ///
    /// Must be cancel safe: a connection that goes away drops the question.
    async fn authorize(
        &self,
        user: &UserName,
        action: Action,
        destination: &Destination,
    ) -> Result<(), RefusedError>;
}

/// The default authorizer: closed but for people and the groups they are in.
///
/// - a direct message may go to any existing user, and both may read the conversation;
/// - a group is for its members;
/// - what operators tell is read by the members of the group, or by everybody, and said by
///   [`broadcasters`](Self::broadcasters) only;
/// - an inbox is its owner's;
/// - presence is for the user, and for those who share a conversation with the user and are not blocked;
/// - the user's own user destinations may be subscribed;
/// - `/queue`, `/topic` and sending to another's user destination are refused, unless
///   [`open`](Self::open) was called; [`Rules`] open some of them.
#[derive(Clone, Debug)]
pub struct MembersOnly {
    directory: Arc<dyn Directory>,
    store: Arc<dyn MessageStore>,
    broadcasters: Arc<HashSet<UserName>>,
    open: bool,
}

impl MembersOnly {
    /// Closed, with the members of `directory` and the direct conversations of `store`.
    #[must_use]
    pub fn new(directory: Arc<dyn Directory>, store: Arc<dyn MessageStore>) -> Self {
        Self { directory, store, broadcasters: Arc::default(), open: false }
    }

    /// Lets these users send to `/broadcast/...`. Default: nobody.
    #[must_use]
    pub fn broadcasters(mut self, users: impl IntoIterator<Item = UserName>) -> Self {
        self.broadcasters = Arc::new(users.into_iter().collect());
        self
    }

    /// Lets any signed-in user use any `/queue`, `/topic` and user destination, as a fresh
    /// RabbitMQ does.
    #[must_use]
    pub fn open(mut self, open: bool) -> Self {
        self.open = open;
        self
    }

    async fn share_conversation(
        &self,
        one: &UserName,
        other: &UserName,
    ) -> Result<bool, RefusedError> {
        if self.directory.share_group(one, other).await? {
            return Ok(true);
        }
        Ok(self.store.position(&ConversationId::direct(one, other)).await?.last_seq > 0)
    }

    fn if_open(&self) -> Result<(), RefusedError> {
        if self.open {
            Ok(())
        } else {
            Err(RefusedError::Denied("this destination is not open to users"))
        }
    }
}

#[async_trait]
impl Authorizer for MembersOnly {
    async fn authorize(
        &self,
        user: &UserName,
        action: Action,
        destination: &Destination,
    ) -> Result<(), RefusedError> {
        match destination {
            Destination::User(other) => {
                if self.directory.user_exists(other).await? {
                    Ok(())
                } else {
                    Err(RefusedError::Denied("no such user"))
                }
            }
            Destination::Group(group) => {
                if self.directory.role(group, user).await?.is_some() {
                    Ok(())
                } else {
                    Err(RefusedError::Denied("no such group, or you are not a member"))
                }
            }
            Destination::Broadcast(_) if self.broadcasters.contains(user) => Ok(()),
            Destination::Broadcast(_) if action == Action::Send => {
                Err(RefusedError::Denied("only operators broadcast"))
            }
            Destination::Broadcast(to) if to.as_str() == EVERYBODY => Ok(()),
            Destination::Broadcast(to) => {
                if self.directory.role(to, user).await?.is_some() {
                    Ok(())
                } else {
                    Err(RefusedError::Denied("no such group, or you are not a member"))
                }
            }
            Destination::Inbox if action != Action::Send => Ok(()),
            Destination::Inbox => Err(RefusedError::Denied("an inbox takes no SEND")),
            Destination::Presence(_) if action == Action::Send => {
                Err(RefusedError::Denied("presence takes no SEND"))
            }
            Destination::Presence(other) => {
                if user == other
                    || self.share_conversation(user, other).await?
                        && self.directory.contact(user, other).await? != Contact::Blocked
                {
                    Ok(())
                } else {
                    Err(RefusedError::Denied("no such user, or you share no conversation"))
                }
            }
            Destination::OwnUserDestination(_) if action == Action::Subscribe => Ok(()),
            // The random name is the permission: only who was sent it knows it.
            Destination::ReplyQueue(_) if action == Action::Send => Ok(()),
            Destination::Queue(_)
            | Destination::Topic(_)
            | Destination::OwnUserDestination(_)
            | Destination::UserDestination(..) => self.if_open(),
            Destination::TempQueue(_) | Destination::ReplyQueue(_) => {
                Err(RefusedError::Denied("a temporary queue is named in reply-to only"))
            }
        }
    }
}
