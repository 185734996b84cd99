//! Redis passes the conformance kit.

#![allow(clippy::unwrap_used)]

use mq_bridge::testkit::ServerHarness;
use mq_bridge::testkit::servers::Redis;
use mq_bridge::{RedisConfig, RedisDurability};

mod redis {
    use super::*;

    mq_bridge::testkit::suite!(
        ignore = "needs redis-server",
        at_once = 4,
        ServerHarness::start(Redis::start(), |server| {
            let config = RedisConfig::new(server.url());
            mq_bridge::Redis::open(config.with_durability(RedisDurability::Required))
        })
    );
}
