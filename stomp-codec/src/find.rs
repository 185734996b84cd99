//! Searches that are made for heads of frames: short, and many of them
//!
//! Octets are looked at many at a time, in plain integers and in loops that are compiled to vector instructions.

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

/// Whether `octets` hold neither control characters nor colons nor backslashes
#[inline]
pub(crate) fn is_plain(octets: &[u8]) -> bool {
    // High bits of octets below `bound`. Those above the lowest one may be wrong, not whether there is one.
    let below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word;
    let special = |word: u64| {
        let is = |octet: u8| below(word ^ (ONES * u64::from(octet)), 1);
        below(word, 0x20) | is(b':') | is(b'\\')
    };
    let Some(last) = octets.last_chunk() else {
        let (Some(first), Some(last)) = (octets.first_chunk(), octets.last_chunk()) else {
            return octets.iter().all(|octet| !matches!(octet, 0..0x20 | b':' | b'\\'));
        };
        let halves = u64::from(u32::from_le_bytes(*first)) << 32;
        return special(halves | u64::from(u32::from_le_bytes(*last))) & HIGHS == 0;
    };
    let mut rest = octets;
    let mut found = special(u64::from_le_bytes(*last));
    while let Some((word, after)) = rest.split_first_chunk() {
        found |= special(u64::from_le_bytes(*word));
        rest = after;
    }
    found & HIGHS == 0
}

/// Octets that are marked together
const BLOCK: usize = 4 * WORD;

/// Octets whose marks are in one word
pub(crate) const WORD: usize = 8;

const LF: u8 = 1;
const COLON: u8 = 2;
const UNUSUAL: u8 = 4;

/// What an octet of a head is to the scanner: LF, a colon, or unusual: another control character, a backslash,
/// not ASCII
#[inline]
const fn mark(octet: u8) -> u8 {
    const fn all(is: bool) -> u8 {
        if is { 0xFF } else { 0 }
    }
    let line_feed = all(octet == b'\n');
    // As signed numbers those that are not ASCII are below zero.
    let low = all((octet as i8) < 0x20);
    let unusual = (low ^ line_feed) | all(octet == b'\\');
    (line_feed & LF) | (all(octet == b':') & COLON) | (unusual & UNUSUAL)
}

/// The marks of eight octets, each in its place
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marks(u64);

/// The marks of the octets at `at`; those behind the end have none
#[inline]
pub(crate) fn marks(octets: &[u8], at: usize) -> [Marks; BLOCK / WORD] {
    let rest = octets.get(at..).unwrap_or_default();
    match rest.first_chunk() {
        Some(block) => mark_block(block),
        None => mark_last(rest),
    }
}

/// On its own, so that the loop is compiled to vector instructions whatever the caller does with the marks.
#[inline(never)]
fn mark_block(block: &[u8; BLOCK]) -> [Marks; BLOCK / WORD] {
    let mut marks = [0; BLOCK];
    marks.iter_mut().zip(block).for_each(|(to, from)| *to = mark(*from));
    let mut words = [Marks(0); BLOCK / WORD];
    for (to, from) in words.iter_mut().zip(marks.chunks_exact(WORD)) {
        *to = Marks(from.first_chunk().map_or(0, |octets| u64::from_le_bytes(*octets)));
    }
    words
}

#[cold]
fn mark_last(rest: &[u8]) -> [Marks; BLOCK / WORD] {
    let mut block = [b' '; BLOCK];
    block.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    mark_block(&block)
}

impl Marks {
    /// The places of line feeds and colons in order, and whether it is a colon
    #[inline]
    pub(crate) fn separators(self) -> impl Iterator<Item = (usize, bool)> {
        self.only(LF | COLON)
            .bits()
            .map(|bit| (bit / 8, bit % 8 == COLON.trailing_zeros() as usize))
    }

    /// Whether there is an unusual octet
    #[inline]
    pub(crate) const fn are_unusual(self) -> bool {
        self.only(UNUSUAL).0 != 0
    }

