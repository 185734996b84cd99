//! What an error of Redis means.

use std::sync::Arc;

use ::redis::{ErrorKind, RedisError, ServerError};

use crate::BrokerError;

/// Why a call failed.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The scripts are no longer loaded; nothing was done.
    NoScript,
    /// The server did nothing, and says why.
    Refused(BrokerError),
    /// The connection is of no use any more: it is broken, or the server is none that writes.
    Lost(Arc<str>),
}

impl Fault {
    /// What the caller is told.
    pub(super) fn into_error(self) -> BrokerError {
        match self {
            Self::Refused(error) => error,
            Self::Lost(reason) => BrokerError::Disconnected { reason },
            Self::NoScript => BrokerError::Disconnected { reason: "the scripts are gone".into() },
        }
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        let text = || Arc::from(error.to_string());
        match error.kind() {
            ErrorKind::AuthenticationFailed
            | ErrorKind::InvalidClientConfig
            | ErrorKind::RESP3NotSupported => {
                Self::Refused(BrokerError::Refused { reason: text() })
            }
            _ => match error.code() {
                Some(code) => judge(code, text()),
                None => Self::Lost(text()),
            },
        }
    }
}

impl From<&ServerError> for Fault {
    fn from(error: &ServerError) -> Self {
        let details = error.details().unwrap_or_default();
        judge(error.code(), format!("{}: {details}", error.code()).into())
    }
}

fn judge(code: &str, reason: Arc<str>) -> Fault {
    match code {
        "NOSCRIPT" => Fault::NoScript,
        // Full, not able to write, without the replicas it wants, or busy with a script that does
        // not end: later it may be otherwise.
        "OOM" | "MISCONF" | "NOREPLICAS" | "BUSY" => {
            Fault::Refused(BrokerError::Storage { reason })
        }
        // Not the server to write to, or not yet: another connection may lead to one that is.
        "READONLY" | "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "MOVED" | "ASK" | "TRYAGAIN" => {
            Fault::Lost(reason)
        }
        _ => Fault::Refused(BrokerError::Refused { reason }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_server_is_retried_a_demoted_one_is_left_and_a_refusal_stands() {
        let judge = |code| judge(code, code.into());
        for code in ["OOM", "MISCONF", "NOREPLICAS"] {
            let Fault::Refused(error) = judge(code) else { panic!("{code}") };
            assert!(matches!(error, BrokerError::Storage { .. }) && error.is_retryable());
        }
        for code in ["READONLY", "LOADING", "CLUSTERDOWN"] {
            assert!(matches!(judge(code), Fault::Lost(_)), "{code}");
        }
        for code in ["NOPERM", "WRONGTYPE", "ERR"] {
            let Fault::Refused(error) = judge(code) else { panic!("{code}") };
            assert!(!error.is_retryable(), "{code}");
        }
    }
}
