use std::collections::{BTreeMap, HashMap};
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures::future::{BoxFuture, FusedFuture, FutureExt};
use mq_bridge::{Acker, Confirm, Nack};
use stomp_codec::server::{
    Accepted, AckMode, Action as Step, ErrorReply, Event, ReceiptToken, SubscriptionId,
};
use stomp_codec::view;
use stomp_ws::{CloseCode, EventOrRoom, ServerConnection, Transport};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep};
use uuid::Uuid;

use super::deliver::{Settlement, Written};
use super::input::{Input, SubscriberInput};
use super::ready::Ready;
use super::reply::failure;
use super::send::{Outcome, Route, check_send};
use super::subscribe::{self, Kind, Opened};
use crate::auth::{AuthError, Credentials, is_guest};
use crate::authorizer::Action;
use crate::connections::{Admission, ConnectionRefused};
use crate::destination::Destination;
use crate::error::{GatewayError, RefusedError};
use crate::gateway::{Gateway, Inner};
use crate::names::{DeviceName, UserName};
use crate::send::Sent;
use crate::sessions::SessionEntry;

/// No further message is taken for a client while more octets than this wait to be written to it: as many as
/// leave in one write.
const HIGH_WATER: usize = 64 * 1024;
/// Frames whose outcome is open, at most; further ones are not looked at before one is decided.
const MAX_PENDING: usize = 256;

/// Serves one connection until it ends.
///
/// The future is what an idle connection costs most: the session is in a box of its own, as each layer of futures
/// would hold it once more, and what is rare or long is in boxes that are made when they are needed.
pub(crate) fn run(
    gateway: Gateway,
    transport: Transport,
    address: Option<IpAddr>,
    presented: Option<Credentials>,
    admission: Result<Admission, ConnectionRefused>,
) -> impl Future<Output = ()> + Send + 'static {
    let config = Arc::clone(&gateway.inner.settings.session);
    gateway.inner.metrics.connections.enter();
    let connection = ServerConnection::new(transport, config);
    let (admission, refused) = match admission {
        Ok(admission) => (Some(admission), None),
        Err(refused) => (None, Some(refused)),
    };
    let mut session = Session {
        inner: Arc::clone(&gateway.inner),
        gateway,
        connection,
        address,
        presented: presented.map(Box::new),
        who: None,
        ended: None,
        expiry: None,
        drain: None,
        delivered: 0,
        counted: 0,
        subscribers: BTreeMap::new(),
        keys: HashMap::new(),
        next_key: 0,
        inputs: Ready::default(),
        pending: BTreeMap::new(),
        outcomes: Ready::default(),
        written: Written::default(),
        replies: HashMap::new(),
        route: None,
        away: false,
        _admission: admission,
    };
    if let Some(refused) = refused {
        let reply = ErrorReply::new(refused.to_string()).header("retry", "true");
        session.end(CloseCode::OVERLOAD, reply);
    }
    Box::new(session).serve()
}

/// What one delivery is to the session: handed back by the protocol when the client settles it.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) subscriber: u64,
    /// `None` where there is nothing to settle: a signal.
    pub(super) tag: Option<u64>,
}

pub(super) struct Subscriber {
    pub(super) id: SubscriptionId,
    pub(super) auto: bool,
    pub(super) kind: Kind,
    pub(super) acker: Option<Acker>,
    pub(super) prefetch: u32,
    pub(super) input: SubscriberInput,
}

/// Who is signed in.
pub(super) struct Who {
    pub(super) user: UserName,
    pub(super) device: DeviceName,
    entry: SessionEntry,
}

/// A frame whose outcome is waited for.
struct Pending {
    receipt: Option<ReceiptToken>,
    since: Option<Instant>,
    outcome: BoxFuture<'static, Result<Sent, GatewayError>>,
}

/// The outcome of a frame that was waited for.
struct Done {
    receipt: Option<ReceiptToken>,
    /// When a SEND with a receipt came.
    since: Option<Instant>,
    outcome: Result<Sent, GatewayError>,
}

