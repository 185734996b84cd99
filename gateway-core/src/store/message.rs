use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use uuid::{Builder, Uuid};

use super::{Change, Keep, Reaction, STORED};
use crate::names::{ConversationId, DeviceName, UserName};

/// The identity of a stored message: unique, and never given twice
///
/// Written as 32 hexadecimal digits. Ids of one store grow roughly with time, but order is the business of `seq`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(Uuid);

impl MessageId {
    /// A new id: a UUID of version 7
    ///
    /// The system is asked for randomness once per process: behind the time stand 36 bits that count up from a random
    /// number, and 38 random bits that tell this process from others.
    #[must_use]
    pub fn generate() -> Self {
        static PROCESS: OnceLock<(AtomicU64, u64)> = OnceLock::new();
        let (counter, process) = PROCESS.get_or_init(|| {
            let (start, process) = Uuid::new_v4().as_u64_pair();
            (AtomicU64::new(start), process & ((1 << 38) - 1))
        });
        let count = counter.fetch_add(1, Ordering::Relaxed);
        // The version stands before the first 12 bits, the variant before the last 62.
        let first = (count >> 24) as u16 & 0xfff;
        let last = (count & 0xff_ffff) << 38 | process;
        let mut random = [0; 10];
        let (high, low) = random.split_at_mut(2);
        high.copy_from_slice(&first.to_be_bytes());
        low.copy_from_slice(&last.to_be_bytes());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(Builder::from_unix_timestamp_millis(now.as_millis() as u64, &random).into_uuid())
    }

    /// The id as text, in a buffer of the caller's
    pub(crate) fn encode(self, buffer: &mut [u8; 32]) -> &str {
        self.0.as_simple().encode_lower(buffer)
    }

    /// The id as 16 octets, for storing
    #[must_use]
    pub const fn to_octets(self) -> [u8; 16] {
        *self.0.as_bytes()
    }

    /// The id that [`to_octets`](Self::to_octets) gave
    #[must_use]
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(octets))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MessageId {
    type Err = InvalidMessageId;

    fn from_str(text: &str) -> Result<Self, InvalidMessageId> {
        // Only what `Display` writes: an id with two spellings would be two ids to a client.
        if text.len() != 32 || text.bytes().any(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidMessageId);
        }
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidMessageId)
    }
}

/// The text is no message id
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message id is 32 lower-case hexadecimal digits")]
#[non_exhaustive]
pub struct InvalidMessageId;

/// What a stored message is
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageKind {
    /// Something said
    #[default]
    Message,
    /// A new text for an earlier message
    Edit,
    /// An earlier message taken back
    Recall,
    /// A reaction to an earlier message
    Reaction,
    /// A change of a group's members
    Member,
    /// A word of the server's
    System,
}

impl MessageKind {
    /// As in the `kind` header
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Edit => "edit",
            Self::Recall => "recall",
            Self::Reaction => "reaction",
            Self::Member => "member",
            Self::System => "system",
        }
    }

    /// Whether a message of this kind makes the unread count grow: something new to read, not a change of something old
    #[must_use]
    pub const fn counts_as_unread(self) -> bool {
        matches!(self, Self::Message | Self::System)
    }
}

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for MessageKind {
    type Err = UnknownMessageKind;

    fn from_str(text: &str) -> Result<Self, UnknownMessageKind> {
        [Self::Message, Self::Edit, Self::Recall, Self::Reaction, Self::Member, Self::System]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(UnknownMessageKind)
    }
}

/// The text names no kind of stored message
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a kind of stored message")]
#[non_exhaustive]
pub struct UnknownMessageKind;

/// A message to be stored
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewMessage {
    /// Where it is said
    pub conversation: ConversationId,
    /// Who says it
    pub sender: UserName,
    /// The device it was sent from, which need not be told of it
    pub device: Option<DeviceName>,
    /// What it is
    pub kind: MessageKind,
    /// The sender's key for it: the same key within 24 hours means the same message
    pub idempotency_key: Option<String>,
    /// Headers that travel with it, in their order
    pub headers: Vec<(String, String)>,
    /// Its content
    pub body: Bytes,
    /// The broker topics it goes to once stored; none means that the outbox does not hear of it
    pub targets: Vec<String>,
    /// The message that it changes, if it is an edit, a recall or a reaction
    pub change: Option<Change>,
    /// How much of it is stored
    pub keep: Keep,
}

impl NewMessage {
    /// A plain message with no headers, no key and no targets
    pub fn new(conversation: ConversationId, sender: UserName, body: impl Into<Bytes>) -> Self {
        Self {
            conversation,
            sender,
            device: None,
            kind: MessageKind::default(),
            idempotency_key: None,
            headers: Vec::new(),
            body: body.into(),
            targets: Vec::new(),
            change: None,
            keep: Keep::Everything,
        }
    }

    /// Sets the device it was sent from
    #[must_use]
    pub fn with_device(mut self, device: DeviceName) -> Self {
        self.device = Some(device);
        self
    }

