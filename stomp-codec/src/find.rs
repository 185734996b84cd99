//! Searches that are made for heads of frames: short, and many of them

use memchr::memchr;

/// How many octets are looked at before memchr takes over, whose price is in starting it.
const NEAR: usize = 48;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = ONES << 7;

/// Where the first `needle` is, which is expected to be near
#[inline]
pub(crate) fn find(needle: u8, octets: &[u8]) -> Option<usize> {
    let pattern = ONES * u64::from(needle);
    let near = octets.get(..NEAR).unwrap_or(octets);
    let mut rest = near;
    while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
        // The lowest octet that is zero sets its high bit; those above it may be wrong.
        let same = u64::from_le_bytes(*chunk) ^ pattern;
        let zeros = same.wrapping_sub(ONES) & !same & HIGHS;
        if zeros != 0 {
            return Some(near.len() - rest.len() + zeros.trailing_zeros() as usize / 8);
        }
        rest = after;
    }
    let before = near.len() - rest.len();
    memchr(needle, octets.get(before..).unwrap_or_default()).map(|at| before + at)
}

/// [`survey`] saw an octet that is not ASCII
pub(crate) const NOT_ASCII: u8 = 0x80;
/// [`survey`] saw a NUL
pub(crate) const NUL: u8 = 1;
/// [`survey`] saw a CR
pub(crate) const CR: u8 = 2;
/// [`survey`] saw a backslash
pub(crate) const BACKSLASH: u8 = 4;

/// What of the above octets hold
///
/// Looks at many at a time, the last of them twice: the loops are compiled to vector instructions.
pub(crate) fn survey(octets: &[u8]) -> u8 {
    const WIDTH: usize = 32;
    let Some(last) = octets.last_chunk::<WIDTH>() else {
        return octets.iter().fold(0, |found, octet| found | class(*octet));
    };
    let mut found = last.map(class);
    for chunk in octets.chunks_exact(WIDTH) {
        for (found, octet) in found.iter_mut().zip(chunk) {
            *found |= class(*octet);
        }
    }
    found.iter().fold(0, |all, found| all | found)
}

#[inline]
fn class(octet: u8) -> u8 {
    (octet & NOT_ASCII)
        | (u8::from(octet == 0) * NUL)
        | (u8::from(octet == b'\r') * CR)
        | (u8::from(octet == b'\\') * BACKSLASH)
}

#[cfg(test)]
mod tests {
    use super::{BACKSLASH, CR, NOT_ASCII, NUL, find, survey};

    #[test]
    fn the_first_is_found_wherever_it_is() {
        for length in 0..100 {
            let mut octets = vec![b'x'; length];
            assert_eq!(find(b':', &octets), None);
            for at in (0..length).rev() {
                octets[at] = b':';
                assert_eq!(find(b':', &octets), Some(at), "{length} {at}");
                // Octets that differ in one bit are no matches, before it or behind.
                let mut near = vec![b';'; length];
                near[at] = b':';
                assert_eq!(find(b':', &near), Some(at));
            }
        }
    }

    #[test]
    fn one_unusual_octet_is_enough_anywhere() {
        for length in 0..100 {
            let mut octets = vec![b'\n'; length];
            assert_eq!(survey(&octets), 0);
            for at in 0..length {
                for (octet, class) in [
                    (0, NUL),
                    (b'\r', CR),
                    (b'\\', BACKSLASH),
                    (0x80, NOT_ASCII),
                    (0xFF, NOT_ASCII),
                ] {
                    octets[at] = octet;
                    assert_eq!(survey(&octets), class, "{length} {at}");
                }
                octets[at] = 0x7F;
            }
        }
    }
}