pub(super) struct Session {
    gateway: Gateway,
    pub(super) inner: Arc<Inner>,
    pub(super) connection: ServerConnection<Token>,
    address: Option<IpAddr>,
    /// What the connection came with, for a CONNECT that brings nothing.
    presented: Option<Box<Credentials>>,
    pub(super) who: Option<Arc<Who>>,
    /// Somebody else ends this session, and says why.
    ended: Option<oneshot::Receiver<String>>,
    /// When the credentials end.
    expiry: Option<Pin<Box<Sleep>>>,
    /// When the session ends, as the gateway stops.
    drain: Option<Pin<Box<Sleep>>>,
    /// MESSAGEs, and how many of them the gateway has counted.
    pub(super) delivered: u32,
    counted: u32,
    /// In boxes: a map has room for several, and most sessions have one or two.
    pub(super) subscribers: BTreeMap<u64, Box<Subscriber>>,
    pub(super) keys: HashMap<SubscriptionId, u64>,
    next_key: u64,
    /// Subscribers whose input may have something.
    pub(super) inputs: Ready,
    pending: BTreeMap<u64, Pending>,
    /// Those of `pending` that may have come out.
    outcomes: Ready,
    pub(super) written: Written,
    /// The random names of this session's reply targets, by the client's name of them.
    pub(super) replies: HashMap<String, String>,
    /// Where the last SEND went.
    pub(super) route: Option<Route>,
    /// The client has said that nobody looks at it.
    pub(super) away: bool,
    /// Its place among the connections that there may be.
    _admission: Option<Admission>,
}

#[allow(clippy::large_enum_variant, reason = "matched at once, not kept")]
enum Wake {
    Connection(Option<EventOrRoom<Token>>),
    Input(u64, Input),
    Done(Done),
    Ended(String),
    Expired,
    Stopping,
    Drained,
}

/// A frame of the client whose handling may have to wait.
#[allow(clippy::large_enum_variant, reason = "most are; the others cost a box")]
enum Frame {
    Send { send: view::Send, receipt: Option<ReceiptToken> },
    Rare(Box<Event<Token>>),
}

impl Session {
    async fn serve(mut self: Box<Self>) {
        // Kept over all wakes: to register with the token costs a lock that all sessions share.
        let inner = Arc::clone(&self.inner);
        let mut stop = pin!(inner.stop.cancelled().fuse());
        loop {
            // In a statement of its own: what woke the session is large, and not kept while a frame waits.
            let Some(mut frame) = (match self.wake(stop.as_mut()).await {
                Wake::Connection(None) => break,
                Wake::Connection(Some(EventOrRoom::Event(event))) => {
                    self.on_event(event).or_else(|| self.arrived())
                }
                wake => {
                    self.on_wake(wake);
                    None
                }
            }) else {
                continue;
            };
            loop {
                self.go_on(frame).await;
                let Some(next) = self.arrived() else { break };
                frame = next;
            }
        }
        self.leave();
    }

    /// What happens next. Messages for the client come before its own frames: all that are ready are
    /// queued, then everything is written at once, when the connection has to wait.
    async fn wake(&mut self, stop: Pin<&mut (impl FusedFuture<Output = ()> + Send)>) -> Wake {
        let hold = self.connection.queued() > HIGH_WATER;
        let delivered = self.delivered.wrapping_sub(self.counted);
        if delivered > 0 {
            self.inner.metrics.messages.add(delivered.into());
            self.counted = self.delivered;
        }
        let busy = self.pending.len() >= MAX_PENDING;
        let written = &mut self.written;
        let connection = async {
            if hold {
                let octets = if written.is_empty() { HIGH_WATER } else { 0 };
                let next = self.connection.event_or_room(octets).await;
                if self.connection.queued() == 0 {
                    written.settle();
                }
                next
            } else if written.is_empty() {
                self.connection.event().await.map(EventOrRoom::Event)
            } else {
                self.connection.event_and_written(|| written.settle()).await.map(EventOrRoom::Event)
            }
        };
        tokio::select! {
            biased;
            // First, or a client that never pauses would stay for ever.
            () = async {
                match &mut self.expiry {
                    Some(expiry) => expiry.await,
                    None => std::future::pending().await,
                }
            } => Wake::Expired,
            () = async {
                match &mut self.drain {
                    Some(drain) => drain.await,
                    None => std::future::pending().await,
                }
            } => Wake::Drained,
            done = poll_fn(|cx| poll_outcome(&mut self.pending, &self.outcomes, cx)),
                if !self.pending.is_empty() => Wake::Done(done),
            (key, input) = poll_fn(|cx| poll_input(&mut self.subscribers, &self.inputs, cx)),
                if !hold => Wake::Input(key, input),
            event = connection, if !busy => Wake::Connection(event),
            Ok(reason) = async {
                match &mut self.ended {
                    Some(ended) => ended.await,
                    None => std::future::pending().await,
                }
            } => Wake::Ended(reason),
            () = stop => Wake::Stopping,
        }
    }

