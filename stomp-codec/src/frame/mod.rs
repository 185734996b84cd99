mod header;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::{Buf, Bytes};

pub(crate) use header::{Lines, MAX_HEAD};

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
    /// Whether a CR is present that is part of an EOL.
    pub(crate) cr_ends_lines: bool,
    pub(crate) lines: Lines,
    pub(crate) octets: Octets,
}

/// The octets of a frame
#[derive(Clone)]
pub(crate) enum Octets {
    /// As they came: the head, into which `lines` point, then the body, then perhaps others
    Wire { all: Bytes, head: usize, body: usize },
    /// Header lines as `lines` have them, in plain text
    Built { head: Vec<u8>, body: Bytes },
}

impl Octets {
    fn head(&self) -> &[u8] {
        match self {
            Self::Wire { all, head, .. } => all.get(..*head).unwrap_or_default(),
            Self::Built { head, .. } => head,
        }
    }
}

impl Frame {
    /// A frame without headers and body
    pub fn new(command: Command) -> Self {
        Self::with_capacity(command, 0)
    }

    /// A frame without headers and body, with room for so many octets of headers
    pub fn with_capacity(command: Command, head: usize) -> Self {
        Self {
            command,
            reading: Reading::Raw,
            escaped: false,
            cr_ends_lines: false,
            lines: Lines::new(),
            octets: Octets::Built { head: Vec::with_capacity(head), body: Bytes::new() },
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
        self.rebuild();
        if let Octets::Built { body: old, .. } = &mut self.octets {
            *old = body.into();
        }
        self
    }

    /// Appends a header, as [`Frame::with_header`] does
    pub fn push_header(&mut self, name: &str, value: &str) {
        self.rebuild();
        if let Octets::Built { head, .. } = &mut self.octets {
            head.reserve(name.len() + value.len() + 2);
            head.extend_from_slice(name.as_bytes());
            let colon = head.len();
            head.push(b':');
            head.extend_from_slice(value.as_bytes());
            let end = head.len();
            head.push(b'\n');
            // What offsets do not reach reads as empty.
            self.lines.push(colon.min(MAX_HEAD), end.min(MAX_HEAD));
        }
    }

    /// The command
    pub const fn command(&self) -> Command {
        self.command
    }

    /// The body
    pub fn body(&self) -> &[u8] {
        match &self.octets {
            Octets::Wire { all, head, body } => all.get(*head..head + body).unwrap_or_default(),
            Octets::Built { body, .. } => body,
        }
    }

    /// The body, sharing the memory
    pub fn body_bytes(&self) -> Bytes {
        match &self.octets {
            Octets::Wire { all, head, body } => all.slice(*head..head + body),
            Octets::Built { body, .. } => body.clone(),
        }
    }

    /// The body, sharing the memory
    pub fn into_body(self) -> Bytes {
        match self.octets {
            Octets::Wire { mut all, head, body } => {
                all.advance(head);
                all.truncate(body);
                all
            }
            Octets::Built { body, .. } => body,
        }
    }

    /// The value of the first header of this name; names are case-sensitive
    pub fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.find(name).map(|value| self.plain(value))
    }

    /// As [`header`](Self::header), for several names in one walk over the headers
    ///
    /// ```
    /// use stomp_codec::{Command, Frame};
    ///
    /// let frame = Frame::new(Command::Send).with_header("destination", "/queue/a");
    /// let [destination, receipt] = frame.headers_named(["destination", "receipt"]);
    /// assert_eq!((destination.as_deref(), receipt), (Some("/queue/a"), None));
    /// ```
    pub fn headers_named<const N: usize>(&self, names: [&str; N]) -> [Option<Cow<'_, str>>; N] {
        self.find_each(names).map(|value| value.map(|value| self.plain(value)))
    }

