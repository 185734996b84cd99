use std::collections::VecDeque;

use crate::Transmit;

/// What waits to be written
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Transmit>,
    octets: usize,
}

impl Outbox {
    #[inline]
    pub(crate) fn push(&mut self, transmit: Transmit) {
        self.octets += transmit.len();
        self.queue.push_back(transmit);
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Transmit> {
        let transmit = self.queue.pop_front()?;
        self.octets -= transmit.len();
        Some(transmit)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) const fn octets(&self) -> usize {
        self.octets
    }
}
