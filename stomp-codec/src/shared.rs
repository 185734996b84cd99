use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};

use crate::encode::{Writing, put_decimal, write_header};
use crate::{Command, EncodeError, Frame, Version};

/// A MESSAGE for many receivers: encoded once for each version that is met, never copied per receiver
///
/// Holds what all receivers share: `destination`, `message-id`, further headers and the body.
/// `subscription`, `ack` and `redelivered` are written by each receiver's session in front of the shared
/// octets, so that they come first. Cloning is a reference count.
///
/// A header that a receiver's version cannot carry (CR in 1.1; CR and LF, or a colon in a name, in 1.0) is
/// left out for that version: see [`SharedMessage::omitted`].
#[derive(Clone)]
pub struct SharedMessage {
    inner: Arc<Inner>,
}

struct Inner {
    frame: Frame,
    message_id: Arc<str>,
    encoded: [OnceLock<Arc<Encoded>>; 3],
}

/// What all receivers of one version share
pub(crate) struct Encoded {
    /// Headers and blank line, with body and NUL where the body is small.
    tail: Bytes,
    /// A large body, without its NUL.
    body: Option<Bytes>,
    len: usize,
    /// Whether the octets are UTF-8 text: looked at once for all receivers.
    is_text: OnceLock<bool>,
    omitted: usize,
    is_deliverable: bool,
}

static NUL: Bytes = Bytes::from_static(b"\0");

/// Bodies up to this size stand behind the shared headers: one slice less to write for each receiver.
const JOINED_BODY: usize = 4096;

impl SharedMessage {
    /// Takes the headers and the body of `message`, whose command is not looked at
    ///
    /// Left out: `subscription`, `ack`, `redelivered` (the receiver's session writes them),
    /// `content-length` (written from the body), every header that belongs to the connection of
    /// the sender (`receipt`, `transaction`, `login`, `passcode`, `accept-version`, `host`,
    /// `heart-beat`), and repeats of a name.
    ///
    /// # Errors
    ///
    /// Where `destination` or `message-id` is missing or empty.
    pub fn new(message: Frame) -> Result<Self, EncodeError> {
        let required = |name| {
            let value = message.header(name).filter(|value| !value.is_empty());
            value.ok_or(EncodeError::MissingHeader { name })
        };
        required("destination")?;
        let message_id = Arc::from(&*required("message-id")?);
        Ok(Self {
            inner: Arc::new(Inner {
                frame: message,
                message_id,
                encoded: [OnceLock::new(), OnceLock::new(), OnceLock::new()],
            }),
        })
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
        let mut message = Frame::new(Command::Message)
            .with_header("destination", &send.header("destination").unwrap_or_default())
            .with_header("message-id", message_id)
            .with_body(send.body_bytes());
        for (name, value) in headers {
            message.push_header(name, value);
        }
        for (name, value) in send.headers() {
            message.push_header(&name, &value);
        }
        Self::new(message)
    }

    /// The `message-id`
    pub fn message_id(&self) -> &str {
        &self.inner.message_id
    }

    pub(crate) fn shared_message_id(&self) -> Arc<str> {
        self.inner.message_id.clone()
    }

    /// The frame that this was made from
    pub fn frame(&self) -> &Frame {
        &self.inner.frame
    }

    /// The body
    pub fn body(&self) -> &[u8] {
        self.inner.frame.body()
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
        let [v1_0, v1_1, v1_2] = &self.inner.encoded;
        let slot = match version {
            Version::V1_0 => v1_0,
            Version::V1_1 => v1_1,
            Version::V1_2 => v1_2,
        };
        slot.get_or_init(|| Arc::new(Encoded::new(&self.inner.frame, version)))
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

    fn new(message: &Frame, version: Version) -> Self {
        let writing = Writing::of(Command::Message, version);
        let body = message.body();
        let joined = body.len() <= JOINED_BODY;
        let mut tail =
            BytesMut::with_capacity(message.size() - if joined { 0 } else { body.len() } + 64);
        let mut omitted = 0;
        let mut is_deliverable = true;
        let headers = message.plain_headers();
        let mut seen: Vec<Cow<'_, [u8]>> = Vec::with_capacity(headers.len());
        for (name, value) in headers {
            if is_private(&name) || seen.contains(&name) {
                continue;
            }
            let start = tail.len();
            if write_header(&mut tail, writing, &name, &value).is_err() {
                tail.truncate(start);
                omitted += 1;
                is_deliverable &= !matches!(&*name, b"destination" | b"message-id");
            }
            seen.push(name);
        }
        if !body.is_empty() {
            tail.put_slice(b"content-length:");
            put_decimal(&mut tail, body.len() as u64);
            tail.put_u8(b'\n');
        }
        tail.put_u8(b'\n');
        if joined {
            tail.put_slice(body);
            tail.put_u8(0);
        }
        let body = (!joined).then(|| message.body_bytes());
        Self { omitted, is_deliverable, ..Self::of(tail.freeze(), body) }
    }

    fn of(tail: Bytes, body: Option<Bytes>) -> Self {
        let len = tail.len() + body.as_ref().map_or(0, |body| body.len() + NUL.len());
        Self { tail, body, len, is_text: OnceLock::new(), omitted: 0, is_deliverable: true }
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets", self.len)
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
        f.debug_tuple("SharedMessage").field(&self.inner.frame).finish()
    }
}
