//! A message to a topic, as the payload of a channel.
//!
//! A plain one is its body and nothing else, so that other programs can read and write it. Any
//! other begins with `NUL mq SP`, attributes, the publish's name or `-`, the length of the headers
//! in octets and a line feed; headers and body follow.

use bytes::Bytes;

use crate::{Headers, Message};

use super::attributes::Attributes;

const MAGIC: &str = "\0mq ";

/// What comes before the body; `name` is the same for all copies of a publish to several topics.
pub(super) fn head(message: &Message, attributes: &Attributes, name: Option<&str>) -> Vec<u8> {
    let headers = message.headers.as_bytes();
    let plain = name.is_none()
        && headers.is_empty()
        && *attributes == Attributes::default()
        && !message.body.starts_with(MAGIC.as_bytes());
    if plain {
        return Vec::new();
    }
    let (attributes, name) = (attributes.encode(), name.unwrap_or("-"));
    let mut head = format!("{MAGIC}{attributes} {name} {}\n", headers.len()).into_bytes();
    head.extend_from_slice(headers);
    head
}

/// A message that came on a channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) message: Message,
    pub(super) redelivered: bool,
    /// Of a publish to several topics.
    pub(super) name: Option<String>,
}

/// Reads a payload; one that is not ours is a body.
pub(super) fn read(payload: Bytes) -> Arrival {
    ours(&payload).unwrap_or_else(|| Arrival {
        message: Message::new(payload),
        redelivered: false,
        name: None,
    })
}

fn ours(payload: &Bytes) -> Option<Arrival> {
    let rest = payload.strip_prefix(MAGIC.as_bytes())?;
    let end = rest.iter().position(|octet| *octet == b'\n')?;
    let (line, rest) = rest.split_at_checked(end)?;
    let (attributes, rest_of_line) = Attributes::decode(std::str::from_utf8(line).ok()?)?;
    let (name, length) = rest_of_line.split_once(' ')?;
    let (headers, body) = rest.get(1..)?.split_at_checked(length.parse().ok()?)?;
    let headers = Headers::from_bytes(payload.slice_ref(headers)).ok()?;
    let message = Message::new(payload.slice_ref(body)).with_headers(headers);
    Some(Arrival {
        message: attributes.apply(message),
        redelivered: attributes.redelivered,
        name: (name != "-").then(|| name.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::attributes::tests::attributes;
    use super::*;

    proptest! {
        #[test]
        fn a_payload_gives_back_the_message(
            attributes in attributes(),
            plain in any::<bool>(),
            pairs in prop::collection::vec((".{0,6}", prop::collection::vec(any::<u8>(), 0..9)), 0..3),
            body in prop::collection::vec(any::<u8>(), 0..20),
            name in prop::option::of("[a-f0-9]{1,5}\\.[0-9]"),
            ours in any::<bool>(),
        ) {
            let attributes = if plain { Attributes::default() } else { attributes };
            let body = if ours { [MAGIC.as_bytes(), &body].concat() } else { body };
            let message = attributes.apply(Message::new(body).with_headers(pairs.iter().map(|(n, v)| (n, v)).collect()));
            let payload = [head(&message, &attributes, name.as_deref()), message.body.to_vec()].concat();
            let arrival = read(payload.into());
            prop_assert_eq!(arrival, Arrival { message, redelivered: attributes.redelivered, name });
        }

        #[test]
        fn any_payload_is_read(text in "(\0mq )?[-0-9 a\n]{0,20}") {
            let _ = read(text.into());
        }
    }

    #[test]
    fn a_plain_message_is_its_body() {
        let message = Message::new("hello");
        assert!(head(&message, &Attributes::default(), None).is_empty());
        assert_eq!(read("hello".into()).message, message);
    }
}
