//! Messages as NATS carries them.
//!
//! The body is the payload. A header that NATS can carry is one of its headers; the others go
//! together into one, and where there are several, one more keeps their order. What else a message
//! has stands in headers of its own, where it is not the default. A message that another program
//! has published needs none of them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;

use crate::remote::{DeadLetter, Outbound};
use crate::{DeadLetterReason, Headers, Message, Target};

use super::copies::{self, Copies, NameFilter};
use super::names::{self, escape, unescape};

const ORDER: &str = "Mq-Order";
const BLOCK: &str = "Mq-Block";
const NAME: &str = "Mq-Name";
const TOPICS: &str = "Mq-Topics";
const COPY: &str = "Mq-Copy";
const AMONG: &str = "Mq-Among";
const REDELIVERED: &str = "Mq-Redelivered";
const EXPIRES: &str = "Mq-Expires";
const PRIORITY: &str = "Mq-Priority";
const PERSISTENT: &str = "Mq-Persistent";
const DEAD: &str = "Mq-Dead";
const DEAD_FROM: &str = "Mq-Dead-From";
/// In the order of headers: one that is in the block.
const IN_BLOCK: &str = ":";

/// Where subjects begin.
#[derive(Clone, Debug)]
pub(super) struct Subjects {
    /// Before the words of a queue's subject.
    pub(super) queues: String,
    /// Before the words of a topic's subject.
    pub(super) topics: String,
}

/// A message for one of its targets.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) subject: String,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
}

impl Outgoing {
    /// What counts against the server's limit, in octets.
    pub(super) fn size(&self) -> usize {
        let pairs = self.headers.iter().flat_map(|(name, values)| {
            let name: &str = name.as_ref();
            values.iter().map(|value| name.len() + value.as_str().len() + 4)
        });
        // "NATS/1.0", and the empty line.
        12 + pairs.sum::<usize>() + self.payload.len()
    }
}

/// One message for every target. `publish` names this publish among all.
pub(super) fn encode(
    outbound: &Outbound,
    subjects: &Subjects,
    publish: impl FnOnce() -> String,
) -> Vec<Outgoing> {
    let common = encode_headers(outbound);
    if let [target] = outbound.targets.as_slice() {
        return vec![outgoing(target, common, outbound, subjects)];
    }
    let topics: Vec<&str> = outbound
        .targets
        .iter()
        .filter_map(|target| match target {
            Target::Topic(name) => Some(&**name),
            Target::Queue(_) => None,
        })
        .collect();
    let mut of_topics = common.clone();
    let mut named = None;
    if topics.len() > 1 {
        if let Some(list) = copies::list(topics.iter().copied()) {
            of_topics.insert(TOPICS, list);
        } else {
            of_topics.insert(AMONG, NameFilter::new(topics.iter().copied()).to_text());
            named = Some(publish());
        }
    }
    let mut index = 0;
    let targets = outbound.targets.iter().map(|target| {
        let mut headers = match target {
            Target::Queue(_) => return outgoing(target, common.clone(), outbound, subjects),
            Target::Topic(_) => of_topics.clone(),
        };
        if let Some(publish) = &named {
            headers.insert(COPY, format!("{publish}/{index}"));
        }
        index += 1;
        outgoing(target, headers, outbound, subjects)
    });
    targets.collect()
}

/// The headers of a message that no subscription takes: those to all topics let it through, and pass
/// it over as the copy of another.
pub(super) fn nobodys() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(TOPICS, "-");
    headers
}

fn outgoing(
    target: &Target,
    mut headers: HeaderMap,
    outbound: &Outbound,
    subjects: &Subjects,
) -> Outgoing {
    let subject = match target {
        Target::Queue(name) => names::queue(&subjects.queues, name),
        Target::Topic(name) => names::topic(&subjects.topics, name),
    };
    if !names::is_legible(&subject) {
        headers.insert(NAME, text_of(target.name()));
    }
    Outgoing { subject, headers, payload: outbound.message.body.clone() }
}