    /// Whatever wakes a session that is no frame of its client.
    fn on_wake(&mut self, wake: Wake) {
        match wake {
            // Of a connection: there is room for what waits for it.
            Wake::Connection(_) => {}
            Wake::Input(key, input) => self.on_input(key, input),
            Wake::Done(done) => self.on_done(done),
            Wake::Ended(reason) => {
                self.ended = None;
                self.end(CloseCode::POLICY, ErrorReply::new(reason));
            }
            Wake::Expired => {
                self.expiry = None;
                let reply = ErrorReply::new("token expired").body("Sign in again.");
                self.end(CloseCode::POLICY, reply);
            }
            Wake::Stopping => self.drain = Some(Box::pin(sleep(moment(&self.inner)))),
            Wake::Drained => {
                self.drain = None;
                self.connection.close(CloseCode::GOING_AWAY, "the server is shutting down");
            }
        }
    }

    /// Handles what else has arrived and needs no waiting, up to a frame that may have to wait.
    fn arrived(&mut self) -> Option<Frame> {
        while self.pending.len() < MAX_PENDING {
            let event = self.connection.arrived()?;
            if let Some(frame) = self.on_event(event) {
                return Some(frame);
            }
        }
        None
    }

    /// Handles what needs no waiting; gives back what may.
    fn on_event(&mut self, event: Event<Token>) -> Option<Frame> {
        self.inner.metrics.received(&event);
        match event {
            Event::Send { send, receipt } => return Some(Frame::Send { send, receipt }),
            Event::Ack { subscription, tokens, receipt } => {
                self.resume(&subscription);
                let confirms = self.settle(&tokens, None);
                self.wait_for_settled(receipt, confirms);
            }
            Event::Nack { subscription, tokens, receipt } => {
                self.resume(&subscription);
                let confirms = self.settle(&tokens, Some(Nack::Requeue));
                self.wait_for_settled(receipt, confirms);
            }
            Event::Disconnect { receipt } => {
                // Its RECEIPT waits for those of all frames before it.
                self.receipt(receipt, &[]);
            }
            // What goes back does so when its subscription is dropped, at the latest now.
            Event::Closed { reason, .. } => {
                tracing::debug!(%reason, "session closed");
                self.drop_subscriptions();
            }
            rare => return Some(Frame::Rare(Box::new(rare))),
        }
        None
    }

    #[allow(clippy::manual_async_fn, reason = "its future would have room for the frame twice")]
    fn go_on(&mut self, frame: Frame) -> impl Future<Output = ()> + Send {
        async move {
            match frame {
                Frame::Send { ref send, receipt } => {
                    let since = receipt.is_some().then(Instant::now);
                    match self.on_send(send).await {
                        Ok(Outcome::Done(sent)) => {
                            self.on_done(Done { receipt, since, outcome: Ok(sent) });
                        }
                        Ok(Outcome::Waiting(outcome)) => self.wait_for(receipt, since, outcome),
                        Err(error) => self.fail(&error, receipt),
                    }
                }
                Frame::Rare(event) => Box::pin(self.on_rare_event(*event)).await,
            }
        }
    }

    async fn on_rare_event(&mut self, event: Event<Token>) {
        match event {
            Event::Connect { connect, .. } => self.on_connect(&connect).await,
            Event::Staged { send, receipt } => {
                let checked = match self.who() {
                    Ok(who) => check_send(&self.inner, &who.user, &send).await,
                    Err(error) => Err(error),
                };
                match checked {
                    Ok(_) => self.receipt(receipt, &[]),
                    Err(error) => self.fail(&error, receipt),
                }
            }
            Event::Subscribe { id, destination, ack, frame, receipt } => {
                match self.on_subscribe(id, &destination, ack, &frame).await {
                    Ok(headers) => {
                        let headers: Vec<_> =
                            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                        self.receipt(receipt, &headers);
                    }
                    Err(error) => self.fail(&error, receipt),
                }
            }
            Event::Unsubscribe { id, frame, receipt, .. } => {
                match self.on_unsubscribe(&id, &frame).await {
                    Ok(()) => self.receipt(receipt, &[]),
                    Err(error) => self.fail(&error, receipt),
                }
            }
            Event::Commit { actions, receipt } => self.on_commit(actions, receipt).await,
            _ => {}
        }
    }

