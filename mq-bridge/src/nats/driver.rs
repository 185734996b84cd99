//! Connecting.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use async_nats::{Auth, AuthError, Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use async_trait::async_trait;
use futures::FutureExt;
use tokio::sync::watch;

use crate::remote::{Driver, Topics};
use crate::{BrokerError, Capability};

use super::background::{
    DELETED, settle_before, tick, watch_connection, watch_deletions, watch_records,
};
use super::config::NatsConfig;
use super::link::NatsLink;
use super::listen::Listeners;
use super::memory::Memory;
use super::names;
use super::plan::Plan;
use super::session::Session;

const CAPABILITIES: [Capability; 7] = [
    Capability::Durable,
    Capability::Order,
    Capability::DeliveryCount,
    Capability::DeadLetter,
    Capability::Expiry,
    Capability::Takeover,
    Capability::Depth,
];
/// How long one server may take to accept a connection.
const CONNECTING: Duration = Duration::from_secs(3);
/// A connection over which nothing comes for three times as long is lost.
const PING: Duration = Duration::from_secs(5);
/// What the server says of what a user may not do.
const PERMISSIONS: &str = "Permissions Violation";
const MAX_PREFIX: usize = 32;
const MIN_ACK_WAIT: Duration = Duration::from_secs(1);

pub(super) struct NatsDriver {
    config: NatsConfig,
    servers: Vec<ServerAddr>,
    /// The server that is tried next.
    next: AtomicUsize,
    plan: Arc<Plan>,
    memory: Arc<Memory>,
}

impl NatsDriver {
    pub(super) fn new(config: NatsConfig) -> Result<Self, BrokerError> {
        let refused = |reason: &str| Err(BrokerError::Refused { reason: reason.into() });
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if !(1..=MAX_PREFIX).contains(&config.prefix.len()) || !config.prefix.chars().all(plain) {
            return refused("the prefix is not one to 32 letters, digits, - or _");
        }
        if config.ack_wait < MIN_ACK_WAIT {
            return refused("the time to wait for acknowledgements is shorter than 1 s");
        }
        let mut servers = Vec::new();
        for url in &config.servers {
            match url.parse::<ServerAddr>() {
                Ok(address) if address.scheme() == "nats" => servers.push(address),
                Ok(_) => return refused("only nats:// URLs are supported"),
                // What is wrong may be in a password.
                Err(_) => return refused("a URL of a server cannot be read"),
            }
        }
        let plan = Arc::new(Plan::new(&config.prefix, config.replicas, config.ack_wait));
        Ok(Self { config, servers, next: AtomicUsize::new(0), plan, memory: Arc::default() })
    }

    /// Connects to one server, once: a client that is disconnected stays so.
    async fn client(&self, gone: watch::Sender<Option<Arc<str>>>) -> Result<Client, BrokerError> {
        let index = self.next.fetch_add(1, Relaxed) % self.servers.len();
        let server = &self.servers[index];
        let auth = self.auth(server);
        let used = Arc::new(AtomicBool::new(false));
        // The client would connect again by itself; it asks for this first.
        let options = ConnectOptions::with_auth_callback(move |_| {
            let (auth, used) = (auth.clone(), Arc::clone(&used));
            async move {
                if used.swap(true, Relaxed) {
                    return Err(AuthError::new("this connection is over"));
                }
                Ok(auth)
            }
        });
        let options = options
            .name("mq-bridge")
            .max_reconnects(1)
            .ignore_discovered_servers()
            .connection_timeout(CONNECTING)
            .ping_interval(PING)
            .read_buffer_capacity(u16::MAX)
            .event_callback(move |event| {
                let reason = reason_to_end(event);
                // The first counts.
                gone.send_if_modified(|gone| {
                    let first = gone.is_none() && reason.is_some();
                    if first {
                        *gone = reason;
                    }
                    first
                });
                std::future::ready(())
            });
        // For a server that wants TLS the client looks for cryptography, which is not built in, and
        // panics.
        let connecting = AssertUnwindSafe(options.connect(server.clone())).catch_unwind().await;
        let Ok(connected) = connecting else {
            let reason = "the server wants TLS, and this client has none".into();
            return Err(BrokerError::Refused { reason });
        };
        connected.map_err(|error| {
            let reason = error.to_string().into();
            match error.kind() {
                ConnectErrorKind::AuthorizationViolation => BrokerError::Refused { reason },
                _ => BrokerError::Disconnected { reason },
            }
        })
    }

