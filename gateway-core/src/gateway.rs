use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use mq_bridge::Broker;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use crate::auth::{AuthError, Authenticator, Credentials, PasswordHash, Principal, is_guest};
use crate::authorizer::{Action, Authorizer};
use crate::blob::BlobStore;
use crate::builder::{GatewayBuilder, Settings};
use crate::clock::Clock;
use crate::connections::Connections;
use crate::consumed::Consumed;
use crate::destination::Destination;
use crate::directory::{Directory, HistoryFrom, Member, Role};
use crate::error::{GatewayError, RefusedError};
use crate::groups::GroupLocks;
use crate::hub::{Drops, Hub};
use crate::interceptor::Interceptor;
use crate::kick;
use crate::lock::lock;
use crate::metrics::Metrics;
use crate::names::{ConversationId, ConversationKind, DeviceName, UserName};
use crate::pipeline::Pipeline;
use crate::presence::{People, Presence, PresenceStore};
use crate::registry::Registry;
use crate::send::{SendKind, SendRequest, Sent};
use crate::serve::REFUSALS;
use crate::sessions::SessionTable;
use crate::store::{
    ConversationCursor, ConversationSummary, Marker, MessageStore, Page, Position, StoredMessage,
};
use crate::submit::send_action;
use crate::trace::{self, TRACEPARENT};

/// The whole messenger of one node: sessions, routing, inboxes, timelines, presence.
///
/// Cheap to clone; all clones are one gateway. Several gateways can live in one process. It works
/// until [`shutdown`](Self::shutdown); dropping the last clone without that ends its tasks without
/// a word to the clients.
#[derive(Clone, Debug)]
pub struct Gateway {
    pub(crate) inner: Arc<Inner>,
}

/// What all sessions share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) store: Arc<dyn MessageStore>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) interceptors: Vec<Arc<dyn Interceptor>>,
    pub(crate) blobs: Option<Arc<dyn BlobStore>>,
    authenticator: Arc<dyn Authenticator>,
    authorizer: Arc<dyn Authorizer>,
    /// Decides about guests.
    guests: Arc<dyn Authorizer>,
    pub(crate) connections: Arc<Connections>,
    /// Those who get no place, and are told so.
    pub(crate) refusals: Arc<Semaphore>,
    pub(crate) hub: Hub,
    pub(crate) consumed: Consumed,
    pub(crate) drops: Drops,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) pipeline: Mutex<Option<Pipeline>>,
    pub(crate) pipeline_task: Mutex<Option<JoinHandle<()>>>,
    pub(crate) people: People,
    pub(crate) sessions: Arc<SessionTable>,
    /// Tells this gateway from others on the same broker.
    pub(crate) id: Uuid,
    /// Listens to other nodes that end sessions.
    _kicks: AbortOnDropHandle<()>,
    pub(crate) groups: GroupLocks,
    pub(crate) stop: CancellationToken,
    /// Within what time sessions end, once it stops.
    pub(crate) drain: OnceLock<Duration>,
    pub(crate) tasks: TaskTracker,
}

/// A page of a conversation's history.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct History {
    /// In the order of `seq`.
    pub messages: Vec<StoredMessage>,
    /// From where to where the store has the conversation.
    pub position: Position,
}

impl Gateway {
    /// Puts a gateway together.
    pub fn builder() -> GatewayBuilder {
        GatewayBuilder::default()
    }

    #[allow(clippy::too_many_arguments, reason = "called by the builder only")]
    pub(crate) fn new(
        settings: Settings,
        clock: Clock,
        broker: Arc<dyn Broker>,
        store: Arc<dyn MessageStore>,
        directory: Arc<dyn Directory>,
        registry: Arc<dyn Registry>,
        interceptors: Vec<Arc<dyn Interceptor>>,
        blobs: Option<Arc<dyn BlobStore>>,
        authenticator: Arc<dyn Authenticator>,
        authorizer: Arc<dyn Authorizer>,
        guests: Arc<dyn Authorizer>,
        presence: Arc<dyn PresenceStore>,
    ) -> Self {
        let metrics = Arc::<Metrics>::default();
        let (pipeline, task) = Pipeline::start(
            Arc::clone(&metrics),
            clock.clone(),
            Arc::clone(&store),
            Arc::clone(&directory),
            Arc::clone(&broker),
            settings.pipeline_bytes,
        );
        let sessions = Arc::new(SessionTable::default());
        let id = Uuid::new_v4();
        let kicks = tokio::spawn(kick::listen(Arc::clone(&broker), Arc::clone(&sessions), id));
        let drops = Drops::default();
        let stop = CancellationToken::new();
        Self {
            inner: Arc::new(Inner {
                people: People::start(presence, Arc::clone(&broker), clock.clone(), stop.clone()),
                connections: Connections::new(settings.connections),
                refusals: Arc::new(Semaphore::new(REFUSALS)),
                settings,
                clock,
                hub: Hub::new(Arc::clone(&broker), drops.clone()),
                drops,
                consumed: Consumed::default(),
                metrics,
                broker,
                store,
                directory,
                registry,
                interceptors,
                blobs,
                authenticator,
                authorizer,
                guests,
                pipeline: Mutex::new(Some(pipeline)),
                pipeline_task: Mutex::new(Some(task)),
                sessions,
                id,
                _kicks: AbortOnDropHandle::new(kicks),
                groups: GroupLocks::default(),
                stop,
                drain: OnceLock::new(),
                tasks: TaskTracker::new(),
            }),
        }
    }

