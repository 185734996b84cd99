//! Connecting, and what the server is like.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

use ::redis::io::tcp::TcpSettings;
use ::redis::{ConnectionInfo, IntoConnectionInfo, ProtocolVersion, Value, cmd};
use async_trait::async_trait;

use crate::local::lock;
use crate::remote::{Driver, Topics};
use crate::{BrokerError, Capability};

use super::config::{RedisConfig, RedisDurability};
use super::connection::{Connection, Loss};
use super::consumers::Consumers;
use super::error::Fault;
use super::link::{RedisLink, Shared};
use super::listener::Listener;
use super::publisher::Publisher;
use super::script::BEGIN;
use super::session::{lease_millis, renew};
use super::value::{list, text};

/// What a server is good for; the last two only if it is durable.
const CAPABILITIES: [Capability; 9] = [
    Capability::Order,
    Capability::DeliveryCount,
    Capability::DeadLetter,
    Capability::Expiry,
    Capability::Takeover,
    Capability::AtomicBatch,
    Capability::Depth,
    Capability::Durable,
    Capability::DurableAck,
];
const MIN_VERSION: u32 = 7;

pub(super) struct RedisDriver {
    config: RedisConfig,
    info: ConnectionInfo,
    /// Whether the first server was durable; all others have to be too.
    durable: OnceLock<bool>,
    /// The session of the last link.
    session: Mutex<Option<String>>,
}

/// What a server says of itself.
#[derive(Debug)]
struct Server {
    durable: bool,
    max_bulk: usize,
}

impl RedisDriver {
    pub(super) fn new(config: RedisConfig) -> Result<Self, BrokerError> {
        let refused = |reason: &str| Err(BrokerError::Refused { reason: reason.into() });
        if config.prefix.is_empty() || config.prefix.contains(['{', '}']) {
            return refused("the prefix of the keys is empty or has braces");
        }
        let info = match config.url.as_str().into_connection_info() {
            Ok(info) => info,
            Err(error) => return refused(&error.to_string()),
        };
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let info = info
            .set_redis_settings(settings)
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Ok(Self { config, info, durable: OnceLock::new(), session: Mutex::default() })
    }

    async fn try_connect(&self, topics: &Arc<Topics>) -> Result<RedisLink, Fault> {
        let loss = Loss::new();
        let connect = || Connection::open(&self.info, &self.config, &loss, |_| {});
        let control = connect().await?;
        let server = self.inspect(&control).await?;
        self.check_durable(&server)?;
        control.load_scripts().await?;
        let session = random();
        let before = lock(&self.session).replace(session.clone());
        begin(&control, &self.config, &session, before).await?;

        let prefix = key_prefix(&self.config);
        let consumers = Arc::<Consumers>::default();
        let listener = Listener::new(prefix.clone(), Arc::clone(topics), Arc::clone(&consumers));
        let listener = Arc::new(listener);
        let listening = Arc::clone(&listener);
        let listening = Connection::open(&self.info, &self.config, &loss, move |push| {
            listening.push(push);
        });
        let listening = listening.await?;
        let publisher =
            Publisher::new(connect().await?, prefix.clone(), session.clone(), &self.config);
        publisher.prepare().await?;
        let shared = Shared { prefix, session, control, listening, consumers, loss };
        let max_message = self.config.max_message.min(server.max_bulk);
        Ok(RedisLink::new(Arc::new(shared), publisher, listener, &self.config, max_message))
    }

    fn check_durable(&self, server: &Server) -> Result<(), Fault> {
        let durable = match self.config.durability {
            RedisDurability::Assumed => true,
            RedisDurability::Detected => server.durable,
            RedisDurability::Required if server.durable => true,
            RedisDurability::Required => {
                return Err(Fault::Refused(BrokerError::Unsupported(Capability::Durable)));
            }
        };
        if *self.durable.get_or_init(|| durable) && !durable {
            // Declared, and no longer so: no broker at all is better than one that loses.
            return Err(Fault::Lost("the server is not durable any more".into()));
        }
        Ok(())
    }

