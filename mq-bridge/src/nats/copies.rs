//! One publish to several topics is several messages of NATS: which of them counts where.

use std::collections::{HashMap, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::pattern_matches;

use super::names::{escape, unescape};

/// Up to this many octets every copy carries the names of all topics.
const MAX_LIST: usize = 1024;
/// How many publishes with more topics a subscription remembers.
const REMEMBERED: usize = 1024;

/// What a copy knows of the topics that the same publish went to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Copies {
    /// It is the only one.
    #[default]
    One,
    /// All topics, in order.
    Listed(Vec<String>),
    /// Too many to be listed.
    Many {
        /// Names the publish.
        publish: String,
        /// The place of this copy.
        index: usize,
        /// All topics, and perhaps more.
        among: NameFilter,
    },
}

/// Whether a subscription takes a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Take,
    /// An earlier copy may have been taken on another node.
    TakeMarked,
    /// An earlier copy is taken.
    Leave,
}

impl Copies {
    /// Decides for a subscription to `patterns`, one of which matches `topic`. `seen` is what this
    /// subscription has seen; `place` names the copy, the same when it is delivered again.
    pub(super) fn judge(
        &self,
        topic: &str,
        patterns: &[&str],
        seen: &mut Seen,
        place: u64,
    ) -> Verdict {
        match self {
            Self::One => Verdict::Take,
            Self::Listed(topics) => {
                let first = topics
                    .iter()
                    .find(|one| patterns.iter().any(|pattern| pattern_matches(pattern, one)));
                if first.is_none_or(|first| first == topic) {
                    Verdict::Take
                } else {
                    Verdict::Leave
                }
            }
            Self::Many { publish, index, among } => {
                let alone = patterns.iter().all(|pattern| {
                    *pattern == topic || !(pattern.contains(['*', '#']) || among.has(pattern))
                });
                if alone {
                    Verdict::Take
                } else if seen.first(publish, place) != place {
                    Verdict::Leave
                } else if *index == 0 {
                    Verdict::Take
                } else {
                    Verdict::TakeMarked
                }
            }
        }
    }
}

/// The text that lists topics, unless it gets too long.
pub(super) fn list<'a>(topics: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut list = String::new();
    for topic in topics {
        if !list.is_empty() {
            list.push(',');
        }
        escape(&mut list, topic, |octet| octet.is_ascii_graphic() && !b"%,".contains(&octet));
        if list.len() > MAX_LIST {
            return None;
        }
    }
    Some(list)
}

/// Reads what [`list`] gave.
pub(super) fn read_list(list: &str) -> Option<Vec<String>> {
    list.split(',').map(unescape).collect()
}

/// A Bloom filter of names: says of a name that it is certainly not, or perhaps, one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NameFilter {
    bits: Vec<u8>,
}

impl NameFilter {
    /// How many bits a name gets; with four of them set, one other name in forty is taken for one
    /// of them.
    const BITS: usize = 8;
    const SET: u64 = 4;
    /// The longest filter in octets; with more names than this has room for it errs more.
    const MAX: usize = 1024;

    pub(super) fn new<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> Self {
        let octets = (names.len() * Self::BITS / 8).clamp(8, Self::MAX);
        let mut filter = Self { bits: vec![0; octets] };
        for name in names {
            for bit in filter.places(name) {
                filter.bits[bit / 8] |= 1 << (bit % 8);
            }
        }
        filter
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.places(name).all(|bit| self.bits[bit / 8] & (1 << (bit % 8)) != 0)
    }

