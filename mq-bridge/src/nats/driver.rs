//! Connecting, and the background of a session.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Auth, AuthError, Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use async_trait::async_trait;
use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::remote::{Driver, Topics};
use crate::{BrokerError, Capability};

use super::config::NatsConfig;
use super::consumer::{ACK, NAK};
use super::link::NatsLink;
use super::listen::Listeners;
use super::memory::Memory;
use super::names;
use super::plan::Plan;
use super::session::Session;

const CAPABILITIES: [Capability; 6] = [
    Capability::Durable,
    Capability::Order,
    Capability::DeliveryCount,
    Capability::DeadLetter,
    Capability::Expiry,
    Capability::Takeover,
];
/// How long one server may take to accept a connection.
const CONNECTING: Duration = Duration::from_secs(3);
/// A connection over which nothing comes for three times as long is lost.
const PING: Duration = Duration::from_secs(5);
/// How often a session looks after what it holds.
const TICK: Duration = Duration::from_secs(1);
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
    async fn client(
        &self,
        gone: watch::Sender<Option<&'static str>>,
    ) -> Result<Client, BrokerError> {
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
                let reason = match event {
                    Event::Disconnected | Event::Closed => Some("the connection was lost"),
                    Event::LameDuckMode => Some("the server is about to shut down"),
                    Event::SlowConsumer(_) => {
                        tracing::warn!(
                            "messages of a topic were dropped: this process is too slow"
                        );
                        None
                    }
                    Event::ServerError(error) => {
                        tracing::warn!(%error, "the server complains");
                        None
                    }
                    _ => None,
                };
                if reason.is_some() {
                    gone.send_replace(reason);
                }
                std::future::ready(())
            });
        options.connect(server.clone()).await.map_err(|error| {
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
            session.spawn(Arc::clone(&session).verify());
        }
        session.round_trip().await?;
        Ok(link)
    }
}

/// Settles what the last link could not: what it held is given back, before anyone consumes, and
/// what it had acknowledged is so again.
async fn settle_before(session: &Session, made: Vec<String>) -> Result<(), BrokerError> {
    let (held, acknowledged) = session.memory.to_settle(made);
    for reply in acknowledged {
        session.send(reply.into_string(), ACK).await?;
    }
    // Of several consumers: each confirms its own.
    let mut held = held.into_iter().peekable();
    while let Some(reply) = held.next() {
        let consumer = consumer_of(&reply);
        if held.peek().is_some_and(|next| consumer_of(next) == consumer) {
            session.send(reply.into_string(), NAK).await?;
        } else {
            session.confirmed(reply.into_string(), NAK).await?;
        }
    }
    session.memory.settled();
    Ok(())
}

/// What the subjects of all deliveries of a consumer have in common.
fn consumer_of(reply: &str) -> &str {
    // The count and what comes after it are the last five tokens, in both forms at least.
    reply.rsplitn(6, '.').last().unwrap_or(reply)
}

async fn watch_connection(session: Arc<Session>, mut went: watch::Receiver<Option<&'static str>>) {
    let reason = match went.wait_for(Option::is_some).await {
        Ok(reason) => reason.unwrap_or_default(),
        Err(_) => "the client has ended",
    };
    session.fail(reason);
}

/// Takes what other nodes declare.
async fn watch_records(session: Arc<Session>, mut records: async_nats::Subscriber) {
    let prefix = session.plan.records();
    let prefix = prefix.trim_end_matches('>');
    while let Some(message) = records.next().await {
        let Some(token) = message.subject.strip_prefix(prefix) else { continue };
        let consumers = session.places.consumers_of(token);
        let Some(first) = consumers.first() else { continue };
        let Ok(version) = session.record(&first.address).await else { return };
        consumers.iter().for_each(|consumer| consumer.update(&version));
    }
}

const DELETED: &str = "$JS.EVENT.ADVISORY.CONSUMER.DELETED.";

/// Hears of queues and durable subscriptions that are deleted.
async fn watch_deletions(session: Arc<Session>, mut deletions: async_nats::Subscriber) {
    while let Some(message) = deletions.next().await {
        let names = message.subject.strip_prefix(DELETED).and_then(|names| names.split_once('.'));
        let Some((stream, consumer)) = names else { continue };
        let plan = &session.plan;
        let token = if stream == plan.queues {
            session.forget_queue(consumer);
            format!("q.{consumer}")
        } else if stream == plan.topics {
            format!("d.{consumer}")
        } else {
            continue;
        };
        for consumer in session.places.consumers_of(&token) {
            consumer.inbox.end(crate::EndReason::Deleted);
        }
    }
}

/// Looks after what is on its way and what is held.
async fn tick(session: Arc<Session>) {
    let mut ticks = interval(TICK.min(session.plan.ack_wait / 6));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        session.check_flights();
        if session.client.connection_state() == State::Disconnected {
            session.fail("the connection was lost");
            return;
        }
        for consumer in session.places.consumers() {
            if consumer.tick(&session).await.is_err() {
                return;
            }
        }
    }
}

impl fmt::Debug for NatsDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}
