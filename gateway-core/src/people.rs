//! Whom a user wants to hear from, and on which devices.

use mq_bridge::{Publish, Source};

use crate::address;
use crate::error::{GatewayError, RefusedError};
use crate::gateway::Gateway;
use crate::names::{DeviceName, UserName};
use crate::outgoing;

/// How long the label of a device may be.
const MAX_LABEL_CHARS: usize = 64;

impl Gateway {
    /// Blocks `other` for `user`: direct messages between them are refused, signals of either do not
    /// reach the other, `other` cannot bring `user` into a group, and does not see whether `user` is
    /// there. No error if that is so already.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Refused`] where `user` and `other` are the same; [`GatewayError::Directory`] where one of them
    /// does not exist, and beyond [`MAX_BLOCKED`](crate::MAX_BLOCKED).
    pub async fn block(&self, user: &UserName, other: &UserName) -> Result<(), GatewayError> {
        if user == other {
            return Err(RefusedError::Denied("nobody blocks oneself").into());
        }
        if self.inner.directory.block(user, other).await? {
            let farewell = outgoing::hidden_from(user, other, self.inner.clock.now_millis());
            let publish = Publish::to_topic(address::presence(user), farewell);
            self.inner.broker.publish(publish).await?;
        }
        Ok(())
    }

    /// Takes a block back; no error if there was none.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Directory`] where the directory fails.
    pub async fn unblock(&self, user: &UserName, other: &UserName) -> Result<(), GatewayError> {
        self.inner.directory.unblock(user, other).await?;
        Ok(())
    }

    /// Gives a device a name for people to read, of at most 64 characters.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Invalid`] for a longer one or control characters; [`GatewayError::Directory`] where there
    /// is no such device.
    pub async fn name_device(
        &self,
        user: &UserName,
        device: &DeviceName,
        label: &str,
    ) -> Result<(), GatewayError> {
        if label.chars().count() > MAX_LABEL_CHARS || label.chars().any(char::is_control) {
            let problem = "must have at most 64 characters and no control characters";
            return Err(GatewayError::Invalid { name: "label", problem });
        }
        if !self.inner.directory.label_device(user, device, label).await? {
            return Err(crate::directory::DirectoryError::NoSuchDevice(device.clone()).into());
        }
        Ok(())
    }

    /// Forgets a device and deletes what waits for it; no error if it is not known. A session that has
    /// its inbox open is ended; a device that comes back is a new one.
    ///
    /// # Errors
    ///
    /// [`GatewayError`] where directory or broker fail; call it again.
    ///
    /// # Cancel safety
    ///
    /// Dropped half-way the device may be forgotten and its inbox not; call it again.
    pub async fn remove_device(
        &self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<(), GatewayError> {
        self.inner.directory.remove_device(user, device).await?;
        let inbox = Source::durable(address::device_inbox(user, device));
        self.inner.broker.delete(&inbox).await?;
        Ok(())
    }
}
