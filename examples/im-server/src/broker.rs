//! The message queue that `--broker` names.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use mq_bridge::{
    Broker, BrokerError, Embedded, EmbeddedConfig, Memory, Nats, NatsConfig, RabbitMq,
    RabbitMqConfig, Redis, RedisConfig, StompRelay, StompRelayConfig,
};
use serde::Deserialize;

use crate::value::{unknown_backend, without_password};

/// What can be named, for texts.
const KNOWN: &str = "memory, embedded, embedded:PATH, amqp://, nats://, redis://, stomp://";

/// What `--broker` names.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum BrokerKind {
    Memory,
    /// A file, in the data folder unless it is named.
    Embedded(Option<PathBuf>),
    /// A server, by its URL.
    Server(ServerKind, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    RabbitMq,
    Nats,
    Redis,
    Stomp,
}

impl BrokerKind {
    /// Opens the queue, or connects to it.
    pub(crate) async fn open(&self, data: &Path) -> Result<Arc<dyn Broker>, BrokerError> {
        Ok(match self {
            Self::Memory => Arc::new(Memory::default()),
            Self::Embedded(path) => {
                let path = path.clone().unwrap_or_else(|| data.join("queue.db"));
                Arc::new(Embedded::open(EmbeddedConfig::new(path)).await?)
            }
            Self::Server(ServerKind::RabbitMq, url) => {
                Arc::new(RabbitMq::open(RabbitMqConfig::new(url)).await?)
            }
            Self::Server(ServerKind::Nats, url) => {
                Arc::new(Nats::open(NatsConfig::new(url)).await?)
            }
            Self::Server(ServerKind::Redis, url) => {
                Arc::new(Redis::open(RedisConfig::new(url)).await?)
            }
            Self::Server(ServerKind::Stomp, url) => {
                Arc::new(StompRelay::open(StompRelayConfig::new(url)).await?)
            }
        })
    }
}

impl FromStr for BrokerKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let scheme = text.split_once("://").map_or(text, |(scheme, _)| scheme);
        let server = match scheme {
            "memory" => return Ok(Self::Memory),
            "embedded" => return Ok(Self::Embedded(None)),
            "amqp" => ServerKind::RabbitMq,
            "nats" => ServerKind::Nats,
            "redis" => ServerKind::Redis,
            "stomp" => ServerKind::Stomp,
            _ => {
                return match text.strip_prefix("embedded:") {
                    Some(path) if !path.is_empty() => Ok(Self::Embedded(Some(path.into()))),
                    _ => Err(unknown_backend(text, KNOWN)),
                };
            }
        };
        if scheme == text {
            return Err(format!("expected a URL: {scheme}://HOST"));
        }
        Ok(Self::Server(server, text.to_owned()))
    }
}

impl fmt::Display for BrokerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Embedded(None) => f.write_str("embedded"),
            Self::Embedded(Some(path)) => write!(f, "embedded:{}", path.display()),
            Self::Server(_, url) => f.write_str(&without_password(url)),
        }
    }
}

impl fmt::Debug for BrokerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("Memory"),
            Self::Embedded(path) => f.debug_tuple("Embedded").field(path).finish(),
            // The URL may hold a password.
            Self::Server(kind, _) => f.debug_tuple("Server").field(kind).finish_non_exhaustive(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_understood_and_no_password_is_shown() {
        for (text, shown) in [
            ("memory", "Memory"),
            ("embedded", "Embedded(None)"),
            ("embedded:/var/q.db", "Embedded(Some(\"/var/q.db\"))"),
            ("amqp://u:hunter2@host/vhost", "Server(RabbitMq, ..)"),
            ("nats://u:hunter2@host:4222", "Server(Nats, ..)"),
            ("redis://:hunter2@host", "Server(Redis, ..)"),
            ("stomp://u:hunter2@host:61613", "Server(Stomp, ..)"),
        ] {
            let kind: BrokerKind = text.parse().expect(text);
            assert_eq!(format!("{kind:?}"), shown);
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_what_there_is() {
        for text in ["", "rabbit", "redis", "embedded:", "kafka://host", "AMQP://host"] {
            let error = text.parse::<BrokerKind>().expect_err(text);
            assert!(error.contains("embedded") || error.contains("URL"), "{text}: {error}");
        }
    }
}
