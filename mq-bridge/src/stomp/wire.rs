//! Messages as frames.
//!
//! A header of a message whose name and value STOMP and the broker carry unharmed is a header of the
//! frame, so that other programs see it. The broker keeps no order, no repeats and no octets that
//! are not text: `mq-order` lists the names in order, an empty one standing for the next pair of a
//! block that carries all the rest.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use stomp_codec::{Command, Frame, view};

use crate::remote::{DeadLetter, Incoming, Outbound};
use crate::{DeadLetterReason, Headers, Message, Source, Target};

use super::{Handle, names};

const ORDER: &str = "mq-order";
const BLOCK: &str = "mq-block";
const TARGET: &str = "mq-target";
const TARGETS: &str = "mq-targets";
const EXPIRES: &str = "mq-expires";
const REDELIVERED: &str = "mq-redelivered";
const DEAD_LETTER: &str = "mq-dead-letter";

/// The longest value of a header that is written, in octets; the broker's limit for a line is
/// 10 KiB, escapes included.
const LINE: usize = 4000;
/// The most headers of a message that become headers of the frame; the broker's limit is 1000.
const MOST: usize = 200;

/// Names that mean something to STOMP or to the broker.
const RESERVED: [&str; 38] = [
    "accept-version",
    "ack",
    "amqp-message-id",
    "app-id",
    "auto-delete",
    "bcc",
    "browser",
    "cc",
    "cluster-id",
    "content-encoding",
    "content-length",
    "content-type",
    "correlation-id",
    "destination",
    "durable",
    "exclusive",
    "expiration",
    "expires",
    "heart-beat",
    "host",
    "id",
    "login",
    "message-id",
    "original-destination",
    "passcode",
    "persistent",
    "prefetch-count",
    "priority",
    "receipt",
    "redelivered",
    "reply-to",
    "requeue",
    "selector",
    "subscription",
    "timestamp",
    "transaction",
    "type",
    "user-id",
];
/// And what such names begin with.
const RESERVED_FAMILIES: [&str; 18] = [
    "activemq",
    "amq",
    "jms",
    "mq-",
    "transformation",
    "x-cc",
    "x-dead-letter",
    "x-death",
    "x-delivery",
    "x-expires",
    "x-filter",
    "x-first-death",
    "x-last-death",
    "x-max",
    "x-message",
    "x-queue",
    "x-received-from",
    "x-stream",
];

/// What the broker adds to a message, or takes for itself.
const BROKERS: [&str; 10] = [
    "ack",
    "content-length",
    "destination",
    "expires",
    "message-id",
    "original-destination",
    "redelivered",
    "subscription",
    "timestamp",
    "receipt",
];

/// A message as it arrives.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) message: Message,
    /// What it was published to, if it was published through this crate and not to a queue.
    pub(super) target: Option<Target>,
    pub(super) redelivered: bool,
    pub(super) dead_letter: Option<DeadLetterReason>,
}

/// A frame for one or more queues, which `target` leads to.
pub(super) fn to_queues(destination: &str, outbound: &Outbound, target: &Target) -> Frame {
    let mut frame = frame(destination, outbound);
    let target = match &outbound.dead_letter {
        Some(DeadLetter { reason, target }) => {
            let reason = match reason {
                DeadLetterReason::Rejected => "rejected",
                DeadLetterReason::MaxDeliveries => "max-deliveries",
            };
            frame.push_header(DEAD_LETTER, reason);
            target
        }
        None => target,
    };
    if outbound.dead_letter.is_some() || matches!(target, Target::Topic(_)) {
        frame.push_header(TARGET, &written(target));
    }
    frame
}

/// A frame for those who listen to one topic.
pub(super) fn to_topic(destination: &str, outbound: &Outbound) -> Frame {
    frame(destination, outbound)
}

