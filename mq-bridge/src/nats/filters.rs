//! Filters of a consumer: no two of them may overlap, and old servers take one only.

use super::names::END;

/// The most filters of one consumer.
const MAX_FILTERS: usize = 32;

/// Filters that let through whatever one of `wanted` lets through, and as little more as can be:
/// several that do not overlap, or just one.
pub(super) fn cover(wanted: impl IntoIterator<Item = String>, several: bool) -> Vec<String> {
    let mut filters: Vec<String> = Vec::new();
    for filter in wanted {
        insert(&mut filters, filter);
    }
    if !several || filters.len() > MAX_FILTERS {
        filters =
            filters.into_iter().reduce(|one, other| union(&one, &other)).into_iter().collect();
    }
    if !several {
        // A server before 2.10 goes on to compare literally when a filter without a wildcard is
        // changed to one with.
        for filter in &mut filters {
            if !filter.contains('*')
                && let Some(stem) = filter.strip_suffix(END)
            {
                *filter = format!("{stem}*");
            }
        }
    }
    filters
}

fn insert(filters: &mut Vec<String>, mut filter: String) {
    while let Some(index) = filters.iter().position(|other| overlap(other, &filter)) {
        let other = filters.swap_remove(index);
        filter = union(&other, &filter);
    }
    filters.push(filter);
}

/// Whether a filter lets a subject, or all that another filter lets, through.
pub(super) fn matches(filter: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for token in filter.split('.') {
        let Some(other) = tokens.next() else { return false };
        match token {
            ">" => return true,
            "*" if other != ">" => {}
            _ if token == other => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// Whether there is a subject that both let through.
fn overlap(one: &str, other: &str) -> bool {
    let (mut ones, mut others) = (one.split('.'), other.split('.'));
    loop {
        match (ones.next(), others.next()) {
            (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

/// The narrowest filter that lets through what either does.
fn union(one: &str, other: &str) -> String {
    if matches(one, other) {
        return one.to_owned();
    }
    if matches(other, one) {
        return other.to_owned();
    }
    let (mut ones, mut others) = (one.split('.'), other.split('.'));
    let mut tokens = Vec::new();
    loop {
        match (ones.next(), others.next()) {
            (None, None) => break,
            (Some(a), Some(b)) if a == b && a != ">" => tokens.push(a),
            (Some(a), Some(b)) if a != ">" && b != ">" => tokens.push("*"),
            (a, b) => {
                // One of them ends with the token before, and `>` wants one.
                if a.is_none() || b.is_none() {
                    tokens.pop();
                }
                tokens.push(">");
                break;
            }
        }
    }
    tokens.join(".")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covered(wanted: &[&str], several: bool) -> Vec<String> {
        let mut filters = cover(wanted.iter().map(|&one| one.to_owned()), several);
        filters.sort();
        filters
    }

    #[test]
    fn what_does_not_overlap_stays_apart_where_the_server_takes_several() {
        let inbox = ["t.inbox.alice._", "t.device.alice.phone._"];
        assert_eq!(covered(&inbox, true), ["t.device.alice.phone._", "t.inbox.alice._"]);
        assert_eq!(covered(&inbox, false), ["t.*.alice.>"]);
        assert_eq!(covered(&["t.a._", "t.>", "t.b._"], true), ["t.>"]);
        assert_eq!(covered(&["t.a.*._", "t.*.b._", "t.c._"], true), ["t.*.*._", "t.c._"]);
        assert_eq!(covered(&["t.a._", "t.a.b._"], false), ["t.a.>"]);
        assert_eq!(covered(&["t.a._"], false), ["t.a.*"]);
        assert_eq!(covered(&[], true), [""; 0]);
    }

    fn filter() -> impl Strategy<Value = String> {
        (prop::collection::vec(prop::sample::select(vec!["a", "b", "*"]), 0..4), any::<bool>())
            .prop_map(|(mut tokens, open)| {
                tokens.insert(0, "t");
                tokens.push(if open { ">" } else { END });
                tokens.join(".")
            })
    }

    proptest! {
        #[test]
        fn a_cover_lets_everything_through_and_does_not_overlap(
            wanted in prop::collection::vec(filter(), 1..6),
            subject in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 0..5),
            several: bool,
        ) {
            let filters = cover(wanted.clone(), several);
            prop_assert!(several || filters.len() == 1);
            for (index, one) in filters.iter().enumerate() {
                prop_assert!(filters[..index].iter().all(|other| !overlap(one, other)));
            }
            let subject = format!("t.{}.{END}", subject.join(".")).replace("..", ".");
            if wanted.iter().any(|one| matches(one, &subject)) {
                prop_assert!(filters.iter().any(|one| matches(one, &subject)));
            }
        }
    }
}