fn encode_headers(outbound: &Outbound) -> HeaderMap {
    let Outbound { message, redelivered, dead_letter, .. } = outbound;
    let mut headers = HeaderMap::new();
    let mut order = String::new();
    let mut block = Headers::builder();
    for (name, value) in &message.headers {
        if !order.is_empty() {
            order.push(' ');
        }
        if let Some(value) = representable(name, value) {
            order.push_str(name);
            headers.append(name, value);
        } else {
            order.push_str(IN_BLOCK);
            block.push(name, value);
        }
    }
    let block = block.build();
    if !block.is_empty() {
        headers.insert(BLOCK, STANDARD_NO_PAD.encode(block.as_bytes()));
    }
    if order.contains(' ') || !block.is_empty() {
        headers.insert(ORDER, order);
    }
    if *redelivered {
        headers.insert(REDELIVERED, "1");
    }
    if !message.persistent {
        headers.insert(PERSISTENT, "0");
    }
    if message.priority != Message::new("").priority {
        headers.insert(PRIORITY, message.priority.to_string());
    }
    if let Some(expires) = message.expires {
        let since = expires.duration_since(UNIX_EPOCH).unwrap_or_default();
        headers.insert(EXPIRES, format!("{}.{:09}", since.as_secs(), since.subsec_nanos()));
    }
    if let Some(DeadLetter { reason, target }) = dead_letter {
        headers.insert(
            DEAD,
            match reason {
                DeadLetterReason::Rejected => "rejected",
                DeadLetterReason::MaxDeliveries => "max-deliveries",
            },
        );
        let kind = if matches!(target, Target::Queue(_)) { "queue" } else { "topic" };
        headers.insert(DEAD_FROM, format!("{kind} {}", text_of(target.name())));
    }
    headers
}

/// The value, if NATS carries both unchanged and the server makes nothing of them.
fn representable<'a>(name: &str, value: &'a [u8]) -> Option<&'a str> {
    let value = std::str::from_utf8(value).ok()?;
    let reserved = ["mq-", "nats-"].iter().any(|prefix| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    });
    let name_fits =
        !name.is_empty() && !reserved && name.bytes().all(|c| c.is_ascii_graphic() && c != b':');
    (name_fits && value.trim() == value && !value.contains(char::is_control)).then_some(value)
}

fn text_of(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    escape(&mut text, name, |octet| octet.is_ascii_graphic() && octet != b'%');
    text
}

fn rest<'a>(subject: &'a str, prefix: &str) -> Option<&'a str> {
    subject.strip_prefix(prefix)?.strip_prefix('.')
}

/// A message as it came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) message: Message,
    /// Where this copy was published to.
    pub(super) place: Target,
    pub(super) copies: Copies,
    pub(super) redelivered: bool,
    /// Why it is here and where it was published to at first, if this is a dead-letter queue.
    pub(super) dead_letter: Option<DeadLetter>,
}

/// What a message of NATS is here, whoever has published it.
pub(super) fn decode(
    subject: &str,
    headers: Option<&HeaderMap>,
    payload: Bytes,
    subjects: &Subjects,
) -> Decoded {
    let mut message = Message::new(payload);
    let mut found = Found::default();
    if let Some(headers) = headers {
        for (name, values) in headers.iter() {
            let name: &str = name.as_ref();
            let values = values.iter().map(|value| value.as_str());
            if !found.take(name, values.clone().next_back().unwrap_or_default()) {
                found.native.push((name, values.collect()));
            }
        }
    }
    message.headers = found.headers();
    if let Some(priority) = found.priority {
        message = message.with_priority(priority);
    }
    message.persistent = !found.transient;
    message.expires = found.expires;
    let place = if let Some(words) = rest(subject, &subjects.queues) {
        Target::Queue(found.name_or(|| names::read_queue(words), words))
    } else {
        let words = rest(subject, &subjects.topics).unwrap_or(subject);
        Target::Topic(found.name_or(|| names::read_topic(words), words))
    };
    let copies = match (found.topics, found.copy, found.among) {
        (Some(topics), ..) => Copies::Listed(topics),
        (_, Some((publish, index)), Some(among)) => Copies::Many { publish, index, among },
        _ => Copies::One,
    };
    let dead_letter = found.dead.map(|reason| DeadLetter {
        reason,
        target: found.dead_from.unwrap_or_else(|| place.clone()),
    });
    Decoded { message, place, copies, redelivered: found.redelivered, dead_letter }
}

#[derive(Default)]
struct Found<'a> {
    native: Vec<(&'a str, Vec<&'a str>)>,
    order: Option<&'a str>,
    block: Headers,
    name: Option<String>,
    topics: Option<Vec<String>>,
    copy: Option<(String, usize)>,
    among: Option<NameFilter>,
    redelivered: bool,
    transient: bool,
    priority: Option<u8>,
    expires: Option<SystemTime>,
    dead: Option<DeadLetterReason>,
    dead_from: Option<Target>,
}

