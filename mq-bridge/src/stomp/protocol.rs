//! How the protocol is set, and what its errors say.

use std::sync::Arc;
use std::time::Duration;

use stomp_codec::client::{self, ClientError};
use stomp_codec::{HeartBeat, Limits, Version, Versions, view};

use crate::BrokerError;

use super::config::{Address, StompRelayConfig};

/// What the head of a frame may hold: many targets, and headers of any octets.
const HEAD: usize = 16 << 20;

pub(super) fn protocol(config: &StompRelayConfig, address: &Address) -> client::Config {
    let limits = Limits::DEFAULT
        .with_body(config.max_message)
        .with_head(HEAD)
        .with_header_line(HEAD)
        .with_headers(4096);
    let mut protocol = client::Config::new(address.virtual_host.as_str())
        .versions(Versions::NONE.with(Version::V1_2))
        .heart_beat(HeartBeat::new(config.heart_beat, config.heart_beat))
        .limits(limits)
        .connect_timeout(config.remote.connect_timeout)
        .receipt_timeout(config.response_timeout)
        .disconnect_timeout(Duration::from_secs(2))
        .max_queued(usize::MAX);
    if let Some((user, password)) = &address.credentials {
        protocol = protocol.credentials(user.as_str(), password.as_str());
    }
    protocol
}

/// What the server says of a fault: RabbitMQ in one line of the body, ActiveMQ in a header, with a
/// trace of its own in the body.
pub(super) fn words(error: &view::Error) -> Arc<str> {
    let body = std::str::from_utf8(error.body()).unwrap_or_default().trim();
    if body.is_empty() || body.lines().nth(1).is_some() {
        error.message().unwrap_or_default().into()
    } else {
        body.into()
    }
}

pub(super) fn refused(error: &ClientError) -> BrokerError {
    BrokerError::Refused { reason: error.to_string().into() }
}
