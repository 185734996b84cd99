//! What a client sends.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use mq_bridge::{BrokerError, Publish, Target};
use stomp_codec::server::AckMode;
use stomp_codec::{ByteStr, view};
use tracing::Instrument as _;
use uuid::Uuid;

use super::run::{Session, Who};
use super::subscribe::{self, declare_queue};
use crate::auth::is_guest;
use crate::destination::Destination;
use crate::error::GatewayError;
use crate::gateway::Inner;
use crate::names::UserName;
use crate::send::{SendRequest, Sent, check_key};
use crate::submit::{send_action, shown, target_of};
use crate::trace::{self, TRACEPARENT};

/// Where a client sends a new token, before the one that it signed in with ends.
const RENEW: &str = "/session/renew";

/// Where a client says whether anybody looks at it.
const PRESENCE: &str = "/session/presence";

/// What comes of a SEND.
pub(super) enum Outcome {
    /// It is done already: nothing to wait for.
    Done(Sent),
    Waiting(BoxFuture<'static, Result<Sent, GatewayError>>),
}

/// Where a `destination` leads. A session keeps the last one: mostly the next SEND goes there too.
#[derive(Debug)]
pub(super) struct Route {
    text: String,
    destination: Destination,
    /// What its receivers see.
    shown: String,
    /// `None` for conversations.
    target: Option<Target>,
    /// The queue was declared in this session.
    declared: bool,
}

impl Route {
    fn new(user: &UserName, text: &str) -> Result<Self, GatewayError> {
        let destination = Destination::parse(text)?;
        let conversation = destination.conversation(user).is_some();
        let target = if conversation { None } else { Some(target_of(user, &destination)?) };
        let shown = shown(&destination);
        Ok(Self { text: text.to_owned(), destination, shown, target, declared: false })
    }
}

impl Session {
    /// Hands a SEND in. What comes back is its outcome.
    pub(super) async fn on_send(&mut self, send: &view::Send) -> Result<Outcome, GatewayError> {
        let parent = send.header(TRACEPARENT);
        let Some(span) = parent.and_then(|parent| trace::sending(&parent)) else {
            // In a box of its own: the session's future would have room for it also while it is idle.
            return Box::pin(self.hand_in(send)).await;
        };
        match Box::pin(self.hand_in(send)).instrument(span.clone()).await? {
            Outcome::Waiting(outcome) => Ok(Outcome::Waiting(outcome.instrument(span).boxed())),
            done @ Outcome::Done(_) => Ok(done),
        }
    }

    async fn hand_in(&mut self, send: &view::Send) -> Result<Outcome, GatewayError> {
        let who = self.who()?;
        let text = send.destination().unwrap_or_default();
        let known = self.route.take().filter(|route| route.text == text);
        let destination = match &known {
            Some(route) => &route.destination,
            None if text == RENEW => return self.renew(&who.user, send).await,
            None if text == PRESENCE => return self.say_presence(&who.user, send),
            None => &Destination::parse(&text)?,
        };
        let action = send_action(destination, is_signal(send));
        self.inner.authorize(&who.user, action, destination).await?;
        // A client tells by itself what was delivered; all else says that somebody is there.
        if self.away && send.header("kind").as_deref() != Some("delivered") {
            self.set_away(&who.user, false);
        }
        let mut route = match known {
            Some(route) => route,
            None => Route::new(&who.user, &text)?,
        };
        let outcome = match route.target.clone() {
            Some(target) if self.inner.interceptors.is_empty() => {
                self.publish(&who, &mut route, target, send).await
            }
            _ => Box::pin(self.submit(&who, &route, send)).await,
        };
        self.route = Some(route);
        outcome
    }

    fn say_presence(
        &mut self,
        user: &UserName,
        send: &view::Send,
    ) -> Result<Outcome, GatewayError> {
        let away = match &*send.body_bytes() {
            b"away" => true,
            b"online" => false,
            _ => {
                let problem = "must be away or online";
                return Err(GatewayError::Invalid { name: "body", problem });
            }
        };
        self.set_away(user, away);
        Ok(Outcome::Done(Sent::Published))
    }

    fn set_away(&mut self, user: &UserName, away: bool) {
        if std::mem::replace(&mut self.away, away) != away && !is_guest(user) {
            self.inner.set_away(user, away);
        }
    }

