//! What a node says to itself, behind what others have said before.

use std::collections::HashMap;
use std::sync::Mutex;

use stomp_codec::Frame;
use tokio::sync::oneshot;

use crate::BrokerError;
use crate::local::lock;

use super::session::Session;

#[derive(Debug, Default)]
pub(super) struct Syncs(Mutex<HashMap<u64, oneshot::Sender<()>>>);

impl Syncs {
    /// Sends `notice`, and returns when it has come back: as [`heard`](Self::heard), with its number.
    pub(super) async fn pass(
        &self,
        session: &Session,
        number: u64,
        notice: Frame,
    ) -> Result<(), BrokerError> {
        let (sender, synced) = oneshot::channel();
        lock(&self.0).insert(number, sender);
        session.write(|writer| writer.send(notice))?;
        tokio::select! {
            Ok(()) = synced => Ok(()),
            reason = session.lost() => Err(BrokerError::Disconnected { reason }),
        }
    }

    pub(super) fn heard(&self, number: u64) {
        if let Some(waiting) = lock(&self.0).remove(&number) {
            let _nobody_waits = waiting.send(());
        }
    }
}
