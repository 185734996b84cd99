//! Names of ours as subjects, filters and consumer names of NATS.
//!
//! A word becomes a token. What a token may not hold is written `%XX`; a word that gets too long is
//! replaced by `~` and a hash, and its original goes along in a header.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// Ends the subject of every topic: so `a.#` is `a.>`, which wants one token more, and matches `a`
/// too.
pub(super) const END: &str = "_";
/// The most words that become tokens of their own: the line that names a subject is bounded.
const MAX_WORDS: usize = 24;
/// The longest token, in octets.
const MAX_TOKEN: usize = 64;
/// The longest name of a consumer that is spelled out, in octets.
const MAX_CONSUMER: usize = 120;
/// How much of a longer one is kept, to be recognized by people.
const KEPT: usize = 60;

/// The subject of a topic, below `prefix`.
pub(super) fn topic(prefix: &str, topic: &str) -> String {
    let mut subject = words(prefix, topic);
    subject.push('.');
    subject.push_str(END);
    subject
}

/// The subject of a queue, below `prefix`.
pub(super) fn queue(prefix: &str, queue: &str) -> String {
    words(prefix, queue)
}

/// The narrowest filter that lets through every topic that `pattern` matches.
pub(super) fn filter(prefix: &str, pattern: &str) -> String {
    let mut filter = prefix.to_owned();
    for (index, word) in pattern.split('.').enumerate() {
        filter.push('.');
        // The last word that is a token of its own stands for all the rest of a longer topic.
        if word == "#" || index == MAX_WORDS - 1 {
            filter.push('>');
            return filter;
        }
        if word == "*" {
            filter.push('*');
        } else {
            push_token(&mut filter, word);
        }
    }
    filter.push('.');
    filter.push_str(END);
    filter
}

/// Whether a subject of ours tells the whole name.
pub(super) fn is_legible(subject: &str) -> bool {
    !subject.contains(".~")
}

/// The topic of a subject without its prefix; `None` where only a header knows.
pub(super) fn read_topic(rest: &str) -> Option<String> {
    // Programs other than this may leave the end out.
    read(rest.strip_suffix("._").unwrap_or(rest))
}

/// The queue of a subject without its prefix; `None` where only a header knows.
pub(super) fn read_queue(rest: &str) -> Option<String> {
    read(rest)
}

/// The name of the consumer that stands for a queue or durable subscription: letters, digits, `-`,
/// `_` and what is written `=XX`. Not `%XX`: servers before 2.10 take the name for a format.
pub(super) fn consumer(name: &str) -> String {
    let mut consumer = String::with_capacity(name.len());
    for octet in name.bytes() {
        if octet.is_ascii_alphanumeric() || b"-_".contains(&octet) {
            consumer.push(char::from(octet));
        } else {
            consumer.push('=');
            push_hex(&mut consumer, octet);
        }
    }
    if consumer.len() > MAX_CONSUMER {
        consumer.truncate(KEPT);
        push_hash(&mut consumer, name);
    }
    consumer
}

fn words(prefix: &str, name: &str) -> String {
    let mut subject = String::with_capacity(prefix.len() + name.len() + 4);
    subject.push_str(prefix);
    let mut rest = Some(name);
    let mut count = 0;
    while let Some(text) = rest {
        count += 1;
        subject.push('.');
        match text.split_once('.') {
            Some(_) if count == MAX_WORDS => {
                push_hash(&mut subject, text);
                rest = None;
            }
            Some((word, after)) => {
                push_token(&mut subject, word);
                rest = Some(after);
            }
            None => {
                push_token(&mut subject, text);
                rest = None;
            }
        }
    }
    subject
}

fn push_token(subject: &mut String, word: &str) {
    if word.is_empty() {
        // No escape is as short.
        subject.push('%');
        return;
    }
    let begin = subject.len();
    escape(subject, word, |octet| octet.is_ascii_graphic() && !b".*>%~".contains(&octet));
    if subject.len() - begin > MAX_TOKEN {
        subject.truncate(begin);
        push_hash(subject, word);
    }
}

fn push_hash(text: &mut String, of: &str) {
    text.push('~');
    for octet in &Sha256::digest(of)[..16] {
        push_hex(text, *octet);
    }
}

/// Writes every octet that is not `plain` as `%XX`.
pub(super) fn escape(into: &mut String, text: &str, plain: impl Fn(u8) -> bool) {
    for octet in text.bytes() {
        if plain(octet) {
            into.push(char::from(octet));
        } else {
            into.push('%');
            push_hex(into, octet);
        }
    }
}