    /// The places of unusual octets in order
    #[inline]
    pub(crate) fn unusual(self) -> impl Iterator<Item = usize> {
        self.only(UNUSUAL).bits().map(|bit| bit / 8)
    }

    /// The marks of the first `octets` octets, fewer than eight
    #[inline]
    pub(crate) const fn before(self, octets: usize) -> Self {
        Self(self.0 & !(u64::MAX << (8 * octets)))
    }

    #[inline]
    const fn only(self, mark: u8) -> Self {
        Self(self.0 & u64::from_le_bytes([mark; WORD]))
    }

    #[inline]
    fn bits(mut self) -> impl Iterator<Item = usize> {
        std::iter::from_fn(move || {
            let bit = (self.0 != 0).then(|| self.0.trailing_zeros() as usize)?;
            self.0 &= self.0 - 1;
            Some(bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, WORD, find, is_plain, marks};

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
    fn one_special_octet_is_enough_anywhere() {
        for octet in 0..=u8::MAX {
            let expected = !matches!(octet, 0..0x20 | b':' | b'\\');
            for length in 1..30 {
                for other in [b'x', 0xFF] {
                    let mut octets = vec![other; length];
                    assert!(is_plain(&octets));
                    for at in 0..length {
                        octets[at] = octet;
                        assert_eq!(is_plain(&octets), expected, "{octet} {length} {at}");
                        octets[at] = other;
                    }
                }
            }
        }
        assert!(is_plain(b""));
    }

    /// Separators and unusual octets of a block, as found
    fn found(octets: &[u8], at: usize) -> (Vec<(usize, bool)>, Vec<usize>) {
        let (mut separators, mut unusual) = (Vec::new(), Vec::new());
        for (index, marks) in marks(octets, at).into_iter().enumerate() {
            let base = at + index * WORD;
            separators.extend(marks.separators().map(|(place, colon)| (base + place, colon)));
            unusual.extend(marks.unusual().map(|place| base + place));
            assert_eq!(marks.are_unusual(), marks.unusual().next().is_some());
        }
        (separators, unusual)
    }

    /// The same, octet by octet
    fn expected(octets: &[u8], at: usize) -> (Vec<(usize, bool)>, Vec<usize>) {
        let block = || octets.iter().copied().enumerate().skip(at).take(BLOCK);
        let separators = block()
            .filter(|(_, octet)| matches!(octet, b'\n' | b':'))
            .map(|(place, octet)| (place, octet == b':'));
        let unusual = block()
            .filter(|(_, octet)| *octet != b'\n' && matches!(octet, 0..0x20 | b'\\' | 0x80..));
        (separators.collect(), unusual.map(|(place, _)| place).collect())
    }

    #[test]
    fn every_octet_is_marked_at_every_place() {
        for octet in 0..=u8::MAX {
            for length in 1..2 * BLOCK {
                let mut octets = vec![b'x'; length];
                octets[length - 1] = octet;
                for at in [0, length - 1, length] {
                    assert_eq!(found(&octets, at), expected(&octets, at), "{octet} {length}");
                }
            }
        }
    }

    #[test]
    fn neighbours_do_not_disturb_each_other() {
        let octets = b"\n:\0\r\\\xFF:\n ::\n\nab:\n:cd\0\n\x80\x7F\t[;9\x0B\\\\\n\n:::\r\n";
        for at in 0..=octets.len() {
            assert_eq!(found(octets, at), expected(octets, at), "{at}");
        }
    }

    #[test]
    fn marks_before_a_place_are_those_before_it() {
        for [marks, ..] in [marks(b"\n:\n:\n:\n:", 0), marks(b"\r\r\r\r\r\r\r\r", 0)] {
            for place in 0..WORD {
                let before = marks.before(place);
                assert_eq!(before.separators().count() + before.unusual().count(), place);
            }
        }
    }
}