impl<'a> Found<'a> {
    /// Whether a header is not one of the message's own. What does not make sense is passed over.
    fn take(&mut self, name: &str, value: &'a str) -> bool {
        match name {
            ORDER => self.order = Some(value),
            BLOCK => {
                let block = STANDARD_NO_PAD.decode(value).ok();
                let block = block.and_then(|block| Headers::from_bytes(block.into()).ok());
                self.block = block.unwrap_or_default();
            }
            NAME => self.name = unescape(value),
            TOPICS => self.topics = copies::read_list(value),
            COPY => {
                self.copy = value
                    .split_once('/')
                    .and_then(|(publish, index)| Some((publish.to_owned(), index.parse().ok()?)));
            }
            AMONG => self.among = NameFilter::from_text(value),
            REDELIVERED => self.redelivered = value != "0",
            PERSISTENT => self.transient = value == "0",
            PRIORITY => self.priority = value.parse().ok(),
            EXPIRES => self.expires = read_time(value),
            DEAD => {
                self.dead = Some(match value {
                    "rejected" => DeadLetterReason::Rejected,
                    _ => DeadLetterReason::MaxDeliveries,
                });
            }
            DEAD_FROM => {
                self.dead_from = value.split_once(' ').and_then(|(kind, name)| {
                    let name = unescape(name)?;
                    Some(if kind == "queue" { Target::queue(name) } else { Target::topic(name) })
                });
            }
            // The server's.
            _ => return name.starts_with("Nats-"),
        }
        true
    }

    fn name_or(&mut self, read: impl FnOnce() -> Option<String>, words: &str) -> Arc<str> {
        self.name.take().or_else(read).map_or_else(|| words.into(), Into::into)
    }

    /// The headers in their order; what has none, from other programs, by name.
    fn headers(&mut self) -> Headers {
        let mut native = std::mem::take(&mut self.native);
        native.sort_unstable_by_key(|(name, _)| *name);
        let mut native: Vec<_> =
            native.into_iter().map(|(name, values)| (name, values.into_iter())).collect();
        let mut headers = Headers::builder();
        let mut block = self.block.iter();
        for token in self.order.into_iter().flat_map(|order| order.split(' ')) {
            if token == IN_BLOCK {
                if let Some((name, value)) = block.next() {
                    headers.push(name, value);
                }
            } else if let Ok(index) = native.binary_search_by_key(&token, |(name, _)| *name)
                && let Some(value) = native[index].1.next()
            {
                headers.push(token, value);
            }
        }
        for (name, values) in &mut native {
            values.for_each(|value| headers.push(name, value));
        }
        headers.build()
    }
}

