use mq_bridge::{BrokerError, Source};

use crate::address;
use crate::error::GatewayError;
use crate::gateway::Inner;
use crate::names::{DeviceName, UserName};

impl Inner {
    /// Makes the inbox of a device unless it exists.
    pub(crate) async fn ensure_inbox(
        &self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<(), GatewayError> {
        let known = self.directory.register_device(user, device).await?;
        if known.seeded && self.broker_has(user, device).await? {
            return Ok(());
        }
        self.pipeline()?.seed(user.clone(), device.clone()).await
    }

    /// Whether the broker still has what the directory knows of: it may forget with its process, or
    /// have lost its data.
    async fn broker_has(&self, user: &UserName, device: &DeviceName) -> Result<bool, GatewayError> {
        let inbox = Source::durable(address::device_inbox(user, device));
        match self.broker.stats(&inbox).await {
            Ok(_) => Ok(true),
            Err(BrokerError::NotDeclared { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
