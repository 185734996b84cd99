//! Headers as AMQP has them: some are properties of their own, the others a table.
//!
//! Other programs read and write them there. A table has no order and no name twice, so the order
//! goes along as a header, and what a table cannot hold goes along as the block it is.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::{Headers, HeadersBuilder};

/// All headers in one block, because the table cannot hold them.
pub(super) const BLOCK: &str = "mq-headers";
/// For each header, in order, its place among the properties and then the table.
const ORDER: &str = "mq-order";

/// The headers that are properties in AMQP, in this order.
const PROPERTIES: [&str; 4] = ["content-type", "content-encoding", "correlation-id", "reply-to"];

/// Whether a header in the table is the broker's or this backend's.
fn is_reserved(name: &str) -> bool {
    const BROKERS: [&str; 6] = [
        "x-death",
        "x-first-death",
        "x-last-death",
        "x-delivery-count",
        "x-received-from",
        "x-stream",
    ];
    matches!(name, "CC" | "BCC")
        || name.starts_with("mq-")
        || BROKERS.into_iter().any(|prefix| name.starts_with(prefix))
}

/// Headers on their way out.
#[derive(Debug, Default)]
pub(super) struct Native {
    pub(super) table: FieldTable,
    properties: [Option<ShortString>; PROPERTIES.len()],
}

impl Native {
    /// As properties and a table where that is possible, else as a block in the table.
    pub(super) fn new(headers: &Headers) -> Self {
        Self::split(headers).unwrap_or_else(|| {
            let mut native = Self::default();
            put(
                &mut native.table,
                BLOCK,
                AMQPValue::LongString(headers.as_bytes().to_vec().into()),
            );
            native
        })
    }

    fn split(headers: &Headers) -> Option<Self> {
        let mut native = Self::default();
        let mut places: Vec<Place<'_>> = Vec::new();
        for (name, value) in headers {
            if let Some(index) = PROPERTIES.iter().position(|one| *one == name)
                && let Some(empty @ None) = native.properties.get_mut(index)
                && let Some(text) = std::str::from_utf8(value).ok().and_then(short)
            {
                *empty = Some(text);
                places.push(Place::Property(index));
                continue;
            }
            if name.is_empty() || is_reserved(name) || native.table.contains_key(name) {
                return None;
            }
            native.table.insert(short(name)?, AMQPValue::LongString(value.into()));
            places.push(Place::Table(name));
        }
        let mut sorted = places.clone();
        sorted.sort_unstable();
        if sorted != places {
            let order = places.iter().map(|place| {
                sorted.binary_search(place).ok().and_then(|index| u8::try_from(index).ok())
            });
            let order: Vec<u8> = order.collect::<Option<_>>()?;
            put(&mut native.table, ORDER, AMQPValue::LongString(order.into()));
        }
        Some(native)
    }

    /// Sets the properties; the table is left to the caller.
    pub(super) fn apply(&mut self, mut properties: BasicProperties) -> BasicProperties {
        let [content_type, content_encoding, correlation_id, reply_to] = &mut self.properties;
        if let Some(value) = content_type.take() {
            properties = properties.with_content_type(value);
        }
        if let Some(value) = content_encoding.take() {
            properties = properties.with_content_encoding(value);
        }
        if let Some(value) = correlation_id.take() {
            properties = properties.with_correlation_id(value);
        }
        if let Some(value) = reply_to.take() {
            properties = properties.with_reply_to(value);
        }
        properties
    }

    /// The octets that all of it takes in a frame, at most.
    pub(super) fn size(&self) -> usize {
        let properties = self.properties.iter().flatten().map(|value| value.as_str().len() + 1);
        properties.sum::<usize>() + table_size(&self.table)
    }
}

/// Where a header is; ordered as [`read`] comes across them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place<'a> {
    Property(usize),
    Table(&'a str),
}

