//! Redis: streams for what is kept, pub/sub for what is not.
//!
//! A queue or durable subscription is a stream with one consumer group; every operation on it is
//! one script, so that it is atomic, and fenced by the set of live consumers (`lua/common.lua` lists
//! the keys). A node has three connections however many consumers it has: one to publish, one for
//! everything else, one for pub/sub, which carries topics and tells consumers when to read.

mod attributes;
mod config;
mod connection;
mod consumers;
mod driver;
mod entry;
mod error;
mod link;
mod listener;
mod payload;
mod publisher;
mod pump;
mod registry;
mod script;
mod session;
mod value;

use crate::BrokerError;
use crate::remote::{Bridge, delegate_broker};

use driver::RedisDriver;

pub use config::{RedisConfig, RedisDurability};

/// The broker over Redis 7.0 or newer, or Valkey
///
/// What it promises depends on how the server keeps what it is told: see
/// [`RedisDurability`]. Several objects, in any number of processes, with the same server, database
/// and [prefix](RedisConfig::with_prefix) are one broker.
#[derive(Debug)]
pub struct Redis {
    bridge: Bridge<RedisDriver>,
}

impl Redis {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`Refused`](BrokerError::Refused) for a URL, credentials or a server that will not do,
    /// [`Unsupported`](BrokerError::Unsupported) where durability is
    /// [required](RedisDurability::Required) and the server does not provide it,
    /// [`Disconnected`](BrokerError::Disconnected) if it cannot be reached in time.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready it leaves no connection behind.
    pub async fn open(config: RedisConfig) -> Result<Self, BrokerError> {
        let options = config.remote;
        Ok(Self { bridge: Bridge::open(RedisDriver::new(config)?, options).await? })
    }
}

delegate_broker!(Redis);
