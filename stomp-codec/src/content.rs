use std::borrow::Cow;

use thiserror::Error;

use crate::Frame;

/// A MIME type as `content-type` carries it
///
/// Type and parameter names compare without regard to case; blanks around `;` and quotes around a parameter
/// are allowed, as in MIME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentType<'a> {
    kind: &'a str,
    subtype: &'a str,
    parameters: &'a str,
}

impl<'a> ContentType<'a> {
    /// Reads a header value; `None` where it is no MIME type
    pub fn parse(value: &'a str) -> Option<Self> {
        let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
        let (kind, subtype) = essence.trim_matches([' ', '\t']).split_once('/')?;
        (is_token(kind) && is_token(subtype)).then_some(Self { kind, subtype, parameters })
    }

    /// The part before the slash
    pub const fn kind(self) -> &'a str {
        self.kind
    }

    /// The part behind the slash
    pub const fn subtype(self) -> &'a str {
        self.subtype
    }

    /// The value of a parameter, without quotes
    pub fn parameter(self, name: &str) -> Option<&'a str> {
        self.parameters.split(';').find_map(|parameter| {
            let (key, value) = parameter.split_once('=')?;
            let value = value.trim_matches([' ', '\t']);
            let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            key.trim_matches([' ', '\t'])
                .eq_ignore_ascii_case(name)
                .then_some(unquoted.unwrap_or(value))
        })
    }

    /// The charset that the body is text in, `None` where the body is binary: a type other than `text/`
    /// that names none
    pub fn charset(self) -> Option<&'a str> {
        self.parameter("charset")
            .or_else(|| self.kind.eq_ignore_ascii_case("text").then_some("utf-8"))
    }
}

/// RFC 2045, section 5.1
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|octet| octet.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&octet))
}

/// Why a body has no text
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TextError {
    /// No `content-type`, or one that does not say text: the body is octets
    #[error("the body is not text")]
    Binary,
    /// The body is text in a charset other than UTF-8, US-ASCII and ISO-8859-1
    #[error("the charset is not supported")]
    Charset,
    /// The body is not valid in the charset that it claims
    #[error("the body is not valid in its charset")]
    Invalid,
}

impl Frame {
    /// Sets a text body and its `content-type`
    #[must_use]
    pub fn with_text(self, text: impl Into<String>) -> Self {
        self.with_header("content-type", "text/plain;charset=utf-8").with_body(text.into())
    }

    /// Whether `content-type` says that the body is text
    pub fn is_text(&self) -> bool {
        self.header("content-type").is_some_and(|value| {
            ContentType::parse(&value).is_some_and(|it| it.charset().is_some())
        })
    }

    /// The body as the text that `content-type` says it is
    ///
    /// # Errors
    ///
    /// Where the body is binary, or cannot be read; [`Frame::body`] has the octets in any case.
    pub fn text(&self) -> Result<Cow<'_, str>, TextError> {
        let value = self.header("content-type").ok_or(TextError::Binary)?;
        let content_type = ContentType::parse(&value).ok_or(TextError::Binary)?;
        let charset = content_type.charset().ok_or(TextError::Binary)?;
        let is = |names: &[&str]| names.iter().any(|name| charset.eq_ignore_ascii_case(name));
        if is(&["utf-8", "utf8"]) {
            std::str::from_utf8(self.body()).map(Cow::Borrowed).map_err(|_| TextError::Invalid)
        } else if is(&["us-ascii", "ascii"]) {
            let text = self.body().is_ascii().then(|| std::str::from_utf8(self.body()));
            text.and_then(Result::ok).map(Cow::Borrowed).ok_or(TextError::Invalid)
        } else if is(&["iso-8859-1", "latin1"]) {
            Ok(self.body().iter().map(|octet| char::from(*octet)).collect::<String>().into())
        } else {
            Err(TextError::Charset)
        }
    }
}
