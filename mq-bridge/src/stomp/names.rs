//! What queues, topics and patterns are called on the broker.
//!
//! Letters, digits, `-` and `_` stand for themselves, and so do single dots within; every other
//! octet is written `%XX`, for it may mean something to the broker (`,` joins destinations, `*` and
//! `>` are wildcards, `?` begins options).

use std::fmt::Write as _;

/// What begins the names of this crate's own destinations.
const OWN: &str = "mq-bridge.";
/// What begins the names of the broker's own destinations.
const BROKERS_OWN: &str = "ActiveMQ.";

/// What nodes tell each other.
pub(super) const CONTROL: &str = "/topic/mq-bridge.control";
/// Messages to several topics at once.
pub(super) const MANY: &str = "/topic/mq-bridge.many";

/// The destination of a queue.
pub(super) fn queue(name: &str) -> String {
    format!("/queue/{}", encode(name))
}

/// The destination of what a durable subscription keeps.
pub(super) fn durable(name: &str) -> String {
    format!("/queue/{OWN}durable.{}", encode(name))
}

/// The destination of a topic.
pub(super) fn topic(name: &str) -> String {
    format!("/topic/{}", encode(name))
}

/// The destination that covers everything that `pattern` matches: exactly, or with too much where a
/// word follows a `#`.
pub(super) fn pattern(pattern: &str) -> String {
    let mut words = Vec::new();
    for word in pattern.split('.') {
        match word {
            "#" => {
                words.push(">".to_owned());
                break;
            }
            "*" => words.push("*".to_owned()),
            word => words.push(encode(word)),
        }
    }
    let mut covering = words.join(".");
    // As the topics that it is to match.
    for own in [OWN, BROKERS_OWN] {
        if covering.starts_with(own) {
            escape_first(&mut covering);
        }
    }
    format!("/topic/{covering}")
}

/// The topic that a destination names; `None` for one that no publish of ours or others' can mean.
pub(super) fn topic_of(destination: &str) -> Option<String> {
    let name = destination.strip_prefix("/topic/")?;
    if name.starts_with(OWN) || name.starts_with(BROKERS_OWN) {
        return None;
    }
    decode(name)
}

/// The queue of one part of the registry.
pub(super) fn registry(shard: usize) -> String {
    format!("/queue/{OWN}registry.{shard}")
}

pub(super) fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    let octets = name.as_bytes();
    for (index, octet) in octets.iter().enumerate() {
        let plain = match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => true,
            b'.' => {
                let neighbours = [index.checked_sub(1), index.checked_add(1)];
                neighbours.iter().all(|neighbour| {
                    let neighbour = neighbour.and_then(|index| octets.get(index));
                    neighbour.is_some_and(|octet| *octet != b'.')
                })
            }
            _ => false,
        };
        if plain {
            encoded.push(char::from(*octet));
        } else {
            let _infallible = write!(encoded, "%{octet:02X}");
        }
    }
    if encoded.starts_with(OWN) || encoded.starts_with(BROKERS_OWN) {
        escape_first(&mut encoded);
    }
    encoded
}

fn escape_first(encoded: &mut String) {
    let escaped = encoded.bytes().next().map(|first| format!("%{first:02X}"));
    encoded.replace_range(..1, &escaped.unwrap_or_default());
}

/// The name that was encoded; `None` where a `%` does not begin an octet, or it is no text.
pub(super) fn decode(encoded: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(octet) = rest.next() {
        if octet == b'%' {
            let digit = |octet: u8| char::from(octet).to_digit(16);
            let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
            octets.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            octets.push(octet);
        }
    }
    String::from_utf8(octets).ok()
}

/// What no other link of any node is called.
pub(super) fn random() -> String {
    let random = || std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), ());
    format!("{:016x}{:08x}", random(), random() >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_hold_nothing_that_the_broker_reads() {
        let names = ["a.b", "", ".", "a..b", ".a", "a.", "a,b>c*?d=e", "ünï %41 \u{1f980}"];
        for name in names.into_iter().chain(["mq-bridge.control", "ActiveMQ.DLQ", "ActiveMQ"]) {
            let encoded = encode(name);
            assert_eq!(decode(&encoded).as_deref(), Some(name));
            let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.%".contains(&octet);
            assert!(encoded.bytes().all(plain), "{encoded}");
            assert!(!encoded.contains("..") && !encoded.starts_with(OWN), "{encoded}");
            assert!(!encoded.starts_with(BROKERS_OWN), "{encoded}");
        }
        assert_eq!(queue("a.b-c_1"), "/queue/a.b-c_1");
        assert_eq!(topic_of(&topic("ActiveMQ.x")).as_deref(), Some("ActiveMQ.x"));
        assert_eq!(topic_of(CONTROL), None);
        assert_eq!(topic_of("/queue/a"), None);
        assert_eq!(decode("%4"), None);
    }

    #[test]
    fn patterns_cover_what_they_match() {
        for (given, expected) in [
            ("a.b", "/topic/a.b"),
            ("a.*.c", "/topic/a.*.c"),
            ("a.#", "/topic/a.>"),
            ("#", "/topic/>"),
            ("a.#.c", "/topic/a.>"),
            ("a b.*", "/topic/a%20b.*"),
            ("mq-bridge.*", "/topic/%6Dq-bridge.*"),
        ] {
            assert_eq!(pattern(given), expected);
        }
    }
}