/// The headers of a message, whoever published it.
pub(super) fn read(properties: &BasicProperties) -> Headers {
    let table = properties.headers().as_ref();
    if let Some(block) = table.and_then(|table| octets(table, BLOCK))
        && let Ok(headers) = Headers::from_bytes(block.to_vec().into())
    {
        return headers;
    }
    let own = [
        properties.content_type(),
        properties.content_encoding(),
        properties.correlation_id(),
        properties.reply_to(),
    ];
    let mut found: Vec<(&str, Vec<u8>)> = PROPERTIES
        .into_iter()
        .zip(own)
        .filter_map(|(name, value)| Some((name, value.as_ref()?.as_str().into())))
        .collect();
    let pairs = table.into_iter().flatten().filter(|(name, _)| !is_reserved(name.as_str()));
    found.extend(pairs.filter_map(|(name, value)| Some((name.as_str(), text(value)?))));
    // What only other programs set.
    let foreign = [
        ("message-id", properties.message_id()),
        ("type", properties.kind()),
        ("user-id", properties.user_id()),
        ("app-id", properties.app_id()),
    ];
    let foreign = foreign.into_iter();
    found.extend(foreign.filter_map(|(name, value)| Some((name, value.as_ref()?.as_str().into()))));
    if let Some(timestamp) = properties.timestamp() {
        found.push(("timestamp", timestamp.to_string().into()));
    }
    let mut builder = Headers::builder();
    let order = table.and_then(|table| octets(table, ORDER));
    if !order.is_some_and(|order| push_in_order(&mut builder, &found, order)) {
        found.iter().for_each(|(name, value)| builder.push(name, value));
    }
    builder.build()
}

/// `false`, and nothing done, if `order` does not name each of `found` once.
fn push_in_order(builder: &mut HeadersBuilder, found: &[(&str, Vec<u8>)], order: &[u8]) -> bool {
    let mut seen = vec![false; found.len()];
    let complete = order.len() == found.len()
        && order.iter().all(|index| {
            seen.get_mut(usize::from(*index)).is_some_and(|seen| !std::mem::replace(seen, true))
        });
    if complete {
        let in_order = order.iter().filter_map(|index| found.get(usize::from(*index)));
        in_order.for_each(|(name, value)| builder.push(name, value));
    }
    complete
}

/// Puts one of this backend's own headers, whose names are short.
pub(super) fn put(table: &mut FieldTable, name: &'static str, value: AMQPValue) {
    table.insert(name.into(), value);
}

pub(super) fn octets<'a>(table: &'a FieldTable, name: &str) -> Option<&'a [u8]> {
    match table.inner().get(name)? {
        AMQPValue::LongString(value) => Some(value.as_bytes()),
        AMQPValue::ByteArray(value) => Some(value.as_slice()),
        _ => None,
    }
}

pub(super) fn integer(table: &FieldTable, name: &str) -> Option<i64> {
    Some(match *table.inner().get(name)? {
        AMQPValue::ShortShortInt(value) => value.into(),
        AMQPValue::ShortShortUInt(value) => value.into(),
        AMQPValue::ShortInt(value) => value.into(),
        AMQPValue::ShortUInt(value) => value.into(),
        AMQPValue::LongInt(value) => value.into(),
        AMQPValue::LongUInt(value) => value.into(),
        AMQPValue::LongLongInt(value) => value,
        _ => return None,
    })
}

pub(super) fn is_true(table: &FieldTable, name: &str) -> bool {
    matches!(table.inner().get(name), Some(AMQPValue::Boolean(true)))
}

/// A value as octets; arrays and tables have no such form.
fn text(value: &AMQPValue) -> Option<Vec<u8>> {
    Some(match value {
        AMQPValue::LongString(value) => value.as_bytes().to_vec(),
        AMQPValue::ShortString(value) => value.as_str().into(),
        AMQPValue::ByteArray(value) => value.as_slice().to_vec(),
        AMQPValue::Boolean(value) => value.to_string().into(),
        AMQPValue::ShortShortInt(value) => value.to_string().into(),
        AMQPValue::ShortShortUInt(value) => value.to_string().into(),
        AMQPValue::ShortInt(value) => value.to_string().into(),
        AMQPValue::ShortUInt(value) => value.to_string().into(),
        AMQPValue::LongInt(value) => value.to_string().into(),
        AMQPValue::LongUInt(value) => value.to_string().into(),
        AMQPValue::LongLongInt(value) => value.to_string().into(),
        AMQPValue::Timestamp(value) => value.to_string().into(),
        AMQPValue::Float(value) => value.to_string().into(),
        AMQPValue::Double(value) => value.to_string().into(),
        AMQPValue::Void => Vec::new(),
        AMQPValue::DecimalValue(_) | AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) => {
            return None;
        }
    })
}