/// A frame for those who listen to any of several topics.
pub(super) fn to_many<'a>(
    outbound: &Outbound,
    topics: impl IntoIterator<Item = &'a Target>,
) -> Frame {
    let mut frame = frame(names::MANY, outbound);
    let mut line = String::new();
    let mut lines = 0;
    for topic in topics {
        let topic = names::topic(topic.name());
        if !line.is_empty() && line.len() + topic.len() >= LINE {
            frame.push_header(&numbered(TARGETS, lines), &line);
            lines += 1;
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&topic);
    }
    frame.push_header(&numbered(TARGETS, lines), &line);
    frame
}

/// The topics of such a frame, in order.
pub(super) fn targets(message: &view::Message) -> Vec<Target> {
    let lines = (0..).map_while(|line| message.header(&numbered(TARGETS, line)));
    lines
        .flat_map(|line| {
            line.split(' ').filter_map(names::topic_of).map(Target::topic).collect::<Vec<_>>()
        })
        .collect()
}

/// A message that was delivered, to be sent again, marked.
pub(super) fn again(destination: &str, message: &view::Message) -> Frame {
    let mut frame = Frame::new(Command::Send).with_header("destination", destination);
    for (name, value) in message.frame().headers() {
        let foreign_expiry = name == "expires" && value != "0";
        if foreign_expiry || (!BROKERS.contains(&&*name) && name != REDELIVERED) {
            frame.push_header(&name, &value);
        }
    }
    frame.with_header(REDELIVERED, "true").with_body(message.body_bytes())
}

fn frame(destination: &str, outbound: &Outbound) -> Frame {
    let Outbound { message, redelivered, .. } = outbound;
    let mut frame = Frame::new(Command::Send)
        .with_header("destination", destination)
        .with_header("priority", &message.priority.to_string());
    if message.persistent {
        frame.push_header("persistent", "true");
    }
    if let Some(expires) = message.expires {
        // One that is past already as well.
        let since = expires.duration_since(UNIX_EPOCH).unwrap_or_default();
        frame.push_header(EXPIRES, &since.as_millis().to_string());
    }
    if *redelivered {
        frame.push_header(REDELIVERED, "true");
    }
    push_headers(&mut frame, &message.headers);
    frame.with_body(message.body.clone())
}

/// Reads a message of ours, or of another program.
pub(super) fn arrived(message: &view::Message) -> Arrived {
    let is_true = |name: &str| message.header(name).is_some_and(|value| value == "true");
    let mut read = Message::new(message.body_bytes())
        .with_headers(headers(message))
        .with_persistent(is_true("persistent"));
    if let Some(priority) = message.header("priority").and_then(|value| value.parse().ok()) {
        read = read.with_priority(priority);
    }
    let expires = message.header(EXPIRES).and_then(|value| value.parse().ok());
    if let Some(expires) = expires.map(Duration::from_millis) {
        read.expires = SystemTime::UNIX_EPOCH.checked_add(expires);
    }
    let dead_letter = message.header(DEAD_LETTER);
    Arrived {
        message: read,
        target: message.header(TARGET).and_then(|target| read_target(&target)),
        redelivered: is_true("redelivered") || is_true(REDELIVERED),
        dead_letter: dead_letter.map(|reason| match &*reason {
            "rejected" => DeadLetterReason::Rejected,
            _ => DeadLetterReason::MaxDeliveries,
        }),
    }
}

/// A message as it goes to an inbox; how often it was delivered is not told.
pub(super) fn incoming(source: &Source, message: view::Message) -> Incoming<Handle> {
    let arrived = arrived(&message);
    let target = arrived.target.unwrap_or_else(|| Target::Queue(Arc::clone(source.name())));
    Incoming {
        message: arrived.message,
        target,
        redelivered: arrived.redelivered,
        delivery_count: 1 + u32::from(arrived.redelivered),
        dead_letter: arrived.dead_letter,
        handle: Arc::new(message),
    }
}

fn written(target: &Target) -> String {
    match target {
        Target::Queue(name) => format!("queue {name}"),
        Target::Topic(name) => format!("topic {name}"),
    }
}

fn read_target(text: &str) -> Option<Target> {
    match text.split_once(' ')? {
        ("queue", name) => Some(Target::queue(name)),
        ("topic", name) => Some(Target::topic(name)),
        _ => None,
    }
}

