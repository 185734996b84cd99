//! What can be set.

use std::fmt;
use std::time::Duration;

use crate::RemoteOptions;

/// How [`Nats`](crate::Nats) is reached and used
#[derive(Clone)]
pub struct NatsConfig {
    pub(super) servers: Vec<String>,
    pub(super) user: Option<(String, String)>,
    pub(super) token: Option<String>,
    pub(super) prefix: String,
    pub(super) replicas: usize,
    pub(super) ack_wait: Duration,
    pub(super) remote: RemoteOptions,
}

impl NatsConfig {
    /// Defaults for the server at `url`: `nats://[user:password@]host[:port]`, or
    /// `nats://token@host`. Several servers of one cluster are separated by commas.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            servers: url.into().split(',').map(|one| one.trim().to_owned()).collect(),
            user: None,
            token: None,
            prefix: "mq".to_owned(),
            replicas: 1,
            ack_wait: Duration::from_secs(10),
            remote: RemoteOptions::new(),
        }
    }

    /// Sets how all backends over a network behave while the broker is slow or gone.
    #[must_use]
    pub const fn with_options(mut self, options: RemoteOptions) -> Self {
        self.remote = options;
        self
    }

    /// Sets user and password; they count instead of what the URL has.
    #[must_use]
    pub fn with_user(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((user.into(), password.into()));
        self
    }

    /// Sets the token; it counts instead of what the URL has.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Sets the prefix of every stream and subject: one to 32 letters, digits, `-` or `_`; default
    /// `mq`, which makes the streams `mq-queues`, `mq-topics` and `mq-registry`, and `mq.q.jobs` the
    /// subject of the queue `jobs`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets how many servers of a cluster keep each stream, where the streams are made; default 1.
    /// With 3 one of them may be lost at any time.
    #[must_use]
    pub const fn with_replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// Sets how long after the last sign of life of a node the others get what its consumers had;
    /// default 10 s, at least 1 s. Signs are given three times as often. It counts for what is declared
    /// from then on.
    #[must_use]
    pub const fn with_ack_wait(mut self, wait: Duration) -> Self {
        self.ack_wait = wait;
        self
    }
}

impl fmt::Debug for NatsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not what may be a password.
        let servers: Vec<&str> = self
            .servers
            .iter()
            .map(|url| {
                let place = url.split_once("://").map_or(url.as_str(), |(_, place)| place);
                place.rsplit_once('@').map_or(place, |(_, place)| place)
            })
            .collect();
        f.debug_struct("NatsConfig")
            .field("servers", &servers)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_password() {
        let config = NatsConfig::new("nats://u:secret@one:4222, nats://secret@two")
            .with_user("u", "secret")
            .with_token("secret");
        let shown = format!("{config:?}");
        assert!(shown.contains("one:4222") && shown.contains("two"), "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}