    async fn on_connect(&mut self, connect: &view::Connect) {
        let presented = self.presented.take();
        match sign_in(&self.gateway, self.address, presented, connect).await {
            Ok((user, device, expires)) => {
                let mut accepted = Accepted::new(Uuid::new_v4().simple().to_string())
                    .server(self.inner.settings.server.clone())
                    .user_name(user.as_str());
                if let Some(expires) = expires {
                    accepted = accepted.header("expires", expires.to_string());
                }
                self.inner.metrics.accepted.add(1);
                self.connection.accept(accepted);
                let since = self.inner.clock.now_millis();
                let (entry, ended) = self.inner.sessions.enter(&user, &device, self.address, since);
                if !is_guest(&user) {
                    self.inner.enter(&user);
                }
                self.ended = Some(ended);
                self.expire_at(expires);
                self.who = Some(Arc::new(Who { user, device, entry }));
            }
            Err(reply) => {
                self.inner.metrics.refused.add(1);
                self.inner.metrics.errors.add(1);
                self.connection.reject(reply);
            }
        }
    }

    fn expire_at(&mut self, expires: Option<u64>) {
        self.expiry = expires.map(|at| {
            let left = at.saturating_sub(self.inner.clock.now_millis());
            Box::pin(sleep(Duration::from_millis(left)))
        });
    }

    /// Goes on with the token that a SEND brings, instead of the one that was signed in with.
    pub(super) async fn renew(
        &mut self,
        user: &UserName,
        send: &view::Send,
    ) -> Result<Outcome, GatewayError> {
        const REFUSED: GatewayError =
            GatewayError::Refused(RefusedError::Denied("the token is not valid for this session"));
        let body = send.body_bytes();
        let token = std::str::from_utf8(&body).map_err(|_| REFUSED)?;
        let mut credentials =
            Credentials::authorization(&format!("Bearer {token}")).map_err(|_| REFUSED)?;
        if let Some(address) = self.address {
            credentials = credentials.with_address(address);
        }
        match self.gateway.authenticate(&credentials).await {
            Ok(principal) if principal.user == *user => self.expire_at(principal.expires),
            Err(error) if error.is_retryable() => return Err(GatewayError::Overloaded),
            _ => return Err(REFUSED),
        }
        Ok(Outcome::Done(Sent::Published))
    }

    async fn on_subscribe(
        &mut self,
        id: SubscriptionId,
        destination: &str,
        ack: AckMode,
        frame: &view::Subscribe,
    ) -> Result<Vec<(&'static str, String)>, GatewayError> {
        let who = self.who()?;
        let destination = Destination::parse(destination)?;
        self.inner.authorize(&who.user, Action::Subscribe, &destination).await?;
        let name = id.name().cloned();
        let mut opened = subscribe::open(
            &self.inner,
            &who.user,
            &who.device,
            &destination,
            frame,
            name.as_ref(),
        )
        .await?;
        let headers = std::mem::take(&mut opened.headers);
        self.add(id, ack, opened);
        Ok(headers)
    }

    pub(super) fn add(&mut self, id: SubscriptionId, ack: AckMode, opened: Opened) {
        let key = self.next_key;
        self.next_key += 1;
        // Twice the prefetch: signals take what deliveries leave, and never their places; and a part
        // of a timeline always fits.
        let window = opened.prefetch.saturating_mul(2) as usize;
        self.connection.session().set_window(&id, window);
        let stalled = self.who.as_ref().map(|who| who.entry.stalled.clone()).unwrap_or_default();
        self.keys.insert(id.clone(), key);
        let subscriber = Subscriber {
            id,
            auto: ack == AckMode::Auto,
            kind: opened.kind,
            acker: opened.acker,
            prefetch: opened.prefetch,
            input: SubscriberInput::new(opened.input, stalled),
        };
        self.subscribers.insert(key, Box::new(subscriber));
        self.inputs.add(key);
    }

    async fn on_unsubscribe(
        &mut self,
        id: &SubscriptionId,
        frame: &view::Unsubscribe,
    ) -> Result<(), GatewayError> {
        let Some(key) = self.keys.remove(id) else { return Ok(()) };
        // Dropped here: what was not acknowledged is back before the RECEIPT.
        let subscriber = self.subscribers.remove(&key);
        self.written.forget(key);
        if let Some(Kind::Durable(name)) = subscriber.map(|subscriber| subscriber.kind)
            && frame.header("durable").as_deref() == Some("true")
        {
            self.inner.broker.delete(&mq_bridge::Source::durable(name)).await?;
        }
        Ok(())
    }

