//! Messages as AMQP carries them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldArray, FieldTable, ShortString};

use crate::remote::{DeadLetter, Outbound};
use crate::{BrokerError, DeadLetterReason, Headers, Message, Target};

use super::headers::{self, Native, integer, is_true, octets, put};
use super::names::{Names, read_target, write_target};

/// When it expires, in milliseconds since 1970: the broker knows only how long it has still to live.
const EXPIRES: &str = "mq-expires";
/// That an earlier attempt to publish it may have succeeded.
const REDELIVERED: &str = "mq-redelivered";
const DEAD_LETTER: &str = "mq-dead-letter";
const DEAD_LETTER_FROM: &str = "mq-dead-letter-from";
/// So many octets at the front of the body are the headers, too large for a frame.
const SPILLED: &str = "mq-spilled";
/// Names a publish, so that its return is known.
const SEQUENCE: &str = "mq-sequence";
/// The other topics of a publish: RabbitMQ routes by each of them as by the routing key.
const TOPICS: &str = "CC";
/// How often a quorum queue has delivered it before.
const DELIVERED: &str = "x-delivery-count";

/// The longest that the broker lets a message live, in milliseconds.
const LONGEST_TTL: u128 = u32::MAX as u128;
/// What a frame with the properties takes beside them, and what the broker adds to them.
const RESERVE: usize = 1024;

/// One message to one queue, or to some topics.
#[derive(Debug)]
pub(super) struct Part {
    /// `None` for topics.
    pub(super) queue: Option<Arc<str>>,
    pub(super) key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
}

/// Everything that is written for one publish, in order.
///
/// A queue gets a message of its own, so that the broker says if it is missing. All topics share
/// one, which RabbitMQ puts into each queue once, as long as their names fit a frame.
pub(super) fn encode(
    outbound: &Outbound,
    names: &Names,
    frame_max: usize,
    mut sequence: impl FnMut() -> i64,
) -> Result<Vec<Part>, BrokerError> {
    let Outbound { targets, message, redelivered, dead_letter } = outbound;
    let room = frame_max.saturating_sub(RESERVE);
    let mut native = Native::new(&message.headers);
    let mut body = message.body.clone();
    if native.size() > room / 2 {
        let block = message.headers.as_bytes();
        let mut joined = BytesMut::with_capacity(block.len() + body.len());
        joined.put_slice(block);
        joined.put_slice(&body);
        body = joined.freeze();
        native = Native::default();
        let octets = u32::try_from(block.len()).unwrap_or(u32::MAX);
        put(&mut native.table, SPILLED, AMQPValue::LongLongInt(octets.into()));
    }
    let properties = native.apply(properties(message));
    let table = &mut native.table;
    if let Some(expires) = message.expires {
        put(table, EXPIRES, AMQPValue::LongLongInt(milliseconds(expires)));
    }
    if *redelivered {
        put(table, REDELIVERED, AMQPValue::Boolean(true));
    }
    if let Some(DeadLetter { reason, target }) = dead_letter {
        let reason = match reason {
            DeadLetterReason::MaxDeliveries => "max-deliveries",
            _ => "rejected",
        };
        put(table, DEAD_LETTER, AMQPValue::LongString(reason.into()));
        put(table, DEAD_LETTER_FROM, AMQPValue::LongString(write_target(target).into()));
    }
    let mut parts = Vec::with_capacity(targets.len().min(8));
    let part = |queue, key, table| {
        let properties = properties.clone().with_headers(table);
        Part { queue, key, properties, body: body.clone() }
    };
    let mut topics = Vec::new();
    for target in targets {
        match target {
            Target::Queue(name) => {
                let mut table = native.table.clone();
                put(&mut table, SEQUENCE, AMQPValue::LongLongInt(sequence()));
                parts.push(part(Some(Arc::clone(name)), names.queue(name)?, table));
            }
            Target::Topic(name) => topics.push(Names::key(name)?),
        }
    }
    let room = room.saturating_sub(native.size());
    let mut rest = &*topics;
    while let Some((key, others)) = rest.split_first() {
        let mut left = room;
        let fitting = others.iter().take_while(|name| {
            let size = name.as_str().len() + 5;
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        });
        let (copies, later) = others.split_at(fitting.count());
        let mut table = native.table.clone();
        if !copies.is_empty() {
            let copies = copies.iter().map(|name| AMQPValue::LongString(name.as_str().into()));
            let copies = FieldArray::from(copies.collect::<Vec<_>>());
            put(&mut table, TOPICS, AMQPValue::FieldArray(copies));
        }
        if rest.len() < topics.len() {
            // Whoever has topics in two of these messages gets both.
            put(&mut table, REDELIVERED, AMQPValue::Boolean(true));
        }
        parts.push(part(None, key.clone(), table));
        rest = later;
    }
    Ok(parts)
}

