use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};

use crate::encode::{Writing, put_decimal, write_header};
use crate::escape::Reading;
use crate::{Command, EncodeError, Frame, Version};

/// A MESSAGE for many receivers: encoded once for each version that is met, never copied per receiver
///
/// Holds what all receivers share: `destination`, `message-id`, further headers and the body.
/// `subscription`, `ack` and `redelivered` are written by each receiver's session in front of the shared
/// octets, so that they come first. Cloning is a reference count.
///
/// A header that a receiver's version cannot carry (CR in 1.1; CR and LF, or a colon in a name, in 1.0) is
/// left out for that version: see [`SharedMessage::omitted`].
///
/// ```
/// use stomp_codec::{SharedMessage, Version};
///
/// let headers = [("destination", "/topic/a"), ("message-id", "m-1"), ("from", "alice")];
/// let message = SharedMessage::from_headers(headers, "hello".into())?;
/// assert_eq!((message.message_id(), message.body()), ("m-1", &b"hello"[..]));
/// assert_eq!(message.omitted(Version::V1_0), 0);
/// # Ok::<(), stomp_codec::EncodeError>(())
/// ```
#[derive(Clone)]
pub struct SharedMessage {
    /// As 1.2 has it, which can carry all that any version can.
    v1_2: Arc<Encoded>,
    /// Of the older versions, where they write it otherwise.
    others: Option<Arc<[OnceLock<Arc<Encoded>>; 2]>>,
}

/// What all receivers of one version share
pub(crate) struct Encoded {
    /// Headers and blank line, with body and NUL where the body is small.
    tail: Bytes,
    /// Where the body begins in `tail`.
    head: usize,
    /// A large body, without its NUL.
    body: Option<Bytes>,
    len: usize,
    /// Whether the octets are UTF-8 text: looked at once for all receivers.
    is_text: OnceLock<bool>,
    omitted: usize,
    is_deliverable: bool,
    message_id: OnceLock<Arc<str>>,
}

static NUL: Bytes = Bytes::from_static(b"\0");

/// Bodies up to this size stand behind the shared headers: one slice less to write for each receiver.
const JOINED_BODY: usize = 4096;

impl SharedMessage {
    /// Takes the headers and the body of `message`, whose command is not looked at
    ///
    /// What is left out is the same as for [`from_headers`](Self::from_headers).
    ///
    /// # Errors
    ///
    /// Where `destination` or `message-id` is missing or empty.
    pub fn new(message: &Frame) -> Result<Self, EncodeError> {
        Self::from_headers(message.plain_headers(), message.body_bytes())
    }

    /// Takes headers, as plain text, and the body
    ///
    /// Left out: `subscription`, `ack`, `redelivered` (the receiver's session writes them),
    /// `content-length` (written from the body), every header that belongs to the connection of
    /// the sender (`receipt`, `transaction`, `login`, `passcode`, `accept-version`, `host`,
    /// `heart-beat`), and repeats of a name. What no version can carry counts as
    /// [`omitted`](Self::omitted): a NUL, octets that are not UTF-8, an empty name.
    ///
    /// # Errors
    ///
    /// Where `destination` or `message-id` is missing or empty.
    pub fn from_headers<N, V, I>(headers: I, body: Bytes) -> Result<Self, EncodeError>
    where
        N: AsRef<[u8]>,
        V: AsRef<[u8]>,
        I: IntoIterator<Item = (N, V), IntoIter: Clone>,
    {
        let headers = headers.into_iter();
        for name in ["destination", "message-id"] {
            let first = headers.clone().find(|(it, _)| it.as_ref() == name.as_bytes());
            if first.is_none_or(|(_, value)| value.as_ref().is_empty()) {
                return Err(EncodeError::MissingHeader { name });
            }
        }
        let mut draft = Draft::write(&headers, &body, Version::V1_2, |_| true);
        // Head and small body at once: both are looked at anyway.
        let is_text = match std::str::from_utf8(&draft.tail) {
            Err(error) if error.valid_up_to() < draft.head => {
                let may_be = |octets: &[u8]| std::str::from_utf8(octets).is_ok();
                draft = Draft::write(&headers, &body, Version::V1_2, may_be);
                OnceLock::new()
            }
            _ if body.len() > JOINED_BODY => OnceLock::new(),
            text => OnceLock::from(text.is_ok()),
        };
        let others = (!draft.is_plain).then(Arc::default);
        let v1_2 = Encoded { is_text, ..Encoded::of_draft(draft, body) };
        Ok(Self { v1_2: Arc::new(v1_2), others })
    }

