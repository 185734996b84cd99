use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use mq_bridge::{Broker, BrokerError, Message, Publish, Source, Target};
use stomp_ws::{TcpAcceptor, Transport};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::address;
use crate::auth::{AuthError, Authenticator, Credentials, PasswordHash, Principal, is_guest};
use crate::authorizer::{Action, Authorizer};
use crate::blob::BlobStore;
use crate::builder::{GatewayBuilder, Settings};
use crate::changes::change_of;
use crate::clock::Clock;
use crate::connections::{Admission, ConnectionRefused, Connections};
use crate::consumed::Consumed;
use crate::destination::Destination;
use crate::directory::{Contact, Directory, DirectoryError, HistoryFrom, Member, Role};
use crate::error::{GatewayError, RefusedError};
use crate::groups::GroupLocks;
use crate::hub::{Drops, Hub};
use crate::interceptor::{Interceptor, intercept};
use crate::kick;
use crate::lock::lock;
use crate::metrics::Metrics;
use crate::names::{ConversationId, ConversationKind, DeviceName, EVERYBODY, UserName};
use crate::outgoing::{self, Stamp};
use crate::pipeline::Pipeline;
use crate::presence::{People, Presence, PresenceStore, Ticket};
use crate::registry::Registry;
use crate::send::{SendKind, SendRequest, Sent};
use crate::session::{self, declare_queue};
use crate::sessions::SessionTable;
use crate::store::{
    ConversationCursor, ConversationSummary, Marker, MessageId, MessageStore, NewMessage, Page,
    Position, StoredMessage,
};
use crate::trace::{self, TRACEPARENT};

/// How long a person stays online after the last session ended: a page reload is no news.
const PRESENCE_GRACE: Duration = Duration::from_secs(3);

/// How many at a time of those who get no place are told so; the others are cut off.
const REFUSALS: usize = 64;
/// How long that may take.
const REFUSAL: Duration = Duration::from_secs(2);

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
    refusals: Arc<Semaphore>,
    pub(crate) hub: Hub,
    pub(crate) consumed: Consumed,
    pub(crate) drops: Drops,
    pub(crate) metrics: Arc<Metrics>,
    pipeline: Mutex<Option<Pipeline>>,
    pipeline_task: Mutex<Option<JoinHandle<()>>>,
    people: People,
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

/// Who gets a message.
struct Audience {
    people: Vec<UserName>,
    /// What its sender is in the group.
    role: Option<Role>,
    /// Why its sender may not speak here now.
    refused: Option<&'static str>,
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
        match parent.and_then(|(_, parent)| trace::sending(parent)) {
            Some(span) => self.submit(request).instrument(span).await,
            None => self.submit(request).await,
        }
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

    /// Takes a place for a connection, before anything is done for it; this is done already by what serves connections.
    ///
    /// A server that holds one for each connection that it accepts puts a clone into the extensions of its requests:
    /// then [`websocket`](crate::websocket) takes no second one.
    ///
    /// # Errors
    ///
    /// [`ConnectionRefused`] where there are as many as there may be ([`ConnectionLimits`](crate::ConnectionLimits)).
    pub fn admit(&self, address: Option<IpAddr>) -> Result<Admission, ConnectionRefused> {
        self.inner.connections.admit(address)
    }

    /// Serves a connection that was made elsewhere, until it ends. `address` is the client's, to slow
    /// down guessing of passwords. One too many gets an ERROR.
    ///
    /// # Cancel safety
    ///
    /// Dropping it cuts the connection off; what was not acknowledged is delivered again.
    pub fn serve(
        &self,
        transport: Transport,
        address: Option<IpAddr>,
    ) -> impl Future<Output = ()> + Send + use<> {
        session::run(self.clone(), transport, address, None, self.admit(address))
    }

    /// Serves STOMP over TCP until the gateway stops.
    ///
    /// # Cancel safety
    ///
    /// Dropping it stops accepting; connections that were accepted go on.
    pub async fn serve_tcp(&self, acceptor: TcpAcceptor) {
        loop {
            let (transport, address) = tokio::select! {
                accepted = acceptor.accept() => accepted,
                () = self.inner.stop.cancelled() => return,
            };
            self.spawn(transport, Some(address.ip()));
        }
    }

    /// Serves a connection in a task of its own, which [`shutdown`](Self::shutdown) waits for.
    pub fn spawn(&self, transport: Transport, address: Option<IpAddr>) {
        self.spawn_presenting(transport, address, None);
    }

