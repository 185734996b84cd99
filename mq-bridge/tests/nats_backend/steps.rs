//! What the tests are made of.

use mq_bridge::testkit::servers::{self, NatsVersion};
use mq_bridge::{Nats, NatsConfig};
use serde_json::Value;

pub(crate) use crate::remote_backend::steps::*;

pub(crate) fn config(url: &str) -> NatsConfig {
    NatsConfig::new(url).with_options(patient())
}

pub(crate) async fn start() -> servers::Nats {
    servers::Nats::start(NatsVersion::Current).await.unwrap()
}

pub(crate) async fn start_old() -> servers::Nats {
    servers::Nats::start(NatsVersion::Debian).await.unwrap()
}

pub(crate) async fn open(url: &str) -> Nats {
    Nats::open(config(url)).await.unwrap()
}

/// Asks the server.
pub(crate) async fn api(client: &async_nats::Client, call: &str, body: &str) -> Value {
    let subject = format!("$JS.API.{call}");
    let answer = client.request(subject, body.to_owned().into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

/// How many messages a stream keeps.
pub(crate) async fn kept(client: &async_nats::Client, stream: &str) -> u64 {
    let info = api(client, &format!("STREAM.INFO.{stream}"), "").await;
    info["state"]["messages"].as_u64().unwrap()
}
