//! RabbitMQ passes the conformance kit with quorum queues, the default, and what sets the other kinds
//! apart with those.

#![allow(clippy::unwrap_used)]

use mq_bridge::testkit::servers::RabbitMq;
use mq_bridge::testkit::{Harness, ServerHarness};
use mq_bridge::{QueueType, RabbitMqConfig};

async fn start(kind: QueueType) -> impl Harness {
    ServerHarness::start(RabbitMq::start(), move |server| {
        let config = RabbitMqConfig::new(server.amqp_url());
        mq_bridge::RabbitMq::open(config.with_queue_type(kind))
    })
    .await
}

mod quorum {
    use super::*;

    mq_bridge::testkit::suite!(
        ignore = "needs rabbitmq-server",
        at_once = 2,
        start(QueueType::Quorum)
    );
}

mod priority {
    use mq_bridge::testkit::{Gate, run};

    use super::*;

    static GATE: Gate = Gate::new(2);

    #[test]
    #[ignore = "needs rabbitmq-server"]
    fn urgent_messages_overtake() {
        run("priority_is_what_is_declared", &GATE, start(QueueType::Priority));
    }

    #[test]
    #[ignore = "needs rabbitmq-server"]
    fn equally_urgent_ones_keep_their_order() {
        run("unacknowledged_messages_come_back_in_order", &GATE, start(QueueType::Priority));
    }

    #[test]
    #[ignore = "needs rabbitmq-server"]
    fn a_confirmed_message_survives_a_kill() {
        run("a_confirmed_message_survives_a_kill", &GATE, start(QueueType::Priority));
    }
}
