use std::fmt;
use std::time::Duration;

use stomp_codec::client::Config;
use stomp_codec::{HeartBeat, Limits, Versions};

use crate::TransportConfig;

/// How a [`Client`](super::Client) connects
///
/// ```
/// # use stomp_ws::client::ConnectOptions;
/// let options = ConnectOptions::new().credentials("alice", "secret").header("device", "laptop");
/// ```
#[derive(Clone)]
#[must_use]
pub struct ConnectOptions {
    config: Config,
    host: Option<String>,
    pub(super) transport: TransportConfig,
    pub(super) upgrade_headers: Vec<(String, String)>,
    pub(super) buffer: usize,
}

impl ConnectOptions {
    /// The defaults: nobody's name, all versions, heart-beats every 10 s, 10 s to connect.
    pub fn new() -> Self {
        Self {
            config: Config::new(""),
            host: None,
            transport: TransportConfig::DEFAULT,
            upgrade_headers: Vec::new(),
            buffer: 16 * 1024 * 1024,
        }
    }

    /// Sets `login` and `passcode`.
    pub fn credentials(mut self, login: impl Into<String>, passcode: impl Into<String>) -> Self {
        self.config = self.config.credentials(login, passcode);
        self
    }

    /// Sets `host`, the virtual host. Default: the host of the address.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Adds a header to CONNECT.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.config = self.config.header(name, value);
        self
    }

    /// Adds a header to the HTTP request that opens a WebSocket: `Origin`, `Cookie`, `Authorization`.
    pub fn upgrade_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.upgrade_headers.push((name.into(), value.into()));
        self
    }

    /// Sets the versions to offer, in CONNECT and as subprotocols. Default: all.
    pub fn versions(mut self, versions: Versions) -> Self {
        self.config = self.config.versions(versions);
        self
    }

    /// Sets what the client can send and wants to get. Default: every 10 s both.
    pub fn heart_beat(mut self, heart_beat: HeartBeat) -> Self {
        self.config = self.config.heart_beat(heart_beat);
        self
    }

    /// Opens with STOMP instead of CONNECT. Default: CONNECT, which every server knows.
    pub fn stomp_command(mut self, stomp: bool) -> Self {
        self.config = self.config.stomp_command(stomp);
        self
    }

    /// Sets the time for everything up to CONNECTED. Default: 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config = self.config.connect_timeout(timeout);
        self
    }

    /// Sets the time that a RECEIPT may take. Default: 30 s.
    pub fn receipt_timeout(mut self, timeout: Duration) -> Self {
        self.config = self.config.receipt_timeout(timeout);
        self
    }

    /// Sets the time that the RECEIPT of DISCONNECT may take. Default: 5 s.
    pub fn disconnect_timeout(mut self, timeout: Duration) -> Self {
        self.config = self.config.disconnect_timeout(timeout);
        self
    }

    /// Sets the bounds on the server's frames.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config = self.config.limits(limits);
        self
    }

    /// Sets the bounds of the transport.
    pub const fn transport(mut self, transport: TransportConfig) -> Self {
        self.transport = transport;
        self
    }

    /// Sets how many octets of received messages may wait in the subscriptions. Default: 16 MiB.
    ///
    /// Beyond it the client stops reading until messages are taken, which in the end stops the server from sending.
    pub const fn buffer(mut self, octets: usize) -> Self {
        self.buffer = octets;
        self
    }

    pub(super) const fn timeout(&self) -> Duration {
        self.config.connect_timeout
    }

    pub(super) const fn offered(&self) -> Versions {
        self.config.versions
    }

    pub(super) fn session(&self, host: &str) -> Config {
        let mut config = self.config.clone();
        self.host.as_deref().unwrap_or(host).clone_into(&mut config.host);
        config
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// The passcode and the headers of the upgrade are hidden
impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("config", &self.config)
            .field("host", &self.host)
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}