    /// Sets what it is
    #[must_use]
    pub const fn with_kind(mut self, kind: MessageKind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets the sender's key for it
    #[must_use]
    pub fn with_idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Adds a header
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the broker topics it goes to
    #[must_use]
    pub fn with_targets(mut self, targets: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.targets = targets.into_iter().map(Into::into).collect();
        self
    }

    /// Sets what it changes
    #[must_use]
    pub const fn with_change(mut self, change: Change) -> Self {
        self.change = Some(change);
        self
    }

    /// Sets how much of it is stored
    #[must_use]
    pub const fn with_keep(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }
}

/// The place that a message got
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// The conversation: that of the first use, if the key was used for another one before
    pub conversation: ConversationId,
    /// Its number in the conversation, from 1, without gaps
    pub seq: u64,
    /// Its identity
    pub message_id: MessageId,
    /// When it was stored, in milliseconds since 1970, UTC
    pub timestamp: u64,
    /// Whether the key was used before, so that nothing new was stored
    pub duplicate: bool,
    /// Its place in the outbox, as long as it is there; so also for a duplicate whose first use the broker has yet to
    /// confirm
    pub outbox: Option<OutboxId>,
    /// Whether another node publishes first: this very message, or one before it in the conversation
    pub held: bool,
}

impl Appended {
    /// The place of a new message, not in the outbox
    #[must_use]
    pub const fn new(
        conversation: ConversationId,
        seq: u64,
        message_id: MessageId,
        timestamp: u64,
    ) -> Self {
        Self {
            conversation,
            seq,
            message_id,
            timestamp,
            duplicate: false,
            outbox: None,
            held: false,
        }
    }

    /// With its place in the outbox
    #[must_use]
    pub const fn with_outbox(mut self, outbox: Option<OutboxId>) -> Self {
        self.outbox = outbox;
        self
    }

    /// Behind something that another node publishes
    #[must_use]
    pub const fn with_held(mut self, held: bool) -> Self {
        self.held = held;
        self
    }

    /// As the answer to a repeated key
    #[must_use]
    pub const fn as_duplicate(mut self) -> Self {
        self.duplicate = true;
        self
    }
}

/// A message as it was stored
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredMessage {
    /// Where it was said
    pub conversation: ConversationId,
    /// Its number in the conversation
    pub seq: u64,
    /// Its identity
    pub message_id: MessageId,
    /// When it was stored, in milliseconds since 1970, UTC
    pub timestamp: u64,
    /// Who said it
    pub sender: UserName,
    /// The device it was sent from
    pub device: Option<DeviceName>,
    /// What it is
    pub kind: MessageKind,
    /// The sender's key for it
    pub idempotency_key: Option<String>,
    /// Headers that travel with it
    pub headers: Vec<(String, String)>,
    /// Its content; that of the last edit, if it was edited
    pub body: Bytes,
    /// The `seq` of its last edit
    pub edited: Option<u64>,
    /// The `seq` of its recall: headers and body are gone then
    pub recalled: Option<u64>,
    /// What others have said to it in a word, one for each user, in the order of saying
    pub reactions: Vec<Reaction>,
}

impl StoredMessage {
    /// What `message` is once it has got its place
    #[must_use]
    pub fn new(message: NewMessage, seq: u64, message_id: MessageId, timestamp: u64) -> Self {
        Self {
            conversation: message.conversation,
            seq,
            message_id,
            timestamp,
            sender: message.sender,
            device: message.device,
            kind: message.kind,
            idempotency_key: message.idempotency_key,
            headers: message.headers,
            body: message.body,
            edited: None,
            recalled: None,
            reactions: Vec::new(),
        }
    }

    /// When it is no longer shown, in milliseconds since 1970, UTC
    #[must_use]
    pub fn expires(&self) -> Option<u64> {
        expiry(&self.headers)
    }

    /// Whether all of it was stored
    pub(crate) fn is_whole(&self) -> bool {
        !self.headers.iter().any(|(name, _)| name == STORED)
    }

    /// Takes headers and body out where the message has expired at `now`, but for the `expires` header
    pub(crate) fn fade(&mut self, now: u64) {
        if self.expires().is_some_and(|expires| expires <= now) {
            self.headers.retain(|(name, _)| name == EXPIRES);
            self.body = Bytes::new();
            self.reactions.clear();
        }
    }
}

const EXPIRES: &str = "expires";

/// When a message with these headers expires, in milliseconds since 1970; what is no number is none, as a broker has it
pub(crate) fn expiry(headers: &[(String, String)]) -> Option<u64> {
    let (_, value) = headers.iter().find(|(name, _)| name == EXPIRES)?;
    value.parse().ok().filter(|millis| *millis > 0)
}

/// The place of an entry in the outbox; grows in the order of storing
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutboxId(u64);

