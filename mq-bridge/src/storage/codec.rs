//! Changes as octets, for storages that keep those: logs, and stores of keys and values.
//!
//! One octet for the version and one for the kind of change, then its fields in order: numbers in
//! little-endian order, texts and octets behind their length.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::{DeadLetterReason, Declaration, DeclarationKind, Headers, Message, Source, Target};

use super::{Change, Place};

const VERSION: u8 = 1;

/// Octets that are no [`Change`], or one of a later version
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these octets are no change of a message storage")]
#[non_exhaustive]
pub struct MalformedChange;

impl Change {
    /// The change as octets; they do not say where they end.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        self.encode_to(&mut octets);
        octets
    }

    /// Appends the change as octets.
    pub(crate) fn encode_to(&self, octets: &mut Vec<u8>) {
        let mut to = Writer(octets);
        to.u8(VERSION);
        match self {
            Self::Declare(declaration) => {
                to.u8(0);
                to.declaration(declaration);
            }
            Self::Delete(source) => {
                to.u8(1);
                to.source(source);
            }
            Self::Store { message, redelivered, places } => {
                to.u8(2);
                to.message(message);
                to.u8(u8::from(*redelivered));
                to.all(places, Writer::place);
            }
            Self::Remove { source, ids } => {
                to.u8(3);
                to.source(source);
                to.all(ids, |to, id| to.u64(*id));
            }
            Self::Count { source, counts } => {
                to.u8(4);
                to.source(source);
                to.all(counts, |to, (id, count)| {
                    to.u64(*id);
                    to.u32(*count);
                });
            }
        }
    }

    /// Reads what [`encode`](Self::encode) gave.
    ///
    /// # Errors
    ///
    /// [`MalformedChange`] if it did not give that, to the last octet.
    pub fn decode(octets: &[u8]) -> Result<Self, MalformedChange> {
        let mut from = Reader(octets);
        let change = from.change().filter(|_| from.0.is_empty());
        change.ok_or(MalformedChange)
    }
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn octets(&mut self, octets: &[u8]) {
        self.u64(octets.len() as u64);
        self.0.extend_from_slice(octets);
    }

    fn all<T>(&mut self, values: &[T], one: impl Fn(&mut Self, &T)) {
        self.u64(values.len() as u64);
        values.iter().for_each(|value| one(self, value));
    }

    fn source(&mut self, source: &Source) {
        self.u8(match source {
            Source::Queue(_) => 0,
            Source::Durable(_) => 1,
            Source::Topic(_) => 2,
        });
        self.octets(source.name().as_bytes());
    }

    fn target(&mut self, target: &Target) {
        self.u8(u8::from(matches!(target, Target::Topic(_))));
        self.octets(target.name().as_bytes());
    }

    fn declaration(&mut self, declaration: &Declaration) {
        self.source(&declaration.source());
        if let DeclarationKind::Durable { patterns } = &declaration.kind {
            self.all(patterns, |to, pattern| to.octets(pattern.as_bytes()));
        }
        self.u32(declaration.max_deliveries.map_or(0, NonZeroU32::get));
        self.all(declaration.dead_letter.as_slice(), |to, name| to.octets(name.as_bytes()));
    }

    fn message(&mut self, message: &Message) {
        self.octets(message.headers.as_bytes());
        self.octets(&message.body);
        self.u8(u8::from(message.persistent));
        self.u8(message.priority);
        // As precise as clocks are; before 1970 is expired all the same.
        let nanos = message.expires.map(|expires| {
            let since = expires.duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        });
        self.all(nanos.as_slice(), |to, nanos| to.u64(*nanos));
    }

    fn place(&mut self, place: &Place) {
        self.source(&place.source);
        self.u64(place.id);
        self.target(&place.target);
        self.u32(place.deliveries);
        self.u8(match place.dead_letter {
            None => 0,
            Some(DeadLetterReason::Rejected) => 1,
            Some(DeadLetterReason::MaxDeliveries) => 2,
        });
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn u8(&mut self) -> Option<u8> {
        let (value, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*value)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (value, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*value)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn octets(&mut self) -> Option<Bytes> {
        let len = usize::try_from(self.u64()?).ok()?;
        let (octets, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(Bytes::copy_from_slice(octets))
    }

    fn text(&mut self) -> Option<Arc<str>> {
        std::str::from_utf8(&self.octets()?).ok().map(Arc::from)
    }

    fn all<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u64()?;
        // Nothing is reserved: who knows whether the number is true.
        (0..count).map(|_| one(self)).collect()
    }

    fn change(&mut self) -> Option<Change> {
        if self.u8()? != VERSION {
            return None;
        }
        Some(match self.u8()? {
            0 => Change::Declare(self.declaration()?),
            1 => Change::Delete(self.source()?),
            2 => Change::Store {
                message: self.message()?,
                redelivered: self.flag()?,
                places: self.all(Self::place)?,
            },
            3 => Change::Remove { source: self.source()?, ids: self.all(Self::u64)? },
            4 => Change::Count {
                source: self.source()?,
                counts: self.all(|from| Some((from.u64()?, from.u32()?)))?,
            },
            _ => return None,
        })
    }

    fn source(&mut self) -> Option<Source> {
        Some(match self.u8()? {
            0 => Source::Queue(self.text()?),
            1 => Source::Durable(self.text()?),
            2 => Source::Topic(self.text()?),
            _ => return None,
        })
    }

    fn target(&mut self) -> Option<Target> {
        let topic = self.flag()?;
        self.text().map(if topic { Target::Topic } else { Target::Queue })
    }

    fn declaration(&mut self) -> Option<Declaration> {
        let mut declaration = match self.source()? {
            Source::Queue(name) => Declaration::queue(name),
            Source::Durable(name) => Declaration::durable(name, self.all(Self::text)?),
            Source::Topic(_) => return None,
        };
        declaration.max_deliveries = NonZeroU32::new(self.u32()?);
        declaration.dead_letter = self.all(Self::text)?.pop();
        Some(declaration)
    }

    fn message(&mut self) -> Option<Message> {
        let headers = Headers::from_bytes(self.octets()?).ok()?;
        let mut message = Message::new(self.octets()?).with_headers(headers);
        message.persistent = self.flag()?;
        message.priority = self.u8()?;
        let expires = self.all(Self::u64)?.pop();
        message.expires = match expires {
            Some(nanos) => Some(SystemTime::checked_add(&UNIX_EPOCH, Duration::from_nanos(nanos))?),
            None => None,
        };
        Some(message)
    }

    fn place(&mut self) -> Option<Place> {
        Some(Place {
            source: self.source()?,
            id: self.u64()?,
            target: self.target()?,
            deliveries: self.u32()?,
            dead_letter: match self.u8()? {
                0 => None,
                1 => Some(DeadLetterReason::Rejected),
                2 => Some(DeadLetterReason::MaxDeliveries),
                _ => return None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source() -> impl Strategy<Value = Source> {
        let queue = any::<String>().prop_map(Source::queue);
        prop_oneof![queue, any::<String>().prop_map(Source::durable)]
    }

    fn declaration() -> impl Strategy<Value = Declaration> {
        let patterns = prop::collection::vec(any::<String>(), 0..3);
        let limits = (any::<u32>(), prop::option::of(any::<String>()));
        (source(), patterns, limits).prop_map(|(source, patterns, (most, dead))| {
            let declaration = match source {
                Source::Queue(name) => Declaration::queue(name),
                other => Declaration::durable(Arc::clone(other.name()), patterns),
            };
            let declaration = declaration.with_max_deliveries(most);
            dead.into_iter().fold(declaration, Declaration::with_dead_letter)
        })
    }

    fn message() -> impl Strategy<Value = Message> {
        let headers = prop::collection::vec((any::<String>(), any::<Vec<u8>>()), 0..3);
        let marks = (any::<bool>(), 0..10_u8, prop::option::of(any::<u64>()));
        (headers, any::<Vec<u8>>(), marks).prop_map(
            |(headers, body, (persistent, priority, at))| {
                let message = Message::new(body)
                    .with_headers(headers.iter().map(|(name, value)| (name, value)).collect())
                    .with_persistent(persistent)
                    .with_priority(priority);
                let at = at.map(|nanos| UNIX_EPOCH + Duration::from_nanos(nanos));
                at.into_iter().fold(message, Message::with_expires)
            },
        )
    }

    fn place() -> impl Strategy<Value = Place> {
        let reason = prop_oneof![
            Just(None),
            Just(Some(DeadLetterReason::Rejected)),
            Just(Some(DeadLetterReason::MaxDeliveries)),
        ];
        let target = (any::<bool>(), any::<String>()).prop_map(|(topic, name)| match topic {
            true => Target::topic(name),
            false => Target::queue(name),
        });
        let entry = (any::<u64>(), target, any::<u32>(), reason);
        (source(), entry).prop_map(|(source, (id, target, deliveries, dead_letter))| Place {
            source,
            id,
            target,
            deliveries,
            dead_letter,
        })
    }

    fn change() -> impl Strategy<Value = Change> {
        let stored = (message(), any::<bool>(), prop::collection::vec(place(), 0..3));
        let counts = prop::collection::vec(any::<(u64, u32)>(), 0..4);
        let ids = prop::collection::vec(any::<u64>(), 0..4);
        prop_oneof![
            declaration().prop_map(Change::Declare),
            source().prop_map(Change::Delete),
            stored.prop_map(|(message, redelivered, places)| Change::Store {
                message,
                redelivered,
                places,
            }),
            (source(), ids).prop_map(|(source, ids)| Change::Remove { source, ids }),
            (source(), counts).prop_map(|(source, counts)| Change::Count { source, counts }),
        ]
    }

    proptest! {
        #[test]
        fn a_change_is_read_back_and_no_part_of_it_is_one(change in change()) {
            let octets = change.encode();
            prop_assert_eq!(Change::decode(&octets), Ok(change));
            for end in 0..octets.len() {
                prop_assert_eq!(Change::decode(&octets[..end]), Err(MalformedChange));
            }
        }

        #[test]
        fn any_octets_are_read_without_harm(mut octets in any::<Vec<u8>>()) {
            octets.insert(0, VERSION);
            let _ = Change::decode(&octets);
        }
    }
}
