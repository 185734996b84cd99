//! Puts the crates together and runs the result.

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use gateway_core::{
    AttachmentLimits, BlobError, Closed, ConnectionLimits, Directory, DirectoryError, Drain,
    FolderBlobs, Gateway, GatewayError, HttpClient, HttpNotifier, Interceptor, JwtAuthenticator,
    JwtOptions, MemoryDirectory, MemoryPresence, MemoryRegistry, MemoryStore, MessageId,
    MessageStore, NotifyOptions, PasswordError, PasswordHasher, PostgresOptions, PresenceStore,
    RateLimit, Reach, Registry, RestApi, Retention, RetentionRules, Rules, Secret, SqliteStore,
    StorageRules, StoreError, TokenKey, UserName, WebhookOptions, Webhooks, operations, websocket,
    websocket_with_cookie,
};
use mq_bridge::BrokerError;
use stomp_ws::TcpAcceptor;
use stomp_ws::tls::ServerTls;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::data_dir::{DataDir, DataDirError};
use crate::identity::Identity;
use crate::options::Options;
use crate::plan::Plan;
use crate::value::StoreKind;
use crate::{http, page};

/// How long what is under way may take to end, once the last session was told to.
const FINISH: Duration = Duration::from_secs(10);

/// How often the files of the TLS certificate are looked at.
const CERTIFICATE_PERIOD: Duration = Duration::from_secs(2);

/// Why the server did not start. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(
        "cannot listen on {address}: {source}; end the program that uses this address, or choose \
         another one with {flag} (port 0 picks a free one)"
    )]
    Listen { flag: &'static str, address: SocketAddr, source: io::Error },
    #[error("cannot open the message store: {0}")]
    Store(#[from] StoreError),
    #[error("cannot open the folder of attachments: {0}")]
    Attachments(#[from] BlobError),
    #[error("cannot open the message queue: {0}")]
    Broker(#[from] BrokerError),
    #[error("cannot read or make the key for tokens, {}: {source}", path.display())]
    TokenKey { path: PathBuf, source: io::Error },
    #[error("cannot read or write the name of this node, {}: {source}", path.display())]
    NodeName { path: PathBuf, source: io::Error },
    #[error("--user: {0}")]
    Password(#[from] PasswordError),
    #[error("cannot set up TLS: {0}")]
    Client(io::Error),
    #[error("cannot make a user: {0}")]
    MakeUser(#[from] GatewayError),
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
}

/// Runs the server until it is asked to end.
pub(crate) async fn run(plan: Plan) -> Result<(), StartError> {
    let Plan { options, origins, users, admins, interceptor, tls, identity, notifier } = plan;
    let data = DataDir::open(&options.data)?;
    let http_listener = listen("--http", options.http).await?;
    let stomp_listener = listen("--stomp", options.stomp).await?;

    let hasher = PasswordHasher::new();
    let tokens = tokens(&options, data.path())?;
    let interceptor = interceptor.map(|interceptor| Arc::new(interceptor) as Arc<dyn Interceptor>);
    let gateway =
        assemble(&options, data.path(), &hasher, &tokens, interceptor, &identity, &admins).await?;
    for (name, password) in &users {
        make_user(&gateway, &hasher, name, password).await?;
    }

    notify(&gateway, notifier);
    let reach = if options.webhooks_private { Reach::Everywhere } else { Reach::Public };
    let client = HttpClient::new(reach).map_err(StartError::Client)?;
    let webhooks = Webhooks::start(gateway.clone(), WebhookOptions::new(client));
    let mut rest = RestApi::new(gateway.clone(), tokens).admins(admins).webhooks(webhooks);
    if options.rest_rate > 0 {
        let caller = RateLimit::new(options.rest_rate.saturating_mul(10), options.rest_rate);
        let address =
            RateLimit::new(caller.burst.saturating_mul(4), caller.per_second.saturating_mul(4));
        rest = rest.rate_limits(caller, address);
    }
    if !options.no_signup {
        rest = rest.sign_up(hasher);
    }
    let stomp_over_websocket = match identity.cookie {
        Some(cookie) => {
            rest = rest.cookie(cookie.clone());
            websocket_with_cookie(gateway.clone(), cookie)
        }
        None => websocket(gateway.clone(), origins),
    };
    let router: Router = rest
        .router()
        .merge(operations(gateway.clone()))
        .route("/ws", stomp_over_websocket)
        .fallback_service(page::files());

    let ended = end_signal().map_err(StartError::Signals)?;
    announce(&http_listener, &stomp_listener, tls.is_some(), data.path());
    let mut acceptor = TcpAcceptor::new(stomp_listener, gateway.settings().transport);
    if let Some(tls) = &tls {
        acceptor = acceptor.with_tls(tls.clone());
        let hang_ups = HangUps::new().map_err(StartError::Signals)?;
        tokio::spawn(keep_certificate(tls.clone(), hang_ups));
    }
    let stomp = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.serve_tcp(acceptor).await }
    });
    let http =
        tokio::spawn(http::serve(http_listener, tls, gateway.clone(), router, ended.clone()));

    ended.cancelled().await;
    let bound = gateway.settings().drain.longest + FINISH;
    tracing::info!(within = ?bound, "ending");
    let drained = tokio::time::timeout(bound, async {
        let _ = tokio::join!(gateway.drain(), stomp, http);
        gateway.shutdown().await;
    });
    if drained.await.is_err() {
        tracing::warn!("connections that did not end in time were cut off");
    }
    Ok(())
}

/// Tells those who are away, or sees to it that nothing waits for a notifier that was taken out.
fn notify(gateway: &Gateway, notifier: Option<HttpNotifier>) {
    if let Some(notifier) = notifier {
        return gateway.notify_by(Arc::new(notifier), NotifyOptions::default());
    }
    let gateway = gateway.clone();
    // Not waited for: the broker may be away.
    tokio::spawn(async move {
        if let Err(error) = gateway.notify_no_more().await {
            tracing::warn!(%error, "what may wait for a former notifier could not be thrown away");
        }
    });
}

async fn listen(flag: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| StartError::Listen { flag, address, source })
}

/// The authority of the tokens: its key stays in a file, so that tokens outlive the process.
fn tokens(options: &Options, data: &Path) -> Result<JwtAuthenticator, StartError> {
    let path = options.token_key.clone().unwrap_or_else(|| data.join("token.key"));
    let key =
        TokenKey::load_or_create(&path).map_err(|source| StartError::TokenKey { path, source })?;
    Ok(JwtOptions::new(key, "im-server", "im-server").build())
}

/// The name of this node among those that share a database: it stays in the data folder, so that a server that is
/// started again goes on where it was killed.
fn node_name(data: &Path) -> Result<String, StartError> {
    let path = data.join("node");
    let kept = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        kept => kept,
    };
    let named = kept.and_then(|kept| {
        // Empty where the process was killed as it wrote.
        if !kept.is_empty() {
            return Ok(kept);
        }
        let name = MessageId::generate().to_string();
        fs::write(&path, &name)?;
        Ok(name)
    });
    named.map_err(|source| StartError::NodeName { path, source })
}

