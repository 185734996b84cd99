//! Messages on their way out: from the store or a client into the broker, and from the broker to
//! subscribers.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mq_bridge::{Headers, HeadersBuilder, Message};
use stomp_codec::SharedMessage;

use crate::destination::Destination;
use crate::names::{ConversationId, ConversationKind, DeviceName, UserName};
use crate::presence::Presence;
use crate::store::{MessageId, MessageKind, STORED, StoredMessage};
use crate::trace::{self, TRACEPARENT, TRACESTATE};

/// Headers that the gateway keeps for itself begin with this; they never reach a client, and none
/// is taken from one.
const INTERNAL: &str = "im.";
/// The device that a message was sent from.
const SENDER_DEVICE: &str = "im.device";

/// Whether a header of a SEND belongs to the SEND and not to its message (SND-12), or is one that only the
/// server says (SND-11).
fn stays_here(name: &str) -> bool {
    matches!(
        name,
        "destination"
            | "receipt"
            | "transaction"
            | "login"
            | "passcode"
            | "accept-version"
            | "host"
            | "heart-beat"
            | "content-length"
            | "message-id"
            | "subscription"
            | "ack"
            | "redelivered"
            | "from"
            | "conversation"
            | "seq"
            | "timestamp"
            | "kind"
            | "up-to"
            | "duplicate"
            | "presence"
            | "last-seen"
            | "device"
            | "edited"
            | "recalled"
            | STORED
    )
}

/// What the gateway says of a message; a sender cannot.
#[derive(Clone, Copy)]
pub(crate) struct Stamp<'a> {
    pub(crate) destination: &'a str,
    pub(crate) message_id: MessageId,
    pub(crate) from: Option<&'a str>,
    pub(crate) timestamp: u64,
}

/// Whether a header of a SEND goes on to the receivers.
pub(crate) fn is_relayed(name: &str, value: &str) -> bool {
    !name.starts_with(INTERNAL) && !stays_here(name) && trace::is_sound(name, value)
}

/// The message of a SEND to a queue, a topic or a user destination: the server's own headers
/// first, so that a reader that takes the first entry cannot be fooled (MSG-09), then those of the sender's
/// that travel, each name once.
pub(crate) fn from_send<N: AsRef<str>, V: AsRef<str>>(
    stamp: &Stamp<'_>,
    headers: impl Iterator<Item = (N, V)>,
    body: Bytes,
) -> Message {
    let mut all = Headers::builder_with_capacity(256);
    stamp.put(&mut all);
    let mut expires = None;
    let mut state = None;
    for (name, value) in headers {
        if name.as_ref() == TRACESTATE {
            state = state.or(Some(value));
            continue;
        }
        let (name, value) = (name.as_ref(), value.as_ref());
        if is_relayed(name, value) && name != "idempotency-key" && !all.contains(name) {
            all.push(name, value);
            expires = expires.or_else(|| expiry(std::iter::once((name, value))));
        }
    }
    if let Some(state) = state.as_ref().map(V::as_ref).filter(|state| is_relayed(TRACESTATE, state))
        && all.contains(TRACEPARENT)
    {
        all.push(TRACESTATE, state);
    }
    let message = Message::new(body).with_headers(all.build());
    match expires {
        Some(expires) => message.with_expires(expires),
        None => message,
    }
}

impl Stamp<'_> {
    fn put(&self, all: &mut HeadersBuilder) {
        all.push("destination", self.destination);
        all.push("message-id", self.message_id.encode(&mut [0; 32]));
        if let Some(from) = self.from {
            all.push("from", from);
        }
        all.push("timestamp", decimal(self.timestamp, &mut [0; 20]));
    }
}

/// The number as digits.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or_default()
}

/// The message of a conversation, as it goes to the inboxes and the live timeline, and as it is
/// replayed from the store.
pub(crate) fn from_stored(stored: &StoredMessage) -> Message {
    let mut all = Headers::builder_with_capacity(384);
    all.push("destination", destination_of(stored));
    all.push("message-id", stored.message_id.encode(&mut [0; 32]));
    all.push("from", stored.sender.as_str());
    all.push("conversation", stored.conversation.as_str());
    all.push("seq", decimal(stored.seq, &mut [0; 20]));
    all.push("timestamp", decimal(stored.timestamp, &mut [0; 20]));
    all.push("kind", stored.kind.as_str());
    if let Some(key) = &stored.idempotency_key {
        all.push("idempotency-key", key);
    }
    for (name, value) in &stored.headers {
        all.push(name, value);
    }
    if let Some(edited) = stored.edited {
        all.push("edited", decimal(edited, &mut [0; 20]));
    }
    if let Some(recalled) = stored.recalled {
        all.push("recalled", decimal(recalled, &mut [0; 20]));
    }
    if let Some(device) = &stored.device {
        all.push(SENDER_DEVICE, device.as_str());
    }
    let message = Message::new(stored.body.clone()).with_headers(all.build());
    match expiry(stored.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))) {
        Some(expires) => message.with_expires(expires),
        None => message,
    }
}

/// The `expires` header: milliseconds since 1970, UTC. Anything else is none, as a broker has it.
fn expiry<'a>(mut headers: impl Iterator<Item = (&'a str, &'a str)>) -> Option<SystemTime> {
    let (_, value) = headers.find(|(name, _)| *name == "expires")?;
    UNIX_EPOCH.checked_add(Duration::from_millis(value.parse().ok()?))
}