    /// Tells who somebody is.
    ///
    /// # Errors
    ///
    /// [`AuthError`]; its text may be shown to the client.
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Principal, AuthError> {
        self.inner.authenticator.authenticate(credentials).await?.ok_or(AuthError::Failed)
    }

    /// Makes a user, and the inbox of the default device, so that nothing sent from now on is missed.
    /// Without a password the user signs in by other means, such as a token.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Directory`] where the name is taken, [`GatewayError::Invalid`] where it is that of a guest.
    pub async fn create_user(
        &self,
        user: &UserName,
        password: Option<&PasswordHash>,
    ) -> Result<(), GatewayError> {
        if is_guest(user) {
            let problem = "names of this form are made up for guests";
            return Err(GatewayError::Invalid { name: "name", problem });
        }
        self.inner.directory.create_user(user, password).await?;
        self.inner.catch_up(user, &ConversationId::everybody()).await?;
        self.inner.ensure_inbox(user, &DeviceName::default_of(user)).await
    }

    /// Sends, as the sender's own SEND would: authorized, stored and confirmed when it returns.
    ///
    /// # Errors
    ///
    /// [`GatewayError`]; where [`is_retryable`](GatewayError::is_retryable), send it again with the same
    /// idempotency key.
    ///
    /// # Cancel safety
    ///
    /// A send that was dropped may have happened; the same idempotency key makes the repeat harmless.
    pub async fn send(&self, request: SendRequest) -> Result<Sent, GatewayError> {
        let parent = request.headers.iter().find(|(name, _)| name == TRACEPARENT);
        let span = parent.and_then(|(_, parent)| trace::sending(parent)).unwrap_or_else(Span::none);
        self.submit(request).instrument(span).await
    }

    async fn submit(&self, request: SendRequest) -> Result<Sent, GatewayError> {
        let signal = !matches!(request.kind, SendKind::Stored(_));
        let action = send_action(&request.destination, signal);
        self.inner.authorize(&request.from, action, &request.destination).await?;
        self.inner.submit(request).await?.await
    }

    /// A page of a conversation, for somebody who may read it.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Refused`] for whoever is no part of it, whether it exists or not.
    pub async fn history(
        &self,
        user: &UserName,
        conversation: &ConversationId,
        page: Page,
    ) -> Result<History, GatewayError> {
        let destination = conversation_destination(user, conversation)?;
        self.inner.authorize(user, Action::Read, &destination).await?;
        let floor = self.inner.visible_after(user, conversation).await?;
        let mut position = self.inner.store.position(conversation).await?;
        position.first_seq = position.first_seq.max(floor + 1);
        let page = Page { after: page.after.map(|after| after.max(floor)), ..page };
        let mut messages = self.inner.read(conversation, page).await?;
        messages.retain(|message| message.seq > floor);
        Ok(History { messages, position })
    }

    /// The conversations of a user, the latest first, at most `limit`, those behind a place if one is given.
    ///
    /// # Errors
    ///
    /// [`GatewayError`] where directory or store fail.
    pub async fn conversations(
        &self,
        user: &UserName,
        after: Option<&ConversationCursor>,
        limit: usize,
    ) -> Result<Vec<ConversationSummary>, GatewayError> {
        let groups = self.inner.directory.groups_of(user).await?;
        let others = ConversationId::of_groups(&groups);
        let mut list = self.inner.store.conversations(user, &others, after, limit).await?;
        let now = self.inner.clock.now_millis();
        list.iter_mut()
            .filter_map(|line| line.last_message.as_mut())
            .for_each(|last| last.fade(now));
        Ok(list)
    }

