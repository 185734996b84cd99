use std::sync::Arc;
use std::time::Duration;

use mq_bridge::{Broker, BrokerError, Capability, Memory, Overflow};
use stomp_codec::server;
use stomp_ws::TransportConfig;

use crate::attachments::AttachmentLimits;
use crate::auth::{Authenticator, AuthenticatorChain};
use crate::authorizer::{Authorizer, Closed, MembersOnly, Rule, Rules};
use crate::blob::BlobStore;
use crate::clock::Clock;
use crate::connections::ConnectionLimits;
use crate::directory::{Directory, MemoryDirectory, RememberingDirectory};
use crate::drain::Drain;
use crate::gateway::Gateway;
use crate::interceptor::Interceptor;
use crate::names::UserName;
use crate::presence::{MemoryPresence, PresenceStore};
use crate::registry::{MemoryRegistry, Registry};
use crate::store::{
    FormattedStore, Formatter, MemoryStore, MessageStore, RetentionRules, StoragePolicy,
};

/// Octets that may wait for one client: what one subscription hands over at a time (1 MiB and the
/// largest message), and some room for others.
const MAX_QUEUED: usize = 6 * 1024 * 1024;

/// What a gateway was built with, beside its parts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Bounds and heart-beats of STOMP sessions.
    pub session: Arc<server::Config>,
    /// Bounds of connections.
    pub transport: TransportConfig,
    /// How many connections there may be.
    pub connections: ConnectionLimits,
    /// The `server` header of CONNECTED.
    pub server: String,
    /// What happens to a subscriber of `/topic` that does not read fast enough.
    pub overflow: Overflow,
    /// Octets of messages that may wait to be stored, in all sessions together.
    pub pipeline_bytes: usize,
    /// How long authors may recall what they said.
    pub recall_limit: Duration,
    /// Whether everyone in a conversation may see what edited messages said at first.
    pub originals: bool,
    /// Which conversations are kept how long.
    pub retention: RetentionRules,
    /// How much of each message is stored; everything without one.
    pub storage: Option<Arc<dyn StoragePolicy>>,
    /// What attachments may be.
    pub attachments: AttachmentLimits,
    /// How the ends of sessions are spread when the gateway stops.
    pub drain: Drain,
}

/// Puts a gateway together, from parts or from defaults.
///
/// | part | default |
/// |---|---|
/// | broker | [`Memory`]: nothing survives the process |
/// | store, directory | [`MemoryStore`], [`MemoryDirectory`]: nothing survives the process |
/// | registry | [`MemoryRegistry`]: nothing survives the process |
/// | authenticator | an empty chain: nobody is let in |
/// | authorizer | [`MembersOnly`], closed |
/// | authorizer of guests | [`Closed`] |
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use gateway_core::{Destination, Gateway, SendRequest, UserName};
///
/// let gateway = Gateway::builder().build()?;
/// let (alice, bob) = (UserName::new("alice")?, UserName::new("bob")?);
/// gateway.create_user(&alice, None).await?;
/// gateway.create_user(&bob, None).await?;
/// let to_bob = Destination::parse("/user/bob")?;
/// gateway.send(SendRequest::new(alice, to_bob, "hello")).await?;
/// gateway.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct GatewayBuilder {
    broker: Option<Arc<dyn Broker>>,
    store: Option<Arc<dyn MessageStore>>,
    formatter: Option<Arc<dyn Formatter>>,
    blobs: Option<Arc<dyn BlobStore>>,
    directory: Option<Arc<dyn Directory>>,
    registry: Option<Arc<dyn Registry>>,
    interceptors: Vec<Arc<dyn Interceptor>>,
    authenticator: Option<Arc<dyn Authenticator>>,
    authorizer: Option<Arc<dyn Authorizer>>,
    guests: Option<Arc<dyn Authorizer>>,
    presence: Option<Arc<dyn PresenceStore>>,
    open: bool,
    broadcasters: Vec<UserName>,
    rules: Vec<Rule>,
    clock: Clock,
    settings: Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            session: Arc::new(server::Config::default().max_queued(MAX_QUEUED)),
            transport: TransportConfig::DEFAULT,
            connections: ConnectionLimits::DEFAULT,
            server: concat!("im-gateway/", env!("CARGO_PKG_VERSION")).to_owned(),
            overflow: Overflow::DropOldest,
            pipeline_bytes: 64 * 1024 * 1024,
            recall_limit: Duration::from_secs(2 * 60),
            originals: true,
            retention: RetentionRules::new(),
            storage: None,
            attachments: AttachmentLimits::default(),
            drain: Drain::DEFAULT,
        }
    }
}

