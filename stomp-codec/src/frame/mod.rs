mod header;

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

pub(crate) use header::{MAX_HEAD, Span, Spans};

use crate::escape::Reading;
use crate::{ByteStr, Command};

/// A frame, received or built
///
/// A received frame is a set of slices of the buffer it came in: nothing is copied, and header text is
/// unescaped only when it is asked for and only where it holds a backslash. A built frame holds plain
/// text; what its session's version needs is done by [`encode`](crate::encode).
///
/// Headers keep their order. Where a name is repeated the first entry is the value, as the specification
/// wants it; later ones are history, seen only by [`Frame::headers`].
#[derive(Clone)]
pub struct Frame {
    pub(crate) command: Command,
    pub(crate) reading: Reading,
    /// Whether a backslash is present in the head, so that reading it needs more than slicing.
    pub(crate) escaped: bool,
    pub(crate) head: Head,
    pub(crate) spans: Spans,
    pub(crate) body: Bytes,
}

/// The octets that header spans point into
#[derive(Clone)]
pub(crate) enum Head {
    Wire(Bytes),
    Built(Vec<u8>),
}

impl Head {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Wire(octets) => octets,
            Self::Built(octets) => octets,
        }
    }
}

impl Frame {
    /// A frame without headers and body
    pub fn new(command: Command) -> Self {
        Self {
            command,
            reading: Reading::Raw,
            escaped: false,
            head: Head::Built(Vec::new()),
            spans: Spans::new(),
            body: Bytes::new(),
        }
    }

    /// Appends a header; text that the version cannot carry is refused by [`encode`](crate::encode)
    ///
    /// `content-length` is always written by the encoder from the body.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.push_header(name, value);
        self
    }

    /// Sets the body
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Appends a header, as [`Frame::with_header`] does
    pub fn push_header(&mut self, name: &str, value: &str) {
        if let Head::Wire(_) = self.head {
            self.rebuild();
        }
        if let Head::Built(octets) = &mut self.head {
            let start = octets.len();
            octets.extend_from_slice(name.as_bytes());
            let colon = octets.len();
            octets.push(b':');
            octets.extend_from_slice(value.as_bytes());
            self.spans.push(Span::new(start, colon, octets.len()));
        }
    }

    /// The command
    pub const fn command(&self) -> Command {
        self.command
    }

    /// The body
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// The body, sharing the memory
    pub fn into_body(self) -> Bytes {
        self.body
    }

    /// The value of the first header of this name; names are case-sensitive
    pub fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.find(name).map(|span| self.value(span))
    }

    /// The value of the first header of this name, sharing the frame's memory where possible
    pub fn header_text(&self, name: &str) -> Option<ByteStr> {
        let span = self.find(name)?;
        let value = self.value(span);
        Some(match (&value, &self.head) {
            // Cannot fail: the value is a slice of the head.
            (Cow::Borrowed(text), Head::Wire(head)) => {
                ByteStr::from_utf8(head.slice_ref(text.as_bytes())).unwrap_or_default()
            }
            _ => ByteStr::from(value),
        })
    }

    /// Whether a header of this name is present
    pub fn has_header(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Name and value of every header in order, repeats included
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        self.spans.as_slice().iter().map(|span| (self.name(*span), self.value(*span)))
    }

    /// Octets that the frame holds: head and body, without what is shared with other frames
    pub fn size(&self) -> usize {
        self.head.as_slice().len() + self.body.len()
    }

    /// A copy that holds nothing but its own octets
    ///
    /// A received frame keeps the whole buffer it is a slice of alive. Detach small frames before keeping
    /// them for long.
    #[must_use]
    pub fn detached(&self) -> Self {
        let head = match &self.head {
            Head::Wire(octets) => Head::Wire(Bytes::copy_from_slice(octets)),
            Head::Built(octets) => Head::Built(octets.clone()),
        };
        Self { head, body: Bytes::copy_from_slice(&self.body), ..self.clone() }
    }

    pub(crate) fn raw_headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.spans.as_slice().iter().map(|span| (self.raw(span.name()), self.raw_value(*span)))
    }

    /// Turns the headers into plain text of this frame's own
    fn rebuild(&mut self) {
        let mut plain = Self::new(self.command);
        for (name, value) in self.headers() {
            plain.push_header(&name, &value);
        }
        plain.body = std::mem::take(&mut self.body);
        *self = plain;
    }

    fn find(&self, name: &str) -> Option<Span> {
        let mut spans = self.spans.as_slice().iter().copied();
        if self.escaped {
            spans.find(|span| self.name(*span) == name)
        } else {
            spans.find(|span| self.raw(span.name()) == name.as_bytes())
        }
    }

    fn name(&self, span: Span) -> Cow<'_, str> {
        self.plain(self.raw(span.name()))
    }

    fn value(&self, span: Span) -> Cow<'_, str> {
        self.plain(self.raw_value(span))
    }

    fn plain<'a>(&self, octets: &'a [u8]) -> Cow<'a, str> {
        // Cannot fail: heads are checked when decoded, and built from text.
        let text = std::str::from_utf8(octets).unwrap_or_default();
        if self.escaped { self.reading.unescape(text) } else { Cow::Borrowed(text) }
    }

    fn raw(&self, range: std::ops::Range<usize>) -> &[u8] {
        self.head.as_slice().get(range).unwrap_or_default()
    }

    fn raw_value(&self, span: Span) -> &[u8] {
        let value = self.raw(span.value());
        if self.reading == Reading::Trimmed { trim_blanks(value) } else { value }
    }
}

/// `octets` without spaces and tabs at either end
pub(crate) fn trim_blanks(mut octets: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = octets {
        octets = rest;
    }
    octets
}

/// Equal in command, headers in order (as text) and body
impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        self.command == other.command
            && self.body == other.body
            && self.headers().eq(other.headers())
    }
}

impl Eq for Frame {}

/// Headers as text, the passcode hidden, the body by its length
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Headers<'a>(&'a Frame);
        impl fmt::Debug for Headers<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut map = f.debug_map();
                for (name, value) in self.0.headers() {
                    match &*name {
                        "passcode" | "authorization" | "Authorization" => map.entry(&name, &"***"),
                        _ => map.entry(&name, &value),
                    };
                }
                map.finish()
            }
        }
        f.debug_struct("Frame")
            .field("command", &self.command)
            .field("headers", &Headers(self))
            .field("body", &format_args!("{} octets", self.body.len()))
            .finish()
    }
}
