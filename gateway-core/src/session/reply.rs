//! What a client is told when something fails.

use stomp_codec::server::{ErrorReply, ReceiptToken};
use stomp_ws::CloseCode;

use crate::error::GatewayError;
use crate::store::StoreError;

/// The ERROR of a failed frame, and the close code that goes with it. It names the fault and the
/// limit; what is inside of the server is for its log.
pub(super) fn failure(
    error: &GatewayError,
    receipt: Option<ReceiptToken>,
) -> (CloseCode, ErrorReply) {
    let (code, reply) = if error.is_retryable() {
        tracing::warn!(error = error as &dyn std::error::Error, "a frame failed");
        let reply = ErrorReply::new("not done now: the server cannot store or confirm it")
            .header("retry", "true")
            .body("Connect and send the same frame again, with the same idempotency-key.");
        (CloseCode::OVERLOAD, reply)
    } else {
        match error {
            GatewayError::Store(StoreError::Change(fault)) => {
                (CloseCode::POLICY, ErrorReply::new(fault.to_string()))
            }
            GatewayError::Store(_) | GatewayError::Broker(_) => {
                tracing::error!(error = error as &dyn std::error::Error, "a frame failed");
                let reply = ErrorReply::new("internal error");
                (CloseCode::INTERNAL, reply)
            }
            error => (CloseCode::POLICY, ErrorReply::new(error.to_string())),
        }
    };
    (code, reply.receipt(receipt))
}
