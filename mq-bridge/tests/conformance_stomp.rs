//! The relay over STOMP passes the conformance kit.

#![allow(clippy::unwrap_used)]

use mq_bridge::testkit::ServerHarness;
use mq_bridge::testkit::servers::ActiveMq;
use mq_bridge::{StompRelay, StompRelayConfig};

mod activemq {
    use super::*;

    mq_bridge::testkit::suite!(
        ignore = "needs activemq",
        at_once = 2,
        ServerHarness::start(ActiveMq::start(), |server| {
            StompRelay::open(StompRelayConfig::new(format!("stomp://{}", server.stomp_nio_addr())))
        })
    );
}
