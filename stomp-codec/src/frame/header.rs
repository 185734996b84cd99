use std::ops::Range;

/// Header lines kept without an allocation; known peers rarely send more
const INLINE: usize = 16;

/// The longest head that [`Span`] can point into
pub(crate) const MAX_HEAD: usize = u32::MAX as usize;

/// Where one header line stands in its head
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    start: u32,
    colon: u32,
    end: u32,
}

impl Span {
    /// Offsets beyond 4 GiB would need a head limit of as much; they saturate to an empty span.
    pub(crate) fn new(start: usize, colon: usize, end: usize) -> Self {
        let narrow = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { start: narrow(start), colon: narrow(colon), end: narrow(end) }
    }

    /// Offsets into a received head, which [`MAX_HEAD`] bounds
    #[inline]
    pub(crate) const fn within(start: usize, colon: usize, end: usize) -> Self {
        Self { start: start as u32, colon: colon as u32, end: end as u32 }
    }

    pub(crate) const fn name(self) -> Range<usize> {
        self.start as usize..self.colon as usize
    }

    pub(crate) const fn value(self) -> Range<usize> {
        self.colon as usize + 1..self.end as usize
    }
}

/// The header lines of a frame: inline, then on the heap
#[derive(Clone, Debug)]
pub(crate) struct Spans {
    len: usize,
    inline: [Span; INLINE],
    spilled: Vec<Span>,
}

impl Spans {
    pub(crate) const fn new() -> Self {
        Self { len: 0, inline: [Span { start: 0, colon: 0, end: 0 }; INLINE], spilled: Vec::new() }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn push(&mut self, span: Span) {
        if let Some(slot) = self.inline.get_mut(self.len) {
            *slot = span;
        } else {
            if self.len == INLINE {
                self.spilled.reserve_exact(4 * INLINE);
                self.spilled.extend_from_slice(&self.inline);
            }
            self.spilled.push(span);
        }
        self.len += 1;
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
        self.spilled.clear();
    }

    /// The spans, leaving none behind
    #[inline]
    pub(crate) fn take(&mut self) -> Self {
        let taken =
            Self { len: self.len, inline: self.inline, spilled: std::mem::take(&mut self.spilled) };
        self.len = 0;
        taken
    }

    pub(crate) fn as_slice(&self) -> &[Span] {
        self.inline.get(..self.len).unwrap_or(&self.spilled)
    }
}