/// All that is kept
type Stores =
    (Arc<dyn MessageStore>, Arc<dyn Directory>, Arc<dyn Registry>, Arc<dyn PresenceStore>);

async fn assemble(
    options: &Options,
    data: &Path,
    hasher: &PasswordHasher,
    tokens: &JwtAuthenticator,
    interceptor: Option<Arc<dyn Interceptor>>,
    identity: &Identity,
    admins: &[UserName],
) -> Result<Gateway, StartError> {
    let (store, directory, registry, presence): Stores = match &options.store {
        StoreKind::Memory => (
            Arc::new(MemoryStore::new()),
            Arc::new(MemoryDirectory::new()),
            Arc::new(MemoryRegistry::new()),
            Arc::new(MemoryPresence::default()),
        ),
        StoreKind::Sqlite => {
            let store = Arc::new(SqliteStore::open(data.join("store.db"))?);
            (store.clone(), store.clone(), store, Arc::new(MemoryPresence::default()))
        }
        StoreKind::Postgres(url) => {
            let postgres = PostgresOptions::new(url).with_node(node_name(data)?);
            let store = Arc::new(postgres.open().await?);
            (store.clone(), store.clone(), store.clone(), store)
        }
    };
    let broker = options.broker.open(data).await?;
    let authenticator = identity.chain(&directory, hasher, tokens);
    let mut builder = Gateway::builder();
    if let Some(interceptor) = interceptor {
        builder = builder.interceptor(interceptor);
    }
    if options.max_attachment > 0 {
        let limit = u64::from(options.max_attachment) * 1024 * 1024;
        let blobs = FolderBlobs::open(data.join("attachments"))?;
        let limits = AttachmentLimits::default().with_max_octets(limit);
        builder = builder.attachments(Arc::new(blobs), limits);
    }
    Ok(builder
        .broker(broker)
        .store(store)
        .directory(directory)
        .registry(registry)
        .presence(presence)
        .authenticator(Arc::new(authenticator))
        .open(options.open)
        .broadcasters(admins.iter().cloned())
        .rules(options.allow.clone())
        .guests(Arc::new(Rules::new(options.guests.clone(), Arc::new(Closed::new()))))
        .connections(ConnectionLimits::new(
            options.max_connections,
            options.max_connections_per_address,
        ))
        .drain(Drain::new(Drain::DEFAULT.per_second, Duration::from_secs(options.drain.into())))
        .storage(Arc::new(options.store_only.iter().cloned().collect::<StorageRules>()))
        .retention(RetentionRules::new().rule("*", retention(options)))
        .server_name(concat!("im-server/", env!("CARGO_PKG_VERSION")))
        .build()?)
}

