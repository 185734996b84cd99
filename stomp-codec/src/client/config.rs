use std::fmt;
use std::time::Duration;

use crate::{HeartBeat, Limits, Mode, Versions};

/// How a client opens and keeps its session
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// The `host` header: the virtual host, by default the host part of the address
    pub host: String,
    /// The `login` header
    pub login: Option<String>,
    /// The `passcode` header
    pub passcode: Option<String>,
    /// Further headers of CONNECT
    pub headers: Vec<(String, String)>,
    /// Versions that the client speaks; all by default
    pub versions: Versions,
    /// What the client can send and wants to get; every 10 s both by default
    pub heart_beat: HeartBeat,
    /// How many silent intervals of the server end the session; 2 by default
    pub heart_beat_tolerance: u32,
    /// Opens with STOMP instead of CONNECT; no by default, as 1.0 servers do not know it
    pub stomp_command: bool,
    /// How to meet octets that the grammar forbids; lenient by default
    pub mode: Mode,
    /// Bounds on the server's frames; [`Limits::DEFAULT`] by default
    pub limits: Limits,
    /// Time until CONNECTED; 10 s by default
    pub connect_timeout: Duration,
    /// Time until a RECEIPT; 30 s by default
    pub receipt_timeout: Duration,
    /// Time that the server gets to answer DISCONNECT; 5 s by default
    pub disconnect_timeout: Duration,
    /// Most octets that wait to be written before a command is refused; 16 MiB by default
    pub max_queued: usize,
}

impl Config {
    /// The defaults, for the virtual host `host`
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            login: None,
            passcode: None,
            headers: Vec::new(),
            versions: Versions::ALL,
            heart_beat: HeartBeat::new(Duration::from_secs(10), Duration::from_secs(10)),
            heart_beat_tolerance: 2,
            stomp_command: false,
            mode: Mode::Lenient,
            limits: Limits::DEFAULT,
            connect_timeout: Duration::from_secs(10),
            receipt_timeout: Duration::from_secs(30),
            disconnect_timeout: Duration::from_secs(5),
            max_queued: 16 * 1024 * 1024,
        }
    }

    /// Sets [`Config::login`] and [`Config::passcode`]
    #[must_use]
    pub fn credentials(mut self, login: impl Into<String>, passcode: impl Into<String>) -> Self {
        self.login = Some(login.into());
        self.passcode = Some(passcode.into());
        self
    }

    /// Adds a header to CONNECT
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

macro_rules! setters {
    ($($name:ident: $type:ty,)*) => {
        impl Config {
            $(
                #[doc = concat!("Sets [`Config::", stringify!($name), "`]")]
                #[must_use]
                pub fn $name(mut self, $name: $type) -> Self {
                    self.$name = $name;
                    self
                }
            )*
        }
    };
}

setters! {
    versions: Versions,
    heart_beat: HeartBeat,
    heart_beat_tolerance: u32,
    stomp_command: bool,
    mode: Mode,
    limits: Limits,
    connect_timeout: Duration,
    receipt_timeout: Duration,
    disconnect_timeout: Duration,
    max_queued: usize,
}

/// The passcode is hidden
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("host", &self.host)
            .field("login", &self.login)
            .field("passcode", &self.passcode.as_ref().map(|_| "***"))
            .field("versions", &self.versions)
            .field("heart_beat", &self.heart_beat)
            .finish_non_exhaustive()
    }
}
