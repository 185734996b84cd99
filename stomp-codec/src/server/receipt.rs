use std::collections::VecDeque;

use super::ReceiptToken;
use crate::{ByteStr, Transmit};

/// What else happens when a RECEIPT leaves
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    /// Messages of the subscription in this slot were held back for it
    Release {
        slot: usize,
        number: u64,
    },
    /// The session ends
    End,
}

/// RECEIPTs owed, in the order of the frames that asked for them
#[derive(Debug, Default)]
pub(super) struct Receipts {
    queue: VecDeque<Pending>,
    /// Number of the first one in `queue`.
    first: u64,
    octets: usize,
}

#[derive(Debug)]
struct Pending {
    id: ByteStr,
    effect: Effect,
    ready: Option<Transmit>,
    octets: usize,
}

impl Receipts {
    pub(super) fn owe(&mut self, id: ByteStr, effect: Effect) -> ReceiptToken {
        let number = self.first + self.queue.len() as u64;
        let octets = id.as_bytes().len();
        self.octets += octets;
        // Many sessions ask for one at a time.
        if self.queue.capacity() == 0 {
            self.queue.reserve_exact(1);
        }
        self.queue.push_back(Pending { id, effect, ready: None, octets });
        ReceiptToken { number }
    }

    /// The `receipt` value that a token stands for
    pub(super) fn id(&self, token: &ReceiptToken) -> Option<ByteStr> {
        self.queue.get(self.index(token)?).map(|pending| pending.id.clone())
    }

    pub(super) fn complete(&mut self, token: &ReceiptToken, transmit: Transmit) {
        let Some(index) = self.index(token) else { return };
        if let Some(pending) = self.queue.get_mut(index) {
            let octets = transmit.len();
            self.octets += octets;
            pending.octets += octets;
            pending.ready = Some(transmit);
        }
    }

    /// The next RECEIPT whose turn it is
    pub(super) fn pop_ready(&mut self) -> Option<(Transmit, Effect)> {
        let pending = self.queue.front_mut()?;
        let transmit = pending.ready.take()?;
        let effect = pending.effect;
        self.octets -= pending.octets;
        self.queue.pop_front();
        self.first += 1;
        Some((transmit, effect))
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) const fn octets(&self) -> usize {
        self.octets
    }

    fn index(&self, token: &ReceiptToken) -> Option<usize> {
        usize::try_from(token.number.checked_sub(self.first)?).ok()
    }
}
