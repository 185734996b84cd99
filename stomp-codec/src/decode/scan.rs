//! Finds where frames end, from a saved position

mod head;
mod unusual;

use memchr::{memchr, memchr2};

use crate::escape::Reading;
use crate::find::find;
use crate::frame::{Lines, MAX_HEAD};
use crate::{Command, DecodeError, DecodeErrorKind, Limits, Mode, Version};
use unusual::Unusual;

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
    Head,
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
    /// Where the first colon of the current line is, or 0.
    colon: usize,
    /// Up to where the current line, or the body, was searched.
    seen: usize,
    /// Whether anything was noted in `unusual`.
    is_unusual: bool,
    unusual: Unusual,
    pub(super) command: Command,
    pub(super) lines: Lines,
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
            colon: 0,
            seen: 0,
            is_unusual: false,
            unusual: Unusual::NONE,
            command: Command::Connect,
            lines: Lines::new(),
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

    /// Whether the head holds backslashes that begin escape sequences
    pub(super) const fn escaped(&self) -> bool {
        self.unusual.backslash && self.reading().escapes()
    }

    /// Whether the head holds CRs that are part of an EOL
    pub(super) const fn has_cr(&self) -> bool {
        self.unusual.cr
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
            self.begin_head();
            self.stage = Stage::Head;
        }
        if self.stage == Stage::Head {
            let Some(head) = self.head_end(data)? else { return Ok(Found::More) };
            self.check_head(data, head)?;
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