    /// A message of a conversation.
    async fn submit(
        &mut self,
        who: &Who,
        route: &Route,
        send: &view::Send,
    ) -> Result<Outcome, GatewayError> {
        let destination = route.destination.clone();
        let mut request = SendRequest::new(who.user.clone(), destination, send.body_bytes())
            .with_device(who.device.clone());
        if let Some(kind) = send.header("kind") {
            request = request.with_kind(&kind, send.header("up-to").as_deref())?;
        }
        let reply = self.reply_to(send).await?;
        for (name, value) in send.frame().headers() {
            let value = reply.as_deref().filter(|_| name == "reply-to").unwrap_or(&value);
            request = request.with_header(&name, value)?;
        }
        Ok(Outcome::Waiting(self.inner.submit(request).await?))
    }

    /// A message to a queue, a topic or a user destination: straight from the frame to the broker.
    async fn publish(
        &mut self,
        who: &Who,
        route: &mut Route,
        target: Target,
        send: &view::Send,
    ) -> Result<Outcome, GatewayError> {
        if let Some(key) = send.header("idempotency-key") {
            check_key(&key)?;
        }
        let reply = self.reply_to(send).await?;
        let replaced = send.frame().headers().map(|(name, value)| match &reply {
            Some(target) if name == "reply-to" => (name, target.as_str().into()),
            _ => (name, value),
        });
        let message = self.inner.transient(&who.user, &route.shown, replaced, send.body_bytes());
        if let (Target::Queue(name), false) = (&target, route.declared) {
            Box::pin(declare_queue(&self.inner, name)).await?;
            route.declared = true;
        }
        let broker = &self.inner.broker;
        let mut confirm = broker.publish(Publish::new(vec![target.clone()], message.clone()));
        let inner = Arc::clone(&self.inner);
        // Somebody may have deleted the queue since it was declared.
        let again = async move || {
            if let Target::Queue(name) = &target {
                declare_queue(&inner, name).await?;
            }
            let confirm = inner.broker.publish(Publish::new(vec![target], message));
            confirm.await.map_err(GatewayError::from)
        };
        match (&mut confirm).now_or_never() {
            Some(Ok(())) => {}
            Some(Err(BrokerError::NotDeclared { .. })) => Box::pin(again()).await?,
            Some(Err(error)) => return Err(error.into()),
            None => {
                return Ok(Outcome::Waiting(Box::pin(async move {
                    match confirm.await {
                        Err(BrokerError::NotDeclared { .. }) => again().await?,
                        outcome => outcome?,
                    }
                    Ok(Sent::Published)
                })));
            }
        }
        Ok(Outcome::Done(Sent::Published))
    }

    /// What the receivers get as `reply-to`, where it names a target of this session.
    async fn reply_to(&mut self, send: &view::Send) -> Result<Option<String>, GatewayError> {
        match send.header("reply-to") {
            Some(reply_to) => Box::pin(self.reply_target(&reply_to)).await,
            None => Ok(None),
        }
    }

    /// The name under which others reach this session's `/temp-queue/NAME`; `None` for a `reply-to`
    /// that is something else.
    async fn reply_target(&mut self, reply_to: &str) -> Result<Option<String>, GatewayError> {
        let Ok(Destination::TempQueue(name)) = Destination::parse(reply_to) else {
            return Ok(None);
        };
        if !self.replies.contains_key(&name) {
            let id = Uuid::new_v4().simple().to_string();
            let opened = subscribe::open_reply(&self.inner, &id).await?;
            let subscription = self
                .connection
                .session()
                .open_subscription(&ByteStr::from(reply_to.to_owned()), AckMode::Auto)
                .map_err(|_| GatewayError::Invalid {
                    name: "reply-to",
                    problem: "a subscription has this name, or there are too many subscriptions",
                })?;
            self.add(subscription, AckMode::Auto, opened);
            self.replies.insert(name.clone(), id);
        }
        Ok(self.replies.get(&name).map(|id| Destination::ReplyQueue(id.clone()).to_string()))
    }
}

/// Parses and authorizes a SEND.
pub(super) async fn check_send(
    inner: &Inner,
    user: &UserName,
    send: &view::Send,
) -> Result<Destination, GatewayError> {
    let destination = Destination::parse(&send.destination().unwrap_or_default())?;
    inner.authorize(user, send_action(&destination, is_signal(send)), &destination).await?;
    Ok(destination)
}

fn is_signal(send: &view::Send) -> bool {
    send.header("kind").is_some_and(|kind| matches!(&*kind, "read" | "delivered" | "typing"))
}