    /// Applies a transaction: its messages in order, then its acknowledgements, once the messages
    /// are confirmed. So a crash in between repeats a message, and loses none.
    async fn on_commit(&mut self, actions: Vec<Step<Token>>, receipt: Option<ReceiptToken>) {
        let mut sends = Vec::new();
        let mut settle = Vec::new();
        for action in actions {
            match action {
                Step::Send(send) => match self.on_send(&send).await {
                    Ok(Outcome::Done(_)) => {}
                    Ok(Outcome::Waiting(outcome)) => sends.push(outcome),
                    Err(error) => return self.fail(&error, receipt),
                },
                Step::Ack { tokens } => settle.extend(self.by_acker(&tokens, None)),
                Step::Nack { tokens } => {
                    settle.extend(self.by_acker(&tokens, Some(Nack::Requeue)));
                }
                _ => {}
            }
        }
        self.wait_for(
            receipt,
            None,
            Box::pin(async move {
                for send in sends {
                    send.await?;
                }
                let confirms = settle.into_iter().map(Settlement::apply).collect();
                Confirm::all(confirms).await?;
                Ok(Sent::Published)
            }),
        );
    }

    fn on_done(&mut self, done: Done) {
        if let (Some(since), Ok(_)) = (done.since, &done.outcome) {
            self.inner.metrics.receipt_time.observe(since.elapsed());
        }
        match done.outcome {
            Ok(Sent::Stored(stored)) => {
                let id = stored.message_id.to_string();
                let seq = stored.seq.to_string();
                let timestamp = stored.timestamp.to_string();
                let mut headers = vec![
                    ("message-id", id.as_str()),
                    ("conversation", stored.conversation.as_str()),
                    ("seq", seq.as_str()),
                    ("timestamp", timestamp.as_str()),
                ];
                if stored.duplicate {
                    headers.push(("duplicate", "true"));
                }
                self.receipt(done.receipt, &headers);
            }
            Ok(Sent::Published) => self.receipt(done.receipt, &[]),
            Err(error) => self.fail(&error, done.receipt),
        }
    }

    pub(super) fn who(&self) -> Result<Arc<Who>, GatewayError> {
        // The protocol gives no frame before CONNECT was accepted.
        self.who.clone().ok_or(GatewayError::Overloaded)
    }

    fn receipt(&mut self, receipt: Option<ReceiptToken>, headers: &[(&str, &str)]) {
        if let Some(receipt) = receipt {
            self.inner.metrics.receipts.add(1);
            self.connection.session().receipt(receipt, headers);
        }
    }

    /// Ends the session with an ERROR.
    pub(super) fn end(&mut self, code: CloseCode, reply: impl Into<ErrorReply>) {
        self.inner.metrics.errors.add(1);
        self.connection.fail(code, reply);
    }

    pub(super) fn fail(&mut self, error: &GatewayError, receipt: Option<ReceiptToken>) {
        let (code, reply) = failure(error, receipt);
        self.end(code, reply);
    }

    fn wait_for(
        &mut self,
        receipt: Option<ReceiptToken>,
        since: Option<Instant>,
        outcome: BoxFuture<'static, Result<Sent, GatewayError>>,
    ) {
        let key = self.next_key;
        self.next_key += 1;
        self.pending.insert(key, Pending { receipt, since, outcome });
        self.outcomes.add(key);
    }

    /// An acknowledgement is enqueued; only who asked for a receipt waits for it.
    fn wait_for_settled(&mut self, receipt: Option<ReceiptToken>, confirm: Confirm) {
        if receipt.is_some() {
            self.wait_for(
                receipt,
                None,
                Box::pin(async move { Ok(confirm.await.map(|()| Sent::Published)?) }),
            );
        }
    }

    fn drop_subscriptions(&mut self) {
        self.subscribers.clear();
        self.keys.clear();
        self.written.clear();
    }

    fn leave(&mut self) {
        self.drop_subscriptions();
        if let Some(who) = self.who.take() {
            self.inner.sessions.leave(&who.entry);
            if !is_guest(&who.user) {
                self.inner.leave(&who.user, self.away);
            }
        }
    }
}