fn read_time(text: &str) -> Option<SystemTime> {
    let (seconds, nanos) = text.split_once('.').unwrap_or((text, "0"));
    UNIX_EPOCH.checked_add(Duration::new(
        seconds.parse().ok()?,
        nanos.parse().ok().filter(|nanos| *nanos < 1_000_000_000)?,
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subjects() -> Subjects {
        Subjects { queues: "mq.q".to_owned(), topics: "mq.t".to_owned() }
    }

    fn outbound(targets: Vec<Target>, message: Message) -> Outbound {
        Outbound { targets, message, redelivered: false, dead_letter: None }
    }

    fn round_trip(outbound: &Outbound) -> Vec<Decoded> {
        encode(outbound, &subjects(), || "p1".to_owned())
            .into_iter()
            .map(|one| decode(&one.subject, Some(&one.headers), one.payload, &subjects()))
            .collect()
    }

    #[test]
    fn what_is_nobodys_is_left_by_who_wants_all_topics() {
        let decoded = decode("mq.t.~", Some(&nobodys()), Bytes::new(), &subjects());
        let mut seen = copies::Seen::default();
        for patterns in [&["#"][..], &["-", "#"], &["*"]] {
            let verdict = decoded.copies.judge(decoded.place.name(), patterns, &mut seen, 1);
            assert_eq!(verdict, copies::Verdict::Leave, "{patterns:?}");
        }
    }

    #[test]
    fn headers_are_native_where_nats_can_carry_them() {
        let headers = Headers::builder()
            .with("kind", "message")
            .with("from", "älice")
            .with("kind", "again")
            .with("Nats-Rollup", "all")
            .with("octets", [0xff])
            .build();
        let message = Message::new("body").with_headers(headers.clone());
        let outbound = outbound(vec![Target::queue("q")], message);
        let outgoing = encode(&outbound, &subjects(), String::new).remove(0);
        assert_eq!(outgoing.subject, "mq.q.q");
        let native = |name: &str| outgoing.headers.get(name).map(|value| value.as_str().to_owned());
        assert_eq!(native("from").as_deref(), Some("älice"));
        assert_eq!(native("Nats-Rollup"), None);
        assert_eq!(native("octets"), None);
        assert_eq!(native(ORDER).as_deref(), Some("kind from kind : :"));
        assert_eq!(round_trip(&outbound)[0].message.headers, headers);
    }

    #[test]
    fn a_message_of_another_program_is_read() {
        let mut headers = HeaderMap::new();
        headers.append("b", "2");
        headers.append("a", "1");
        headers.append("b", "3");
        headers.append("Nats-Msg-Id", "x");
        headers.append(BLOCK, "no base64!");
        headers.append(EXPIRES, "soon");
        headers.append(AMONG, "");
        let decoded = decode("mq.q.a%20b", Some(&headers), "x".into(), &subjects());
        let expected = Headers::builder().with("a", "1").with("b", "2").with("b", "3").build();
        assert_eq!(decoded.message, Message::new("x").with_headers(expected));
        assert_eq!(decoded.place, Target::queue("a b"));
        let bare = decode("mq.t.a.b", None, "x".into(), &subjects());
        assert_eq!((bare.place, bare.copies), (Target::topic("a.b"), Copies::One));
        assert_eq!(
            (bare.message, bare.redelivered, bare.dead_letter),
            (Message::new("x"), false, None)
        );
    }

    #[test]
    fn everything_else_travels_too() {
        let message = Message::new("x")
            .with_priority(9)
            .with_persistent(false)
            .with_expires(UNIX_EPOCH + Duration::new(1_800_000_000, 1));
        let long = "é".repeat(1000);
        let mut outbound = outbound(vec![Target::queue("dead"), Target::topic(&*long)], message);
        outbound.redelivered = true;
        outbound.dead_letter = Some(DeadLetter {
            reason: DeadLetterReason::MaxDeliveries,
            target: Target::topic("a b"),
        });
        for (decoded, target) in round_trip(&outbound).into_iter().zip(&outbound.targets) {
            assert_eq!(decoded.message, outbound.message);
            assert_eq!(decoded.place, *target);
            assert!(decoded.redelivered);
            assert_eq!(decoded.dead_letter, outbound.dead_letter);
            assert_eq!(decoded.copies, Copies::One);
        }
    }

    #[test]
    fn the_copies_know_of_each_other() {
        let targets = ["a", "b c"].map(Target::topic).into_iter().chain([Target::queue("q")]);
        let copies = round_trip(&outbound(targets.collect(), Message::new("x")));
        let listed = Copies::Listed(vec!["a".to_owned(), "b c".to_owned()]);
        assert_eq!(copies[0].copies, listed);
        assert_eq!(copies[1].copies, listed);
        assert_eq!(copies[2].copies, Copies::One);
        let targets = (0..300).map(|index| Target::topic(format!("inbox.user{index}"))).collect();
        let copies = round_trip(&outbound(targets, Message::new("x")));
        assert!(
            matches!(&copies[7].copies, Copies::Many { publish, index: 7, .. } if publish == "p1")
        );
    }

    proptest! {
        #[test]
        fn any_headers_round_trip_in_order(
            pairs in prop::collection::vec(
                ("[a-c]|.{0,4}", prop::collection::vec(any::<u8>(), 0..6)), 0..8),
        ) {
            let headers: Headers = pairs.iter().map(|(name, value)| (name, value)).collect();
            let message = Message::new("x").with_headers(headers);
            let outbound = outbound(vec![Target::topic("t")], message.clone());
            let outgoing = encode(&outbound, &subjects(), String::new).remove(0);
            prop_assert_eq!(outgoing.size(), wire(&outgoing));
            prop_assert_eq!(&round_trip(&outbound)[0].message, &message);
        }
    }

    /// The octets of the headers as they are written, and the payload's.
    fn wire(outgoing: &Outgoing) -> usize {
        let mut text = "NATS/1.0\r\n".to_owned();
        for (name, values) in outgoing.headers.iter() {
            for value in values {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        text.push_str("\r\n");
        text.len() + outgoing.payload.len()
    }
}
