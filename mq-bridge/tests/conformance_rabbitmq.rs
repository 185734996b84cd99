//! RabbitMQ passes the conformance kit with quorum queues, the default.

#![allow(clippy::unwrap_used)]

use mq_bridge::testkit::ServerHarness;
use mq_bridge::testkit::servers::RabbitMq;
use mq_bridge::{QueueType, RabbitMqConfig};

mod quorum {
    use super::*;

    mq_bridge::testkit::suite!(
        ignore = "needs rabbitmq-server",
        at_once = 2,
        ServerHarness::start(RabbitMq::start(), |server| {
            let config = RabbitMqConfig::new(server.amqp_url());
            mq_bridge::RabbitMq::open(config.with_queue_type(QueueType::Quorum))
        })
    );
}