/// A signal: what is said to the connected devices of some people and not kept.
pub(crate) fn signal(
    stamp: &Stamp<'_>,
    conversation: &ConversationId,
    kind: &str,
    up_to: Option<u64>,
    device: Option<&DeviceName>,
) -> Message {
    let mut all = Headers::builder();
    stamp.put(&mut all);
    all.push("conversation", conversation.as_str());
    all.push("kind", kind);
    if let Some(up_to) = up_to {
        all.push("up-to", decimal(up_to, &mut [0; 20]));
    }
    if let Some(device) = device {
        all.push(SENDER_DEVICE, device.as_str());
    }
    Message::new(Bytes::new()).with_headers(all.build()).with_persistent(false)
}

/// A change of presence, or the present state.
pub(crate) fn presence(user: &UserName, presence: Presence, now: u64) -> Message {
    let mut all = Headers::builder();
    all.push("destination", Destination::Presence(user.clone()).to_string());
    all.push("message-id", MessageId::generate().encode(&mut [0; 32]));
    all.push("from", user.as_str());
    all.push("timestamp", now.to_string());
    all.push("kind", "presence");
    all.push("presence", presence.as_str());
    if let Presence::Offline { last_seen: Some(last_seen) } = presence {
        all.push("last-seen", last_seen.to_string());
    }
    Message::new(Bytes::new()).with_headers(all.build()).with_persistent(false)
}

/// To whom presence is no longer told.
const HIDDEN_FROM: &str = "im.hidden-from";

/// The last word about the presence of `user` to `other`, who was blocked.
pub(crate) fn hidden_from(user: &UserName, other: &UserName, now: u64) -> Message {
    let message = presence(user, Presence::Offline { last_seen: None }, now);
    let mut all = Headers::builder();
    for (name, value) in &message.headers {
        if let Ok(value) = std::str::from_utf8(value) {
            all.push(name, value);
        }
    }
    all.push(HIDDEN_FROM, other.as_str());
    message.with_headers(all.build())
}

/// Whom the message tells that he is told no more.
pub(crate) fn is_hidden_from(message: &Message) -> Option<&str> {
    message.headers.get_str(HIDDEN_FROM)
}

/// Where the sender sent it, as he wrote it.
pub(crate) fn destination_of(stored: &StoredMessage) -> String {
    let destination = match stored.conversation.kind() {
        ConversationKind::Group(group) => Destination::Group(group),
        ConversationKind::Broadcast(to) => Destination::Broadcast(to),
        ConversationKind::Direct(one, other) if one == stored.sender => Destination::User(other),
        ConversationKind::Direct(one, _) => Destination::User(one),
    };
    destination.to_string()
}

/// Whether `message` was sent by `user` from `device`, which then need not be told of it.
pub(crate) fn is_echo(message: &Message, user: &UserName, device: &DeviceName) -> bool {
    message.headers.get_str(SENDER_DEVICE) == Some(device.as_str())
        && message.headers.get_str("from") == Some(user.as_str())
}

/// The `seq` of a conversation's message.
pub(crate) fn seq_of(message: &Message) -> Option<u64> {
    message.headers.get_str("seq")?.parse().ok()
}

/// When the gateway took a message, in milliseconds since 1970.
pub(crate) fn timestamp_of(message: &Message) -> Option<u64> {
    message.headers.get_str("timestamp")?.parse().ok()
}

/// Whether the message says that `user` is no longer a member of the group.
pub(crate) fn removes(message: &Message, user: &UserName) -> bool {
    #[derive(serde::Deserialize)]
    struct Change<'a> {
        action: &'a str,
        user: &'a str,
    }
    message.headers.get_str("kind") == Some(MessageKind::Member.as_str())
        && serde_json::from_slice::<Change<'_>>(&message.body).is_ok_and(|change| {
            matches!(change.action, "removed" | "left") && change.user == user.as_str()
        })
}

/// A message for any number of local subscribers, turned into a frame once, when the first of them
/// needs it; the frame encodes itself once per protocol version.
#[derive(Debug)]
pub(crate) struct Outgoing {
    message: Message,
    frame: OnceLock<Option<SharedMessage>>,
}

impl Outgoing {
    pub(crate) fn new(message: Message) -> Self {
        Self { message, frame: OnceLock::new() }
    }

    pub(crate) fn message(&self) -> &Message {
        &self.message
    }

    /// What it counts for in a queue.
    pub(crate) fn bytes(&self) -> usize {
        self.message.cost()
    }

    /// The frame; `None` for a message of another program that a MESSAGE cannot be made of.
    pub(crate) fn frame(&self) -> Option<&SharedMessage> {
        self.frame.get_or_init(|| frame_of(&self.message)).as_ref()
    }
}

/// The MESSAGE of a broker's message; `None` if it lacks what every MESSAGE has.
pub(crate) fn frame_of(message: &Message) -> Option<SharedMessage> {
    let headers = message.headers.octets();
    let told = headers.filter(|(name, _)| !name.starts_with(INTERNAL.as_bytes()));
    SharedMessage::from_headers(told, message.body.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_with_all_its_digits() {
        for number in [0, 7, 10, 1_234_567_890, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }
}
