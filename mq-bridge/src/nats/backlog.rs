//! What others had before, in the order of the stream.
//!
//! The server delivers what was given back in the order in which it came back, and puts behind all
//! of it what it could not deliver because a node had gone. So who takes over takes everything that
//! is delivered and not acknowledged before it hands on the first of it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::remote::{Inbox, Incoming};

use super::api::ConsumerInfo;

/// The most messages that are waited for: who had more has not taken over, but shared.
const MAX_MESSAGES: u64 = 4096;
/// The most octets that are taken for that.
pub(super) const MAX_BYTES: usize = 16 * 1024 * 1024;
/// How long all that is owed may take to come: the server has it already.
pub(super) const COMING: Duration = Duration::from_secs(2);

/// What is delivered and not acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Owed {
    messages: u64,
    /// The last place in the stream that was delivered.
    last: u64,
}

/// Deliveries that wait for all that is owed, and then for room.
#[derive(Debug)]
pub(super) struct Backlog {
    owed: Owed,
    waiting: BTreeMap<u64, Incoming<u64>>,
    /// All of it is handed on: what comes need not wait.
    over: bool,
}

impl Owed {
    /// What a consumer's information says, where nobody else is there to acknowledge it.
    pub(super) fn by(info: &ConsumerInfo) -> Self {
        let messages = info.num_ack_pending;
        if messages > MAX_MESSAGES {
            return Self::default();
        }
        Self { messages, last: info.delivered.stream_seq }
    }
}

impl Backlog {
    pub(super) fn of(owed: Owed) -> Self {
        Self { owed, waiting: BTreeMap::new(), over: owed.messages == 0 }
    }

    /// How many messages have still to come before any is handed on.
    pub(super) fn owed(&self) -> usize {
        usize::try_from(self.owed.messages).unwrap_or(usize::MAX)
    }

    /// Whether messages wait for nothing but room.
    pub(super) fn is_ready(&self) -> bool {
        self.owed.messages == 0 && !self.waiting.is_empty()
    }

    /// The server has delivered what is at this place. It has nothing to deliver again when it
    /// delivers what is new.
    pub(super) fn came(&mut self, seq: u64) {
        let left = self.owed.messages.saturating_sub(1);
        self.owed.messages = if seq > self.owed.last { 0 } else { left };
    }

    /// No more of what is owed comes.
    pub(super) fn give_up(&mut self) {
        self.owed.messages = 0;
    }

    /// Hands on what came: at once where nothing waits.
    pub(super) fn hand_on(&mut self, inbox: &Inbox<u64>, epoch: u64, incoming: Vec<Incoming<u64>>) {
        if self.over {
            inbox.push(epoch, incoming);
            return;
        }
        self.waiting.extend(incoming.into_iter().map(|one| (one.handle, one)));
    }

    /// Hands on as much as there is room for.
    pub(super) fn flow(&mut self, inbox: &Inbox<u64>, epoch: u64) {
        while inbox.room() > 0
            && let Some((_, first)) = self.waiting.pop_first()
        {
            inbox.push(epoch, [first]);
        }
        self.over = self.owed.messages == 0 && self.waiting.is_empty();
    }
}