impl OutboxId {
    /// The id with this number
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of this id
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// A stored message that the broker has yet to confirm
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unpublished {
    /// Its place in the outbox
    pub id: OutboxId,
    /// The message
    pub message: StoredMessage,
    /// The broker topics it goes to
    pub targets: Vec<String>,
}

impl Unpublished {
    /// An entry of the outbox
    #[must_use]
    pub const fn new(id: OutboxId, message: StoredMessage, targets: Vec<String>) -> Self {
        Self { id, message, targets }
    }
}

/// Which messages of a conversation: a part of them, bounded in number and octets
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// Only messages with a greater `seq`. If given, the page is the first part of what matches, else the last
    pub after: Option<u64>,
    /// Only messages with a smaller `seq`
    pub before: Option<u64>,
    /// At most so many messages
    pub limit: usize,
    /// No further message once bodies and headers have so many octets; one message always fits. Default 4 MiB
    pub max_octets: usize,
}

impl Page {
    /// The last `limit` messages
    #[must_use]
    pub const fn latest(limit: usize) -> Self {
        Self { after: None, before: None, limit, max_octets: 4 * 1024 * 1024 }
    }

    /// The first `limit` messages after `seq`
    #[must_use]
    pub const fn after(seq: u64, limit: usize) -> Self {
        let mut page = Self::latest(limit);
        page.after = Some(seq);
        page
    }

    /// The last `limit` messages before `seq`
    #[must_use]
    pub const fn before(seq: u64, limit: usize) -> Self {
        let mut page = Self::latest(limit);
        page.before = Some(seq);
        page
    }

    /// Sets both bounds
    #[must_use]
    pub const fn between(after: Option<u64>, before: Option<u64>, limit: usize) -> Self {
        let mut page = Self::latest(limit);
        page.after = after;
        page.before = before;
        page
    }

    /// Sets the bound in octets
    #[must_use]
    pub const fn with_max_octets(mut self, octets: usize) -> Self {
        self.max_octets = octets;
        self
    }
}

/// From where to where the store has a conversation
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Position {
    /// The first message that the store can give; `last_seq + 1` if it has none
    pub first_seq: u64,
    /// The last message; 0 if there was none yet
    pub last_seq: u64,
    /// The last message that was not stored as a whole (see [`Keep`]); 0 without one
    pub gap: u64,
    /// The history that these numbers belong to
    pub epoch: Epoch,
}

impl Position {
    /// A position
    #[must_use]
    pub const fn new(first_seq: u64, last_seq: u64, epoch: Epoch) -> Self {
        Self { first_seq, last_seq, gap: 0, epoch }
    }

    /// Sets the last message that was not stored as a whole
    #[must_use]
    pub const fn with_gap(mut self, seq: u64) -> Self {
        self.gap = seq;
        self
    }

    /// From here to the last message the store can give everything
    #[must_use]
    pub fn complete_from(&self) -> u64 {
        self.first_seq.max(self.gap + 1)
    }
}

/// Which history a `seq` belongs to: another one only if the store lost what it had
///
/// 1 to 64 octets of ASCII letters and digits, without a meaning. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// A new one, unlike all others
    #[must_use]
    pub fn generate() -> Self {
        Self(Arc::from(Uuid::now_v7().as_simple().to_string()))
    }

    /// One that was stored
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The epoch as text
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which marker of a user
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Marker {
    /// One of his devices has it
    Delivered,
    /// He has read it
    Read,
}

/// How far a user is in a conversation
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Marks {
    /// Whose markers
    pub user: UserName,
    /// Read up to this `seq`; 0 for nothing
    pub read: u64,
    /// Delivered up to this `seq`, at least `read`; 0 for nothing
    pub delivered: u64,
    /// Whether the call that gave this answer moved a marker
    pub moved: bool,
}

impl Marks {
    /// Markers that nobody moved just now
    #[must_use]
    pub const fn new(user: UserName, read: u64, delivered: u64) -> Self {
        Self { user, read, delivered, moved: false }
    }

    /// Sets whether a marker moved
    #[must_use]
    pub const fn with_moved(mut self, moved: bool) -> Self {
        self.moved = moved;
        self
    }
}

/// One line of a user's conversation list
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConversationSummary {
    /// Which conversation
    pub conversation: ConversationId,
    /// Its last `seq`, 0 without messages
    pub last_seq: u64,
    /// When its last message was stored, in milliseconds since 1970 (UTC); 0 without one. Also where it was forgotten
    pub last_time: u64,
    /// Its last message
    pub last_message: Option<StoredMessage>,
    /// How many messages after the user's read marker count as unread (see [`MessageKind::counts_as_unread`]);
    /// his own never do
    pub unread: u64,
    /// The markers of everyone who has any, by name
    pub markers: Vec<Marks>,
}

impl ConversationSummary {
    /// A line without messages
    #[must_use]
    pub const fn new(conversation: ConversationId) -> Self {
        Self {
            conversation,
            last_seq: 0,
            last_time: 0,
            last_message: None,
            unread: 0,
            markers: Vec::new(),
        }
    }
}

/// What a user has not read in one conversation
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnreadRange {
    /// Which conversation
    pub conversation: ConversationId,
    /// He has read up to here: the range starts with the next `seq`
    pub after_seq: u64,
    /// The range ends with this `seq`
    pub last_seq: u64,
}

impl UnreadRange {
    /// A range
    #[must_use]
    pub const fn new(conversation: ConversationId, after_seq: u64, last_seq: u64) -> Self {
        Self { conversation, after_seq, last_seq }
    }
}
