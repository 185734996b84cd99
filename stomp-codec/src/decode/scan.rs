//! Finds where frames end, one line at a time from a saved position

use memchr::{memchr, memchr2};

use super::grammar::{self, Fault};
use crate::escape::Reading;
use crate::find::{self, find, survey};
use crate::frame::{MAX_HEAD, Span, Spans, trim_blanks};
use crate::{Command, DecodeError, DecodeErrorKind, Limits, Mode, Version};

/// What stands at the front of the octets
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// More octets are needed; those that were seen need not be looked at again
    More,
    /// EOLs between frames
    HeartBeats { octets: usize, count: usize },
    /// A whole frame: its head with the blank line, then its body, then NUL
    Frame { head: usize, body: usize },
}

/// Where the scanner is within the frame that the octets begin with
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Between,
    Command,
    Headers,
    Body,
    Dead,
}

/// The state of the decoder; the octets are kept by whoever calls it
///
/// `scan` is given all octets from the beginning of the current frame on. Every check is made at a place
/// of the stream that does not depend on how the octets were cut: at the octet that breaks a limit, at a
/// NUL, at the end of a line, at the end of the head. So the result does not depend on it either.
#[derive(Clone, Debug)]
pub(super) struct Scanner {
    pub(super) version: Version,
    pub(super) mode: Mode,
    limits: Limits,
    /// Octets of the stream before the current frame.
    base: u64,
    stage: Stage,
    /// Where the current line begins.
    line: usize,
    /// Up to where the current line, or the body, was searched.
    seen: usize,
    pub(super) command: Command,
    pub(super) spans: Spans,
    pub(super) escaped: bool,
    content_length: Option<u64>,
    /// Where the body begins, and where its NUL is if `content-length` says so.
    body: usize,
    body_end: Option<usize>,
    /// What ended the stream.
    fault: Option<DecodeError>,
    #[cfg(test)]
    pub(super) examined: u64,
}

impl Scanner {
    pub(super) const fn new(mode: Mode, limits: Limits) -> Self {
        Self {
            version: Version::V1_2,
            mode,
            limits: representable(limits),
            base: 0,
            stage: Stage::Between,
            line: 0,
            seen: 0,
            command: Command::Connect,
            spans: Spans::new(),
            escaped: false,
            content_length: None,
            body: 0,
            body_end: None,
            fault: None,
            #[cfg(test)]
            examined: 0,
        }
    }

    pub(super) const fn set_limits(&mut self, limits: Limits) {
        self.limits = representable(limits);
    }

    /// Octets of the stream that were taken so far
    pub(super) const fn offset(&self) -> u64 {
        self.base
    }

    pub(super) const fn reading(&self) -> Reading {
        if self.command.is_escape_free() { Reading::Raw } else { Reading::of(self.version) }
    }

    /// Says that the first `octets` octets were taken: the next scan begins behind them
    pub(super) fn taken(&mut self, octets: usize) {
        self.base += octets as u64;
        self.stage = Stage::Between;
        self.line = 0;
        self.seen = 0;
    }

    /// Looks at what stands at the front of `data`
    pub(super) fn scan(&mut self, data: &[u8]) -> Result<Found, DecodeError> {
        let result = self.step(data);
        if let Err(error) = result {
            self.stage = Stage::Dead;
            self.fault = Some(error);
        }
        result
    }

    #[inline]
    fn step(&mut self, data: &[u8]) -> Result<Found, DecodeError> {
        // Most often all of it is there, and each stage runs into the next.
        if self.stage == Stage::Between {
            match data.first() {
                None => return Ok(Found::More),
                Some(b'\n' | b'\r' | 0) => {
                    if let Some(found) = self.between(data)? {
                        return Ok(found);
                    }
                }
                Some(_) => {}
            }
            self.stage = Stage::Command;
        }
        if self.stage == Stage::Command {
            let Some(end) = self.command_end(data)? else { return Ok(Found::More) };
            self.command(data, end)?;
            self.stage = Stage::Headers;
        }
        if self.stage == Stage::Headers {
            let Some(head) = self.headers(data)? else { return Ok(Found::More) };
            self.head(data, head)?;
            self.stage = Stage::Body;
        }
        match (self.fault, self.body_end) {
            (Some(error), _) => Err(error),
            (None, Some(end)) => self.sized(data, self.body, end),
            (None, None) => self.unsized_body(data, self.body),
        }
    }

