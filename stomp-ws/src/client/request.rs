use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use stomp_codec::client::{self, Session, TransactionHandle};
use stomp_codec::server::AckMode;
use stomp_codec::{Command, Frame, view};

use super::state::ReceiptReceiver;
use super::{Client, ClientError, Subscription, Transaction};

type Sending<'a, T> = Pin<Box<dyn Future<Output = Result<T, ClientError>> + Send + 'a>>;

/// A frame about to be sent; await it, or one of its methods, to send it
///
/// - `request.await` returns when the frame is on its way: nothing is known of its effect. It waits while much is still
///   to be written.
/// - [`receipt`](Self::receipt) asks for a RECEIPT and returns, when the frame is on its way, a future of it: for many frames
///   in flight.
/// - [`confirmed`](Self::confirmed) asks for a RECEIPT and waits for it.
#[must_use = "nothing is sent unless it is awaited"]
#[derive(Debug)]
pub struct Request<'a> {
    pub(super) client: &'a Client,
    pub(super) operation: Operation<'a>,
    pub(super) transaction: Option<&'a TransactionHandle>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "sends are the common case")]
pub(super) enum Operation<'a> {
    Send(Frame),
    Ack(&'a view::Message),
    Nack(&'a view::Message),
}

impl<'a> Request<'a> {
    pub(super) fn send(client: &'a Client, destination: &str, body: Bytes) -> Self {
        let frame =
            Frame::new(Command::Send).with_header("destination", destination).with_body(body);
        Self { client, operation: Operation::Send(frame), transaction: None }
    }

    /// Adds a header to a SEND. ACK and NACK have none of their own: there it does nothing.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Operation::Send(frame) = &mut self.operation {
            frame.push_header(name, value);
        }
        self
    }

    /// Makes the frame part of a transaction.
    pub const fn in_transaction(mut self, transaction: &'a Transaction) -> Self {
        self.transaction = transaction.handle();
        self
    }

    /// Sends the frame and gives a future of its RECEIPT.
    ///
    /// # Errors
    ///
    /// [`ClientError`]: the frame was not sent.
    pub async fn receipt(self) -> Result<PendingReceipt, ClientError> {
        let receipt = self.submit(true).await?;
        Ok(PendingReceipt::new(receipt))
    }

    /// Sends the frame and waits for its RECEIPT.
    ///
    /// # Errors
    ///
    /// [`ClientError`]: whether the frame took effect is unknown, unless the server says so in its ERROR.
    pub async fn confirmed(self) -> Result<view::Receipt, ClientError> {
        self.receipt().await?.await
    }

    async fn submit(self, receipt: bool) -> Result<Option<ReceiptReceiver>, ClientError> {
        let Self { client, operation, transaction } = self;
        let command = move |session: &mut Session| match operation {
            Operation::Send(frame) => session.send(frame, transaction, receipt),
            Operation::Ack(message) => session.ack(message, transaction, receipt),
            Operation::Nack(message) => session.nack(message, transaction, receipt),
        };
        client.shared.command(command).await
    }
}

impl<'a> IntoFuture for Request<'a> {
    type Output = Result<(), ClientError>;
    type IntoFuture = Sending<'a, ()>;

    fn into_future(self) -> Sending<'a, ()> {
        Box::pin(async move { self.submit(false).await.map(drop) })
    }
}

/// A RECEIPT that will come, or an error that tells why not
#[derive(Debug)]
#[must_use = "the receipt tells whether the frame took effect"]
pub struct PendingReceipt {
    receipt: Option<ReceiptReceiver>,
}

impl PendingReceipt {
    pub(super) const fn new(receipt: Option<ReceiptReceiver>) -> Self {
        Self { receipt }
    }
}

impl Future for PendingReceipt {
    type Output = Result<view::Receipt, ClientError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // The session gives a receipt to every frame that is sent with one; the sender is only dropped by the
        // end of the runtime.
        let lost = Err(ClientError::Command(client::ClientError::NotConnected));
        let Some(receipt) = &mut self.receipt else { return Poll::Ready(lost) };
        Poll::Ready(ready!(Pin::new(receipt).poll(cx)).unwrap_or(lost))
    }
}

/// A SUBSCRIBE about to be sent; await it, or [`confirmed`](Self::confirmed), to send it
#[must_use = "nothing is sent unless it is awaited"]
#[derive(Debug)]
pub struct SubscribeRequest<'a> {
    client: &'a Client,
    destination: &'a str,
    ack: AckMode,
    headers: Vec<(&'a str, &'a str)>,
}

impl<'a> SubscribeRequest<'a> {
    pub(super) const fn new(client: &'a Client, destination: &'a str) -> Self {
        Self { client, destination, ack: AckMode::Auto, headers: Vec::new() }
    }

    /// Sets how messages are acknowledged. Default: `auto`.
    pub const fn ack(mut self, ack: AckMode) -> Self {
        self.ack = ack;
        self
    }

    /// Adds a header; `id` where the name of the subscription matters, as for durable ones.
    pub fn header(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Subscribes and waits for the RECEIPT: on servers that keep to it, nothing sent after that is missed.
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn confirmed(self) -> Result<(Subscription, view::Receipt), ClientError> {
        let (subscription, receipt) = self.submit(true).await?;
        Ok((subscription, receipt.await?))
    }

    async fn submit(self, receipt: bool) -> Result<(Subscription, PendingReceipt), ClientError> {
        let Self { client, destination, ack, headers } = self;
        let command =
            |session: &mut Session| session.subscribe(destination, ack, &headers, receipt);
        let (handle, messages, receipt) = client.shared.subscribe(command).await?;
        let subscription = Subscription::new(client.clone(), handle, messages);
        Ok((subscription, PendingReceipt::new(receipt)))
    }
}

impl<'a> IntoFuture for SubscribeRequest<'a> {
    type Output = Result<Subscription, ClientError>;
    type IntoFuture = Sending<'a, Subscription>;

    fn into_future(self) -> Sending<'a, Subscription> {
        Box::pin(async move { Ok(self.submit(false).await?.0) })
    }
}
