//! What each kind of destination gives to its subscriber.

use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use mq_bridge::{Acker, Declaration, Source, SubscribeOptions, Subscription};
use stomp_codec::ByteStr;
use stomp_codec::view;

use super::input::{BoxInput, Ended, Input};
use super::timeline::timeline;
use crate::address;
use crate::authorizer::Action;
use crate::consumed::Place;
use crate::destination::Destination;
use crate::error::{GatewayError, RefusedError};
use crate::feed::{FeedItem, FeedLimits, FeedReader};
use crate::gateway::Inner;
use crate::hub::HubSubscription;
use crate::names::{ConversationId, DeviceName, UserName};
use crate::outgoing::Outgoing;

/// Unacknowledged messages of one subscription, at most, unless `prefetch-count` says less.
pub(crate) const PREFETCH: u32 = 256;
/// Unacknowledged octets of one subscription, at most.
const PREFETCH_BYTES: usize = 1024 * 1024;
/// Octets of live messages that wait for one subscriber.
const LIVE_BYTES: usize = 1024 * 1024;
/// A message that was given back so often goes to the queue of dead letters.
const MAX_DELIVERIES: u32 = 64;
/// Where the messages of client queues go that nobody wants.
const DEAD_LETTERS: &str = "queue.dead-letter";

/// A subscription that is live.
pub(super) struct Opened {
    pub(super) input: BoxInput,
    pub(super) kind: Kind,
    pub(super) acker: Option<Acker>,
    /// Messages that may be out unacknowledged.
    pub(super) prefetch: u32,
    /// For the RECEIPT.
    pub(super) headers: Vec<(&'static str, String)>,
}

/// What a subscription is, where it makes a difference later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Inbox,
    Timeline {
        /// The last `seq` when it was opened: what says of a member's end up to here is the past.
        opened: u64,
    },
    /// The presence of somebody.
    Presence,
    Queue,
    /// A durable topic subscription and its name in the broker.
    Durable(String),
    Live,
}

impl Opened {
    fn live(stream: impl Stream<Item = Input> + Send + 'static, kind: Kind) -> Self {
        Self { input: Box::pin(stream), kind, acker: None, prefetch: PREFETCH, headers: Vec::new() }
    }

    fn broker(subscription: Subscription, kind: Kind, prefetch: u32) -> Self {
        let acker = Some(subscription.acker());
        Self { acker, prefetch, ..Self::live(deliveries(subscription), kind) }
    }

    /// Counted as a consumer for as long as its input is there.
    fn in_place(mut self, place: Place) -> Self {
        self.input = Box::pin(self.input.inspect(move |input| {
            if let Input::Deliveries(batch) = input {
                place.took(batch);
            }
        }));
        self
    }
}

/// Makes what was authorized live. Nothing that is published after this returns is missed (P5).
pub(super) async fn open(
    inner: &Arc<Inner>,
    user: &UserName,
    device: &DeviceName,
    destination: &Destination,
    frame: &view::Subscribe,
    id: Option<&ByteStr>,
) -> Result<Opened, GatewayError> {
    match destination {
        Destination::Inbox => inbox(inner, user, device).await,
        Destination::User(_) | Destination::Group(_) | Destination::Broadcast(_) => {
            let conversation =
                destination.conversation(user).ok_or(RefusedError::Denied("no conversation"))?;
            open_timeline(inner, user, destination, conversation, frame).await
        }
        Destination::Presence(other) => {
            let (place, reader) = live(inner, &address::presence(other)).await?;
            let now = Arc::new(Outgoing::new(inner.presence_message(other).await?));
            let first = stream::iter([Input::Live(FeedItem::Messages([now].into()))]);
            Ok(Opened::live(first.chain(feed(place, reader)), Kind::Presence))
        }
        Destination::OwnUserDestination(to) => {
            let (place, reader) = live(inner, &address::user_destination(user, to)).await?;
            Ok(Opened::live(feed(place, reader), Kind::Live))
        }
        Destination::Queue(name) => {
            let name = address::queue(name);
            declare_queue(inner, &name).await?;
            let place = inner.consumed.enter(&name);
            let prefetch = prefetch(frame)?;
            let options = SubscribeOptions::new().with_prefetch(prefetch, PREFETCH_BYTES);
            let subscription = inner.broker.subscribe(Source::queue(name), options).await?;
            Ok(Opened::broker(subscription, Kind::Queue, prefetch).in_place(place))
        }
        Destination::Topic(name) if header_is(frame, "durable", "true") => {
            let id = id.ok_or(GatewayError::Invalid {
                name: "id",
                problem: "a durable subscription needs a stable one",
            })?;
            let durable = address::durable(user, id);
            let declaration = Declaration::durable(durable.as_str(), [address::topic(name)]);
            inner.broker.declare(&declaration).await?;
            let prefetch = prefetch(frame)?;
            let options = SubscribeOptions::new().with_prefetch(prefetch, PREFETCH_BYTES);
            let source = Source::durable(durable.as_str());
            let subscription = inner.broker.subscribe(source, options).await?;
            let place = inner.consumed.enter(&durable);
            Ok(Opened::broker(subscription, Kind::Durable(durable), prefetch).in_place(place))
        }
        Destination::Topic(name) => {
            let (place, reader) = live(inner, &address::topic(name)).await?;
            Ok(Opened::live(feed(place, reader), Kind::Live))
        }
        _ => Err(GatewayError::Invalid { name: "destination", problem: "takes no SUBSCRIBE" }),
    }
}