/// How long messages are kept: nothing is said by 0.
fn retention(options: &Options) -> Retention {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let mut retention = Retention::FOREVER;
    if options.keep_days > 0 {
        retention.max_age = Some(DAY.saturating_mul(options.keep_days));
    }
    if options.keep_messages > 0 {
        retention.max_messages = Some(options.keep_messages);
    }
    retention
}

/// Makes a user unless there is one of this name, who keeps the password he has.
async fn make_user(
    gateway: &Gateway,
    hasher: &PasswordHasher,
    name: &UserName,
    password: &Secret,
) -> Result<(), StartError> {
    let exists = gateway.directory().user_exists(name).await;
    if exists.map_err(GatewayError::from)? {
        return Ok(());
    }
    let hash = hasher.hash(password).await?;
    match gateway.create_user(name, Some(&hash)).await {
        // Another node was quicker.
        Err(GatewayError::Directory(DirectoryError::UserExists(_))) => {}
        made => {
            made?;
            tracing::info!(user = %name, "made a user");
        }
    }
    Ok(())
}

/// Tells, on standard output, where everything is. Scripts wait for this.
fn announce(http: &TcpListener, stomp: &TcpListener, tls: bool, data: &Path) {
    let shown = |listener: &TcpListener| {
        listener.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string())
    };
    let (http, stomp, data) = (shown(http), shown(stomp), data.display());
    let (s, with_tls) = if tls { ("s", " with TLS") } else { ("", "") };
    let text = format!(
        "im-server ready\n  web chat   http{s}://{http}/\n  websocket  ws{s}://{http}/ws\n  \
         stomp      {stomp}{with_tls}\n  data       {data}\n"
    );
    let mut output = io::stdout().lock();
    if let Err(error) = output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        tracing::debug!(%error, "nobody reads the standard output");
    }
}

/// Reads the certificate again when its files change, and at SIGHUP.
async fn keep_certificate(tls: ServerTls, mut hang_ups: HangUps) {
    loop {
        tokio::select! {
            () = tls.watch(CERTIFICATE_PERIOD) => {}
            () = hang_ups.next() => tls.reload_logged(),
        }
    }
}

#[cfg(unix)]
struct HangUps(tokio::signal::unix::Signal);

#[cfg(unix)]
impl HangUps {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self(signal(SignalKind::hangup())?))
    }

    async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

#[cfg(not(unix))]
struct HangUps;

#[cfg(not(unix))]
impl HangUps {
    #[allow(clippy::unnecessary_wraps, reason = "as on other systems")]
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        std::future::pending().await
    }
}

/// Cancelled at the first SIGINT or SIGTERM; a second one ends the process at once.
fn end_signal() -> io::Result<CancellationToken> {
    let ended = CancellationToken::new();
    let end = ended.clone();
    let mut signals = Signals::new()?;
    tokio::spawn(async move {
        signals.next().await;
        end.cancel();
        signals.next().await;
        tracing::warn!("ending at once");
        std::process::exit(1);
    });
    Ok(ended)
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
