use stomp_codec::client::TransactionHandle;
use stomp_codec::view;

use super::request::PendingReceipt;
use super::{Client, ClientError};

/// An open transaction: frames sent [in it](super::Request::in_transaction) take effect together, on
/// [`commit`](Self::commit)
///
/// Dropping it aborts it.
#[derive(Debug)]
#[must_use = "dropping a transaction aborts it"]
pub struct Transaction {
    client: Client,
    /// Taken by commit and abort.
    handle: Option<TransactionHandle>,
}

impl Transaction {
    pub(super) const fn new(client: Client, handle: TransactionHandle) -> Self {
        Self { client, handle: Some(handle) }
    }

    pub(super) const fn handle(&self) -> Option<&TransactionHandle> {
        self.handle.as_ref()
    }

    /// Applies it and waits for the RECEIPT.
    ///
    /// # Errors
    ///
    /// [`ClientError`]: whether it was applied is unknown, unless the server says so in its ERROR.
    pub async fn commit(mut self) -> Result<view::Receipt, ClientError> {
        let Some(handle) = self.handle.take() else { return PendingReceipt::new(None).await };
        let receipt = self.client.shared.command(|session| session.commit(handle, true)).await?;
        PendingReceipt::new(receipt).await
    }

    /// Discards it.
    ///
    /// # Errors
    ///
    /// [`ClientError`]: the connection has ended, which discards it as well.
    pub async fn abort(mut self) -> Result<(), ClientError> {
        let Some(handle) = self.handle.take() else { return Ok(()) };
        self.client.shared.command(|session| session.abort(handle, false)).await.map(drop)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.client.shared.command_now(|session| {
                // Without a connection there is nothing to discard.
                let _ = session.abort(handle, false);
            });
        }
    }
}