fn numbered(name: &str, line: usize) -> String {
    if line == 0 { name.to_owned() } else { format!("{name}-{line}") }
}

fn push_headers(frame: &mut Frame, headers: &Headers) {
    if headers.is_empty() {
        return;
    }
    let mut order = String::new();
    let mut seen = HashSet::new();
    let mut block = Headers::builder();
    let mut first = true;
    for (name, value) in headers.iter() {
        if !std::mem::replace(&mut first, false) {
            order.push(',');
        }
        match carried(name, value).filter(|_| seen.len() < MOST && !seen.contains(name)) {
            Some(value) => {
                seen.insert(name);
                order.push_str(name);
                frame.push_header(name, value);
            }
            None => block = block.with(name, value),
        }
    }
    push_lines(frame, ORDER, &order);
    push_lines(frame, BLOCK, &STANDARD.encode(block.build().as_bytes()));
}

/// The value, if the broker carries it under this name.
fn carried<'a>(name: &str, value: &'a [u8]) -> Option<&'a str> {
    let starts = name.bytes().next().is_some_and(|octet| octet.is_ascii_alphabetic());
    let plain =
        name.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'));
    let lower = name.to_ascii_lowercase();
    let reserved = RESERVED.contains(&&*lower)
        || RESERVED_FAMILIES.iter().any(|family| lower.starts_with(family));
    let fits = name.len() <= 64 && value.len() <= LINE && !value.contains(&0);
    (starts && plain && !reserved && fits).then(|| std::str::from_utf8(value).ok()).flatten()
}

fn push_lines(frame: &mut Frame, name: &str, text: &str) {
    // All of it is ASCII.
    for (line, piece) in text.as_bytes().chunks(LINE).enumerate() {
        let piece = std::str::from_utf8(piece).unwrap_or_default();
        frame.push_header(&numbered(name, line), piece);
    }
}

fn lines(message: &view::Message, name: &str) -> Option<String> {
    let first = message.header(name)?.into_owned();
    let rest = (1..).map_while(|line| message.header(&numbered(name, line)));
    Some(rest.fold(first, |text, line| text + &line))
}

fn headers(message: &view::Message) -> Headers {
    let Some(order) = lines(message, ORDER) else { return foreign_headers(message) };
    let block = lines(message, BLOCK).and_then(|text| STANDARD.decode(text).ok());
    let block = Headers::from_bytes(Bytes::from(block.unwrap_or_default())).unwrap_or_default();
    let mut rest = block.iter();
    let mut headers = Headers::builder();
    for name in order.split(',') {
        if name.is_empty() {
            headers =
                rest.next().into_iter().fold(headers, |all, (name, value)| all.with(name, value));
        } else if let Some(value) = message.header(name) {
            headers = headers.with(name, value.as_bytes());
        }
    }
    headers.build()
}

/// Those of a message that another program has sent.
fn foreign_headers(message: &view::Message) -> Headers {
    let mut headers = Headers::builder();
    for (name, value) in message.frame().headers() {
        let ours = name.starts_with("mq-");
        if !ours && !BROKERS.contains(&&*name) && !matches!(&*name, "persistent" | "priority") {
            headers = headers.with(&name, value.as_bytes());
        }
    }
    headers.build()
}

/// The kind of a source, and its name, in notices.
const KIND: &str = "mq-kind";
const NAME: &str = "mq-name";

/// A notice about a source.
pub(super) fn with_source(frame: Frame, source: &Source) -> Frame {
    let kind = if matches!(source, Source::Queue(_)) { "queue" } else { "durable" };
    frame.with_header(KIND, kind).with_header(NAME, source.name())
}