impl GatewayBuilder {
    /// Sets the broker.
    pub fn broker(mut self, broker: Arc<dyn Broker>) -> Self {
        self.broker = Some(broker);
        self
    }

    /// Sets where messages are stored.
    pub fn store(mut self, store: Arc<dyn MessageStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Sets the form in which messages are stored. Default: as they are.
    pub fn formatter(mut self, formatter: Arc<dyn Formatter>) -> Self {
        self.formatter = Some(formatter);
        self
    }

    /// Sets which conversations are kept how long; older messages are forgotten in the background. Default: all for good.
    pub fn retention(mut self, rules: RetentionRules) -> Self {
        self.settings.retention = rules;
        self
    }

    /// Sets how much of each message is stored, such as [`StorageRules`](crate::StorageRules). Default: everything.
    pub fn storage(mut self, policy: Arc<dyn StoragePolicy>) -> Self {
        self.settings.storage = Some(policy);
        self
    }

    /// Sets where attachments are kept, and what they may be. Default: none are taken.
    ///
    /// What no message of the gateway's store refers to is
    /// [removed](Gateway::sweep_attachments): gateways that have not the same store must not share one for attachments.
    pub fn attachments(mut self, blobs: Arc<dyn BlobStore>, limits: AttachmentLimits) -> Self {
        self.blobs = Some(blobs);
        self.settings.attachments = limits;
        self
    }

    /// Sets who there is.
    pub fn directory(mut self, directory: Arc<dyn Directory>) -> Self {
        self.directory = Some(directory);
        self
    }

    /// Sets where the records of operators are kept: keys, webhooks.
    pub fn registry(mut self, registry: Arc<dyn Registry>) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Adds somebody who looks at each message before it is sent, after those that were added before.
    pub fn interceptor(mut self, interceptor: Arc<dyn Interceptor>) -> Self {
        self.interceptors.push(interceptor);
        self
    }

    /// Sets who is let in.
    pub fn authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.authenticator = Some(authenticator);
        self
    }