/// Parts that are polled in a row, at most: some may wake themselves while they are polled.
const POLLS: usize = 128;

fn poll_outcome(
    pending: &mut BTreeMap<u64, Pending>,
    outcomes: &Ready,
    cx: &mut Context<'_>,
) -> Poll<Done> {
    for _ in 0..POLLS {
        let part = ready!(outcomes.poll_next(cx));
        let key = part.key;
        let Some(waiting) = pending.get_mut(&key) else { continue };
        let waker = Waker::from(part);
        if let Poll::Ready(outcome) =
            waiting.outcome.as_mut().poll(&mut Context::from_waker(&waker))
            && let Some(Pending { receipt, since, .. }) = pending.remove(&key)
        {
            return Poll::Ready(Done { receipt, since, outcome });
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

fn poll_input(
    subscribers: &mut BTreeMap<u64, Box<Subscriber>>,
    inputs: &Ready,
    cx: &mut Context<'_>,
) -> Poll<(u64, Input)> {
    for _ in 0..POLLS {
        let part = ready!(inputs.poll_next(cx));
        let key = part.key;
        let Some(subscriber) = subscribers.get_mut(&key) else { continue };
        let waker = Waker::from(part);
        if let Poll::Ready(input) = subscriber.input.poll_next(&mut Context::from_waker(&waker)) {
            // There may be more.
            waker.wake();
            return Poll::Ready((key, input));
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// What a CONNECT shows; without a passcode, what its connection came with.
fn credentials(
    connect: &view::Connect,
    presented: Option<Box<Credentials>>,
) -> Result<Credentials, ErrorReply> {
    let login = connect.login();
    let passcode = connect.passcode().unwrap_or_default();
    let (true, Some(presented)) = (passcode.is_empty(), presented) else {
        return Ok(Credentials::connect(login.as_deref(), &passcode));
    };
    let mut credentials = *presented;
    if let Some(login) = login.filter(|login| !login.is_empty()) {
        let named = credentials.login.get_or_insert_with(|| login.clone().into_owned());
        if *named != *login {
            return Err(ErrorReply::new(AuthError::Failed.to_string()));
        }
    }
    Ok(credentials)
}

impl Drop for Session {
    fn drop(&mut self) {
        self.inner.metrics.connections.leave();
    }
}

/// How long a session stays once the gateway stops.
fn moment(inner: &Inner) -> Duration {
    let window = inner.drain.get().copied().unwrap_or_default();
    // Where there is no chance, all come at once.
    let chance = getrandom::u32().unwrap_or(0);
    window.mul_f64(f64::from(chance) / f64::from(u32::MAX))
}

/// Who signs in, with which device, and when that ends; or what to refuse it with.
async fn sign_in(
    gateway: &Gateway,
    address: Option<IpAddr>,
    presented: Option<Box<Credentials>>,
    connect: &view::Connect,
) -> Result<(UserName, DeviceName, Option<u64>), ErrorReply> {
    let mut credentials = credentials(connect, presented)?;
    if let Some(address) = address {
        credentials = credentials.with_address(address);
    }
    let principal = gateway.authenticate(&credentials).await.map_err(|error| {
        if let AuthError::Unavailable { cause } = &error {
            tracing::error!(%cause, "authentication is unavailable");
        }
        let reply = ErrorReply::new(error.to_string());
        if error.is_retryable() { reply.header("retry", "true") } else { reply }
    })?;
    let device = match connect.header("device") {
        None => DeviceName::default_of(&principal.user),
        Some(name) => {
            DeviceName::new(&name).map_err(|error| ErrorReply::new(format!("device: {error}")))?
        }
    };
    Ok((principal.user, device, principal.expires))
}

#[cfg(test)]
mod tests {
    use stomp_ws::TransportConfig;

    use super::*;

    /// S6: the future and the session are most of what an idle connection costs.
    #[tokio::test]
    async fn an_idle_session_is_small() {
        let gateway = Gateway::builder().build().unwrap();
        let (near, _far) = tokio::io::duplex(64);
        let transport = Transport::stream(near, TransportConfig::DEFAULT);
        let served = run(gateway.clone(), transport, None, None, gateway.admit(None));
        let sizes = (size_of_val(&served), size_of::<Session>());
        assert!(sizes.0 <= 896 && sizes.1 <= 1984, "{sizes:?}");
    }
}
