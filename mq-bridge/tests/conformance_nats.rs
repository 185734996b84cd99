//! NATS passes the conformance kit: Debian's server, and a current one.

use mq_bridge::testkit::ServerHarness;
use mq_bridge::testkit::servers::{Nats, NatsVersion};
use mq_bridge::{BrokerError, NatsConfig};

async fn open(url: String) -> Result<mq_bridge::Nats, BrokerError> {
    mq_bridge::Nats::open(NatsConfig::new(url)).await
}

mod debian {
    use super::*;

    mq_bridge::testkit::suite!(
        ignore = "needs nats-server",
        at_once = 4,
        ServerHarness::start(Nats::start(NatsVersion::Debian), |server| open(server.url()))
    );
}

mod current {
    use super::*;

    mq_bridge::testkit::suite!(
        ignore = "needs nats-server from Python's packages",
        at_once = 4,
        ServerHarness::start(Nats::start(NatsVersion::Current), |server| open(server.url()))
    );
}
