//! What sessions that come and go are to the presence of their users.

use std::sync::Arc;
use std::time::Duration;

use mq_bridge::Message;

use super::{Presence, Ticket};
use crate::error::GatewayError;
use crate::gateway::Inner;
use crate::names::UserName;
use crate::outgoing;

/// How long a person stays online after the last session ended: a page reload is no news.
const GRACE: Duration = Duration::from_secs(3);

impl Inner {
    /// Notes that a session of `user` began.
    pub(crate) fn enter(&self, user: &UserName) {
        self.people.enter(user);
    }

    /// Notes that a session of `user`, `away` or not, ended.
    pub(crate) fn leave(self: &Arc<Self>, user: &UserName, away: bool) {
        self.expire_later(self.people.leave(user, away, self.clock.now_millis()));
    }

    /// Notes that a session of `user` is `away` now and was not, or the other way round.
    pub(crate) fn set_away(self: &Arc<Self>, user: &UserName, away: bool) {
        self.expire_later(self.people.set_away(user, away));
    }

    fn expire_later(self: &Arc<Self>, ticket: Option<Ticket>) {
        let Some(mut ticket) = ticket else { return };
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(GRACE) => {}
                    () = inner.stop.cancelled() => {}
                }
                match inner.people.expire(ticket) {
                    Some(later) => ticket = later,
                    None => return,
                }
            }
        });
    }

    pub(crate) async fn presence_message(&self, user: &UserName) -> Result<Message, GatewayError> {
        let presence = self.people.presence(std::slice::from_ref(user)).await?;
        let presence = presence.first().copied().unwrap_or(Presence::offline(None));
        Ok(outgoing::presence(user, presence, self.clock.now_millis()))
    }
}
