//! What can be set.

use std::fmt;
use std::time::Duration;

use crate::{BrokerError, RemoteOptions};

const DEFAULT_PORT: u16 = 61613;

/// How [`StompRelay`](crate::StompRelay) reaches its server
#[derive(Clone)]
pub struct StompRelayConfig {
    pub(super) url: String,
    pub(super) remote: RemoteOptions,
    pub(super) heart_beat: Duration,
    pub(super) response_timeout: Duration,
    pub(super) max_message: usize,
    pub(super) consuming: u8,
}

/// What a URL says.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) virtual_host: String,
    pub(super) credentials: Option<(String, String)>,
}

impl StompRelayConfig {
    /// Defaults for the server at `url`: `stomp://[user:password@]host[:port][/vhost]`; the port is
    /// 61613 and the virtual host `/` unless said otherwise.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            remote: RemoteOptions::new(),
            heart_beat: Duration::from_secs(10),
            response_timeout: Duration::from_secs(20),
            max_message: 16 << 20,
            consuming: 4,
        }
    }

    /// Sets how all backends over a network behave while the broker is slow or gone.
    #[must_use]
    pub const fn with_options(mut self, options: RemoteOptions) -> Self {
        self.remote = options;
        self
    }

    /// Sets how often both sides give a sign of life; a server that is silent for twice as long is
    /// gone. Default 10 s.
    #[must_use]
    pub const fn with_heart_beat(mut self, interval: Duration) -> Self {
        self.heart_beat = interval;
        self
    }

    /// Sets how long a receipt may take before the connection counts as lost. Default 20 s.
    #[must_use]
    pub const fn with_response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// Sets the largest message, headers and body together, in octets. Default 16 MiB; the server's
    /// `wireFormat.maxFrameSize` bounds it too.
    #[must_use]
    pub const fn with_max_message(mut self, octets: usize) -> Self {
        self.max_message = octets;
        self
    }

    /// Sets over how many connections the consumers of this node are spread, at least one, beside the
    /// one that publishes. The broker writes down that a message was delivered before it delivers the
    /// next one of the same connection. Default 4.
    #[must_use]
    pub const fn with_consuming_connections(mut self, connections: u8) -> Self {
        self.consuming = if connections == 0 { 1 } else { connections };
        self
    }

    pub(super) fn address(&self) -> Result<Address, BrokerError> {
        let refused = |reason: &str| BrokerError::Refused { reason: reason.into() };
        let rest = self.url.strip_prefix("stomp://");
        let rest = rest.ok_or_else(|| refused("the URL does not begin with stomp://"))?;
        let (credentials, place) = match rest.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, rest),
        };
        let credentials = credentials.map(|text| {
            let (user, password) = text.split_once(':').unwrap_or((text, ""));
            (unescape(user), unescape(password))
        });
        let (place, path) = place.split_once('/').unwrap_or((place, ""));
        let virtual_host = if path.is_empty() { "/".to_owned() } else { unescape(path) };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| refused("the port of the URL is not a number"))?)
            }
            _ => (place, DEFAULT_PORT),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || place.contains('?') || path.contains(['/', '?']) {
            return Err(refused("the URL is not stomp://[user:password@]host[:port][/vhost]"));
        }
        Ok(Address { host: host.to_owned(), port, virtual_host, credentials })
    }

    /// How long the server may take to show how it is set: less than connecting may take, so that
    /// what is missing can be said.
    pub(super) fn probe_timeout(&self) -> Duration {
        self.response_timeout.min(self.remote.connect_timeout) / 2
    }

    /// Where the server is, without what may be a password.
    pub(super) fn place(&self) -> &str {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        rest.rsplit_once('@').map_or(rest, |(_, place)| place)
    }
}

/// Takes `%XX` for the octet it names.
fn unescape(text: &str) -> String {
    super::names::decode(text).unwrap_or_else(|| text.to_owned())
}

impl fmt::Debug for StompRelayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StompRelayConfig").field("place", &self.place()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_host_port_and_credentials() {
        for (url, expected) in [
            ("stomp://mq", Some(("mq", 61613, None))),
            ("stomp://mq:1/", Some(("mq", 1, None))),
            ("stomp://u:p%40%3a@mq:1", Some(("mq", 1, Some(("u", "p@:"))))),
            ("stomp://u@[::1]:1", Some(("::1", 1, Some(("u", ""))))),
            ("stomp://[::1]", Some(("::1", 61613, None))),
            ("stomp://", None),
            ("stomp://mq/a/b", None),
            ("stomp://mq:x", None),
            ("amqp://mq", None),
        ] {
            let address = StompRelayConfig::new(url).address().ok();
            let found = address.as_ref().map(|one| {
                let credentials = one.credentials.as_ref();
                let credentials = credentials.map(|(user, word)| (user.as_str(), word.as_str()));
                (one.host.as_str(), one.port, credentials)
            });
            assert_eq!(found, expected, "{url}");
        }
    }

    #[test]
    fn a_url_names_the_virtual_host() {
        for (url, expected) in
            [("stomp://mq", "/"), ("stomp://mq/", "/"), ("stomp://mq:1/%2fim", "/im")]
        {
            let address = StompRelayConfig::new(url).address().ok();
            assert_eq!(address.map(|one| one.virtual_host).as_deref(), Some(expected), "{url}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        for url in ["stomp://u:secret@host:1", "stomp://:p@secret@host"] {
            let shown = format!("{:?}", StompRelayConfig::new(url));
            assert!(!shown.contains("secret") && shown.contains("host"), "{shown}");
        }
    }
}
