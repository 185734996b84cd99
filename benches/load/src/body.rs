//! What a message says of itself, so that each is known again.
//!
//! `L`, the flow in 3 digits, its number in 6, the time in 6, then a filler that depends on the number. The
//! digits are of base 64 and a body is text, so that it passes as a text message.

/// The shortest body, in octets
pub(crate) const MIN_BODY: usize = 16;
/// Where the digits begin
pub(crate) const DIGITS: std::ops::Range<usize> = 1..16;
/// The filler of a message begins at one of so many places of the pattern
const PHASES: u64 = 16;
/// Octets from one place to the next: a multiple of the masking key's size
const STEP: usize = 4;

const ALPHABET: &[u8; 64] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";

const VALUES: [u8; 256] = {
    let mut values = [255; 256];
    let mut i = 0;
    while i < 64 {
        values[ALPHABET[i] as usize] = i as u8;
        i += 1;
    }
    values
};

/// What the digits of a body say
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) flow: u32,
    pub(crate) seq: u64,
    /// Microseconds since the run began
    pub(crate) micros: u64,
}

impl Stamp {
    /// The octets at [`DIGITS`].
    pub(crate) fn digits(self) -> [u8; 15] {
        let mut out = [0; 15];
        let (flow, rest) = out.split_at_mut(3);
        let (seq, micros) = rest.split_at_mut(6);
        put(flow, u64::from(self.flow));
        put(seq, self.seq);
        put(micros, self.micros);
        out
    }

    fn read(digits: &[u8; 15]) -> Option<Self> {
        let (flow, rest) = digits.split_at(3);
        let (seq, micros) = rest.split_at(6);
        Some(Self { flow: number(flow)? as u32, seq: number(seq)?, micros: number(micros)? })
    }
}

/// Writes the low digits of a number.
pub(crate) fn put(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET.get((number & 63) as usize).copied().unwrap_or_default();
        number >>= 6;
    }
}

/// Reads what [`put`] wrote.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    let mut number = 0;
    let mut seen = 0;
    for digit in digits {
        let value = VALUES.get(usize::from(*digit)).copied().unwrap_or(255);
        seen |= value;
        number = number << 6 | u64::from(value);
    }
    (seen < 64).then_some(number)
}

/// The octets that fillers are cut from
#[derive(Debug)]
pub(crate) struct Pattern {
    octets: Vec<u8>,
    filler: usize,
}

impl Pattern {
    /// For bodies of `size` octets.
    pub(crate) fn new(size: usize) -> Self {
        let filler = size.saturating_sub(MIN_BODY);
        let mut state = 0x9e37_79b9_u32;
        let octets = (0..filler + STEP * PHASES as usize)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                b' ' + (state >> 24) as u8 % 90
            })
            .collect();
        Self { octets, filler }
    }

    /// Where the filler of a message is in [`octets`](Self::octets).
    pub(crate) fn range(&self, seq: u64) -> std::ops::Range<usize> {
        let start = (seq % PHASES) as usize * STEP;
        start..start + self.filler
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// What the body says, if it is whole.
    pub(crate) fn check(&self, body: &[u8]) -> Option<Stamp> {
        let (head, filler) = body.split_first_chunk::<MIN_BODY>()?;
        let [b'L', digits @ ..] = head else { return None };
        let stamp = Stamp::read(digits)?;
        (self.octets.get(self.range(stamp.seq)) == Some(filler)).then_some(stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(pattern: &Pattern, stamp: Stamp) -> Vec<u8> {
        let mut body = vec![b'L'];
        body.extend(stamp.digits());
        body.extend(&pattern.octets()[pattern.range(stamp.seq)]);
        body
    }

    #[test]
    fn a_body_is_known_again_and_any_changed_octet_is_seen() {
        let pattern = Pattern::new(64);
        for seq in [0, 1, 17, 1 << 35] {
            let stamp = Stamp { flow: 200_000, seq, micros: 3_600_000_001 };
            let whole = body(&pattern, stamp);
            assert_eq!((whole.len(), pattern.check(&whole)), (64, Some(stamp)));
            for at in 0..whole.len() {
                let mut changed = whole.clone();
                changed[at] ^= 1;
                assert_ne!(pattern.check(&changed), Some(stamp), "octet {at}");
            }
            assert_eq!(pattern.check(&whole[..63]), None);
        }
    }

    #[test]
    fn the_shortest_body_has_no_filler() {
        let pattern = Pattern::new(MIN_BODY);
        let stamp = Stamp { flow: 1, seq: 2, micros: 3 };
        assert_eq!(pattern.check(&body(&pattern, stamp)), Some(stamp));
    }
}