    /// Sets who may do what.
    pub fn authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.authorizer = Some(authorizer);
        self
    }

    /// Sets what guests may do, where an [`AnonymousAuthenticator`](crate::AnonymousAuthenticator) lets them in. They have
    /// no inbox whatever it says. Default: [`Closed`].
    pub fn guests(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.guests = Some(authorizer);
        self
    }

    /// Sets where it is kept who is there. Default: in memory, which is right for a node that is alone; where several
    /// nodes share a PostgreSQL database, that.
    pub fn presence(mut self, presence: Arc<dyn PresenceStore>) -> Self {
        self.presence = Some(presence);
        self
    }

    /// Whether the default authorizer lets any signed-in user use any `/queue`, `/topic` and user
    /// destination. Default: no. Of no effect with an [`authorizer`](Self::authorizer) of your own.
    pub const fn open(mut self, open: bool) -> Self {
        self.open = open;
        self
    }

    /// Allows what one of these rules allows, before the authorizer is asked. Default: none.
    pub fn rules(mut self, rules: Vec<Rule>) -> Self {
        self.rules = rules;
        self
    }

    /// Lets the default authorizer these users send to `/broadcast/...`. Default: nobody. Of no effect with an
    /// [`authorizer`](Self::authorizer) of your own.
    pub fn broadcasters(mut self, users: impl IntoIterator<Item = UserName>) -> Self {
        self.broadcasters = users.into_iter().collect();
        self
    }

    /// Sets bounds and heart-beats of STOMP sessions.
    pub fn session(mut self, config: server::Config) -> Self {
        self.settings.session = Arc::new(config);
        self
    }

    /// Sets the bounds of connections.
    pub fn transport(mut self, config: TransportConfig) -> Self {
        self.settings.transport = config;
        self
    }

    /// Sets how many connections there may be. Default: [`ConnectionLimits::DEFAULT`].
    pub const fn connections(mut self, limits: ConnectionLimits) -> Self {
        self.settings.connections = limits;
        self
    }

    /// Sets the `server` header of CONNECTED.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.settings.server = name.into();
        self
    }

    /// Sets what happens to a subscriber of `/topic` that does not read fast enough. Default: the
    /// oldest messages make room.
    pub const fn overflow(mut self, overflow: Overflow) -> Self {
        self.settings.overflow = overflow;
        self
    }

    /// Sets how many octets of messages may wait to be stored, in all sessions together; beyond it
    /// senders wait, and then are told to try again. Default: 64 MiB.
    pub const fn pipeline_bytes(mut self, octets: usize) -> Self {
        self.settings.pipeline_bytes = octets;
        self
    }

    /// Sets how long authors may recall what they said; owners and admins of a group may always.
    /// Default: 2 minutes.
    pub const fn recall_limit(mut self, limit: Duration) -> Self {
        self.settings.recall_limit = limit;
        self
    }

    /// Sets whether everyone in a conversation may see what edited messages said at first, or only
    /// their authors. Default: everyone, as it was delivered to everyone.
    pub const fn originals(mut self, everyone: bool) -> Self {
        self.settings.originals = everyone;
        self
    }

    /// Sets how the ends of sessions are spread when the gateway stops.
    pub const fn drain(mut self, drain: Drain) -> Self {
        self.settings.drain = drain;
        self
    }

    /// Sets the clock.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Starts the gateway. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Unsupported`] where the broker lacks what inboxes need, order, and that a
    /// device's new session takes over from its old one; or what webhooks need, to tell how much
    /// waits and who consumes it.
    pub fn build(self) -> Result<Gateway, BrokerError> {
        let broker = self.broker.unwrap_or_else(|| Arc::new(Memory::default()));
        broker.capabilities().require(&[
            Capability::Order,
            Capability::Takeover,
            Capability::Depth,
        ])?;
        let mut store = self.store.unwrap_or_else(|| Arc::new(MemoryStore::new()));
        if let Some(formatter) = self.formatter {
            store = Arc::new(FormattedStore::new(store, formatter));
        }
        let directory = self.directory.unwrap_or_else(|| Arc::new(MemoryDirectory::new()));
        let directory: Arc<dyn Directory> = Arc::new(RememberingDirectory::new(directory));
        let registry = self.registry.unwrap_or_else(|| Arc::new(MemoryRegistry::new()));
        let authenticator =
            self.authenticator.unwrap_or_else(|| Arc::new(AuthenticatorChain::new()));
        let mut authorizer = self.authorizer.unwrap_or_else(|| {
            let closed = MembersOnly::new(Arc::clone(&directory), Arc::clone(&store));
            Arc::new(closed.open(self.open).broadcasters(self.broadcasters))
        });
        if !self.rules.is_empty() {
            authorizer = Arc::new(Rules::new(self.rules, authorizer));
        }
        let gateway = Gateway::new(
            self.settings,
            self.clock,
            broker,
            store,
            directory,
            registry,
            self.interceptors,
            self.blobs,
            authenticator,
            authorizer,
            self.guests.unwrap_or_else(|| Arc::new(Closed::new())),
            self.presence.unwrap_or_else(|| Arc::new(MemoryPresence::default())),
        );
        gateway.keep_retention();
        gateway.keep_sweeping();
        Ok(gateway)
    }
}