    /// The MESSAGE that a SEND leads to: the server's headers first, then those of the sender
    ///
    /// Where both have a header of the same name the server's is the one.
    ///
    /// # Errors
    ///
    /// Where `destination` or `message_id` is missing or empty.
    pub fn relay(
        send: &Frame,
        message_id: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, EncodeError> {
        let destination = send.header("destination").unwrap_or_default();
        let said = [("destination", &*destination), ("message-id", message_id)];
        let said = said.iter().chain(headers);
        let said = said.map(|(name, value)| (name.as_bytes().into(), Cow::from(value.as_bytes())));
        Self::from_headers(said.chain(send.plain_headers()), send.body_bytes())
    }

    /// The `message-id`
    pub fn message_id(&self) -> &str {
        self.shared_message_id()
    }

    pub(crate) fn shared_message_id(&self) -> &Arc<str> {
        let id = || Arc::from(self.header("message-id").unwrap_or_default());
        self.v1_2.message_id.get_or_init(id)
    }

    /// The value of a header that all receivers get
    pub fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.v1_2.lines().find_map(|(it, value)| (it == name).then_some(value))
    }

    /// The body
    pub fn body(&self) -> &[u8] {
        self.v1_2.body()
    }

    /// How many headers `version` cannot carry
    pub fn omitted(&self, version: Version) -> usize {
        self.encoded(version).omitted
    }

    /// Octets that a receiver of `version` gets, but for the head of its own
    pub fn size(&self, version: Version) -> usize {
        self.encoded(version).len()
    }

    #[inline]
    pub(crate) fn encoded(&self, version: Version) -> &Arc<Encoded> {
        match &self.others {
            Some(others) if version != Version::V1_2 => self.encoded_otherwise(version, others),
            _ => &self.v1_2,
        }
    }

    #[cold]
    fn encoded_otherwise<'a>(
        &'a self,
        version: Version,
        [v1_0, v1_1]: &'a [OnceLock<Arc<Encoded>>; 2],
    ) -> &'a Arc<Encoded> {
        let slot = if version == Version::V1_0 { v1_0 } else { v1_1 };
        slot.get_or_init(|| {
            let all = &self.v1_2;
            let lines: Vec<_> = all.lines().collect();
            let lines = lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            let body = all.body_bytes();
            let draft = Draft::write(&lines, &body, version, |_| true);
            let mut encoded = Encoded::of_draft(draft, body);
            encoded.omitted += all.omitted;
            encoded.is_deliverable &= all.is_deliverable;
            Arc::new(encoded)
        })
    }
}

impl Encoded {
    /// A body that is too large to stand behind its head
    pub(crate) fn body_of_one(body: Bytes) -> Self {
        Self::of(Bytes::new(), Some(body))
    }

    pub(crate) fn slices(&self) -> impl Iterator<Item = &Bytes> {
        let tail = Some(&self.tail).filter(|tail| !tail.is_empty());
        tail.into_iter().chain(self.body.iter().flat_map(|body| [body, &NUL]))
    }

    /// The number of octets, NUL included
    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_text(&self) -> bool {
        // No slice begins or ends within a character, except a body that is not text anyway.
        *self.is_text.get_or_init(|| self.slices().all(|slice| std::str::from_utf8(slice).is_ok()))
    }

    /// Whether the version can carry what a MESSAGE must have
    #[inline]
    pub(crate) const fn is_deliverable(&self) -> bool {
        self.is_deliverable
    }

    fn of_draft(draft: Draft, body: Bytes) -> Self {
        let Draft { tail, head, omitted, is_deliverable, .. } = draft;
        let body = (body.len() > JOINED_BODY).then_some(body);
        Self { head, omitted, is_deliverable, ..Self::of(tail.freeze(), body) }
    }

