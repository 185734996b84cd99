//! Searches that are made for heads of frames: short, and many of them

use memchr::memchr;

/// How many words are looked at before memchr takes over, whose price is in starting it.
const WORDS: usize = 6;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = ONES << 7;

/// Where the first `needle` is, which is expected to be near
#[inline]
pub(super) fn find(needle: u8, octets: &[u8]) -> Option<usize> {
    let pattern = ONES * u64::from(needle);
    let mut rest = octets;
    for word in 0..WORDS {
        let Some((chunk, after)) = rest.split_first_chunk::<8>() else { break };
        // The lowest octet that is zero sets its high bit; those above it may be wrong.
        let same = u64::from_le_bytes(*chunk) ^ pattern;
        let zeros = same.wrapping_sub(ONES) & !same & HIGHS;
        if zeros != 0 {
            return Some(word * 8 + zeros.trailing_zeros() as usize / 8);
        }
        rest = after;
    }
    memchr(needle, rest).map(|at| octets.len() - rest.len() + at)
}

/// Whether octets are ASCII text without backslash, NUL and CR
///
/// Looks at many at a time, the last of them twice: the loops are compiled to vector instructions.
pub(super) fn is_usual(octets: &[u8]) -> bool {
    const WIDTH: usize = 32;
    let Some(last) = octets.last_chunk::<WIDTH>() else {
        return octets.iter().fold(0, |found, octet| found | unusual(*octet)) == 0;
    };
    let mut found = last.map(unusual);
    for chunk in octets.chunks_exact(WIDTH) {
        for (found, octet) in found.iter_mut().zip(chunk) {
            *found |= unusual(*octet);
        }
    }
    found.iter().fold(0, |all, found| all | found) == 0
}

#[inline]
fn unusual(octet: u8) -> u8 {
    let is_special = (octet == b'\\') | (octet == 0) | (octet == b'\r');
    (octet & 0x80) | u8::from(is_special)
}

#[cfg(test)]
mod tests {
    use super::{find, is_usual};

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
            assert!(is_usual(&octets));
            for at in 0..length {
                for octet in [0, b'\r', b'\\', 0x80, 0xFF] {
                    octets[at] = octet;
                    assert!(!is_usual(&octets), "{length} {at}");
                }
                octets[at] = 0x7F;
            }
        }
    }
}