    /// The same, for a connection that came with credentials: those of its WebSocket upgrade. They count for a CONNECT
    /// without a passcode.
    pub fn spawn_presenting(
        &self,
        transport: Transport,
        address: Option<IpAddr>,
        presented: Option<Credentials>,
    ) {
        self.spawn_admitted(transport, address, presented, self.admit(address));
    }

    pub(crate) fn spawn_admitted(
        &self,
        transport: Transport,
        address: Option<IpAddr>,
        presented: Option<Credentials>,
        admission: Result<Admission, ConnectionRefused>,
    ) {
        let inner = &self.inner;
        if inner.stop.is_cancelled() {
            return;
        }
        let is_refused = admission.is_err();
        let session = session::run(self.clone(), transport, address, presented, admission);
        if !is_refused {
            inner.tasks.spawn(session);
        } else if let Ok(permit) = Arc::clone(&inner.refusals).try_acquire_owned() {
            inner.tasks.spawn(async move {
                let _ = tokio::time::timeout(REFUSAL, session).await;
                drop(permit);
            });
        }
    }

    /// Takes no new session and ends the others, each at a moment of its own ([`Drain`](crate::Drain)) with close code
    /// 1001; what they have begun is finished. All else of the gateway goes on working until [`shutdown`](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready the sessions end all the same; call it again to wait.
    pub async fn drain(&self) {
        let inner = &self.inner;
        inner.drain.get_or_init(|| inner.settings.drain.window(inner.sessions.count()));
        inner.stop.cancel();
        inner.tasks.close();
        inner.tasks.wait().await;
    }

    /// [Drains](Self::drain), finishes what is under way and lets go of the broker.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready the gateway is stopping all the same; call it again to wait.
    pub async fn shutdown(&self) {
        self.drain().await;
        let inner = &self.inner;
        inner.people.finish().await;
        drop(lock(&inner.pipeline).take());
        let task = lock(&inner.pipeline_task).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the pipeline ended badly");
        }
        inner.broker.shutdown().await;
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

    fn pipeline(&self) -> Result<Pipeline, GatewayError> {
        lock(&self.pipeline).clone().ok_or(GatewayError::Overloaded)
    }