/// What a notice is about.
pub(super) fn source(message: &view::Message) -> Option<Source> {
    let name = message.header(NAME)?;
    match &*message.header(KIND)? {
        "queue" => Some(Source::queue(&*name)),
        "durable" => Some(Source::durable(&*name)),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What the broker makes of a SEND: a MESSAGE whose headers have no order.
    fn delivered(send: &Frame) -> view::Message {
        let mut headers: Vec<_> = send.headers().collect();
        headers.sort();
        let mut frame = Frame::new(Command::Message)
            .with_header("message-id", "1")
            .with_header("subscription", "1")
            .with_header("ack", "2")
            .with_header("timestamp", "3")
            .with_header("expires", "0");
        for (name, value) in headers {
            frame.push_header(&name, &value);
        }
        frame.with_body(send.body_bytes()).try_into().unwrap()
    }

    fn outbound(message: Message) -> Outbound {
        let targets = vec![Target::queue("q")];
        Outbound { targets, message, redelivered: false, dead_letter: None }
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let headers = Headers::builder()
            .with("zeta", "1")
            .with("alpha", " spaces and: colons\r\n ")
            .with("", "no name")
            .with("octets", [0, 255, 10])
            .with("destination", "reserved")
            .with("JMSXGroupID", "reserved")
            .with("alpha", "again")
            .with("comma,name", "x")
            .with("empty", "")
            .with("long", vec![b'x'; 30_000]);
        let headers = (0..300).fold(headers, |all, one| all.with(&format!("n{one}"), "v")).build();
        let message = Message::new(vec![0, 1, 255])
            .with_headers(headers)
            .with_persistent(false)
            .with_priority(7)
            .with_expires(UNIX_EPOCH + Duration::from_millis(1_234_567));
        let outbound = outbound(message.clone());
        let frame = to_queues("/queue/q", &outbound, &Target::queue("q"));
        assert_eq!(frame.header("zeta").as_deref(), Some("1"));
        assert!(frame.headers().all(|(name, value)| name.len() + value.len() < 8000));
        let arrived = arrived(&delivered(&frame));
        assert_eq!(arrived.message, message);
        assert!(!arrived.redelivered && arrived.target.is_none() && arrived.dead_letter.is_none());
    }

    #[test]
    fn marks_and_targets_are_carried() {
        let mut outbound = outbound(Message::new("x"));
        outbound.redelivered = true;
        let topic = Target::topic("a.b c");
        let read = arrived(&delivered(&to_queues("/queue/d", &outbound, &topic)));
        assert_eq!((read.target, read.redelivered), (Some(topic.clone()), true));
        outbound.dead_letter =
            Some(DeadLetter { reason: DeadLetterReason::Rejected, target: topic.clone() });
        let read = arrived(&delivered(&to_queues("/queue/d", &outbound, &Target::queue("dead"))));
        assert_eq!(read.target, Some(topic));
        assert_eq!(read.dead_letter, Some(DeadLetterReason::Rejected));
    }

    #[test]
    fn many_topics_fit_their_lines() {
        let outbound = outbound(Message::new("x"));
        let topics: Vec<_> = (0..1000).map(|one| Target::topic(format!("inbox.{one}"))).collect();
        let message = delivered(&to_many(&outbound, &topics));
        assert!(message.header("mq-targets-1").is_some());
        assert_eq!(targets(&message), topics);
    }

    #[test]
    fn what_is_sent_again_is_marked_and_otherwise_the_same() {
        let headers = Headers::builder().with("b", "1").with("a", [255]).build();
        let message = Message::new("x").with_headers(headers);
        let frame = to_queues("/queue/q", &outbound(message.clone()), &Target::queue("q"));
        let once = again("/queue/q", &delivered(&frame));
        let twice = again("/queue/q", &delivered(&once));
        assert_eq!(once.headers().count(), twice.headers().count());
        let read = arrived(&delivered(&twice));
        assert_eq!((read.message, read.redelivered), (message, true));
    }

    #[test]
    fn a_message_of_another_program_is_read() {
        let send = Frame::new(Command::Send)
            .with_header("destination", "/queue/q")
            .with_header("type", "order")
            .with_header("priority", "9")
            .with_header("persistent", "true")
            .with_header("mq-target", "nonsense")
            .with_header("mq-expires", "soon")
            .with_body("x");
        let read = arrived(&delivered(&send));
        assert_eq!(read.message.headers, Headers::builder().with("type", "order").build());
        assert_eq!((read.message.priority, read.message.persistent), (9, true));
        assert!(read.message.expires.is_none() && read.target.is_none());
    }
}
