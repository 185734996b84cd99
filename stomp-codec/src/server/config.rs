use std::time::Duration;

use crate::{HeartBeat, Limits, Mode, Versions};

/// What a server session allows
///
/// Share one between all sessions of a server: [`Session::new`](super::Session::new) takes an `Arc`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Versions that the server speaks; all by default
    pub versions: Versions,
    /// How to meet octets that the grammar forbids; lenient by default
    pub mode: Mode,
    /// Bounds on the CONNECT frame; [`Limits::BEFORE_CONNECT`] by default
    pub limits_before_connect: Limits,
    /// Bounds on later frames; [`Limits::DEFAULT`] by default
    pub limits: Limits,
    /// What the server can send and wants to get; every 10 s both by default
    ///
    /// Both numbers are a floor: a client that asks for shorter intervals gets these.
    pub heart_beat: HeartBeat,
    /// How many silent intervals of the client end the session; 2 by default
    pub heart_beat_tolerance: u32,
    /// Time until the CONNECT frame must be complete, whatever trickles in; 10 s by default
    pub connect_timeout: Duration,
    /// Whether CONNECT of 1.1 and 1.2 must have `host`; no by default, as common clients leave it out
    pub require_host: bool,
    /// Most subscriptions of a session; 1024 by default
    pub max_subscriptions: usize,
    /// Most unacknowledged messages of a subscription, see
    /// [`Session::set_window`](super::Session::set_window); 256 by default
    pub window: usize,
    /// Most open transactions of a session; 16 by default
    pub max_transactions: usize,
    /// Most frames of a transaction; 1024 by default
    pub max_transaction_frames: usize,
    /// Most octets of all open transactions of a session together; 8 MiB by default
    pub max_transaction_octets: usize,
    /// Longest life of a transaction; 60 s by default
    pub transaction_timeout: Duration,
    /// Most receipts that the application owes before no further frame is read; 1024 by default
    pub max_pending_receipts: usize,
    /// Most octets that wait to be written before [`Session::deliver`](super::Session::deliver) refuses
    /// more; 4 MiB by default
    pub max_queued: usize,
    /// How long octets may wait to be written before the session ends; 30 s by default
    pub stall_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            versions: Versions::ALL,
            mode: Mode::Lenient,
            limits_before_connect: Limits::BEFORE_CONNECT,
            limits: Limits::DEFAULT,
            heart_beat: HeartBeat::new(Duration::from_secs(10), Duration::from_secs(10)),
            heart_beat_tolerance: 2,
            connect_timeout: Duration::from_secs(10),
            require_host: false,
            max_subscriptions: 1024,
            window: 256,
            max_transactions: 16,
            max_transaction_frames: 1024,
            max_transaction_octets: 8 * 1024 * 1024,
            transaction_timeout: Duration::from_secs(60),
            max_pending_receipts: 1024,
            max_queued: 4 * 1024 * 1024,
            stall_timeout: Duration::from_secs(30),
        }
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
    mode: Mode,
    limits_before_connect: Limits,
    limits: Limits,
    heart_beat: HeartBeat,
    heart_beat_tolerance: u32,
    connect_timeout: Duration,
    require_host: bool,
    max_subscriptions: usize,
    window: usize,
    max_transactions: usize,
    max_transaction_frames: usize,
    max_transaction_octets: usize,
    transaction_timeout: Duration,
    max_pending_receipts: usize,
    max_queued: usize,
    stall_timeout: Duration,
}
