use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// What a receiver has got of its flow
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    next: u64,
    missing: BTreeSet<u64>,
}

/// What became of a message that has come
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    InOrder,
    /// Behind a later one.
    Late,
    /// It has come before.
    Again,
}

impl Ledger {
    #[inline]
    pub(crate) fn enter(&mut self, seq: u64) -> Verdict {
        if seq == self.next {
            self.next += 1;
            Verdict::InOrder
        } else if seq > self.next {
            self.missing.extend(self.next..seq);
            self.next = seq + 1;
            Verdict::InOrder
        } else if self.missing.remove(&seq) {
            Verdict::Late
        } else {
            Verdict::Again
        }
    }

    /// How many of the first `sent` messages have not come.
    pub(crate) fn lost(&self, sent: u64) -> u64 {
        self.missing.len() as u64 + sent.saturating_sub(self.next)
    }
}

/// What must not happen
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Faults {
    /// Messages that were sent and did not come
    pub lost: u64,
    /// Messages that came once more
    pub duplicated: u64,
    /// Messages that came behind a later one
    pub reordered: u64,
    /// Messages that are not what was sent, or came to somebody else
    pub corrupted: u64,
    /// Receipts that did not come
    pub unconfirmed: u64,
    /// Connections that ended before their time, or did not come about
    pub disconnected: u64,
    /// The first of what was told of an ended connection
    pub reason: Option<String>,
}

impl Faults {
    /// Whether there was any.
    #[must_use]
    pub const fn any(&self) -> bool {
        self.lost
            + self.duplicated
            + self.reordered
            + self.corrupted
            + self.unconfirmed
            + self.disconnected
            > 0
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lost, duplicated, reordered, corrupted, unconfirmed, disconnected, reason } =
            self;
        let all = [
            (lost, "lost"),
            (duplicated, "duplicated"),
            (reordered, "reordered"),
            (corrupted, "corrupted"),
            (unconfirmed, "unconfirmed"),
            (disconnected, "disconnected"),
        ];
        let mut before = "";
        for (count, name) in all.into_iter().filter(|(count, _)| **count > 0) {
            write!(f, "{before}{count} {name}")?;
            before = ", ";
        }
        match reason {
            Some(reason) => write!(f, " ({reason})"),
            None if before.is_empty() => f.write_str("none"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_told_from_the_others() {
        let mut ledger = Ledger::default();
        let seen: Vec<_> = [0, 1, 4, 2, 4, 2, 5].iter().map(|seq| ledger.enter(*seq)).collect();
        use Verdict::{Again, InOrder, Late};
        assert_eq!(seen, [InOrder, InOrder, InOrder, Late, Again, Again, InOrder]);
        assert_eq!(ledger.lost(6), 1, "3 has not come");
        assert_eq!(ledger.lost(8), 3, "nor have 6 and 7");
    }
}