fn properties(message: &Message) -> BasicProperties {
    let properties = BasicProperties::default()
        .with_delivery_mode(if message.persistent { 2 } else { 1 })
        .with_priority(message.priority);
    let Some(expires) = message.expires else { return properties };
    let left = expires.duration_since(SystemTime::now()).unwrap_or_default().as_millis();
    if left > LONGEST_TTL {
        return properties;
    }
    properties.with_expiration(left.to_string().into())
}

fn milliseconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

fn time(milliseconds: i64) -> Option<SystemTime> {
    let distance = Duration::from_millis(milliseconds.unsigned_abs());
    if milliseconds < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    }
}

/// The publish that a returned message belongs to.
pub(super) fn sequence(properties: &BasicProperties) -> Option<i64> {
    integer(properties.headers().as_ref()?, SEQUENCE)
}

/// A message as it came from the broker, whoever published it.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) message: Message,
    /// The topics that it was published to, if it came by the exchange of topics.
    pub(super) topics: Vec<Target>,
    pub(super) redelivered: bool,
    pub(super) delivery_count: u32,
    pub(super) dead_letter: Option<(DeadLetterReason, Option<Target>)>,
}

pub(super) fn decode(delivery: Delivery, names: &Names) -> Decoded {
    let Delivery { exchange, routing_key, redelivered, properties, data, .. } = delivery;
    let empty = FieldTable::default();
    let table = properties.headers().as_ref().unwrap_or(&empty);
    let mut body = Bytes::from(data);
    let headers = unspill(table, &mut body).unwrap_or_else(|| headers::read(&properties));
    let message = Message::new(body)
        .with_headers(headers)
        // What other programs leave out is transient.
        .with_persistent(*properties.delivery_mode() == Some(2))
        .with_priority(properties.priority().unwrap_or(4));
    let message = match integer(table, EXPIRES).and_then(time) {
        Some(expires) => message.with_expires(expires),
        None => message,
    };
    let topics = if exchange == names.topics { topics(table, &routing_key) } else { Vec::new() };
    let before = integer(table, DELIVERED).and_then(|count| u32::try_from(count).ok());
    let dead_letter = octets(table, DEAD_LETTER).and_then(|reason| {
        let reason = match reason {
            b"rejected" => DeadLetterReason::Rejected,
            b"max-deliveries" => DeadLetterReason::MaxDeliveries,
            _ => return None,
        };
        let from = octets(table, DEAD_LETTER_FROM);
        let from = from.and_then(|from| std::str::from_utf8(from).ok()).and_then(read_target);
        Some((reason, from))
    });
    Decoded {
        message,
        topics,
        redelivered: redelivered || before.unwrap_or(0) > 0 || is_true(table, REDELIVERED),
        delivery_count: before.unwrap_or_else(|| redelivered.into()).saturating_add(1),
        dead_letter,
    }
}

fn unspill(table: &FieldTable, body: &mut Bytes) -> Option<Headers> {
    let len = usize::try_from(integer(table, SPILLED)?).ok()?;
    let block = body.get(..len).map(|block| body.slice_ref(block))?;
    let headers = Headers::from_bytes(block).ok()?;
    *body = body.slice(len..);
    Some(headers)
}

