//! What somebody sends: who gets it, and how it is handed in.

use std::future::Future;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use mq_bridge::{BrokerError, Message, Publish, Target};

use crate::address;
use crate::authorizer::Action;
use crate::changes::change_of;
use crate::destination::Destination;
use crate::directory::{Contact, DirectoryError, Role};
use crate::error::{GatewayError, RefusedError};
use crate::gateway::Inner;
use crate::interceptor::intercept;
use crate::names::{ConversationId, ConversationKind, EVERYBODY, UserName};
use crate::outgoing::{self, Stamp};
use crate::send::{SendKind, SendRequest, Sent};
use crate::session::declare_queue;
use crate::store::{Marker, MessageId, NewMessage};
use crate::trace;

/// Who gets a message.
struct Audience {
    people: Vec<UserName>,
    /// What its sender is in the group.
    role: Option<Role>,
    /// Why its sender may not speak here now.
    refused: Option<&'static str>,
}

impl Inner {
    /// Hands in what was authorized; waits only for room. The inner future is the receipt.
    pub(crate) async fn submit(
        &self,
        mut request: SendRequest,
    ) -> Result<BoxFuture<'static, Result<Sent, GatewayError>>, GatewayError> {
        if !self.interceptors.is_empty() {
            intercept(&self.interceptors, &mut request).await?;
        }
        trace::drop_stray(&mut request.headers);
        if let Some(conversation) = request.destination.conversation(&request.from) {
            return match request.kind {
                SendKind::Stored(_) => self.submit_message(conversation, request).await,
                _ => self.submit_signal(conversation, request).await,
            };
        }
        let SendRequest { from, destination, headers, body, .. } = request;
        let target = target_of(&from, &destination)?;
        if let Target::Queue(name) = &target {
            declare_queue(self, name).await?;
        }
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let message = self.transient(&from, &shown(&destination), headers, body);
        Ok(self.publish(vec![target], message).boxed())
    }

    async fn submit_message(
        &self,
        conversation: ConversationId,
        request: SendRequest,
    ) -> Result<BoxFuture<'static, Result<Sent, GatewayError>>, GatewayError> {
        let _sending = match &request.destination {
            Destination::Group(group) => self.groups.sending(group).await,
            _ => None,
        };
        let audience = self.audience(&conversation, &request.from).await?;
        if let Some(refused) = audience.refused {
            return Err(RefusedError::Denied(refused).into());
        }
        let change = match request.kind {
            SendKind::Stored(kind) => {
                let (limit, now) = (self.settings.recall_limit, self.clock.now_millis());
                change_of(kind, &request, audience.role, limit, now)?
            }
            _ => None,
        };
        let mut message = new_message(conversation, request, &audience.people);
        message.change = change;
        if let (Some(policy), true) = (&self.settings.storage, message.kind.follows_policy()) {
            message.keep = policy.keep(&message);
        }
        self.submit_new(message).await
    }

    /// Whether `from`, who may send there, may speak there now.
    pub(crate) async fn check_speaking(
        &self,
        conversation: &ConversationId,
        from: &UserName,
    ) -> Result<(), GatewayError> {
        match self.audience(conversation, from).await?.refused {
            // Not hidden, as what is denied is: a member may know that the group exists.
            Some(refused) => Err(RefusedError::Rejected(refused.to_owned()).into()),
            None => Ok(()),
        }
    }

    /// Who gets a message of `from`.
    async fn audience(
        &self,
        conversation: &ConversationId,
        from: &UserName,
    ) -> Result<Audience, GatewayError> {
        let group = match conversation.kind() {
            ConversationKind::Direct(..) => {
                return self.direct_audience(conversation, from).await;
            }
            ConversationKind::Broadcast(to) => {
                // Everybody is addressed at once. Who may speak here may take back what others said.
                let everybody = to.as_str() == EVERYBODY;
                let members = if everybody { None } else { self.directory.members(&to).await? };
                if members.is_none() && !everybody {
                    return Err(DirectoryError::NoSuchGroup(to).into());
                }
                let people = members.unwrap_or_default().into_iter().map(|member| member.user);
                let people = people.collect();
                return Ok(Audience { people, role: Some(Role::Admin), refused: None });
            }
            ConversationKind::Group(group) => group,
        };
        let members = self.directory.members(&group).await?;
        let members = members.ok_or(DirectoryError::NoSuchGroup(group))?;
        let sender = members.iter().find(|member| member.user == *from);
        let role = sender.map(|member| member.role);
        let muted_until = sender.and_then(|member| member.muted_until);
        let muted = muted_until.is_some_and(|until| until > self.clock.now_millis());
        let refused = muted.then_some("you are muted in this group");
        let people = members.into_iter().map(|member| member.user).collect();
        Ok(Audience { people, role, refused })
    }

    async fn direct_audience(
        &self,
        conversation: &ConversationId,
        from: &UserName,
    ) -> Result<Audience, GatewayError> {
        let peer = conversation.peer_of(from).unwrap_or_else(|| from.clone());
        let refused = match self.directory.contact(from, &peer).await? {
            Contact::Open => None,
            Contact::Blocks => Some("you have blocked this person"),
            Contact::Blocked => Some("this person takes no messages from you"),
        };
        let mut people = vec![from.clone()];
        // Who does not talk to the other keeps the own devices in step all the same.
        if refused.is_none() && peer != *from {
            people.push(peer);
        }
        Ok(Audience { people, role: None, refused })
    }

    /// Stores and distributes a message whose targets are known.
    pub(crate) async fn submit_new(
        &self,
        message: NewMessage,
    ) -> Result<BoxFuture<'static, Result<Sent, GatewayError>>, GatewayError> {
        let limit = self.broker.capabilities().max_message();
        // Room for the headers that are added; a message that the broker refuses for good must not
        // get into the store.
        if message.body.len().saturating_add(64 * 1024) > limit {
            return Err(BrokerError::TooLarge { size: message.body.len(), limit }.into());
        }
        let receipt = self.pipeline()?.send(message).await?;
        Ok(async move { receipt.await.map(Sent::Stored) }.boxed())
    }

    async fn submit_signal(
        &self,
        conversation: ConversationId,
        request: SendRequest,
    ) -> Result<BoxFuture<'static, Result<Sent, GatewayError>>, GatewayError> {
        let (kind, up_to, marker) = match request.kind {
            SendKind::Delivered(up_to) => ("delivered", Some(up_to), Some(Marker::Delivered)),
            SendKind::Read(up_to) => ("read", Some(up_to), Some(Marker::Read)),
            _ => ("typing", None, None),
        };
        let mut up_to = up_to;
        if let (Some(seq), Some(marker)) = (up_to, marker) {
            let marks = self.store.mark(&conversation, &request.from, marker, seq).await?;
            if !marks.moved {
                return Ok(futures::future::ready(Ok(Sent::Published)).boxed());
            }
            up_to = Some(if marker == Marker::Read { marks.read } else { marks.delivered });
        }
        let audience = if conversation.is_broadcast() {
            // How far somebody has read is for the own devices.
            Audience { people: vec![request.from.clone()], role: None, refused: None }
        } else {
            self.audience(&conversation, &request.from).await?
        };
        if marker.is_none() && audience.refused.is_some() {
            return Ok(futures::future::ready(Ok(Sent::Published)).boxed());
        }
        let stamp = Stamp {
            destination: &request.destination.to_string(),
            message_id: MessageId::generate(),
            from: Some(request.from.as_str()),
            timestamp: self.clock.now_millis(),
        };
        let message = outgoing::signal(&stamp, &conversation, kind, up_to, request.device.as_ref());
        let targets = audience.people.iter();
        let targets = targets.map(|user| Target::topic(address::live(user))).collect();
        Ok(self.publish(targets, message).boxed())
    }

    /// The message of a SEND that belongs to no conversation. Its receivers see `destination`.
    pub(crate) fn transient<N: AsRef<str>, V: AsRef<str>>(
        &self,
        from: &UserName,
        destination: &str,
        headers: impl Iterator<Item = (N, V)>,
        body: Bytes,
    ) -> Message {
        let stamp = Stamp {
            destination,
            message_id: MessageId::generate(),
            from: Some(from.as_str()),
            timestamp: self.clock.now_millis(),
        };
        outgoing::from_send(&stamp, headers, body)
    }

    fn publish(
        &self,
        targets: Vec<Target>,
        message: Message,
    ) -> impl Future<Output = Result<Sent, GatewayError>> + Send + use<> {
        let confirm = self.broker.publish(Publish::new(targets, message));
        async move { Ok(confirm.await.map(|()| Sent::Published)?) }
    }
}

