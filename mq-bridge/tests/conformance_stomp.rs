//! The relay over STOMP passes the conformance kit, in each of its dialects.

#![allow(clippy::unwrap_used)]

use mq_bridge::testkit::ServerHarness;
use mq_bridge::testkit::servers::{ActiveMq, RabbitMq};
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

mod rabbitmq {
    use super::*;

    mq_bridge::testkit::suite!(
        ignore = "needs rabbitmq-server",
        at_once = 2,
        ServerHarness::start(RabbitMq::start(), |server| {
            StompRelay::open(StompRelayConfig::new(server.stomp_url()))
        })
    );
}