fn topics(table: &FieldTable, key: &ShortString) -> Vec<Target> {
    let mut topics = vec![Target::topic(key.as_str())];
    if let Some(AMQPValue::FieldArray(copies)) = table.inner().get(TOPICS) {
        topics.extend(copies.as_slice().iter().filter_map(|name| match name {
            AMQPValue::LongString(name) => {
                Some(Target::topic(std::str::from_utf8(name.as_bytes()).ok()?))
            }
            _ => None,
        }));
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: usize = 131_072;

    fn names() -> Names {
        Names::new("", "topics").unwrap()
    }

    fn outbound(targets: Vec<Target>, message: Message) -> Outbound {
        Outbound { targets, message, redelivered: false, dead_letter: None }
    }

    fn parts(outbound: &Outbound, frame_max: usize) -> Vec<Part> {
        let mut last = 0;
        let next = || {
            last += 1;
            last
        };
        encode(outbound, &names(), frame_max, next).unwrap()
    }

    /// As the broker hands it to a consumer.
    fn deliver(part: Part) -> Decoded {
        let exchange = if part.queue.is_some() { "" } else { "topics" };
        let body = part.body.to_vec();
        let mut delivery = Delivery::mock(1, exchange.into(), part.key, false, body);
        delivery.properties = part.properties;
        decode(delivery, &names())
    }

    fn message() -> Message {
        let expires = UNIX_EPOCH + Duration::from_millis(4_000_000_000_123);
        let headers = Headers::builder().with("b", "2").with("a", [0, 255]).build();
        Message::new("body")
            .with_headers(headers)
            .with_persistent(false)
            .with_priority(9)
            .with_expires(expires)
    }

    #[test]
    fn a_queue_has_a_message_of_its_own_and_topics_share_one() {
        let targets =
            vec![Target::topic("a.b"), Target::queue("q"), Target::topic("c"), Target::queue("r")];
        let parts = parts(&outbound(targets, message()), FRAME);
        let queues: Vec<_> = parts.iter().map(|part| part.queue.as_deref()).collect();
        assert_eq!(queues, [Some("q"), Some("r"), None]);
        let sequences: Vec<_> = parts.iter().map(|part| sequence(&part.properties)).collect();
        assert_eq!(sequences, [Some(1), Some(2), None]);
        for (index, part) in parts.into_iter().enumerate() {
            let decoded = deliver(part);
            assert_eq!(decoded.message, message());
            assert_eq!((decoded.redelivered, decoded.delivery_count), (false, 1));
            let topics = if index == 2 { vec!["a.b", "c"] } else { vec![] };
            let topics: Vec<_> = topics.into_iter().map(Target::topic).collect();
            assert_eq!(decoded.topics, topics);
        }
    }

    #[test]
    fn topics_that_do_not_fit_a_frame_go_with_another_message_that_may_be_a_repeat() {
        let topic = |index: u32| Target::topic(format!("{index}.{}", "x".repeat(90)));
        let targets: Vec<_> = (0..100).map(topic).collect();
        let parts = parts(&outbound(targets.clone(), message()), 4096);
        assert!(parts.len() > 2);
        let mut seen = Vec::new();
        for (index, part) in parts.into_iter().enumerate() {
            let decoded = deliver(part);
            assert_eq!(decoded.redelivered, index > 0);
            assert_eq!(decoded.message, message());
            seen.extend(decoded.topics);
        }
        assert_eq!(seen, targets);
    }

    #[test]
    fn headers_that_do_not_fit_a_frame_go_with_the_body() {
        let headers = Headers::builder().with("large", vec![b'x'; 70_000]).build();
        let message = message().with_headers(headers);
        let targets = vec![Target::queue("q"), Target::topic("t")];
        for part in parts(&outbound(targets, message.clone()), FRAME) {
            assert!(part.body.len() > 70_000);
            assert_eq!(deliver(part).message, message);
        }
    }

    #[test]
    fn marks_and_the_way_to_a_dead_letter_queue_are_carried() {
        for (reason, from) in [
            (DeadLetterReason::Rejected, Target::queue("a:b")),
            (DeadLetterReason::MaxDeliveries, Target::topic("a.b")),
        ] {
            let dead_letter = Some(DeadLetter { reason, target: from.clone() });
            let outbound = Outbound {
                redelivered: true,
                dead_letter,
                ..outbound(vec![Target::queue("dead")], message())
            };
            let decoded = deliver(parts(&outbound, FRAME).remove(0));
            assert!(decoded.redelivered);
            assert_eq!(decoded.dead_letter, Some((reason, Some(from))));
        }
    }

    #[test]
    fn a_quorum_queue_counts_deliveries_and_a_classic_one_marks_them() {
        let mut table = FieldTable::default();
        table.insert(DELIVERED.into(), AMQPValue::LongInt(3));
        let mut delivery = Delivery::mock(1, "".into(), "q".into(), true, Vec::new());
        let again = decode(Delivery::mock(1, "".into(), "q".into(), true, Vec::new()), &names());
        assert_eq!((again.redelivered, again.delivery_count), (true, 2));
        delivery.properties = BasicProperties::default().with_headers(table);
        let fourth = decode(delivery, &names());
        assert_eq!((fourth.redelivered, fourth.delivery_count), (true, 4));
    }

    #[test]
    fn a_life_longer_than_the_broker_allows_is_left_to_the_consumer() {
        let left = |from_now: u64| {
            let expires = SystemTime::now() + Duration::from_secs(from_now);
            let message = Message::new("x").with_expires(expires);
            let part = parts(&outbound(vec![Target::queue("q")], message), FRAME).remove(0);
            part.properties.expiration().as_ref().map(|left| left.as_str().len())
        };
        assert_eq!((left(3600), left(60 * 86_400)), (Some(7), None));
        let expired = Message::new("x").with_expires(UNIX_EPOCH);
        let part = parts(&outbound(vec![Target::queue("q")], expired), FRAME).remove(0);
        assert_eq!(part.properties.expiration().as_ref().unwrap().as_str(), "0");
    }
}
