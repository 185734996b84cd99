use std::borrow::Cow;

use memchr::memchr;

use crate::Version;

/// How the header octets of a frame are to be read
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// As they are: frames built here, CONNECT, STOMP and CONNECTED
    Raw,
    /// 1.0: as they are, but blanks around a value are padding
    Trimmed,
    /// 1.1: `\n`, `\c` and `\\`
    Escaped1_1,
    /// 1.2: `\r` as well
    Escaped1_2,
}

impl Reading {
    pub(crate) const fn of(version: Version) -> Self {
        match version {
            Version::V1_0 => Self::Trimmed,
            Version::V1_1 => Self::Escaped1_1,
            Version::V1_2 => Self::Escaped1_2,
        }
    }

    pub(crate) const fn escapes(self) -> bool {
        matches!(self, Self::Escaped1_1 | Self::Escaped1_2)
    }

    const fn letter(self, letter: u8) -> Option<u8> {
        match (letter, self) {
            (b'n', Self::Escaped1_1 | Self::Escaped1_2) => Some(b'\n'),
            (b'c', Self::Escaped1_1 | Self::Escaped1_2) => Some(b':'),
            (b'\\', Self::Escaped1_1 | Self::Escaped1_2) => Some(b'\\'),
            (b'r', Self::Escaped1_2) => Some(b'\r'),
            _ => None,
        }
    }

    /// Whether a backslash and this octet are an escape sequence
    pub(crate) const fn defines(self, letter: u8) -> bool {
        self.letter(letter).is_some()
    }

    /// The text that `octets` stand for; allocates only where a backslash is present
    ///
    /// The decoder has refused undefined sequences; one that comes here all the same stands for itself.
    pub(crate) fn unescape(self, text: &str) -> Cow<'_, str> {
        if !self.escapes() || memchr(b'\\', text.as_bytes()).is_none() {
            return Cow::Borrowed(text);
        }
        let mut plain = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('\\') {
            plain.push_str(before);
            match after.bytes().next().and_then(|letter| self.letter(letter)) {
                Some(octet) => {
                    plain.push(char::from(octet));
                    rest = after.get(1..).unwrap_or_default();
                }
                None => {
                    plain.push('\\');
                    rest = after;
                }
            }
        }
        plain.push_str(rest);
        Cow::Owned(plain)
    }
}
