use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};

use crate::encode::{Writing, put_decimal, write_header};
use crate::{ByteStr, Command, EncodeError, Frame, Version};

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
    message_id: ByteStr,
    text: OnceLock<bool>,
    encoded: [OnceLock<Encoded>; 3],
}

/// What all receivers of one version share
pub(crate) struct Encoded {
    /// Headers and blank line, with body and NUL where the body is small.
    pub(crate) tail: Bytes,
    /// Body and NUL where the body is large.
    pub(crate) body: [Bytes; 2],
    omitted: usize,
    deliverable: bool,
}

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
            let value = message.header_text(name).filter(|value| !value.is_empty());
            value.ok_or(EncodeError::MissingHeader { name })
        };
        required("destination")?;
        let message_id = required("message-id")?;
        Ok(Self {
            inner: Arc::new(Inner {
                frame: message,
                message_id,
                text: OnceLock::new(),
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
    pub fn message_id(&self) -> &ByteStr {
        &self.inner.message_id
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

    /// Whether the octets of every receiver are UTF-8 text: looked at once for all of them
    pub(crate) fn is_text(&self) -> bool {
        *self.inner.text.get_or_init(|| std::str::from_utf8(self.body()).is_ok())
    }

    pub(crate) fn encoded(&self, version: Version) -> &Encoded {
        let [v1_0, v1_1, v1_2] = &self.inner.encoded;
        let slot = match version {
            Version::V1_0 => v1_0,
            Version::V1_1 => v1_1,
            Version::V1_2 => v1_2,
        };
        slot.get_or_init(|| Encoded::new(&self.inner.frame, version))
    }
}

impl Encoded {
    /// Whether the version can carry what a MESSAGE must have
    pub(crate) const fn is_deliverable(&self) -> bool {
        self.deliverable
    }

    pub(crate) fn len(&self) -> usize {
        self.tail.len() + self.body.iter().map(Bytes::len).sum::<usize>()
    }

    fn new(message: &Frame, version: Version) -> Self {
        let writing = Writing::of(Command::Message, version);
        let body = message.body();
        let joined = body.len() <= JOINED_BODY;
        let mut tail =
            BytesMut::with_capacity(message.size() - if joined { 0 } else { body.len() } + 64);
        let mut omitted = 0;
        let mut deliverable = true;
        let mut seen: Vec<std::borrow::Cow<'_, str>> = Vec::new();
        for (name, value) in message.headers() {
            if is_private(&name) || seen.contains(&name) {
                continue;
            }
            let start = tail.len();
            if write_header(&mut tail, writing, name.as_bytes(), value.as_bytes()).is_err() {
                tail.truncate(start);
                omitted += 1;
                deliverable &= !matches!(&*name, "destination" | "message-id");
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
        let body = if joined {
            [Bytes::new(), Bytes::new()]
        } else {
            [message.body_bytes(), Bytes::from_static(b"\0")]
        };
        Self { tail: tail.freeze(), body, omitted, deliverable }
    }
}

/// Whether the header never travels from a sender to a receiver
fn is_private(name: &str) -> bool {
    matches!(
        name,
        "subscription"
            | "ack"
            | "redelivered"
            | "content-length"
            | "receipt"
            | "transaction"
            | "login"
            | "passcode"
            | "accept-version"
            | "host"
            | "heart-beat"
    )
}

impl fmt::Debug for SharedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedMessage").field(&self.inner.frame).finish()
    }
}
