//! The grammar of header values that are numbers, in nom
//!
//! Lines need no grammar: the scanner finds their ends and colons in one pass.

use nom::bytes::complete::take_while1;
use nom::character::complete::char;
use nom::combinator::all_consuming;
use nom::error::Error;
use nom::sequence::separated_pair;
use nom::{IResult, Parser};

/// `1*DIGIT`; a number beyond 64 bits saturates
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    whole(digits, text)
}

/// `1*DIGIT "," 1*DIGIT`, as in `heart-beat`
pub(crate) fn heart_beat(text: &str) -> Option<(u64, u64)> {
    whole(separated_pair(digits, char(','), digits), text.as_bytes())
}

/// `1*DIGIT "-" 1*DIGIT`, as a server session writes `ack`
pub(crate) fn delivery(text: &str) -> Option<(u64, u64)> {
    whole(separated_pair(digits, char('-'), digits), text.as_bytes())
}

fn whole<'a, O>(
    parser: impl Parser<&'a [u8], Output = O, Error = Error<&'a [u8]>>,
    text: &'a [u8],
) -> Option<O> {
    let (_, value) = all_consuming(parser).parse(text).ok()?;
    Some(value)
}

#[inline]
fn digits(text: &[u8]) -> IResult<&[u8], u64> {
    let (rest, digits) = take_while1(|octet: u8| octet.is_ascii_digit()).parse(text)?;
    let number = digits.iter().fold(0_u64, |number, digit| {
        number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    });
    Ok((rest, number))
}

#[cfg(test)]
mod tests {
    use super::{delivery, heart_beat, number};

    #[test]
    fn a_number_is_digits_and_nothing_else() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"007"), Some(7));
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(number(b"18446744073709551616"), Some(u64::MAX));
        for text in ["", " 1", "1 ", "+1", "-1", "1.0", "1e3", "0x1", "١"] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_pair_has_its_separator_once() {
        assert_eq!(heart_beat("0,10000"), Some((0, 10_000)));
        assert_eq!(delivery("3-17"), Some((3, 17)));
        for text in ["", "1", "1,", ",1", "1, 1", "1,1,1", "1-1,1"] {
            assert_eq!(heart_beat(text), None, "{text}");
            assert_eq!(delivery(&text.replace(',', "-")), None, "{text}");
        }
        assert_eq!((heart_beat("1-1"), delivery("1,1")), (None, None));
    }
}
