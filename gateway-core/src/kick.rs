//! Ending the sessions of a user, on every node: the broker tells all of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mq_bridge::{Broker, BrokerError, Headers, Message, Publish, Source, SubscribeOptions};
use uuid::Uuid;

use crate::address;
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::names::UserName;
use crate::sessions::SessionTable;

/// Whose sessions end.
const USER: &str = "im.user";
/// Which gateway says so; it has ended its own.
const FROM: &str = "im.node";
/// How soon the broker is asked again that did not let listen.
const AGAIN: Duration = Duration::from_secs(1);

impl Gateway {
    /// Ends every session of a user, on all nodes that share the broker, with an ERROR that says `reason`. Gives how
    /// many there were on this node. The user may sign in again: that is the authenticator's business.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Broker`] where other nodes could not be told; the sessions of this node have ended.
    pub async fn kick(&self, user: &UserName, reason: &str) -> Result<usize, GatewayError> {
        let inner = &self.inner;
        let ended = inner.sessions.end(user, reason);
        let mut headers = Headers::builder();
        headers.push(USER, user.as_str());
        headers.push(FROM, inner.id.to_string());
        let message = Message::new(Bytes::copy_from_slice(reason.as_bytes()))
            .with_headers(headers.build())
            .with_persistent(false);
        inner.broker.publish(Publish::to_topic(address::KICK, message)).await?;
        Ok(ended)
    }
}

/// Ends the sessions of this node that another one says are to end, until the broker is shut down.
pub(crate) async fn listen(broker: Arc<dyn Broker>, sessions: Arc<SessionTable>, me: Uuid) {
    let me = me.to_string();
    loop {
        match broker.subscribe(Source::topic(address::KICK), SubscribeOptions::new()).await {
            Ok(mut live) => {
                while let Some(batch) = live.recv().await {
                    batch.iter().for_each(|delivery| end(&delivery.message, &sessions, &me));
                }
            }
            Err(BrokerError::ShutDown) => return,
            Err(error) => tracing::warn!(%error, "sessions cannot be ended by other nodes"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn end(message: &Message, sessions: &SessionTable, me: &str) {
    let headers = &message.headers;
    let user = headers.get_str(USER).and_then(|user| UserName::new(user).ok());
    if let (Some(user), Ok(reason)) = (user, std::str::from_utf8(&message.body))
        && headers.get_str(FROM) != Some(me)
    {
        sessions.end(&user, reason);
    }
}