    /// EOLs, and NULs where they are let pass, before a command
    ///
    /// `None` where a command begins at the front of `data`.
    fn between(&mut self, data: &[u8]) -> Result<Option<Found>, DecodeError> {
        let mut octets = 0;
        let mut count = 0;
        while let Some(octet) = data.get(octets) {
            match octet {
                b'\n' => {
                    let rest = data.get(octets..).unwrap_or_default();
                    let run = rest.iter().position(|octet| *octet != b'\n').unwrap_or(rest.len());
                    octets += run;
                    count += run;
                }
                b'\r' if self.cr_ends_lines() => match data.get(octets + 1) {
                    Some(b'\n') => {
                        octets += 2;
                        count += 1;
                    }
                    None => break,
                    Some(_) if octets > 0 => break,
                    Some(_) => return Err(self.error(DecodeErrorKind::BareCr, 0)),
                },
                0 if self.mode == Mode::Lenient => octets += 1,
                0 if octets == 0 => return Err(self.error(DecodeErrorKind::StrayNul, 0)),
                _ => break,
            }
        }
        self.count_examined(octets);
        Ok(match octets {
            0 if data.first() == Some(&b'\r') && self.cr_ends_lines() => Some(Found::More),
            0 => None,
            octets => Some(Found::HeartBeats { octets, count }),
        })
    }

    /// Where the command line ends; on success `seen` is behind its LF
    #[inline]
    fn command_end(&mut self, data: &[u8]) -> Result<Option<usize>, DecodeError> {
        let limit = self.limits.command;
        let rest = data.get(self.seen..).unwrap_or_default();
        let Some(length) = find(b'\n', rest) else {
            return self.unended_line(data, limit, self.seen);
        };
        self.count_examined(length + 1);
        let end = self.seen + length;
        if end > limit || end >= self.limits.head {
            self.check_length(data, end, limit, true)?;
        }
        self.seen = end + 1;
        Ok(Some(end))
    }

    /// Takes note of a line that has not ended
    ///
    /// A NUL that came since `from` says that it will not end; others are left to the end of the head.
    fn unended_line(
        &mut self,
        data: &[u8],
        limit: usize,
        from: usize,
    ) -> Result<Option<usize>, DecodeError> {
        self.count_examined(data.len() - self.seen);
        self.check_length(data, data.len(), limit, false)?;
        if let Some(nul) = memchr(0, data.get(from..).unwrap_or_default()) {
            return Err(self.nul_in_head(data, from + nul));
        }
        self.seen = data.len();
        Ok(None)
    }

    /// Refuses a line of which `end` octets have come, where that is too many; `ended` with an LF or not
    #[cold]
    fn check_length(
        &self,
        data: &[u8],
        end: usize,
        limit: usize,
        ended: bool,
    ) -> Result<(), DecodeError> {
        // A CR that may belong to the EOL, or does, is no part of the line.
        let carriage_return = self.cr_ends_lines()
            && (ended || end - self.line == limit + 1)
            && end > self.line
            && data.get(end - 1) == Some(&b'\r');
        let line_at = self.line + limit;
        let line_is_long = end - usize::from(carriage_return) > line_at;
        let head_at = self.limits.head;
        let head_is_long = end + usize::from(ended) > head_at;
        if head_is_long && (head_at <= line_at || !line_is_long) {
            let kind = DecodeErrorKind::HeadTooLarge { limit: head_at };
            return Err(self.fault(data, head_at, kind, head_at));
        }
        if line_is_long {
            let kind = match self.stage {
                Stage::Headers => DecodeErrorKind::HeaderLineTooLong { limit },
                _ => DecodeErrorKind::CommandTooLong { limit },
            };
            return Err(self.fault(data, line_at, kind, self.line));
        }
        Ok(())
    }

    #[inline]
    fn command(&mut self, data: &[u8], end: usize) -> Result<(), DecodeError> {
        let line = match data.get(..end).unwrap_or_default() {
            [line @ .., b'\r'] if self.cr_ends_lines() => line,
            line => line,
        };
        match Command::from_octets(line).filter(|command| command.exists_in(self.version)) {
            Some(command) => self.command = command,
            None => {
                let bare_cr = self.cr_ends_lines() && memchr(b'\r', line).is_some();
                let kind =
                    if bare_cr { DecodeErrorKind::BareCr } else { DecodeErrorKind::UnknownCommand };
                return Err(match memchr(0, line) {
                    Some(nul) => self.nul_in_head(data, nul),
                    None => self.error(kind, 0),
                });
            }
        }
        self.spans.clear();
        self.escaped = false;
        self.content_length = None;
        self.line = self.seen;
        Ok(())
    }