/// The input of a reply target that the client named in a `reply-to`.
pub(super) async fn open_reply(inner: &Arc<Inner>, id: &str) -> Result<Opened, GatewayError> {
    let (place, reader) = live(inner, &address::reply(id)).await?;
    Ok(Opened::live(feed(place, reader), Kind::Live))
}

/// Declares a client's queue: before it is consumed, and before it is sent to.
pub(crate) async fn declare_queue(inner: &Inner, name: &str) -> Result<(), GatewayError> {
    let dead_letters = Declaration::queue(DEAD_LETTERS);
    inner.broker.declare(&dead_letters).await?;
    let mut queue = Declaration::queue(name);
    if name != DEAD_LETTERS {
        queue = queue.with_max_deliveries(MAX_DELIVERIES).with_dead_letter(DEAD_LETTERS);
    }
    Ok(inner.broker.declare(&queue).await?)
}

async fn inbox(
    inner: &Arc<Inner>,
    user: &UserName,
    device: &DeviceName,
) -> Result<Opened, GatewayError> {
    inner.ensure_inbox(user, device).await?;
    // Signals first: what is said while the inbox opens waits in the feed.
    let (place, reader) = live(inner, &address::live(user)).await?;
    let options =
        SubscribeOptions::new().with_prefetch(PREFETCH, PREFETCH_BYTES).with_takeover(true);
    let source = Source::durable(address::device_inbox(user, device));
    let subscription = inner.broker.subscribe(source, options).await?;
    let acker = Some(subscription.acker());
    let both = stream::select(deliveries(subscription), feed(place, reader));
    Ok(Opened { acker, ..Opened::live(both, Kind::Inbox) })
}

async fn open_timeline(
    inner: &Arc<Inner>,
    user: &UserName,
    destination: &Destination,
    conversation: ConversationId,
    frame: &view::Subscribe,
) -> Result<Opened, GatewayError> {
    let after = match frame.header("after-seq") {
        None => None,
        Some(seq) => Some(seq.parse::<u64>().map_err(|_| GatewayError::Invalid {
            name: "after-seq",
            problem: "must be a number",
        })?),
    };
    // Live first, then the store: what is stored in between comes from both and is given once.
    let (place, reader) = live(inner, &address::conversation(&conversation)).await?;
    let position = inner.store.position(&conversation).await?;
    // Who was removed up to here is not told by a later message.
    inner.authorize(user, Action::Subscribe, destination).await?;
    let floor = inner.visible_after(user, &conversation).await?;
    let first_seq = position.complete_from().max(floor + 1);
    let mut headers = vec![
        ("epoch", position.epoch.as_str().to_owned()),
        ("last-seq", position.last_seq.to_string()),
    ];
    let mut last = position.last_seq;
    if let Some(after) = after {
        let same_epoch = frame.header("epoch").is_none_or(|epoch| epoch == position.epoch.as_str());
        let recovered = same_epoch && after <= position.last_seq && after + 1 >= first_seq;
        headers.push(("recovered", recovered.to_string()));
        last = after;
        if !recovered {
            headers.push(("first-seq", first_seq.to_string()));
            last = first_seq.saturating_sub(1);
        }
    }
    let kind = Kind::Timeline { opened: position.last_seq };
    let stream = timeline(Arc::clone(inner), conversation, place, reader, last, after.is_some());
    Ok(Opened { headers, ..Opened::live(stream, kind) })
}

async fn live(
    inner: &Arc<Inner>,
    topic: &str,
) -> Result<(HubSubscription, FeedReader), GatewayError> {
    let limits = FeedLimits { bytes: LIVE_BYTES, overflow: inner.settings.overflow };
    Ok(inner.hub.subscribe(topic, limits).await?)
}

fn feed(place: HubSubscription, reader: FeedReader) -> impl Stream<Item = Input> + Send {
    stream::unfold(Some((place, reader)), async |live| {
        let (place, mut reader) = live?;
        match reader.next().await {
            Some(item) => Some((Input::Live(item), Some((place, reader)))),
            None if reader.overflowed() => Some((Input::Ended(Ended::TooSlow), None)),
            None => Some((Input::Ended(Ended::Broker(None)), None)),
        }
    })
}

fn deliveries(subscription: Subscription) -> impl Stream<Item = Input> + Send {
    stream::unfold(Some(subscription), async |subscription| {
        let mut subscription = subscription?;
        match subscription.recv().await {
            Some(batch) => Some((Input::Deliveries(batch), Some(subscription))),
            None => Some((Input::Ended(Ended::Broker(subscription.end_reason())), None)),
        }
    })
}

fn prefetch(frame: &view::Subscribe) -> Result<u32, GatewayError> {
    let Some(count) = frame.header("prefetch-count") else { return Ok(PREFETCH) };
    match count.parse() {
        Ok(count @ 1..=PREFETCH) => Ok(count),
        Ok(_) => Ok(PREFETCH),
        Err(_) => {
            Err(GatewayError::Invalid { name: "prefetch-count", problem: "must be a number" })
        }
    }
}

fn header_is(frame: &view::Subscribe, name: &str, value: &str) -> bool {
    frame.header(name).as_deref() == Some(value)
}
