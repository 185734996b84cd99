//! Names, topics and the patterns that match them.

use crate::BrokerError;

/// The longest name of a queue, topic, pattern or durable subscription, in octets
pub const MAX_NAME: usize = 2048;

/// Checks the name of a queue or durable subscription: 1 to [`MAX_NAME`] octets, no control
/// characters.
///
/// # Errors
///
/// [`BrokerError::InvalidName`] with the reason.
pub fn validate_name(name: &str) -> Result<(), BrokerError> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_NAME {
        "it is longer than 2048 octets"
    } else if name.chars().any(char::is_control) {
        "it contains a control character"
    } else {
        return Ok(());
    };
    Err(BrokerError::InvalidName { name: name.into(), reason })
}

/// Checks a topic: a name of words split by `.`, none of them empty, without wildcards.
///
/// # Errors
///
/// [`BrokerError::InvalidName`] with the reason.
pub fn validate_topic(topic: &str) -> Result<(), BrokerError> {
    if is_plain(topic) {
        return Ok(());
    }
    validate_name(topic)?;
    for word in topic.split('.') {
        let reason = match word {
            "" => "a word of it is empty",
            _ if word.contains(['*', '#']) => "a topic has no wildcards",
            _ => continue,
        };
        return Err(BrokerError::InvalidName { name: topic.into(), reason });
    }
    Ok(())
}

/// Whether a topic is one at first sight, as most are
fn is_plain(topic: &str) -> bool {
    let mut before = b'.';
    for octet in topic.bytes() {
        let splits_nothing = octet == b'.' && before == b'.';
        if !octet.is_ascii_graphic() || matches!(octet, b'*' | b'#') || splits_nothing {
            return false;
        }
        before = octet;
    }
    before != b'.' && topic.len() <= MAX_NAME
}

/// Checks a pattern: words split by `.`, none of them empty, where a word may be `*` or `#`.
///
/// # Errors
///
/// [`BrokerError::InvalidName`] with the reason.
pub fn validate_pattern(pattern: &str) -> Result<(), BrokerError> {
    validate_name(pattern)?;
    for word in pattern.split('.') {
        let reason = match word {
            "*" | "#" => continue,
            "" => "a word of it is empty",
            _ if word.contains(['*', '#']) => "a wildcard stands for whole words",
            _ => continue,
        };
        return Err(BrokerError::InvalidName { name: pattern.into(), reason });
    }
    Ok(())
}

/// Whether `pattern` matches `topic`: `*` is one word, `#` is zero or more.
#[must_use]
pub fn pattern_matches(pattern: &str, topic: &str) -> bool {
    let mut pattern = Some(pattern);
    let mut topic = Some(topic);
    // The last `#` seen and the topic that was left for it: on a mismatch it takes one more word.
    let mut retry: Option<(Option<&str>, Option<&str>)> = None;
    loop {
        let (word, pattern_rest) = split_word(pattern);
        if word == Some("#") {
            retry = Some((pattern_rest, topic));
            pattern = pattern_rest;
            continue;
        }
        let (candidate, topic_rest) = split_word(topic);
        if word.is_none() && candidate.is_none() {
            return true;
        }
        if candidate.is_some() && (word == candidate || word == Some("*")) {
            (pattern, topic) = (pattern_rest, topic_rest);
            continue;
        }
        let Some((after_hash, left)) = retry else { return false };
        let (skipped, left) = split_word(left);
        if skipped.is_none() {
            return false;
        }
        retry = Some((after_hash, left));
        (pattern, topic) = (after_hash, left);
    }
}

fn split_word(text: Option<&str>) -> (Option<&str>, Option<&str>) {
    match text {
        None => (None, None),
        Some(text) => match text.split_once('.') {
            Some((word, rest)) => (Some(word), Some(rest)),
            None => (Some(text), None),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_is_one_word_and_hash_is_zero_or_more() {
        for (pattern, topic, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("#", "a", true),
            ("#", "a.b.c", true),
            ("a.#", "a", true),
            ("a.#", "a.b.c", true),
            ("a.#", "b", false),
            ("#.c", "a.b.c", true),
            ("#.c", "c", true),
            ("a.#.c", "a.c", true),
            ("a.#.c", "a.b.c.d", false),
            ("a.#.c.#.d", "a.c.x.c.d", true),
            ("*.#", "a", true),
            ("#.*", "a.b", true),
            ("#.#", "a", true),
            ("#.b.*", "b.b.b", true),
        ] {
            assert_eq!(pattern_matches(pattern, topic), expected, "{pattern} against {topic}");
        }
    }

    #[test]
    fn names_are_checked() {
        assert!(validate_topic("conv.group%3Aops").is_ok());
        assert!(validate_pattern("a.*.#").is_ok());
        let long = "x".repeat(MAX_NAME + 1);
        for topic in ["", ".", "a..b", ".a", "a.", "a.*", "a.#", "a.b#", "a\nb", "é..a", &long] {
            assert!(validate_topic(topic).is_err(), "{topic:?}");
        }
        assert!(validate_topic("é.a b").is_ok());
        for pattern in ["", "a..b", "a*", "a.#b"] {
            assert!(validate_pattern(pattern).is_err(), "{pattern:?}");
        }
        assert!(validate_name(&"x".repeat(MAX_NAME)).is_ok());
        assert!(validate_name(&"x".repeat(MAX_NAME + 1)).is_err());
    }
}