    /// Takes header lines up to the blank one; gives the length of the head with it
    #[inline]
    fn headers(&mut self, data: &[u8]) -> Result<Option<usize>, DecodeError> {
        let limits = self.limits;
        let cr_ends_lines = self.cr_ends_lines();
        let from = self.seen;
        // Kept out of `self` while the loop runs: this is where the time goes.
        let mut seen = self.seen;
        let mut start = self.line;
        loop {
            let rest = data.get(seen..).unwrap_or_default();
            let Some(length) = find(b'\n', rest) else {
                (self.line, self.seen) = (start, seen);
                return self.unended_line(data, limits.header_line, from);
            };
            self.count_examined(length + 1);
            let end = seen + length;
            seen = end + 1;
            if end - start > limits.header_line || end >= limits.head {
                self.line = start;
                self.check_length(data, end, limits.header_line, true)?;
            }
            let line = match data.get(start..end).unwrap_or_default() {
                [line @ .., b'\r'] if cr_ends_lines => line,
                line => line,
            };
            if line.is_empty() {
                (self.line, self.seen) = (start, seen);
                return Ok(Some(seen));
            }
            let (name, value) = match grammar::header(line) {
                Ok(header) if self.spans.len() < limits.headers => header,
                result => {
                    let kind = if self.spans.len() >= limits.headers {
                        DecodeErrorKind::TooManyHeaders { limit: limits.headers }
                    } else if result == Err(Fault::EmptyName) {
                        DecodeErrorKind::EmptyHeaderName
                    } else {
                        DecodeErrorKind::HeaderNoColon
                    };
                    return Err(self.fault(data, end, kind, start));
                }
            };
            if name == b"content-length" {
                self.line = start;
                self.content_length(data, end, value)?;
            }
            self.spans.push(Span::within(start, start + name.len(), start + line.len()));
            start = seen;
        }
    }

    fn content_length(&mut self, data: &[u8], end: usize, value: &[u8]) -> Result<(), DecodeError> {
        let padded = self.mode == Mode::Lenient || self.version == Version::V1_0;
        let digits = if padded { trim_blanks(value) } else { value };
        let Ok(number) = grammar::number(digits) else {
            return Err(self.fault(data, end, DecodeErrorKind::BadContentLength, self.line));
        };
        if self.content_length.is_some_and(|first| first != number) {
            let kind = DecodeErrorKind::ConflictingContentLength;
            return Err(self.fault(data, end, kind, self.line));
        }
        self.content_length = Some(number);
        Ok(())
    }

    /// Checks the head as a whole and says where the body ends, if that is known
    #[inline]
    fn head(&mut self, data: &[u8], length: usize) -> Result<(), DecodeError> {
        let head = data.get(..length).unwrap_or_default();
        let unusual = survey(head);
        if unusual != 0 {
            self.unusual_head(head, unusual)?;
        }
        let has_body = self.command.may_have_body() || self.version == Version::V1_0;
        self.body_end = match self.content_length {
            None => None,
            Some(octets) if octets > 0 && !has_body => {
                return Err(self.body_not_allowed(length));
            }
            Some(octets) => match usize::try_from(octets) {
                Ok(octets) if octets <= self.limits.body => Some(length + octets),
                _ => return Err(self.body_too_large(length)),
            },
        };
        self.body = length;
        self.seen = length;
        Ok(())
    }

    /// Looks closer at a head that holds a backslash, a NUL, a CR, or octets that are not ASCII
    #[cold]
    fn unusual_head(&mut self, head: &[u8], unusual: u8) -> Result<(), DecodeError> {
        if unusual & find::NUL != 0 {
            return Err(self.fault(head, head.len(), DecodeErrorKind::NulInHeader, 0));
        }
        if unusual & find::CR != 0 && self.cr_ends_lines() {
            for at in memchr::memchr_iter(b'\r', head) {
                if head.get(at + 1) != Some(&b'\n') {
                    return Err(self.error(DecodeErrorKind::BareCr, at));
                }
            }
        }
        if unusual & find::NOT_ASCII != 0 {
            if let Err(error) = std::str::from_utf8(head) {
                return Err(self.error(DecodeErrorKind::InvalidUtf8, error.valid_up_to()));
            }
        }
        let reading = self.reading();
        if unusual & find::BACKSLASH != 0 && reading.escapes() {
            self.escaped = true;
            // No sequence reaches over a colon or an EOL: what stands behind the backslash would be undefined.
            if let Some(at) = reading.undefined_escape(head) {
                return Err(self.error(DecodeErrorKind::BadEscape, at));
            }
        }
        Ok(())
    }

