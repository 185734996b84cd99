//! What a consumer has taken and not settled.

use std::collections::VecDeque;

use super::group::Entry;

/// Entries by ascending id
///
/// They come in that order and mostly go in it, which costs nothing then. One that goes from the middle leaves its
/// place empty until that comes to the front, or too many are.
#[derive(Debug, Default)]
pub(super) struct Unacked {
    places: VecDeque<(u64, Option<Entry>)>,
    len: usize,
}

/// So many empty places are not too many.
const SPARE: usize = 64;

impl Unacked {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        self.len += 1;
        let id = entry.id;
        if self.places.back().is_none_or(|(last, _)| *last < id) {
            self.places.push_back((id, Some(entry)));
            return;
        }
        // It was taken before, and put back.
        match self.find(id) {
            Ok(index) => {
                if let Some((_, place)) = self.places.get_mut(index) {
                    *place = Some(entry);
                }
            }
            Err(index) => self.places.insert(index, (id, Some(entry))),
        }
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Entry> {
        let index = match self.places.front() {
            Some((first, _)) if *first == id => 0,
            _ => self.find(id).ok()?,
        };
        let (_, place) = self.places.get_mut(index)?;
        let entry = place.take()?;
        self.len -= 1;
        while let Some((_, None)) = self.places.front() {
            self.places.pop_front();
        }
        if self.len == 0 && self.places.capacity() > SPARE {
            // A consumer that has nothing to do holds little.
            self.places = VecDeque::new();
        } else if self.places.len() > 2 * self.len + SPARE {
            self.places.retain(|(_, place)| place.is_some());
        }
        Some(entry)
    }

    /// In order of their ids
    pub(super) fn into_entries(self) -> impl DoubleEndedIterator<Item = Entry> {
        self.places.into_iter().filter_map(|(_, place)| place)
    }

    fn find(&self, id: u64) -> Result<usize, usize> {
        self.places.binary_search_by_key(&id, |(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::local::Stored;
    use crate::{Derived, Message, Target};

    fn entry(id: u64) -> Entry {
        let stored = Arc::new(Stored {
            message: Message::new("x"),
            redelivered: false,
            derived: Derived::new(),
            _charge: None,
        });
        let target = Target::queue("q");
        Entry { id, stored, target, deliveries: 1, written: 1, dead_letter: None }
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_would(steps in prop::collection::vec((any::<bool>(), 0..200_u64), 0..600)) {
            let (mut unacked, mut map) = (Unacked::default(), BTreeMap::new());
            for (insert, id) in steps {
                // A consumer has an entry once.
                if insert && !map.contains_key(&id) {
                    unacked.insert(entry(id));
                    map.insert(id, ());
                } else {
                    let removed = unacked.remove(id).map(|entry| entry.id);
                    prop_assert_eq!(removed, map.remove(&id).map(|()| id));
                }
                prop_assert_eq!(unacked.len(), map.len());
                prop_assert!(unacked.places.len() <= 2 * map.len() + SPARE + 1);
            }
            let left: Vec<_> = unacked.into_entries().map(|entry| entry.id).collect();
            prop_assert_eq!(left, map.into_keys().collect::<Vec<_>>());
        }
    }
}
