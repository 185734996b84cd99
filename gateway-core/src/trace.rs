//! W3C trace context: which trace a message belongs to, as its sender says it. It travels with the message, and what is
//! done for the message is in spans that name it.

use tracing::Span;

pub(crate) const TRACEPARENT: &str = "traceparent";
pub(crate) const TRACESTATE: &str = "tracestate";

/// The longest `traceparent` of a version to come that is carried, in octets; that of version 00 has 55.
const MAX_PARENT: usize = 128;
/// The longest `tracestate`, in octets, and the most entries of one.
const MAX_STATE: (usize, usize) = (512, 32);

/// Whether a header may travel: one of the trace context only as W3C has it, any other in any case.
pub(crate) fn is_sound(name: &str, value: &str) -> bool {
    match name {
        TRACEPARENT => ids(value).is_some(),
        TRACESTATE => is_state(value),
        _ => true,
    }
}

/// The ids of the trace and of the sender's span, of a `traceparent` that is one.
fn ids(parent: &str) -> Option<(&str, &str)> {
    let mut fields = parent.splitn(5, '-');
    let (version, trace, span) = (fields.next()?, fields.next()?, fields.next()?);
    let (flags, more) = (fields.next()?, fields.next());
    let is_hex = |field: &str, length| {
        field.len() == length
            && field.bytes().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id =
        |field: &str, length| is_hex(field, length) && field.bytes().any(|digit| digit != b'0');
    let is_one = is_hex(version, 2)
        && version != "ff"
        && is_id(trace, 32)
        && is_id(span, 16)
        && is_hex(flags, 2)
        // A version to come may say more.
        && (more.is_none() || version != "00")
        && parent.len() <= MAX_PARENT
        && parent.bytes().all(|octet| octet.is_ascii_graphic());
    is_one.then_some((trace, span))
}

fn is_state(state: &str) -> bool {
    let entries = || {
        state
            .split(',')
            .map(|entry| entry.trim_matches([' ', '\t']))
            .filter(|entry| !entry.is_empty())
    };
    let is_entry = |entry: &str| {
        entry.split_once('=').is_some_and(|(key, value)| is_key(key) && is_value(value))
    };
    let is_new = |(at, entry): (usize, &str)| {
        let key = |entry: &str| entry.split_once('=').map(|(key, _)| key.to_owned());
        !entries().take(at).any(|earlier| key(earlier) == key(entry))
    };
    state.len() <= MAX_STATE.0
        && (1..=MAX_STATE.1).contains(&entries().count())
        && entries().all(is_entry)
        && entries().enumerate().all(is_new)
}

fn is_key(key: &str) -> bool {
    let is_part = |part: &str, longest: usize| {
        (1..=longest).contains(&part.len())
            && part
                .bytes()
                .all(|octet| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/'))
    };
    let begins_with_letter =
        |part: &str| part.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    match key.split_once('@') {
        Some((tenant, system)) => {
            let is_tenant = tenant.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
            is_part(tenant, 241) && is_tenant && is_part(system, 14) && begins_with_letter(system)
        }
        None => is_part(key, 256) && key.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric),
    }
}

fn is_value(value: &str) -> bool {
    let is_allowed = |octet| matches!(octet, b' '..=b'~') && octet != b',' && octet != b'=';
    (1..=256).contains(&value.len()) && value.bytes().all(is_allowed) && !value.ends_with(' ')
}

/// Takes a `tracestate` away that has no `traceparent`: alone it says nothing.
pub(crate) fn drop_stray(headers: &mut Vec<(String, String)>) {
    let has = |wanted: &str| headers.iter().any(|(name, _)| name == wanted);
    if has(TRACESTATE) && !has(TRACEPARENT) {
        headers.retain(|(name, _)| name != TRACESTATE);
    }
}

/// The span of a message that is sent; `None` where it belongs to no trace.
pub(crate) fn sending(parent: &str) -> Option<Span> {
    let (trace_id, parent_id) = ids(parent)?;
    Some(tracing::info_span!("send", trace_id, parent_id))
}

/// The span of an event that a webhook is told.
#[cfg(feature = "webhooks")]
pub(crate) fn telling(parent: &str, webhook: &str, event: &str) -> Option<Span> {
    let (trace_id, parent_id) = ids(parent)?;
    Some(tracing::info_span!("webhook", trace_id, parent_id, webhook, event))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_a_traceparent_as_w3c_has_it_is_one() {
        let found = ids(PARENT).unwrap();
        assert_eq!(found, ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"));
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes";
        assert!(is_sound(TRACEPARENT, later));
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ",
            &format!("{later}{}", "x".repeat(MAX_PARENT)),
            &format!("{later}\r\nx: y"),
        ] {
            assert!(!is_sound(TRACEPARENT, wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_tracestate_is_a_bounded_list_of_keys_that_differ() {
        let many =
            |count: usize| (0..count).map(|one| format!("k{one}=v")).collect::<Vec<_>>().join(",");
        let longest = format!("a={}", "v".repeat(256));
        for right in
            ["rojo=00f067aa0ba902b7", "a=1 , b=2,,", "1a/b*-_=x y", "t1@sys=v", &many(32), &longest]
        {
            assert!(is_sound(TRACESTATE, right), "{right:?}");
        }
        for wrong in [
            "",
            ",",
            "a",
            "a=",
            "=v",
            "A=v",
            "a=1,a=2",
            "a=v=w",
            "a=\u{e9}",
            "a@=v",
            "a@1=v",
            "a@b@c=v",
            "a=\u{7f}",
            &many(33),
            &format!("{longest}v"),
            &format!("{longest},b={}", "v".repeat(256)),
        ] {
            assert!(!is_sound(TRACESTATE, wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_tracestate_goes_with_its_traceparent() {
        let state = || (TRACESTATE.to_owned(), "a=1".to_owned());
        let mut alone = vec![state(), ("x-a".to_owned(), "1".to_owned())];
        drop_stray(&mut alone);
        assert_eq!(alone.len(), 1);
        let mut both = vec![state(), (TRACEPARENT.to_owned(), PARENT.to_owned())];
        drop_stray(&mut both);
        assert_eq!(both.len(), 2);
    }
}
