//! The grammar of one complete line, in nom over leaves of our own
//!
//! The leaves search octets many at a time and never see an incomplete line: what is missing is the scanner's matter.

use nom::error::{ErrorKind, ParseError};
use nom::{Err, IResult, Parser};

use crate::find::find;

/// What a line lacks
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    NoColon,
    EmptyName,
    NotANumber,
}

impl<I> ParseError<I> for Fault {
    fn from_error_kind(_: I, _: ErrorKind) -> Self {
        Self::NotANumber
    }

    fn append(_: I, _: ErrorKind, other: Self) -> Self {
        other
    }
}

/// The octets before the first colon, at least one; the colon is consumed
#[inline]
fn header_name(line: &[u8]) -> IResult<&[u8], &[u8], Fault> {
    match find(b':', line) {
        None => Err(Err::Error(Fault::NoColon)),
        Some(0) => Err(Err::Error(Fault::EmptyName)),
        Some(colon) => {
            let (name, rest) = line.split_at(colon);
            Ok((rest.get(1..).unwrap_or_default(), name))
        }
    }
}

/// The rest of the line, whatever it is
#[inline]
fn header_value(rest: &[u8]) -> IResult<&[u8], &[u8], Fault> {
    Ok((&[], rest))
}

/// `header = header-name ":" header-value`
#[inline]
pub(super) fn header(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    finish((header_name, header_value).parse(line))
}

/// One or more ASCII digits; a number beyond 64 bits saturates
pub(super) fn number(text: &[u8]) -> Result<u64, Fault> {
    finish(digits(text))
}

fn digits(text: &[u8]) -> IResult<&[u8], u64, Fault> {
    if text.is_empty() {
        return Err(Err::Error(Fault::NotANumber));
    }
    let mut number = 0_u64;
    for octet in text {
        if !octet.is_ascii_digit() {
            return Err(Err::Error(Fault::NotANumber));
        }
        number = number.saturating_mul(10).saturating_add(u64::from(octet - b'0'));
    }
    Ok((&[], number))
}

#[inline]
fn finish<T>(result: IResult<&[u8], T, Fault>) -> Result<T, Fault> {
    match result {
        Ok((_, value)) => Ok(value),
        Err(Err::Error(fault) | Err::Failure(fault)) => Err(fault),
        // No leaf gives it: lines are complete.
        Err(Err::Incomplete(_)) => Err(Fault::NoColon),
    }
}
