//! Header lines, and the head as a whole

use memchr::memchr;

use super::Scanner;
use super::unusual::Unusual;
use crate::find::{Marks, WORD, marks};
use crate::frame::trim_blanks;
use crate::grammar;
use crate::{Command, DecodeError, DecodeErrorKind, Mode, Version};

impl Scanner {
    /// Forgets the head before
    #[inline]
    pub(super) fn begin_head(&mut self) {
        self.colon = 0;
        self.content_length = None;
        self.is_unusual = false;
        self.unusual = Unusual::NONE;
    }

    /// Takes the command line and header lines up to the blank one, whose end is given
    ///
    /// One pass: line ends, colons, and octets that need a closer look are found together.
    #[inline]
    pub(super) fn head_end(&mut self, data: &[u8]) -> Result<Option<usize>, DecodeError> {
        let from = self.seen;
        // No line may reach beyond it.
        let head = data.get(..self.limits.head).unwrap_or(data);
        // Kept out of `self` while the loop runs: this is where the time goes.
        let (mut at, mut start, mut colon) = (self.seen, self.line, self.colon);
        while at < head.len() {
            for marks in marks(head, at) {
                for (place, is_colon) in marks.separators() {
                    let end = at + place;
                    if is_colon {
                        colon = if colon == 0 { end } else { colon };
                        continue;
                    }
                    if start == 0 {
                        self.command_line(head, end)?;
                    } else if !self.header_line(head, start, colon, end)? {
                        self.count_examined(end + 1 - from);
                        self.look_closer(head, at, marks.before(place));
                        return Ok(Some(end + 1));
                    }
                    (start, colon) = (end + 1, 0);
                }
                self.look_closer(head, at, marks);
                at += WORD;
            }
        }
        self.count_examined(head.len() - from);
        (self.line, self.colon) = (start, colon);
        self.unended_line(data, from)?;
        Ok(None)
    }

    #[inline]
    fn look_closer(&mut self, head: &[u8], at: usize, marks: Marks) {
        if marks.are_unusual() {
            self.is_unusual = true;
            self.note(head, at, marks);
        }
    }

    /// Takes note of a line that has not ended, of which the octets behind `from` are new
    #[inline(never)]
    fn unended_line(&mut self, data: &[u8], from: usize) -> Result<(), DecodeError> {
        self.check_length(data, data.len(), false)?;
        if self.unusual.nul {
            // The line will not end.
            let nul = memchr(0, data.get(from..).unwrap_or_default()).unwrap_or_default();
            return Err(self.nul_in_head(data, from + nul));
        }
        self.seen = self.unusual.seen(data);
        Ok(())
    }

    /// Refuses a line of which `end` octets have come, where that is too many; `ended` with an LF or not
    #[cold]
    fn check_length(&self, data: &[u8], end: usize, ended: bool) -> Result<(), DecodeError> {
        let limit = if self.line == 0 { self.limits.command } else { self.limits.header_line };
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
            let kind = match self.line {
                0 => DecodeErrorKind::CommandTooLong { limit },
                _ => DecodeErrorKind::HeaderLineTooLong { limit },
            };
            return Err(self.fault(data, line_at, kind, self.line));
        }
        Ok(())
    }

    /// Takes the command line, up to its LF
    #[inline]
    fn command_line(&mut self, data: &[u8], end: usize) -> Result<(), DecodeError> {
        if end > self.limits.command {
            self.check_length(data, end, true)?;
        }
        let line = match data.get(..end).unwrap_or_default() {
            [line @ .., b'\r'] if self.cr_ends_lines() => line,
            line => line,
        };
        match Command::from_octets(line).filter(|command| command.exists_in(self.version)) {
            Some(command) => self.command = command,
            None => return Err(self.command_fault(data, line)),
        }
        self.lines.begin(end + 1);
        Ok(())
    }

    #[cold]
    fn command_fault(&self, data: &[u8], line: &[u8]) -> DecodeError {
        let bare_cr = self.cr_ends_lines() && memchr(b'\r', line).is_some();
        let kind = if bare_cr { DecodeErrorKind::BareCr } else { DecodeErrorKind::UnknownCommand };
        match memchr(0, line) {
            Some(nul) => self.nul_in_head(data, nul),
            None => self.error(kind, 0),
        }
    }

    /// Takes the line from `start` to its LF; `false` where it is the blank one
    ///
    /// `colon` is where its first colon is, or 0.
    #[inline]
    fn header_line(
        &mut self,
        data: &[u8],
        start: usize,
        colon: usize,
        end: usize,
    ) -> Result<bool, DecodeError> {
        if end - start > self.limits.header_line {
            self.line = start;
            self.check_length(data, end, true)?;
        }
        if colon <= start || self.lines.len() >= self.limits.headers {
            return match data.get(start..end).unwrap_or_default() {
                [] => Ok(false),
                [b'\r'] if self.cr_ends_lines() => Ok(false),
                _ => Err(self.header_fault(data, start, colon, end)),
            };
        }
        const CONTENT_LENGTH: &[u8] = b"content-length";
        if colon - start == CONTENT_LENGTH.len() && data.get(start..colon) == Some(CONTENT_LENGTH) {
            self.content_length(data, start, colon, end)?;
        }
        self.lines.push(colon, end);
        Ok(true)
    }

    /// What is wrong with a header line
    #[cold]
    fn header_fault(&self, data: &[u8], start: usize, colon: usize, end: usize) -> DecodeError {
        let limit = self.limits.headers;
        let kind = if self.lines.len() >= limit {
            DecodeErrorKind::TooManyHeaders { limit }
        } else if colon == start {
            DecodeErrorKind::EmptyHeaderName
        } else {
            DecodeErrorKind::HeaderNoColon
        };
        self.fault(data, end, kind, start)
    }

    /// Takes note of the number, apart from the loop that most lines go through
    #[inline(never)]
    fn content_length(
        &mut self,
        data: &[u8],
        start: usize,
        colon: usize,
        end: usize,
    ) -> Result<(), DecodeError> {
        let value = match data.get(colon + 1..end).unwrap_or_default() {
            [value @ .., b'\r'] if self.cr_ends_lines() => value,
            value => value,
        };
        let padded = self.mode == Mode::Lenient || self.version == Version::V1_0;
        let number = grammar::number(if padded { trim_blanks(value) } else { value });
        let kind = match (number, self.content_length) {
            (None, _) => DecodeErrorKind::BadContentLength,
            (Some(number), Some(first)) if number != first => {
                DecodeErrorKind::ConflictingContentLength
            }
            (Some(_), _) => {
                self.content_length = number;
                return Ok(());
            }
        };
        Err(self.fault(data, end, kind, start))
    }

    /// Checks the head as a whole and says where the body ends, if that is known
    #[inline]
    pub(super) fn check_head(&mut self, data: &[u8], length: usize) -> Result<(), DecodeError> {
        if self.is_unusual {
            self.judge(data.get(..length).unwrap_or_default())?;
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
}