fn push_hex(text: &mut String, octet: u8) {
    // Writing to a String does not fail.
    let _ = write!(text, "{octet:02X}");
}

fn read(tokens: &str) -> Option<String> {
    if !tokens.contains(['%', '~']) {
        return Some(tokens.to_owned());
    }
    let words: Option<Vec<_>> = tokens
        .split('.')
        .map(|token| match token {
            "%" => Some(String::new()),
            _ if token.starts_with('~') => None,
            _ => unescape(token),
        })
        .collect();
    words.map(|words| words.join("."))
}

/// Undoes [`escape`]; `None` if it is not text.
pub(super) fn unescape(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((octet, after)) = rest.split_first() {
        rest = after;
        octets.push(match (octet, after) {
            (b'%', [high, low, after @ ..]) => {
                rest = after;
                let digits = [*high, *low];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            _ => *octet,
        });
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nats::filters::matches;
    use crate::{MAX_NAME, pattern_matches, validate_name, validate_topic};

    #[test]
    fn plain_names_stay_as_they_are() {
        assert_eq!(topic("mq.t", "inbox.alice"), "mq.t.inbox.alice._");
        assert_eq!(queue("mq.q", "jobs.mail"), "mq.q.jobs.mail");
        assert_eq!(queue("mq.q", "a b*.."), "mq.q.a%20b%2A.%.%");
        assert_eq!(consumer("alice's phone.1"), "alice=27s=20phone=2E1");
        assert_eq!(filter("mq.t", "a.*.b"), "mq.t.a.*.b._");
        assert_eq!(filter("mq.t", "a.#"), "mq.t.a.>");
        assert_eq!(filter("mq.t", "#"), "mq.t.>");
        assert_eq!(filter("mq.t", "a.#.b"), "mq.t.a.>");
    }

    #[test]
    fn long_names_stay_short_and_different() {
        for make in [
            (|index: usize| format!("{}{index}", "x".repeat(MAX_NAME - 4))) as fn(usize) -> String,
            |index| format!("{}.{index}", "é.".repeat(MAX_NAME / 3 - 2) + "a"),
            |index| format!("{}.{index}", "a.".repeat(MAX_NAME / 2 - 4) + "a"),
        ] {
            let (one, two) = (make(1), make(2));
            assert!(validate_topic(&one).is_ok() && one != two);
            assert_ne!(topic("p", &one), topic("p", &two));
            assert_ne!(consumer(&one), consumer(&two));
            assert!(topic("p", &one).len() < 2000 && consumer(&one).len() <= 200);
            assert_eq!(read_topic(topic("p", &one).strip_prefix("p.").unwrap()), None);
            assert!(matches(&filter("p", "#"), &topic("p", &one)));
            assert!(matches(&filter("p", &one), &topic("p", &one)));
        }
    }

    fn word() -> impl Strategy<Value = String> {
        prop_oneof![Just("a".to_owned()), Just("_".to_owned()), "[^.*#\\p{Cc}]{1,3}"]
    }

    fn pattern_word() -> impl Strategy<Value = String> {
        prop_oneof![word(), Just("*".to_owned()), Just("#".to_owned())]
    }

    proptest! {
        #[test]
        fn any_name_is_a_subject_that_tells_the_name(name in "[^\\p{Cc}]{1,40}") {
            prop_assume!(validate_name(&name).is_ok());
            let subject = queue("p", &name);
            prop_assert!(subject.bytes().all(|octet| octet.is_ascii_graphic()));
            prop_assert!(!subject.contains("..") && !subject.ends_with('.'));
            prop_assert!(!subject.contains(['*', '>']));
            let read = read_queue(subject.strip_prefix("p.").unwrap());
            prop_assert_eq!(read, is_legible(&subject).then_some(name));
        }

        #[test]
        fn a_filter_lets_through_what_the_pattern_matches(
            pattern in prop::collection::vec(pattern_word(), 1..30),
            topic_words in prop::collection::vec(word(), 1..30),
        ) {
            let (pattern, name) = (pattern.join("."), topic_words.join("."));
            let filter = filter("p.t", &pattern);
            if pattern_matches(&pattern, &name) {
                prop_assert!(matches(&filter, &topic("p.t", &name)), "{} {}", filter, topic("p.t", &name));
            }
        }
    }
}
