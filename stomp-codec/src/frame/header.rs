use std::ops::Range;

/// Header lines kept without an allocation; known peers rarely send more
const INLINE: usize = 24;

/// The longest head that [`Lines`] can point into
pub(crate) const MAX_HEAD: usize = u32::MAX as usize;

/// Where the colon and the LF of one header line stand in its head
#[derive(Clone, Copy, Debug)]
struct Line<N> {
    colon: N,
    end: N,
}

/// The header lines of a head, each of which begins where the one before ends
///
/// Few lines of a head that is not large are kept inline, in little room, as frames are moved a lot; all others on the
/// heap.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    start: u32,
    len: u32,
    inline: [Line<u16>; INLINE],
    /// All of them, or none.
    spilled: Vec<Line<u32>>,
}

impl Lines {
    pub(crate) const fn new() -> Self {
        Self { start: 0, len: 0, inline: [Line { colon: 0, end: 0 }; INLINE], spilled: Vec::new() }
    }

    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len as usize
    }

    /// Forgets all lines; the first one will be at `start`
    #[inline]
    pub(crate) fn begin(&mut self, start: usize) {
        self.start = start as u32;
        self.len = 0;
        self.spilled.clear();
    }

    /// Adds the line that ends with an LF at `end`, which [`MAX_HEAD`] bounds
    #[inline]
    pub(crate) fn push(&mut self, colon: usize, end: usize) {
        match self.inline.get_mut(self.len as usize) {
            Some(slot) if end <= usize::from(u16::MAX) => {
                *slot = Line { colon: colon as u16, end: end as u16 };
            }
            _ => self.spill(Line { colon: colon as u32, end: end as u32 }),
        }
        self.len += 1;
    }

    #[cold]
    fn spill(&mut self, line: Line<u32>) {
        if self.spilled.is_empty() {
            self.spilled.reserve_exact(4 * INLINE);
            let inline = self.inline.iter().take(self.len as usize);
            self.spilled
                .extend(inline.map(|line| Line { colon: line.colon.into(), end: line.end.into() }));
        }
        self.spilled.push(line);
    }

    /// The lines, leaving none behind
    #[inline]
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new())
    }

    /// Where name and value of each line are, in order
    #[inline]
    pub(crate) fn iter(
        &self,
    ) -> impl ExactSizeIterator<Item = (Range<usize>, Range<usize>)> + Clone + '_ {
        let mut start = self.start as usize;
        (0..self.len()).map(move |index| {
            let (colon, end) = match (self.spilled.get(index), self.inline.get(index)) {
                (Some(line), _) => (line.colon as usize, line.end as usize),
                (None, Some(line)) => (usize::from(line.colon), usize::from(line.end)),
                (None, None) => (start, start),
            };
            let name = start..colon;
            start = end + 1;
            (name, colon + 1..end)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{INLINE, Lines};

    #[test]
    fn lines_are_kept_in_order_wherever_they_are_kept() {
        let mut lines = Lines::new();
        for count in [0, 1, INLINE - 1, INLINE, INLINE + 1, 3 * INLINE, 2] {
            lines.begin(5);
            (0..count).for_each(|line| lines.push(10 * line + 7, 10 * line + 14));
            assert_eq!(lines.len(), count);
            let expected = (0..count)
                .map(|line| (10 * line + 5..10 * line + 7, 10 * line + 8..10 * line + 14));
            assert!(lines.iter().eq(expected.clone()));
            assert!(lines.take().iter().eq(expected));
            assert_eq!(lines.len(), 0);
        }
    }

    #[test]
    fn lines_of_a_large_head_are_kept() {
        let ends = [20, 65_535, 65_536, 65_600, 200_000];
        let mut lines = Lines::new();
        lines.begin(3);
        ends.iter().for_each(|end| lines.push(end - 10, *end));
        let starts = [3].into_iter().chain(ends.map(|end| end + 1));
        let expected = starts.zip(ends).map(|(start, end)| (start..end - 10, end - 9..end));
        assert!(lines.take().iter().eq(expected));
    }
}
