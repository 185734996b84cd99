use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::Stream;
use stomp_codec::client::SubscriptionHandle;
use stomp_codec::view;
use tokio::sync::mpsc;

use super::request::PendingReceipt;
use super::{Client, ClientError};

/// The messages of one subscription
///
/// Take them with [`recv`](Self::recv), or as a [`Stream`] that ends with the connection. Dropping it unsubscribes.
///
/// Messages that are not taken wait, up to [`ConnectOptions::buffer`](super::ConnectOptions::buffer) octets over all
/// subscriptions of the client; then the client stops reading, RECEIPTs included.
#[derive(Debug)]
pub struct Subscription {
    client: Client,
    handle: SubscriptionHandle,
    messages: mpsc::UnboundedReceiver<view::Message>,
    ended: bool,
}

impl Subscription {
    pub(super) const fn new(
        client: Client,
        handle: SubscriptionHandle,
        messages: mpsc::UnboundedReceiver<view::Message>,
    ) -> Self {
        Self { client, handle, messages, ended: false }
    }

    /// The next message.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no message is lost.
    ///
    /// # Errors
    ///
    /// [`ClientError::Closed`] when the connection has ended and all messages were taken.
    pub async fn recv(&mut self) -> Result<view::Message, ClientError> {
        match self.messages.recv().await {
            Some(message) => {
                self.client.shared.taken(&message);
                Ok(message)
            }
            None => Err(ClientError::Closed(self.client.closed().await)),
        }
    }

    /// The next message, if one has arrived.
    pub fn try_recv(&mut self) -> Option<view::Message> {
        let message = self.messages.try_recv().ok()?;
        self.client.shared.taken(&message);
        Some(message)
    }

    /// Ends the subscription, with further headers on the UNSUBSCRIBE, and waits for its RECEIPT. Messages that were
    /// not taken are dropped.
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn unsubscribe(
        mut self,
        headers: &[(&str, &str)],
    ) -> Result<view::Receipt, ClientError> {
        self.ended = true;
        let handle = self.handle;
        let receipt = self
            .client
            .shared
            .command(|session| session.unsubscribe(handle, headers, true))
            .await?;
        self.client.shared.forget(handle);
        PendingReceipt::new(receipt).await
    }
}

impl Stream for Subscription {
    type Item = view::Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<view::Message>> {
        let message = ready!(self.messages.poll_recv(cx));
        if let Some(message) = &message {
            self.client.shared.taken(message);
        }
        Poll::Ready(message)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        while self.try_recv().is_some() {}
        self.client.shared.forget(self.handle);
        if !self.ended {
            let handle = self.handle;
            self.client.shared.command_now(|session| {
                // Nothing to end where the connection has ended.
                let _ = session.unsubscribe(handle, &[], false);
            });
        }
    }
}