    fn of(tail: Bytes, body: Option<Bytes>) -> Self {
        let len = tail.len() + body.as_ref().map_or(0, |body| body.len() + NUL.len());
        Self {
            tail,
            head: 0,
            body,
            len,
            is_text: OnceLock::new(),
            omitted: 0,
            is_deliverable: true,
            message_id: OnceLock::new(),
        }
    }

    /// Name and value of each header, of 1.2
    fn lines(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        let lines = self.tail.split(|octet| *octet == b'\n').take_while(|line| !line.is_empty());
        // Cannot fail: each has a colon, and was looked at when it was written.
        let lines = lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':'));
        let reading = Reading::of(Version::V1_2);
        lines.map(move |(name, value)| (reading.unescape(name), reading.unescape(value)))
    }

    fn body_bytes(&self) -> Bytes {
        self.body.clone().unwrap_or_else(|| self.tail.slice_ref(self.body()))
    }

    fn body(&self) -> &[u8] {
        let joined = self.head..self.tail.len().saturating_sub(NUL.len());
        self.body.as_deref().or_else(|| self.tail.get(joined)).unwrap_or_default()
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets", self.len)
    }
}

/// Room for headers that most messages need no more than
const ROOM: usize = 384;

/// What is written of a message for one version
struct Draft {
    tail: BytesMut,
    /// Where the head ends in `tail`.
    head: usize,
    omitted: usize,
    is_deliverable: bool,
    /// Whether every version would write the same.
    is_plain: bool,
}

impl Draft {
    /// Writes the headers that travel and `may_be` written, and a small body
    fn write<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        headers: &(impl Iterator<Item = (N, V)> + Clone),
        body: &[u8],
        version: Version,
        may_be: impl Fn(&[u8]) -> bool,
    ) -> Self {
        let joined = if body.len() <= JOINED_BODY { body.len() + NUL.len() } else { 0 };
        let mut tail = BytesMut::with_capacity(ROOM + joined);
        let writing = Writing::of(Command::Message, version);
        let (mut omitted, mut is_deliverable, mut is_plain) = (0, true, true);
        let mut seen = Seen(0);
        for (index, (name, value)) in headers.clone().enumerate() {
            let (name, value) = (name.as_ref(), value.as_ref());
            let repeats = || headers.clone().take(index).any(|(it, _)| it.as_ref() == name);
            if is_private(name) || (!seen.add(name) && repeats()) {
                continue;
            }
            let start = tail.len();
            let is_written = may_be(name)
                && may_be(value)
                && write_header(&mut tail, writing, name, value).is_ok();
            if !is_written {
                tail.truncate(start);
                omitted += 1;
                is_deliverable &= !matches!(name, b"destination" | b"message-id");
            }
            is_plain &= tail.len() - start == name.len() + value.len() + 2;
        }
        if !body.is_empty() {
            tail.put_slice(b"content-length:");
            put_decimal(&mut tail, body.len() as u64);
            tail.put_u8(b'\n');
        }
        tail.put_u8(b'\n');
        let head = tail.len();
        if joined > 0 {
            tail.put_slice(body);
            tail.put_u8(0);
        }
        Self { tail, head, omitted, is_deliverable, is_plain }
    }
}

/// Tells of most names at once that they were not there before
struct Seen(u64);

impl Seen {
    /// Whether it is certain that the name is new
    fn add(&mut self, name: &[u8]) -> bool {
        let (first, last) = (name.first().unwrap_or(&0), name.last().unwrap_or(&0));
        let bit = 1 << ((name.len() + 5 * usize::from(*first) + 9 * usize::from(*last)) % 64);
        let new = self.0 & bit == 0;
        self.0 |= bit;
        new
    }
}

/// Whether the header never travels from a sender to a receiver
fn is_private(name: &[u8]) -> bool {
    matches!(
        name,
        b"subscription"
            | b"ack"
            | b"redelivered"
            | b"content-length"
            | b"receipt"
            | b"transaction"
            | b"login"
            | b"passcode"
            | b"accept-version"
            | b"host"
            | b"heart-beat"
    )
}

impl fmt::Debug for SharedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMessage")
            .field("message_id", &self.message_id())
            .field("size", &self.v1_2.len)
            .finish_non_exhaustive()
    }
}
