//! What the tests are made of.

use std::time::Duration;

use mq_bridge::testkit::servers;
use mq_bridge::{Redis, RedisConfig};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, cmd};

pub(crate) use crate::remote_backend::steps::*;

pub(crate) fn config(url: &str) -> RedisConfig {
    RedisConfig::new(url).with_options(patient()).with_response_timeout(PATIENCE)
}

/// For tests where a node dies: soon enough to be waited for, long enough for a busy machine.
pub(crate) fn short_lived(url: &str) -> RedisConfig {
    config(url).with_lease(Duration::from_secs(3))
}

pub(crate) async fn start() -> servers::Redis {
    servers::Redis::start().await.unwrap()
}

pub(crate) async fn open(url: &str) -> Redis {
    Redis::open(config(url)).await.unwrap()
}

/// A bare client, as another program has.
pub(crate) async fn client(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).unwrap();
    let patient = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    client.get_multiplexed_async_connection_with_config(&patient).await.unwrap()
}

pub(crate) async fn run<T: FromRedisValue>(client: &mut MultiplexedConnection, command: &str) -> T {
    let mut words = command.split(' ');
    let mut call = cmd(words.next().unwrap());
    words.for_each(|word| {
        call.arg(word);
    });
    call.query_async(client).await.unwrap()
}