    /// Asks the server what it is; what it does not tell counts as what it is not.
    async fn inspect(&self, connection: &Connection) -> Result<Server, Fault> {
        let info = match connection.call(cmd("INFO").arg("server")).await {
            Ok(info) => text(info),
            Err(Fault::Refused(_)) => String::new(),
            Err(fault) => return Err(fault),
        };
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        if let (Some(version), true) = (version, major.is_some_and(|major| major < MIN_VERSION)) {
            let reason = format!("Redis {MIN_VERSION}.0 or newer is needed, this is {version}");
            return Err(Fault::Refused(BrokerError::Refused { reason: reason.into() }));
        }
        let mut ask = cmd("CONFIG");
        ask.arg("GET").arg(&[
            "appendonly",
            "appendfsync",
            "no-appendfsync-on-rewrite",
            "maxmemory-policy",
            "proto-max-bulk-len",
        ]);
        match connection.call(&ask).await {
            Ok(settings) => Ok(Server::from_settings(&pairs(settings))),
            Err(Fault::Refused(_)) => Ok(Server { durable: false, max_bulk: usize::MAX }),
            Err(fault) => Err(fault),
        }
    }
}

impl Server {
    fn from_settings(settings: &HashMap<String, String>) -> Self {
        let get = |name: &str| settings.get(name).map_or("", String::as_str);
        let policy = get("maxmemory-policy");
        Self {
            durable: get("appendonly") == "yes"
                && get("appendfsync") == "always"
                && get("no-appendfsync-on-rewrite") == "no"
                && (policy == "noeviction" || policy.starts_with("volatile-")),
            max_bulk: get("proto-max-bulk-len").parse().unwrap_or(usize::MAX),
        }
    }
}

fn pairs(settings: Value) -> HashMap<String, String> {
    let mut settings = list(settings).into_iter();
    let mut pairs = HashMap::new();
    while let (Some(name), Some(value)) = (settings.next(), settings.next()) {
        pairs.insert(text(name), text(value));
    }
    pairs
}

/// Begins a session; what the one before held, and those whose lease is over, goes back first.
async fn begin(
    control: &Connection,
    config: &RedisConfig,
    session: &str,
    before: Option<String>,
) -> Result<(), Fault> {
    let mut call = BEGIN.call(&key_prefix(config));
    call.arg(session).arg(lease_millis(config)).arg(before.unwrap_or_default());
    control.run(&call).await?;
    renew(control, &key_prefix(config), session, lease_millis(config)).await
}

/// `{PREFIX}:`
fn key_prefix(config: &RedisConfig) -> String {
    format!("{{{}}}:", config.prefix)
}

/// A name that no other has.
fn random() -> String {
    let part = || RandomState::new().hash_one(SystemTime::now());
    format!("{:016x}{:016x}", part(), part())
}

#[async_trait]
impl Driver for RedisDriver {
    type Link = RedisLink;

    fn capabilities(&self) -> &[Capability] {
        match self.durable.get() {
            Some(true) => &CAPABILITIES,
            _ => CAPABILITIES.split_last_chunk::<2>().map_or(&[], |(others, _)| others),
        }
    }

    async fn connect(&self, topics: &Arc<Topics>) -> Result<RedisLink, BrokerError> {
        self.try_connect(topics).await.map_err(Fault::into_error)
    }
}

impl fmt::Debug for RedisDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durable(fsync: &str, policy: &str) -> bool {
        let settings = [
            ("appendonly", "yes"),
            ("appendfsync", fsync),
            ("no-appendfsync-on-rewrite", "no"),
            ("maxmemory-policy", policy),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Server::from_settings(&settings.into_iter().collect()).durable
    }

    #[test]
    fn durable_is_a_server_that_syncs_and_evicts_nothing() {
        assert!(durable("always", "noeviction") && durable("always", "volatile-lru"));
        assert!(!durable("everysec", "noeviction") && !durable("always", "allkeys-lru"));
        assert!(!Server::from_settings(&HashMap::new()).durable);
    }

    #[test]
    fn what_cannot_be_connected_to_is_refused_without_its_password() {
        for config in [
            RedisConfig::new("redis://u:secret@host:no-port"),
            RedisConfig::new("http://u:secret@host"),
            RedisConfig::new("redis://localhost").with_prefix("a{b}"),
        ] {
            let error = RedisDriver::new(config).unwrap_err();
            assert!(matches!(error, BrokerError::Refused { .. }), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
