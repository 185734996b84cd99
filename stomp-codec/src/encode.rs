use bytes::{BufMut, BytesMut};

use crate::escape::Reading;
use crate::find::is_plain;
use crate::{Command, EncodeError, Frame, Transmit, Version};

/// Writes `frame` as `version` wants it, after what `dst` already holds
///
/// Headers keep their order and are escaped; `content-length` is written from the body, whatever the
/// frame says, and left out where the body is empty. EOL is LF.
///
/// # Errors
///
/// Where the frame cannot be expressed in the version; `dst` is then as it was.
pub fn encode(frame: &Frame, version: Version, dst: &mut BytesMut) -> Result<(), EncodeError> {
    let start = dst.len();
    let result = encode_head(frame, version, dst);
    if result.is_err() {
        dst.truncate(start);
        return result;
    }
    dst.reserve(frame.body().len() + 1);
    dst.put_slice(frame.body());
    dst.put_u8(0);
    Ok(())
}

/// Writes a frame from its parts, as [`encode`] does, without building a [`Frame`] first
///
/// # Errors
///
/// As [`encode`].
pub fn encode_parts<'a>(
    command: Command,
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    body: &[u8],
    version: Version,
    dst: &mut BytesMut,
) -> Result<(), EncodeError> {
    let start = dst.len();
    let result = (|| {
        let mut head = HeadWriter::new(command, version, !body.is_empty(), dst)?;
        for (name, value) in headers {
            head.header(name.as_bytes(), value.as_bytes())?;
        }
        head.finish(body.len());
        Ok(())
    })();
    if result.is_err() {
        dst.truncate(start);
        return result;
    }
    dst.reserve(body.len() + 1);
    dst.put_slice(body);
    dst.put_u8(0);
    Ok(())
}

/// Bodies up to this size are copied behind their head: one slice is cheaper to write than three.
const JOINED_BODY: usize = 1024;

/// Encodes `frame` for sending; a large body is shared, not copied
///
/// # Errors
///
/// As [`encode`].
pub fn encode_transmit(frame: &Frame, version: Version) -> Result<Transmit, EncodeError> {
    let mut dst = BytesMut::new();
    if frame.body().len() <= JOINED_BODY {
        encode(frame, version, &mut dst)?;
        return Ok(Transmit::from_bytes(dst.freeze()));
    }
    encode_head(frame, version, &mut dst)?;
    Ok(Transmit::with_body(dst.freeze(), frame.body_bytes()))
}

/// Writes command, headers and blank line
///
/// On an error `dst` holds a part of the head.
fn encode_head(frame: &Frame, version: Version, dst: &mut BytesMut) -> Result<(), EncodeError> {
    let mut head = HeadWriter::new(frame.command, version, !frame.body().is_empty(), dst)?;
    if frame.escaped {
        for (name, value) in frame.headers() {
            head.header(name.as_bytes(), value.as_bytes())?;
        }
    } else {
        for (name, value) in frame.raw_headers() {
            head.header(name, value)?;
        }
    }
    head.finish(frame.body().len());
    Ok(())
}

/// Writes the head of a frame line by line
pub(crate) struct HeadWriter<'a> {
    dst: &'a mut BytesMut,
    writing: Writing,
    index: usize,
}

impl<'a> HeadWriter<'a> {
    pub(crate) fn new(
        command: Command,
        version: Version,
        has_body: bool,
        dst: &'a mut BytesMut,
    ) -> Result<Self, EncodeError> {
        if !command.exists_in(version) && command != Command::Stomp {
            return Err(EncodeError::UnknownCommand { command });
        }
        if has_body && !command.may_have_body() && version > Version::V1_0 {
            return Err(EncodeError::BodyNotAllowed { command });
        }
        dst.reserve(256);
        dst.put_slice(command.as_str().as_bytes());
        dst.put_u8(b'\n');
        Ok(Self { dst, writing: Writing::of(command, version), index: 0 })
    }

    /// Writes one header, or none on an error; `content-length` is left to [`HeadWriter::finish`]
    pub(crate) fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), EncodeError> {
        let index = self.index;
        self.index += 1;
        if name == b"content-length" {
            return Ok(());
        }
        let start = self.dst.len();
        write_header(self.dst, self.writing, name, value).map_err(|Unencodable| {
            self.dst.truncate(start);
            EncodeError::Unencodable { index }
        })
    }

    /// Writes `content-length`, unless it is 0, and the blank line
    pub(crate) fn finish(self, body: usize) {
        if body > 0 {
            self.dst.put_slice(b"content-length:");
            put_decimal(self.dst, body as u64);
            self.dst.put_u8(b'\n');
        }
        self.dst.put_u8(b'\n');
    }
}

/// How header text is put on the wire
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// As it is; what would break the line is refused
    Raw,
    Escaped(Reading),
}

impl Writing {
    pub(crate) const fn of(command: Command, version: Version) -> Self {
        match version {
            _ if command.is_escape_free() => Self::Raw,
            Version::V1_0 => Self::Raw,
            Version::V1_1 | Version::V1_2 => Self::Escaped(Reading::of(version)),
        }
    }
}

/// The text has no form on the wire
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unencodable;

/// Writes one header line; on an error a part of it may be written
pub(crate) fn write_header(
    dst: &mut BytesMut,
    writing: Writing,
    name: &[u8],
    value: &[u8],
) -> Result<(), Unencodable> {
    if name.is_empty() {
        return Err(Unencodable);
    }
    if is_plain(name) && is_plain(value) {
        dst.reserve(name.len() + value.len() + 2);
        dst.put_slice(name);
        dst.put_u8(b':');
        dst.put_slice(value);
        dst.put_u8(b'\n');
        return Ok(());
    }
    write_text(dst, writing, name, false)?;
    dst.put_u8(b':');
    write_text(dst, writing, value, true)?;
    dst.put_u8(b'\n');
    Ok(())
}

#[cold]
fn write_text(
    dst: &mut BytesMut,
    writing: Writing,
    text: &[u8],
    is_value: bool,
) -> Result<(), Unencodable> {
    let mut rest = text;
    while let Some(special) = rest.iter().position(|octet| is_special(*octet)) {
        let (plain, from) = rest.split_at(special);
        dst.put_slice(plain);
        let Some((octet, after)) = from.split_first() else { break };
        match (octet, writing) {
            (0, _) => return Err(Unencodable),
            (b'\\', Writing::Raw) => dst.put_u8(b'\\'),
            (b':', Writing::Raw) if is_value => dst.put_u8(b':'),
            (_, Writing::Raw) => return Err(Unencodable),
            (b'\r', Writing::Escaped(Reading::Escaped1_2)) => dst.put_slice(b"\\r"),
            (b'\r', Writing::Escaped(_)) => return Err(Unencodable),
            (b'\n', Writing::Escaped(_)) => dst.put_slice(b"\\n"),
            (b':', Writing::Escaped(_)) => dst.put_slice(b"\\c"),
            (_, Writing::Escaped(_)) => dst.put_slice(b"\\\\"),
        }
        rest = after;
    }
    dst.put_slice(rest);
    Ok(())
}

const fn is_special(octet: u8) -> bool {
    matches!(octet, 0 | b'\n' | b'\r' | b':' | b'\\')
}

pub(crate) fn put_decimal(dst: &mut BytesMut, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut first = digits.len();
    for (index, slot) in digits.iter_mut().enumerate().rev() {
        *slot = b'0' + u8::try_from(number % 10).unwrap_or_default();
        first = index;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    dst.put_slice(digits.get(first..).unwrap_or_default());
}
