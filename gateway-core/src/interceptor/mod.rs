//! Moderation: each message is looked at before it is stored or published, wherever it comes from.

#[cfg(feature = "webhooks")]
mod http;
#[cfg(test)]
mod tests;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::destination::Destination;
use crate::error::RefusedError;
use crate::names::UserName;
use crate::send::{SendKind, SendRequest};

#[cfg(feature = "webhooks")]
pub use http::{FailMode, HttpInterceptor};

/// A message that was authorized and is to be sent
///
/// Who sends it, and where to, is settled: an interceptor changes what it says.
#[derive(Debug)]
#[non_exhaustive]
pub struct Draft<'a> {
    /// Who sends
    pub from: &'a UserName,
    /// Where to
    pub destination: &'a Destination,
    /// What it is
    pub kind: SendKind,
    /// Headers that travel with it, each name once
    pub headers: &'a mut Vec<(String, String)>,
    /// Its content
    pub body: &'a mut Bytes,
}

/// Inspects, changes or refuses messages
///
/// It sees each SEND, each message of REST and each one of [`Gateway::send`](crate::Gateway::send), after the authorizer
/// and before store and broker; not the signals (typing, read, delivered). A message that is sent again with the same
/// idempotency key is seen again. Several are asked in the order in which they were added: each sees what the one before
/// has made, and the first refusal counts.
#[async_trait]
pub trait Interceptor: fmt::Debug + Send + Sync + 'static {
    /// Lets the message pass, as it is afterwards
    ///
    /// The sender waits, and so do its further messages.
    ///
    /// # Errors
    ///
    /// [`RefusedError::Denied`] or [`RefusedError::Rejected`] refuses, with a reason that the sender sees;
    /// [`RefusedError::Unavailable`] refuses for now.
    ///
    /// # Cancel safety
    ///
    /// Must be cancel safe: a connection that goes away drops the question.
    async fn intercept(&self, draft: &mut Draft<'_>) -> Result<(), RefusedError>;
}

/// Asks all of them, in order.
pub(crate) async fn intercept(
    interceptors: &[std::sync::Arc<dyn Interceptor>],
    request: &mut SendRequest,
) -> Result<(), RefusedError> {
    if !matches!(request.kind, SendKind::Stored(_)) {
        return Ok(());
    }
    for interceptor in interceptors {
        let mut draft = Draft {
            from: &request.from,
            destination: &request.destination,
            kind: request.kind,
            headers: &mut request.headers,
            body: &mut request.body,
        };
        interceptor.intercept(&mut draft).await?;
    }
    // What only the server says, an interceptor does not say either.
    request.headers.retain(|(name, value)| crate::outgoing::is_relayed(name, value));
    Ok(())
}