    /// Hands in what was authorized; waits only for room. The inner future is the receipt.
    pub(crate) async fn submit(
        &self,
        mut request: SendRequest,
    ) -> Result<BoxFuture<'static, Result<Sent, GatewayError>>, GatewayError> {
        if !self.interceptors.is_empty() {
            intercept(&self.interceptors, &mut request).await?;
        }
        trace::drop_stray(&mut request.headers);
        if let Some(conversation) = request.destination.conversation(&request.from) {
            return match request.kind {
                SendKind::Stored(_) => self.submit_message(conversation, request).await,
                _ => self.submit_signal(conversation, request).await,
            };
        }
        let SendRequest { from, destination, headers, body, .. } = request;
        let target = target_of(&from, &destination)?;
        if let Target::Queue(name) = &target {
            declare_queue(self, name).await?;
        }
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let message = self.transient(&from, &shown(&destination), headers, body);
        Ok(self.publish(vec![target], message).boxed())
    }

    async fn submit_message(
        &self,
        conversation: ConversationId,
        request: SendRequest,
    ) -> Result<BoxFuture<'static, Result<Sent, GatewayError>>, GatewayError> {
        let _sending = match &request.destination {
            Destination::Group(group) => self.groups.sending(group).await,
            _ => None,
        };
        let audience = self.audience(&conversation, &request.from).await?;
        if let Some(refused) = audience.refused {
            return Err(RefusedError::Denied(refused).into());
        }
        let change = match request.kind {
            SendKind::Stored(kind) => {
                let (limit, now) = (self.settings.recall_limit, self.clock.now_millis());
                change_of(kind, &request, audience.role, limit, now)?
            }
            _ => None,
        };
        let mut message = new_message(conversation, request, &audience.people);
        message.change = change;
        if let (Some(policy), true) = (&self.settings.storage, message.kind.follows_policy()) {
            message.keep = policy.keep(&message);
        }
        self.submit_new(message).await
    }

    /// Whether `from`, who may send there, may speak there now.
    pub(crate) async fn check_speaking(
        &self,
        conversation: &ConversationId,
        from: &UserName,
    ) -> Result<(), GatewayError> {
        match self.audience(conversation, from).await?.refused {
            // Not hidden, as what is denied is: a member may know that the group exists.
            Some(refused) => Err(RefusedError::Rejected(refused.to_owned()).into()),
            None => Ok(()),
        }
    }

    /// Who gets a message of `from`.
    async fn audience(
        &self,
        conversation: &ConversationId,
        from: &UserName,
    ) -> Result<Audience, GatewayError> {
        let group = match conversation.kind() {
            ConversationKind::Direct(..) => {
                return self.direct_audience(conversation, from).await;
            }
            ConversationKind::Broadcast(to) => {
                // Everybody is addressed at once. Who may speak here may take back what others said.
                let everybody = to.as_str() == EVERYBODY;
                let members = if everybody { None } else { self.directory.members(&to).await? };
                if members.is_none() && !everybody {
                    return Err(DirectoryError::NoSuchGroup(to).into());
                }
                let people = members.unwrap_or_default().into_iter().map(|member| member.user);
                let people = people.collect();
                return Ok(Audience { people, role: Some(Role::Admin), refused: None });
            }
            ConversationKind::Group(group) => group,
        };
        let members = self.directory.members(&group).await?;
        let members = members.ok_or(DirectoryError::NoSuchGroup(group))?;
        let sender = members.iter().find(|member| member.user == *from);
        let role = sender.map(|member| member.role);
        let muted_until = sender.and_then(|member| member.muted_until);
        let muted = muted_until.is_some_and(|until| until > self.clock.now_millis());
        let refused = muted.then_some("you are muted in this group");
        let people = members.into_iter().map(|member| member.user).collect();
        Ok(Audience { people, role, refused })
    }

    async fn direct_audience(
        &self,
        conversation: &ConversationId,
        from: &UserName,
    ) -> Result<Audience, GatewayError> {
        let peer = conversation.peer_of(from).unwrap_or_else(|| from.clone());
        let refused = match self.directory.contact(from, &peer).await? {
            Contact::Open => None,
            Contact::Blocks => Some("you have blocked this person"),
            Contact::Blocked => Some("this person takes no messages from you"),
        };
        let mut people = vec![from.clone()];
        // Who does not talk to the other keeps the own devices in step all the same.
        if refused.is_none() && peer != *from {
            people.push(peer);
        }
        Ok(Audience { people, role: None, refused })
    }

    /// Stores and distributes a message whose targets are known.
    pub(crate) async fn submit_new(
        &self,
        message: NewMessage,
    ) -> Result<BoxFuture<'static, Result<Sent, GatewayError>>, GatewayError> {
        let limit = self.broker.capabilities().max_message();
        // Room for the headers that are added; a message that the broker refuses for good must not
        // get into the store.
        if message.body.len().saturating_add(64 * 1024) > limit {
            return Err(BrokerError::TooLarge { size: message.body.len(), limit }.into());
        }
        let receipt = self.pipeline()?.send(message).await?;
        Ok(async move { receipt.await.map(Sent::Stored) }.boxed())
    }

    async fn submit_signal(
        &self,
        conversation: ConversationId,
        request: SendRequest,
    ) -> Result<BoxFuture<'static, Result<Sent, GatewayError>>, GatewayError> {
        let (kind, up_to, marker) = match request.kind {
            SendKind::Delivered(up_to) => ("delivered", Some(up_to), Some(Marker::Delivered)),
            SendKind::Read(up_to) => ("read", Some(up_to), Some(Marker::Read)),
            _ => ("typing", None, None),
        };
        let mut up_to = up_to;
        if let (Some(seq), Some(marker)) = (up_to, marker) {
            let marks = self.store.mark(&conversation, &request.from, marker, seq).await?;
            if !marks.moved {
                return Ok(futures::future::ready(Ok(Sent::Published)).boxed());
            }
            up_to = Some(if marker == Marker::Read { marks.read } else { marks.delivered });
        }
        let audience = if conversation.is_broadcast() {
            // How far somebody has read is for the own devices.
            Audience { people: vec![request.from.clone()], role: None, refused: None }
        } else {
            self.audience(&conversation, &request.from).await?
        };
        if marker.is_none() && audience.refused.is_some() {
            return Ok(futures::future::ready(Ok(Sent::Published)).boxed());
        }
        let stamp = Stamp {
            destination: &request.destination.to_string(),
            message_id: MessageId::generate(),
            from: Some(request.from.as_str()),
            timestamp: self.clock.now_millis(),
        };
        let message = outgoing::signal(&stamp, &conversation, kind, up_to, request.device.as_ref());
        let targets = audience.people.iter();
        let targets = targets.map(|user| Target::topic(address::live(user))).collect();
        Ok(self.publish(targets, message).boxed())
    }

    /// The message of a SEND that belongs to no conversation. Its receivers see `destination`.
    pub(crate) fn transient<N: AsRef<str>, V: AsRef<str>>(
        &self,
        from: &UserName,
        destination: &str,
        headers: impl Iterator<Item = (N, V)>,
        body: Bytes,
    ) -> Message {
        let stamp = Stamp {
            destination,
            message_id: MessageId::generate(),
            from: Some(from.as_str()),
            timestamp: self.clock.now_millis(),
        };
        outgoing::from_send(&stamp, headers, body)
    }

    fn publish(
        &self,
        targets: Vec<Target>,
        message: Message,
    ) -> impl Future<Output = Result<Sent, GatewayError>> + Send + use<> {
        let confirm = self.broker.publish(Publish::new(targets, message));
        async move { Ok(confirm.await.map(|()| Sent::Published)?) }
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

    /// Makes the inbox of a device unless it exists.
    pub(crate) async fn ensure_inbox(
        &self,
        user: &UserName,
        device: &DeviceName,
    ) -> Result<(), GatewayError> {
        let known = self.directory.register_device(user, device).await?;
        if known.seeded && self.broker_has(user, device).await? {
            return Ok(());
        }
        self.pipeline()?.seed(user.clone(), device.clone()).await
    }

    /// Whether the broker still has what the directory knows of: it may forget with its process, or
    /// have lost its data.
    async fn broker_has(&self, user: &UserName, device: &DeviceName) -> Result<bool, GatewayError> {
        let inbox = Source::durable(address::device_inbox(user, device));
        match self.broker.stats(&inbox).await {
            Ok(_) => Ok(true),
            Err(BrokerError::NotDeclared { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes that a session of `user` began.
    pub(crate) fn enter(&self, user: &UserName) {
        self.people.enter(user);
    }

    /// Notes that a session of `user`, `away` or not, ended.
    pub(crate) fn leave(self: &Arc<Self>, user: &UserName, away: bool) {
        self.expire_later(self.people.leave(user, away, self.clock.now_millis()));
    }

    /// Notes that a session of `user` is `away` now and was not, or the other way round.
    pub(crate) fn set_away(self: &Arc<Self>, user: &UserName, away: bool) {
        self.expire_later(self.people.set_away(user, away));
    }

    fn expire_later(self: &Arc<Self>, ticket: Option<Ticket>) {
        let Some(mut ticket) = ticket else { return };
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(PRESENCE_GRACE) => {}
                    () = inner.stop.cancelled() => {}
                }
                match inner.people.expire(ticket) {
                    Some(later) => ticket = later,
                    None => return,
                }
            }
        });
    }

    pub(crate) async fn presence_message(&self, user: &UserName) -> Result<Message, GatewayError> {
        let presence = self.people.presence(std::slice::from_ref(user)).await?;
        let presence = presence.first().copied().unwrap_or(Presence::offline(None));
        Ok(outgoing::presence(user, presence, self.clock.now_millis()))
    }
}