    fn places(&self, name: &str) -> impl Iterator<Item = usize> + use<> {
        // FNV-1a: the same on every node and in every version.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
            (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let (start, step) = (hash, hash.rotate_left(32) | 1);
        let bits = self.bits.len() as u64 * 8;
        (0..Self::SET)
            .map(move |turn| (start.wrapping_add(turn.wrapping_mul(step)) % bits) as usize)
    }

    pub(super) fn to_text(&self) -> String {
        STANDARD_NO_PAD.encode(&self.bits)
    }

    pub(super) fn from_text(text: &str) -> Option<Self> {
        let bits = STANDARD_NO_PAD.decode(text).ok()?;
        (!bits.is_empty() && bits.len() <= Self::MAX).then_some(Self { bits })
    }
}

/// The latest publishes to many topics that a subscription has seen, with their first copy here.
#[derive(Debug, Default)]
pub(super) struct Seen {
    places: HashMap<String, u64>,
    order: VecDeque<String>,
}

impl Seen {
    /// The place of the first copy of a publish: this one, if it is the first.
    fn first(&mut self, publish: &str, place: u64) -> u64 {
        if let Some(first) = self.places.get(publish) {
            return *first;
        }
        if self.order.len() == REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.places.remove(&oldest);
        }
        self.order.push_back(publish.to_owned());
        self.places.insert(publish.to_owned(), place);
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("inbox.user{index}")).collect()
    }

    fn many(names: &[String], index: usize) -> Copies {
        let among = NameFilter::new(names.iter().map(String::as_str));
        Copies::Many { publish: "p".to_owned(), index, among }
    }

    #[test]
    fn of_listed_copies_the_first_that_matches_counts() {
        let topics: Vec<String> = ["x", "a.b", "a, %c"].map(str::to_owned).into();
        let listed = list(topics.iter().map(String::as_str)).unwrap();
        assert_eq!(read_list(&listed).unwrap(), topics);
        let copies = Copies::Listed(topics);
        let seen = &mut Seen::default();
        assert_eq!(copies.judge("a.b", &["a.*", "a, %c"], seen, 1), Verdict::Take);
        assert_eq!(copies.judge("a, %c", &["a.*", "a, %c"], seen, 2), Verdict::Leave);
        assert_eq!(copies.judge("a, %c", &["a, %c"], seen, 2), Verdict::Take);
        assert_eq!(list(names(500).iter().map(String::as_str)), None);
    }

    #[test]
    fn of_many_copies_an_inbox_takes_its_own_unmarked() {
        let names = names(500);
        let NameFilter { bits } = NameFilter::new(names.iter().map(String::as_str));
        assert_eq!(bits.len(), 500);
        assert_eq!(
            NameFilter::from_text(&NameFilter { bits: bits.clone() }.to_text()).unwrap().bits,
            bits
        );
        let mut marked = 0;
        for (index, name) in names.iter().enumerate() {
            let other = format!("device.user{index}");
            let copies = many(&names, index);
            match copies.judge(name, &[name, &other], &mut Seen::default(), 1) {
                Verdict::Take => {}
                Verdict::TakeMarked => marked += 1,
                Verdict::Leave => panic!("{name} is lost"),
            }
        }
        assert!(marked < 50, "{marked} of 500 are taken for repeats");
    }

    #[test]
    fn of_many_copies_a_wildcard_takes_the_first_it_sees_and_that_again() {
        let names = names(500);
        let seen = &mut Seen::default();
        let copy = |index| many(&names, index);
        assert_eq!(copy(0).judge(&names[0], &["inbox.*"], seen, 10), Verdict::Take);
        assert_eq!(copy(1).judge(&names[1], &["inbox.*"], seen, 11), Verdict::Leave);
        assert_eq!(copy(0).judge(&names[0], &["inbox.*"], seen, 10), Verdict::Take);
        // Another node has seen nothing of it, and says so.
        let elsewhere = &mut Seen::default();
        assert_eq!(copy(7).judge(&names[7], &["#"], elsewhere, 17), Verdict::TakeMarked);
        assert_eq!(copy(8).judge(&names[8], &["#"], elsewhere, 18), Verdict::Leave);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut seen = Seen::default();
        for place in 0..REMEMBERED as u64 * 2 {
            assert_eq!(seen.first(&place.to_string(), place), place);
        }
        assert_eq!((seen.places.len(), seen.order.len()), (REMEMBERED, REMEMBERED));
    }
}