/// What a SEND asks permission for. Who reads what operators tell says how far, and no more.
pub(crate) const fn send_action(destination: &Destination, signal: bool) -> Action {
    if signal && matches!(destination, Destination::Broadcast(_)) {
        Action::Read
    } else {
        Action::Send
    }
}

/// Where a SEND that belongs to no conversation goes.
pub(crate) fn target_of(
    from: &UserName,
    destination: &Destination,
) -> Result<Target, GatewayError> {
    Ok(match destination {
        Destination::Queue(name) => Target::queue(address::queue(name)),
        Destination::Topic(name) => Target::topic(address::topic(name)),
        Destination::ReplyQueue(id) => Target::topic(address::reply(id)),
        Destination::UserDestination(user, to) => {
            Target::topic(address::user_destination(user, to))
        }
        Destination::OwnUserDestination(to) => Target::topic(address::user_destination(from, to)),
        _ => {
            let problem = "takes no SEND";
            return Err(GatewayError::Invalid { name: "destination", problem });
        }
    })
}

/// The destination that the receivers of a SEND see: for a user destination, their own name of it.
pub(crate) fn shown(destination: &Destination) -> String {
    match destination {
        Destination::UserDestination(_, to) => {
            Destination::OwnUserDestination(to.clone()).to_string()
        }
        other => other.to_string(),
    }
}

/// The message that a request stores, and where it goes.
pub(crate) fn new_message(
    conversation: ConversationId,
    request: SendRequest,
    people: &[UserName],
) -> NewMessage {
    let targets = people
        .iter()
        .map(address::inbox)
        .chain(std::iter::once(address::conversation(&conversation)))
        .chain(conversation.is_everybody().then(|| address::EVERYBODY.to_owned()));
    let mut message =
        NewMessage::new(conversation, request.from, request.body).with_targets(targets);
    message.device = request.device;
    if let SendKind::Stored(kind) = request.kind {
        message.kind = kind;
    }
    message.idempotency_key = request.idempotency_key;
    message.headers = request.headers;
    message
}