/// The octets that a table of this backend takes in a frame.
fn table_size(table: &FieldTable) -> usize {
    let entries = table.into_iter().map(|(name, value)| {
        let value = match value {
            AMQPValue::LongString(value) => 4 + value.len(),
            // Numbers and flags.
            _ => 8,
        };
        name.as_str().len() + 2 + value
    });
    entries.sum()
}

fn short(text: &str) -> Option<ShortString> {
    ShortString::try_new(text).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(headers: &Headers) -> (BasicProperties, Headers) {
        let mut native = Native::new(headers);
        let properties = native.apply(BasicProperties::default()).with_headers(native.table);
        let read = read(&properties);
        (properties, read)
    }

    #[test]
    fn what_has_a_native_form_is_native() {
        let headers = Headers::builder()
            .with("x-trace", "7")
            .with("content-type", "text/plain")
            .with("kind", [0, 255])
            .with("reply-to", "q")
            .build();
        let (properties, read) = round_trip(&headers);
        assert_eq!(read, headers);
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "text/plain");
        assert_eq!(properties.reply_to().as_ref().unwrap().as_str(), "q");
        let table = properties.headers().as_ref().unwrap();
        assert_eq!(octets(table, "x-trace"), Some(&b"7"[..]));
        assert_eq!(octets(table, "kind"), Some(&[0, 255][..]));
        assert!(!table.contains_key(BLOCK) && !table.contains_key("content-type"));
    }

    #[test]
    fn what_the_broker_acts_on_is_hidden_from_it() {
        for name in ["CC", "BCC", "x-death", "x-delivery-count", "mq-headers", ""] {
            let headers = Headers::builder().with(name, "x").build();
            let (properties, read) = round_trip(&headers);
            assert_eq!(read, headers);
            let table = properties.headers().as_ref().unwrap();
            assert_eq!(table.inner().len(), 1, "{name}");
            assert!(table.contains_key(BLOCK));
        }
    }

    #[test]
    fn what_other_programs_write_is_read() {
        let mut table = FieldTable::default();
        table.insert("number".into(), AMQPValue::LongInt(-3));
        table.insert("flag".into(), AMQPValue::Boolean(true));
        table.insert("nested".into(), AMQPValue::FieldTable(FieldTable::default()));
        table.insert("mq-order".into(), AMQPValue::LongString("nonsense".into()));
        table.insert("mq-headers".into(), AMQPValue::LongString("nonsense".into()));
        let properties = BasicProperties::default()
            .with_content_type("a/b".into())
            .with_message_id("m".into())
            .with_timestamp(12)
            .with_headers(table);
        let read = read(&properties);
        let seen: Vec<_> =
            read.iter().map(|(name, value)| (name, std::str::from_utf8(value).unwrap())).collect();
        let expected = [
            ("content-type", "a/b"),
            ("flag", "true"),
            ("number", "-3"),
            ("message-id", "m"),
            ("timestamp", "12"),
        ];
        assert_eq!(seen, expected);
    }

    proptest! {
        #[test]
        fn any_headers_come_back_as_they_were(
            pairs in prop::collection::vec(
                (
                    prop_oneof![
                        "[a-c]{1,2}", ".{0,8}", Just("content-type".to_owned()),
                        Just("reply-to".to_owned()), Just("x".repeat(256)), Just("timestamp".to_owned()),
                    ],
                    prop_oneof![
                        prop::collection::vec(any::<u8>(), 0..8),
                        Just(vec![b'x'; 300]),
                    ],
                ),
                0..8,
            )
        ) {
            let headers: Headers = pairs.iter().map(|(name, value)| (name, value)).collect();
            prop_assert_eq!(round_trip(&headers).1, headers);
        }
    }
}