    /// The value of the first header of this name, sharing the frame's memory where possible
    pub fn header_text(&self, name: &str) -> Option<ByteStr> {
        let value = self.header(name)?;
        Some(match (&value, &self.octets) {
            // Cannot fail: the value is a slice of the head.
            (Cow::Borrowed(text), Octets::Wire { all, .. }) => {
                ByteStr::from_utf8(all.slice_ref(text.as_bytes())).unwrap_or_default()
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
        // Looked at once for all of them. Cannot fail: heads are checked when decoded, and built from text.
        let head = std::str::from_utf8(self.octets.head()).unwrap_or_default();
        let slice = move |range: Range<usize>| head.get(range).unwrap_or_default();
        self.lines.iter().map(move |(name, value)| {
            let mut value = slice(value);
            if self.cr_ends_lines {
                value = value.strip_suffix('\r').unwrap_or(value);
            }
            if self.reading == Reading::Trimmed {
                value = value.trim_matches([' ', '\t']);
            }
            (self.unescaped(slice(name)), self.unescaped(value))
        })
    }

    /// As [`headers`](Self::headers), as octets
    pub(crate) fn plain_headers(
        &self,
    ) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> + Clone {
        let plain = |octets| match self.escaped {
            true => octets_of(self.plain(octets)),
            false => Cow::Borrowed(octets),
        };
        self.raw_headers().map(move |(name, value)| (plain(name), plain(value)))
    }

    /// Octets that the frame holds: head and body, without what is shared with other frames
    pub fn size(&self) -> usize {
        self.octets.head().len() + self.body().len()
    }

    /// A copy that holds nothing but its own octets
    ///
    /// A received frame keeps the whole buffer it is a slice of alive. Detach small frames before keeping
    /// them for long.
    #[must_use]
    pub fn detached(&self) -> Self {
        let octets = match &self.octets {
            Octets::Wire { all, head, body } => Octets::Wire {
                all: Bytes::copy_from_slice(all.get(..head + body).unwrap_or_default()),
                head: *head,
                body: *body,
            },
            Octets::Built { head, body } => {
                Octets::Built { head: head.clone(), body: Bytes::copy_from_slice(body) }
            }
        };
        Self { octets, lines: self.lines.clone(), ..*self }
    }

    /// Name and value of every header as they stand in the head
    pub(crate) fn raw_headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        let head = self.octets.head();
        let slice = move |range: Range<usize>| head.get(range).unwrap_or_default();
        self.lines.iter().map(move |(name, value)| (slice(name), self.cut(slice(value))))
    }

    /// A value without what stands around it
    fn cut<'a>(&self, value: &'a [u8]) -> &'a [u8] {
        let value = match value {
            [value @ .., b'\r'] if self.cr_ends_lines => value,
            value => value,
        };
        if self.reading == Reading::Trimmed { trim_blanks(value) } else { value }
    }

    /// Turns a received frame into one of its own plain text
    fn rebuild(&mut self) {
        if let Octets::Wire { .. } = self.octets {
            let mut plain = Self::new(self.command);
            for (name, value) in self.headers() {
                plain.push_header(&name, &value);
            }
            if let Octets::Built { body, .. } = &mut plain.octets {
                *body = self.body_bytes();
            }
            *self = plain;
        }
    }

    fn find(&self, name: &str) -> Option<&[u8]> {
        let head = self.octets.head();
        let slice = |range: Range<usize>| head.get(range).unwrap_or_default();
        let mut lines = self.lines.iter().map(|(raw, value)| (slice(raw), value));
        let (_, value) = if self.escaped {
            lines.find(|(raw, _)| self.plain(raw) == name)
        } else {
            lines.find(|(raw, _)| *raw == name.as_bytes())
        }?;
        Some(self.cut(slice(value)))
    }

    /// As `find`, for several names in one walk
    pub(crate) fn find_each<const N: usize>(&self, names: [&str; N]) -> [Option<&[u8]>; N] {
        if self.escaped {
            return names.map(|name| self.find(name));
        }
        let mut found = [None; N];
        for (raw, value) in self.raw_headers() {
            for (name, slot) in names.iter().zip(&mut found) {
                if raw == name.as_bytes() && slot.is_none() {
                    *slot = Some(value);
                }
            }
        }
        found
    }

    fn plain<'a>(&self, octets: &'a [u8]) -> Cow<'a, str> {
        // Cannot fail: heads are checked when decoded, and built from text.
        self.unescaped(std::str::from_utf8(octets).unwrap_or_default())
    }

    fn unescaped<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.escaped { self.reading.unescape(text) } else { Cow::Borrowed(text) }
    }
}

fn octets_of(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
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
            && self.body() == other.body()
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
            .field("body", &format_args!("{} octets", self.body().len()))
            .finish()
    }
}