/// What a SEND asks permission for. Who reads what operators tell says how far, and no more.
pub(crate) const fn send_action(destination: &Destination, signal: bool) -> Action {
    if signal && matches!(destination, Destination::Broadcast(_)) {
        Action::Read
    } else {
        Action::Send
    }
}

/// Where a SEND that belongs to no conversation goes.
pub(crate) fn target_of(
    from: &UserName,
    destination: &Destination,
) -> Result<Target, GatewayError> {
    Ok(match destination {
        Destination::Queue(name) => Target::queue(address::queue(name)),
        Destination::Topic(name) => Target::topic(address::topic(name)),
        Destination::ReplyQueue(id) => Target::topic(address::reply(id)),
        Destination::UserDestination(user, to) => {
            Target::topic(address::user_destination(user, to))
        }
        Destination::OwnUserDestination(to) => Target::topic(address::user_destination(from, to)),
        _ => {
            let problem = "takes no SEND";
            return Err(GatewayError::Invalid { name: "destination", problem });
        }
    })
}

/// The destination that the receivers of a SEND see: for a user destination, their own name of it.
pub(crate) fn shown(destination: &Destination) -> String {
    match destination {
        Destination::UserDestination(_, to) => {
            Destination::OwnUserDestination(to.clone()).to_string()
        }
        other => other.to_string(),
    }
}

/// The message that a request stores, and where it goes.
pub(crate) fn new_message(
    conversation: ConversationId,
    request: SendRequest,
    people: &[UserName],
) -> NewMessage {
    let targets = people
        .iter()
        .map(address::inbox)
        .chain(std::iter::once(address::conversation(&conversation)))
        .chain(
            (conversation == ConversationId::everybody()).then(|| address::EVERYBODY.to_owned()),
        );
    let mut message =
        NewMessage::new(conversation, request.from, request.body).with_targets(targets);
    message.device = request.device;
    if let SendKind::Stored(kind) = request.kind {
        message.kind = kind;
    }
    message.idempotency_key = request.idempotency_key;
    message.headers = request.headers;
    message
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