    fn auth(&self, server: &ServerAddr) -> Auth {
        let mut auth = Auth::new();
        let of_url =
            |text: Option<&str>| text.map(|text| names::unescape(text).unwrap_or_default());
        match (&self.config.token, &self.config.user) {
            (Some(token), _) => auth.token = Some(token.clone()),
            (None, Some((user, password))) => {
                auth.username = Some(user.clone());
                auth.password = Some(password.clone());
            }
            (None, None) if server.password().is_some() => {
                auth.username = of_url(server.username());
                auth.password = of_url(server.password());
            }
            (None, None) => auth.token = of_url(server.username()),
        }
        auth
    }
}

#[async_trait]
impl Driver for NatsDriver {
    type Link = NatsLink;

    fn capabilities(&self) -> &[Capability] {
        &CAPABILITIES
    }

    async fn connect(&self, topics: &Arc<Topics>) -> Result<NatsLink, BrokerError> {
        let (gone, went) = watch::channel(None);
        let client = self.client(gone).await?;
        let outcome = self.begin(client, topics, went.clone()).await;
        let reason = went.borrow().clone();
        match (outcome, reason) {
            (Err(_), Some(reason)) if reason.contains(PERMISSIONS) => {
                Err(BrokerError::Refused { reason })
            }
            (outcome, _) => outcome,
        }
    }
}

impl NatsDriver {
    /// Makes a link of a connection.
    async fn begin(
        &self,
        client: Client,
        topics: &Arc<Topics>,
        went: watch::Receiver<Option<Arc<str>>>,
    ) -> Result<NatsLink, BrokerError> {
        let (plan, memory) = (Arc::clone(&self.plan), Arc::clone(&self.memory));
        let (listeners, heard) = Listeners::new();
        let session = Session::new(client, plan, Arc::clone(topics), memory, listeners);
        let session = Arc::new(session);
        // From now on it ends in order.
        let link = NatsLink::new(Arc::clone(&session));
        let answers = session.subscribe(session.answers()).await?;
        session.spawn(Arc::clone(&session).take_answers(answers));
        session.spawn(watch_connection(Arc::clone(&session), went));
        let made = session.ensure_streams().await?;
        settle_before(&session, made).await?;
        let records = session.subscribe(session.plan.records()).await?;
        session.spawn(watch_records(Arc::clone(&session), records));
        let deletions = session.subscribe(format!("{DELETED}*.*")).await?;
        session.spawn(watch_deletions(Arc::clone(&session), deletions));
        session.spawn(Arc::clone(&session).hear(heard));
        session.spawn(tick(Arc::clone(&session)));
        if session.is_old {
            tracing::warn!(
                "nats-server before 2.10 may pass over what others publish after it was killed: use a later one"
            );
            session.spawn(Arc::clone(&session).verify());
        }
        session.round_trip().await?;
        Ok(link)
    }
}

/// What makes a connection useless.
fn reason_to_end(event: Event) -> Option<Arc<str>> {
    match event {
        Event::Disconnected | Event::Closed => Some("the connection was lost".into()),
        Event::LameDuckMode => Some("the server is about to stop".into()),
        Event::ServerError(error) => {
            let error = error.to_string();
            tracing::warn!(error, "the server complains");
            // What it does not permit would be waited for in vain.
            error.contains(PERMISSIONS).then(|| error.into())
        }
        Event::SlowConsumer(_) => {
            tracing::warn!("messages of a topic were dropped: this process is too slow");
            None
        }
        _ => None,
    }
}

impl fmt::Debug for NatsDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}
