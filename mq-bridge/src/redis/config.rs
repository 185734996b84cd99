//! What can be set.

use std::fmt;
use std::time::Duration;

use crate::RemoteOptions;

/// How [`Redis`](crate::Redis) is reached and used
#[derive(Clone)]
pub struct RedisConfig {
    pub(super) url: String,
    pub(super) prefix: String,
    pub(super) remote: RemoteOptions,
    pub(super) durability: RedisDurability,
    pub(super) replicas: u32,
    pub(super) replica_timeout: Duration,
    pub(super) max_message: usize,
    pub(super) response_timeout: Duration,
    pub(super) lease: Duration,
    pub(super) poll_interval: Duration,
}

/// Whether the backend declares [`Capability::Durable`](crate::Capability::Durable)
///
/// A confirmation of Redis means that a message is on disk only with `appendonly yes`,
/// `appendfsync always`, `no-appendfsync-on-rewrite no`, and a `maxmemory-policy` that evicts no
/// keys without an expiry (`noeviction` or one of `volatile-*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "asked, demanded, or known: there is no fourth")]
pub enum RedisDurability {
    /// Declared if the server says that it is set so. The default. A server that does not let
    /// `CONFIG GET` be asked counts as not durable.
    #[default]
    Detected,
    /// As `Detected`, but opening fails with
    /// [`Unsupported`](crate::BrokerError::Unsupported) where it is not.
    Required,
    /// Declared without asking: the operator of the server guarantees it.
    Assumed,
}

impl RedisConfig {
    /// Defaults for the server at `url`: `redis://[user:password@]host[:port][/database]`, or
    /// `unix:///path/to/socket`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "mq".to_owned(),
            remote: RemoteOptions::new(),
            durability: RedisDurability::Detected,
            replicas: 0,
            replica_timeout: Duration::from_secs(1),
            max_message: 16 << 20,
            response_timeout: Duration::from_secs(5),
            lease: Duration::from_secs(10),
            poll_interval: Duration::from_secs(5),
        }
    }

    /// Sets how all backends over a network behave while the broker is slow or gone.
    #[must_use]
    pub const fn with_options(mut self, options: RemoteOptions) -> Self {
        self.remote = options;
        self
    }

    /// Sets the prefix of every key and channel, without braces; default `mq`, which makes
    /// `{mq}:q:NAME` the stream of a queue. Channels know no databases: brokers in different
    /// databases of one server need different prefixes.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets whether durability is detected, required or assumed.
    #[must_use]
    pub const fn with_durability(mut self, durability: RedisDurability) -> Self {
        self.durability = durability;
        self
    }

    /// Confirms a publish only when `count` replicas have it too; one that is not there after
    /// `timeout` fails as [`Disconnected`](crate::BrokerError::Disconnected), its outcome unknown.
    /// Default 0: none.
    #[must_use]
    pub const fn with_replicas(mut self, count: u32, timeout: Duration) -> Self {
        self.replicas = count;
        self.replica_timeout = timeout;
        self
    }

    /// Sets the largest message, headers and body together, in octets; default 16 MiB. The
    /// server's `proto-max-bulk-len` bounds it too.
    #[must_use]
    pub const fn with_max_message(mut self, octets: usize) -> Self {
        self.max_message = octets;
        self
    }

    /// Sets how long an answer may take before the connection counts as lost; default 5 s.
    #[must_use]
    pub const fn with_response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// Sets how long after the last sign of life of a node the others get what its consumers had;
    /// default 10 s, at least 300 ms. Signs are given three times as often.
    #[must_use]
    pub const fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets how often idle consumers look for entries that another program has added to their
    /// streams without a notice; default 5 s.
    #[must_use]
    pub const fn with_poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not what may be a password.
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("", &self.url));
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        let place = place.split_once('?').map_or(place, |(place, _)| place);
        f.debug_struct("RedisConfig")
            .field("url", &format_args!("{scheme}://{place}"))
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_password() {
        let unix = "unix:///run/redis.sock?user=u&pass=secret";
        for url in ["redis://u:secret@host:1/2", "redis://:p@secret@host/2", unix] {
            let shown = format!("{:?}", RedisConfig::new(url));
            assert!(!shown.contains("secret"), "{shown}");
        }
        assert!(format!("{:?}", RedisConfig::new(unix)).contains("/run/redis.sock"));
    }
}
