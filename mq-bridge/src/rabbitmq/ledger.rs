//! What was settled on a channel, so that one frame can acknowledge many deliveries.

use std::collections::BTreeMap;

/// The tags that were settled on a channel
///
/// Tags count up from 1. Acknowledging several at once settles everything up to a tag, whichever
/// consumer has it: that is right only where nothing below is open.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Everything up to this tag is settled.
    settled: u64,
    /// Ranges above, by their first tag: as many as there are gaps between, which are open.
    ranges: BTreeMap<u64, u64>,
}

/// One frame to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) tag: u64,
    /// Whether it settles all below as well.
    pub(super) multiple: bool,
}

impl Ledger {
    /// Takes in that these tags are settled, each for the first time, and gives the frames that
    /// settle them.
    pub(super) fn settle(&mut self, tags: &mut Vec<u64>) -> Vec<Frame> {
        tags.sort_unstable();
        for tag in &*tags {
            self.insert(*tag);
        }
        if let Some(end) = self.ranges.remove(&(self.settled + 1)) {
            self.settled = end;
        }
        let together = tags.partition_point(|tag| *tag <= self.settled);
        let (together, single) = tags.split_at(together);
        let first = together.last().map(|tag| Frame { tag: *tag, multiple: together.len() > 1 });
        let single = single.iter().map(|tag| Frame { tag: *tag, multiple: false });
        first.into_iter().chain(single).collect()
    }

    fn insert(&mut self, tag: u64) {
        let last = self.ranges.remove(&(tag + 1)).unwrap_or(tag);
        match self.ranges.range_mut(..tag).next_back() {
            Some((_, end)) if *end + 1 == tag => *end = last,
            _ => {
                self.ranges.insert(tag, last);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn frames(ledger: &mut Ledger, tags: &[u64]) -> Vec<(u64, bool)> {
        let frames = ledger.settle(&mut tags.to_vec());
        frames.into_iter().map(|frame| (frame.tag, frame.multiple)).collect()
    }

    #[test]
    fn what_is_settled_without_a_gap_takes_one_frame() {
        let mut ledger = Ledger::default();
        assert_eq!(frames(&mut ledger, &[2, 1, 3]), [(3, true)]);
        assert_eq!(frames(&mut ledger, &[5, 6]), [(5, false), (6, false)]);
        assert_eq!(frames(&mut ledger, &[4]), [(4, false)]);
        assert_eq!(frames(&mut ledger, &[7, 8, 10]), [(8, true), (10, false)]);
    }

    proptest! {
        /// Against a broker that takes every frame at its word.
        #[test]
        fn exactly_what_was_named_is_settled(
            order in Just((1..=40_u64).collect::<Vec<_>>()).prop_shuffle(),
            sizes in prop::collection::vec(1..8_usize, 1..20),
        ) {
            let mut ledger = Ledger::default();
            let mut open: BTreeSet<u64> = (1..=40).collect();
            let mut expected = open.clone();
            let mut rest = &order[..];
            for size in sizes {
                let (now, later) = rest.split_at(size.min(rest.len()));
                rest = later;
                for frame in ledger.settle(&mut now.to_vec()) {
                    prop_assert!(open.contains(&frame.tag), "{frame:?} is not open");
                    if frame.multiple {
                        open.retain(|tag| *tag > frame.tag);
                    } else {
                        open.remove(&frame.tag);
                    }
                }
                now.iter().for_each(|tag| { expected.remove(tag); });
                prop_assert_eq!(&open, &expected);
                prop_assert!(ledger.ranges.len() <= open.len() + 1);
            }
        }
    }
}