    /// A body whose length is known: its octets are not looked at
    #[inline]
    fn sized(&self, data: &[u8], start: usize, end: usize) -> Result<Found, DecodeError> {
        match data.get(end) {
            None => Ok(Found::More),
            Some(0) => Ok(Found::Frame { head: start, body: end - start }),
            Some(_) => Err(self.error(DecodeErrorKind::MissingNul, end)),
        }
    }

    /// A body that ends at the first NUL
    #[inline]
    fn unsized_body(&mut self, data: &[u8], start: usize) -> Result<Found, DecodeError> {
        let rest = data.get(self.seen..).unwrap_or_default();
        let nul = find(0, rest).map(|at| self.seen + at);
        let end = nul.unwrap_or(data.len());
        self.count_examined(end - self.seen);
        if end > start && !self.command.may_have_body() && self.version > Version::V1_0 {
            self.check_unexpected_body(data, start, end)?;
        }
        if end - start > self.limits.body {
            return Err(self.body_too_large(start));
        }
        self.seen = end;
        Ok(match nul {
            None => Found::More,
            Some(end) => Found::Frame { head: start, body: end - start },
        })
    }

    /// Refuses a body where none may be, but for EOLs behind CONNECT in lenient mode
    #[cold]
    fn check_unexpected_body(
        &self,
        data: &[u8],
        start: usize,
        end: usize,
    ) -> Result<(), DecodeError> {
        let tolerated =
            self.mode == Mode::Lenient && matches!(self.command, Command::Connect | Command::Stomp);
        let new = data.get(self.seen..end).unwrap_or_default();
        let text = if tolerated {
            let text = new.iter().position(|octet| !matches!(octet, b'\n' | b'\r'));
            text.map(|at| self.seen + at - start)
        } else {
            Some(0)
        };
        match text {
            Some(at) if at <= self.limits.body => Err(self.body_not_allowed(start + at)),
            _ => Ok(()),
        }
    }

    fn cr_ends_lines(&self) -> bool {
        self.version == Version::V1_2 || self.mode == Mode::Lenient
    }

    /// An error in a line, unless a NUL before `until` says that the frame was cut
    #[cold]
    fn fault(
        &self,
        data: &[u8],
        until: usize,
        kind: DecodeErrorKind,
        offset: usize,
    ) -> DecodeError {
        match memchr(0, data.get(..until).unwrap_or_default()) {
            Some(nul) => self.nul_in_head(data, nul),
            None => self.error(kind, offset),
        }
    }

    /// A NUL in the head: a frame that was cut, or, in the command line, one that never was
    #[cold]
    fn nul_in_head(&self, data: &[u8], nul: usize) -> DecodeError {
        let before = data.get(..nul).unwrap_or_default();
        let cut = memchr2(b'\n', b'\r', before).is_some()
            || Command::from_octets(before).is_some_and(|it| it.exists_in(self.version));
        let kind = if cut { DecodeErrorKind::NulInHeader } else { DecodeErrorKind::UnknownCommand };
        self.error(kind, nul)
    }

    #[cold]
    fn body_not_allowed(&self, at: usize) -> DecodeError {
        self.error(DecodeErrorKind::BodyNotAllowed { command: self.command }, at)
    }

    #[cold]
    fn body_too_large(&self, at: usize) -> DecodeError {
        self.error(DecodeErrorKind::BodyTooLarge { limit: self.limits.body }, at)
    }

    #[cold]
    fn error(&self, kind: DecodeErrorKind, at: usize) -> DecodeError {
        DecodeError { kind, offset: self.base + at as u64 }
    }

    #[cfg_attr(not(test), allow(clippy::unused_self, clippy::needless_pass_by_ref_mut))]
    #[inline]
    fn count_examined(&mut self, octets: usize) {
        #[cfg(test)]
        {
            self.examined += octets as u64;
        }
        #[cfg(not(test))]
        let _ = octets;
    }
}

/// A head that is longer than offsets reach is refused, whatever the limits say.
const fn representable(mut limits: Limits) -> Limits {
    if limits.head > MAX_HEAD {
        limits.head = MAX_HEAD;
    }
    limits
}