    /// Whether the authorizer lets a user send to a conversation.
    ///
    /// # Errors
    ///
    /// [`GatewayError`] where the decision could not be made.
    pub async fn may_send(
        &self,
        user: &UserName,
        conversation: &ConversationId,
    ) -> Result<bool, GatewayError> {
        let destination = conversation_destination(user, conversation)?;
        match self.inner.authorize(user, Action::Send, &destination).await {
            Ok(()) => Ok(true),
            Err(GatewayError::Refused(RefusedError::Denied(_))) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The members of a conversation with their roles; in a direct conversation both are members, and of who reads
    /// what operators tell nobody knows but of himself.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Refused`] for whoever is no part of it, whether it exists or not.
    pub async fn members(
        &self,
        user: &UserName,
        conversation: &ConversationId,
    ) -> Result<Vec<Member>, GatewayError> {
        let destination = conversation_destination(user, conversation)?;
        self.inner.authorize(user, Action::Read, &destination).await?;
        if conversation.is_broadcast() {
            return Ok(vec![Member::new(user.clone(), Role::Member)]);
        }
        self.inner.members(conversation).await
    }

    /// Whether these people are there, on this node or another, in their order.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Store`] where the presence store cannot be read.
    pub async fn presence(&self, users: &[UserName]) -> Result<Vec<Presence>, GatewayError> {
        Ok(self.inner.people.presence(users).await?)
    }

    /// Who there is.
    #[must_use]
    pub fn directory(&self) -> &Arc<dyn Directory> {
        &self.inner.directory
    }

    /// What is stored.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn MessageStore> {
        &self.inner.store
    }

    /// Where the records of operators are: keys, webhooks.
    #[must_use]
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.inner.registry
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.inner.broker
    }

    /// How many live messages were dropped because a subscriber was slow, counted per subscriber
    /// (P7). Messages of inboxes, queues and durable subscriptions never are.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.inner.drops.get()
    }

    /// What it was built with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Whether this node holds its lease of a store that several nodes share; always so where it is alone. Without it
    /// nothing is stored or published, and clients are better off at another node.
    #[must_use]
    pub fn holds_lease(&self) -> bool {
        self.inner.store.shared().is_none_or(|shared| shared.lease().is_some())
    }
}

impl Inner {
    pub(crate) async fn authorize(
        &self,
        user: &UserName,
        action: Action,
        destination: &Destination,
    ) -> Result<(), GatewayError> {
        if !is_guest(user) {
            return Ok(self.authorizer.authorize(user, action, destination).await?);
        }
        if *destination == Destination::Inbox {
            return Err(RefusedError::Denied("guests have no inbox").into());
        }
        Ok(self.guests.authorize(user, action, destination).await?)
    }

    /// The last `seq` that `user`, who may read the conversation, does not see.
    pub(crate) async fn visible_after(
        &self,
        user: &UserName,
        conversation: &ConversationId,
    ) -> Result<u64, GatewayError> {
        let ConversationKind::Group(group) = conversation.kind() else { return Ok(0) };
        let since = self.directory.member(&group, user).await?.map_or(0, |member| member.since);
        if since == 0 {
            return Ok(0);
        }
        let settings = self.directory.settings(&group).await?.unwrap_or_default();
        Ok(if settings.history == HistoryFrom::Joining { since } else { 0 })
    }

    /// What was said before is no news to who comes new.
    pub(crate) async fn catch_up(
        &self,
        user: &UserName,
        conversation: &ConversationId,
    ) -> Result<(), GatewayError> {
        let last = self.store.position(conversation).await?.last_seq;
        if last > 0 {
            self.store.mark(conversation, user, Marker::Read, last).await?;
        }
        Ok(())
    }

    /// Waits until everything that was handed in is stored.
    pub(crate) async fn settled(&self) -> Result<(), GatewayError> {
        self.pipeline()?.settled().await
    }

    /// Messages of a conversation, those that have expired without their content.
    pub(crate) async fn read(
        &self,
        conversation: &ConversationId,
        page: Page,
    ) -> Result<Vec<StoredMessage>, GatewayError> {
        let since = Instant::now();
        let mut messages = self.store.history(conversation, page).await?;
        self.metrics.read_time.observe(since.elapsed());
        let now = self.clock.now_millis();
        messages.iter_mut().for_each(|message| message.fade(now));
        Ok(messages)
    }

    pub(crate) fn pipeline(&self) -> Result<Pipeline, GatewayError> {
        lock(&self.pipeline).clone().ok_or(GatewayError::Overloaded)
    }

    pub(crate) async fn members(
        &self,
        conversation: &ConversationId,
    ) -> Result<Vec<Member>, GatewayError> {
        if let ConversationKind::Group(group) = conversation.kind() {
            return Ok(self.directory.members(&group).await?.unwrap_or_default());
        }
        let people = self.directory.participants(conversation).await?;
        Ok(people.into_iter().map(|user| Member::new(user, Role::Member)).collect())
    }
}

/// The destination under which `user` knows a conversation.
///
/// # Errors
///
/// Refused, as a conversation that does not exist is, where the user is no part of it.
pub(crate) fn conversation_destination(
    user: &UserName,
    conversation: &ConversationId,
) -> Result<Destination, GatewayError> {
    match conversation.kind() {
        ConversationKind::Group(group) => Ok(Destination::Group(group)),
        ConversationKind::Broadcast(to) => Ok(Destination::Broadcast(to)),
        ConversationKind::Direct(..) => conversation
            .peer_of(user)
            .map(Destination::User)
            .ok_or(GatewayError::Refused(RefusedError::Denied("no such conversation"))),
    }
}
