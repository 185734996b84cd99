//! Push: those who are away are told that something waits for them.
//!
//! What is to be told waits in a durable subscription of the broker to all conversations, as it does for a webhook. So
//! without a notifier no message costs anything, and with one the way of a message is the same.

#[cfg(feature = "webhooks")]
mod http;
#[cfg(test)]
mod tests;
mod worker;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mq_bridge::Source;

use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::names::{ConversationId, UserName};
use crate::store::MessageId;
use worker::Worker;

#[cfg(feature = "webhooks")]
pub use http::HttpNotifier;

/// Where what is to be told waits
const SUBSCRIPTION: &str = "notifier";

/// A message that somebody who is away has not got
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notice {
    /// Its id; the same in a repeat
    pub message_id: MessageId,
    /// Where it was said
    pub conversation: ConversationId,
    /// Its place there
    pub seq: u64,
    /// Who said it
    pub from: UserName,
    /// When, in milliseconds since 1970 (UTC)
    pub timestamp: u64,
    /// What
    pub body: Bytes,
    /// The form of `body`
    pub content_type: Option<String>,
}

/// Why somebody was not told
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotifyError {
    /// Not now: it is tried again
    #[error("{0}")]
    Later(String),
    /// Never: it is given up
    #[error("{0}")]
    Never(String),
}

/// Tells people who are away that something was said to them
#[async_trait]
pub trait Notifier: Debug + Send + Sync + 'static {
    /// Tells `user`, who had no session on any node when it was looked, of messages of others, in the order of each
    /// conversation
    ///
    /// It is called once for each user and batch: what is said within [`NotifyOptions::window`]. After a crash, or where
    /// a node takes over from another, it may be called again with messages that were told before; their ids are the
    /// same.
    ///
    /// # Errors
    ///
    /// [`NotifyError`].
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped is made again.
    async fn notify(&self, user: &UserName, messages: &[Notice]) -> Result<(), NotifyError>;
}

/// How people are told
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NotifyOptions {
    /// How long is waited for more before somebody is told, so that a burst is one notification; who comes back
    /// meanwhile is not told. Default: 2 s
    pub window: Duration,
    /// How often a user is tried to be told of a batch. Default: 5
    pub attempts: u32,
    /// How long is waited after the first failure; twice as long after each further one. Default: 1 s
    pub backoff: Duration,
    /// How many are told at a time. Default: 16
    pub parallel: usize,
}

impl Default for NotifyOptions {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(2),
            attempts: 5,
            backoff: Duration::from_secs(1),
            parallel: 16,
        }
    }
}

impl Gateway {
    /// Tells those who are away by `notifier`, until the gateway is shut down. Must be called within a tokio runtime.
    ///
    /// Of several nodes that do so one tells, and another one when that is gone. At most 256 messages, or 1 MiB of them,
    /// are in one batch.
    pub fn notify_by(&self, notifier: Arc<dyn Notifier>, options: NotifyOptions) {
        let worker = Worker::new(self.clone(), notifier, options);
        self.inner.tasks.spawn(worker.run());
    }

    /// Throws away what waits to be told, where nobody tells any more: without this it would grow.
    ///
    /// # Errors
    ///
    /// What the broker meets.
    pub async fn notify_no_more(&self) -> Result<(), GatewayError> {
        Ok(self.broker().delete(&Source::durable(SUBSCRIPTION)).await?)
    }
}

/// Writes into the log who would be told, and of how many messages; nothing of what they say
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct LogNotifier;

impl LogNotifier {
    /// A notifier that tells the log
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Notifier for LogNotifier {
    async fn notify(&self, user: &UserName, messages: &[Notice]) -> Result<(), NotifyError> {
        tracing::info!(%user, messages = messages.len(), "somebody who is away has messages");
        Ok(())
    }
}
