//! A message as an entry of a stream.
//!
//! Ours have the fields `mq` (attributes and origin), one for every header, and at last `body`.
//! What another program adds needs only a field `body`, or not even that: all others are headers.

use crate::remote::Incoming;
use crate::{Headers, Message, Source, Target};
use ::redis::{Cmd, Value};

use super::attributes::Attributes;
use super::value::{items, list, octets, text};

const ATTRIBUTES: &str = "mq";
const BODY: &str = "body";
const BLOCK: &str = "headers";

/// Names an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EntryId {
    /// As Redis writes it.
    pub(super) id: Vec<u8>,
    /// The number of the body that it shares with others; empty if it has one of its own.
    pub(super) shared: Vec<u8>,
}

/// `q:NAME` or `t:NAME`
pub(super) fn target_key(target: &Target) -> String {
    match target {
        Target::Queue(name) => format!("q:{name}"),
        Target::Topic(name) => format!("t:{name}"),
    }
}

/// `q:NAME` or `d:NAME`
pub(super) fn source_key(source: &Source) -> String {
    match source {
        Source::Queue(name) => format!("q:{name}"),
        Source::Durable(name) | Source::Topic(name) => format!("d:{name}"),
    }
}

fn target(key: &str) -> Option<Target> {
    match key.split_at_checked(2)? {
        ("q:", name) => Some(Target::queue(name)),
        ("t:", name) => Some(Target::topic(name)),
        _ => None,
    }
}

/// Adds count and fields of an entry, the body last, to a call.
pub(super) fn write(message: &Message, block: bool, call: &mut Cmd) {
    let Message { headers, body, .. } = message;
    if block {
        call.arg(4).arg(BLOCK).arg(&headers.as_bytes()[..]);
    } else {
        call.arg(2 * headers.len() + 2);
        for (name, value) in headers {
            call.arg(name).arg(value);
        }
    }
    call.arg(BODY).arg(&body[..]);
}

/// Reads an entry of `source`: of another program it may be of any form.
pub(super) fn read(entry: Value, source: &Source, deliveries: u32) -> Incoming<EntryId> {
    let [id, fields, shared] = items(entry);
    let fields = list(fields);
    let ours = match &fields[..] {
        [Value::BulkString(name), Value::BulkString(value), .., Value::BulkString(last), _]
            if name == ATTRIBUTES.as_bytes() && last == BODY.as_bytes() =>
        {
            std::str::from_utf8(value).ok().and_then(|text| {
                let (attributes, origin) = Attributes::decode(text)?;
                Some((attributes, target(origin)?))
            })
        }
        _ => None,
    };
    let (attributes, target, message) = match ours {
        Some((attributes, target)) => (attributes, target, read_ours(fields, attributes.block)),
        None => {
            let target = match source {
                Source::Queue(name) => Target::queue(&**name),
                Source::Durable(name) | Source::Topic(name) => Target::topic(&**name),
            };
            (Attributes::default(), target, read_foreign(fields))
        }
    };
    Incoming {
        handle: EntryId { id: octets(id), shared: octets(shared) },
        message: attributes.apply(message),
        target,
        redelivered: attributes.redelivered || deliveries > 1,
        delivery_count: deliveries,
        dead_letter: attributes.dead_letter,
    }
}

fn read_ours(mut fields: Vec<Value>, block: bool) -> Message {
    let body = fields.pop().map(octets).unwrap_or_default();
    fields.pop();
    let mut fields = fields.into_iter().skip(2);
    if block {
        let block = fields.nth(1).map(octets).unwrap_or_default();
        let headers = Headers::from_bytes(block.into()).unwrap_or_default();
        return Message::new(body).with_headers(headers);
    }
    let mut headers = Headers::builder();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        headers.push(&text(name), octets(value));
    }
    Message::new(body).with_headers(headers.build())
}

fn read_foreign(fields: Vec<Value>) -> Message {
    let mut body = None;
    let mut headers = Headers::builder();
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        let (name, value) = (text(name), octets(value));
        if name == BODY && body.is_none() {
            body = Some(value);
        } else {
            headers.push(&name, value);
        }
    }
    Message::new(body.unwrap_or_default()).with_headers(headers.build())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::attributes::tests::attributes;
    use super::*;

    fn texts(fields: &[&[u8]]) -> Value {
        let fields = fields.iter().map(|field| Value::BulkString(field.to_vec())).collect();
        Value::Array(vec![Value::BulkString(b"1-0".to_vec()), Value::Array(fields)])
    }

    /// What the server gives for a message that was written.
    fn stored(message: &Message, attributes: &Attributes, origin: &str) -> Value {
        let mut call = Cmd::new();
        write(message, attributes.block, &mut call);
        let meta = format!("{} {origin}", attributes.encode()).into_bytes();
        let mut fields = vec![ATTRIBUTES.as_bytes().to_vec(), meta];
        let written = call.args_iter().skip(1).map(|arg| match arg {
            ::redis::Arg::Simple(octets) => octets.to_vec(),
            _ => Vec::new(),
        });
        fields.extend(written);
        texts(&fields.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    #[test]
    fn another_program_may_write_anything() {
        let source = Source::queue("q");
        for (fields, body, headers) in [
            (&["body", "x"][..], "x", 0),
            (&["a", "1", "body", "x", "body", "y"], "x", 2),
            (&["a", "1"], "", 1),
            (&["mq", "nonsense", "body", "x"], "x", 1),
            (&["mq", "- 4 - z:q", "body", "x"], "x", 1),
            (&["odd"], "", 0),
        ] {
            let fields: Vec<_> = fields.iter().map(|field| field.as_bytes()).collect();
            let incoming = read(texts(&fields), &source, 1);
            assert_eq!(incoming.message.body, body);
            assert_eq!(incoming.message.headers.len(), headers);
            assert_eq!(incoming.target, Target::queue("q"));
            assert!(!incoming.redelivered);
        }
        let incoming = read(texts(&[b"\xff", b"1", b"body", b"\xff"]), &source, 1);
        assert_eq!(incoming.message.body, &b"\xff"[..]);
        assert_eq!(incoming.message.headers.get_str("\u{fffd}"), Some("1"));
    }

    proptest! {
        #[test]
        fn an_entry_gives_back_the_message(
            attributes in attributes(),
            pairs in prop::collection::vec((".{0,6}", prop::collection::vec(any::<u8>(), 0..9)), 0..5),
            body in prop::collection::vec(any::<u8>(), 0..20),
            name in "[a-z:. ]{1,9}",
            queue in any::<bool>(),
        ) {
            let message = attributes.apply(Message::new(body).with_headers(pairs.iter().map(|(n, v)| (n, v)).collect()));
            let origin = if queue { Target::queue(name) } else { Target::topic(name) };
            let entry = stored(&message, &attributes, &target_key(&origin));
            let incoming = read(entry, &Source::durable("d"), 2);
            prop_assert_eq!(incoming.message, message);
            prop_assert_eq!(incoming.target, origin);
            prop_assert_eq!(incoming.dead_letter, attributes.dead_letter);
            prop_assert!(incoming.redelivered);
        }
    }
}
