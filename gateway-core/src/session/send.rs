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
use crate::authorizer::Action;
use crate::destination::{Destination, DestinationError};
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
    ///
    /// What is rare is in boxes that are made when they are needed: the session's future has room for what a SEND
    /// waits for also while it is idle.
    pub(super) async fn on_send(&mut self, send: &view::Send) -> Result<Outcome, GatewayError> {
        let names = ["destination", "kind", TRACEPARENT];
        let [destination, kind, parent] = send.frame().headers_named(names);
        let known = self.route.as_ref().filter(|route| destination.as_deref() == Some(&route.text));
        let action = known.map(|route| send_action(&route.destination, is_signal(kind.as_deref())));
        let Some(span) = parent.and_then(|parent| trace::sending(&parent)) else {
            return self.hand_in(send, action).await;
        };
        match Box::pin(self.hand_in(send, action)).instrument(span.clone()).await? {
            Outcome::Waiting(outcome) => Ok(Outcome::Waiting(outcome.instrument(span).boxed())),
            done @ Outcome::Done(_) => Ok(done),
        }
    }

    /// Hands a SEND in that goes where the last one went, for which `action` is to be allowed, or somewhere else.
    async fn hand_in(
        &mut self,
        send: &view::Send,
        action: Option<Action>,
    ) -> Result<Outcome, GatewayError> {
        let who = self.who()?;
        match (&self.route, action) {
            (Some(route), Some(action)) => {
                self.inner.authorize(&who.user, action, &route.destination).await?;
            }
            _ => {
                if let Some(done) = Box::pin(self.open_route(&who, send)).await? {
                    return Ok(done);
                }
            }
        }
        // A client tells by itself what was delivered; all else says that somebody is there.
        if self.away && send.header("kind").as_deref() != Some("delivered") {
            self.set_away(&who.user, false);
        }
        let target = self.route.as_ref().and_then(|route| route.target.as_ref());
        if target.is_some() && self.inner.interceptors.is_empty() {
            self.publish(&who, send).await
        } else {
            Box::pin(self.submit(&who, send)).await
        }
    }

    /// Finds out where a SEND leads, if it may. What it says to this session itself is done at once.
    async fn open_route(
        &mut self,
        who: &Who,
        send: &view::Send,
    ) -> Result<Option<Outcome>, GatewayError> {
        let text = send.destination().unwrap_or_default();
        match &*text {
            RENEW => return self.renew(&who.user, send).await.map(Some),
            PRESENCE => return self.say_presence(&who.user, send).map(Some),
            _ => {}
        }
        check_send(&self.inner, &who.user, send).await?;
        self.route = Some(Route::new(&who.user, &text)?);
        Ok(None)
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

    /// A message of a conversation, or one that others look at first.
    async fn submit(&mut self, who: &Who, send: &view::Send) -> Result<Outcome, GatewayError> {
        let reply = match send.header("reply-to") {
            Some(reply_to) => self.reply_target(&reply_to).await?,
            None => None,
        };
        let Some(route) = &self.route else { return Err(DestinationError::Empty.into()) };
        let destination = route.destination.clone();
        let mut request = SendRequest::new(who.user.clone(), destination, send.body_bytes())
            .with_device(who.device.clone());
        if let Some(kind) = send.header("kind") {
            request = request.with_kind(&kind, send.header("up-to").as_deref())?;
        }
        for (name, value) in send.frame().headers() {
            let value = reply.as_deref().filter(|_| name == "reply-to").unwrap_or(&value);
            request = request.with_header(&name, value)?;
        }
        Ok(Outcome::Waiting(self.inner.submit(request).await?))
    }

    /// A message to a queue, a topic or a user destination: straight from the frame to the broker.
    async fn publish(&mut self, who: &Who, send: &view::Send) -> Result<Outcome, GatewayError> {
        let [reply_to, key] = send.frame().headers_named(["reply-to", "idempotency-key"]);
        if let Some(key) = key {
            check_key(&key)?;
        }
        let reply = match reply_to {
            Some(reply_to) => Box::pin(self.reply_target(&reply_to)).await?,
            None => None,
        };
        let Some(Route { target: Some(target), shown, declared, .. }) = &mut self.route else {
            return Err(DestinationError::Empty.into());
        };
        if let (Target::Queue(name), false) = (&*target, *declared) {
            Box::pin(declare_queue(&self.inner, name)).await?;
            *declared = true;
        }
        let replaced = send.frame().headers().map(|(name, value)| match &reply {
            Some(target) if name == "reply-to" => (name, target.as_str().into()),
            _ => (name, value),
        });
        let message = self.inner.transient(&who.user, shown, replaced, send.body_bytes());
        let publish = Publish::new(vec![target.clone()], message.clone());
        let mut confirm = self.inner.broker.publish(publish);
        let decided = match (&mut confirm).now_or_never() {
            Some(Ok(())) => return Ok(Outcome::Done(Sent::Published)),
            decided => decided,
        };
        // What comes next from this session must not overtake it.
        let at_once = decided.is_some();
        let (inner, target) = (Arc::clone(&self.inner), target.clone());
        let outcome: BoxFuture<'static, _> = Box::pin(async move {
            let outcome = match decided {
                Some(outcome) => outcome,
                None => confirm.await,
            };
            match outcome {
                // Somebody may have deleted the queue since it was declared.
                Err(BrokerError::NotDeclared { .. }) => {
                    if let Target::Queue(name) = &target {
                        declare_queue(&inner, name).await?;
                    }
                    inner.broker.publish(Publish::new(vec![target], message)).await?;
                }
                outcome => outcome?,
            }
            Ok(Sent::Published)
        });
        if at_once { outcome.await.map(Outcome::Done) } else { Ok(Outcome::Waiting(outcome)) }
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
    let is_signal = is_signal(send.header("kind").as_deref());
    inner.authorize(user, send_action(&destination, is_signal), &destination).await?;
    Ok(destination)
}

fn is_signal(kind: Option<&str>) -> bool {
    matches!(kind, Some("read" | "delivered" | "typing"))
}
