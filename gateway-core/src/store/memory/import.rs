//! Messages of another store, in memory.

use super::{Kept, State, begin};
use crate::names::ConversationId;
use crate::store::import::taken;
use crate::store::{Imported, StoreError};

impl State {
    pub(super) fn import(
        &mut self,
        id: &ConversationId,
        batch: Vec<Imported>,
        max_octets: usize,
    ) -> Result<u64, StoreError> {
        let conversation = begin(&mut self.conversations, &mut self.direct, id);
        let before = conversation.last_seq;
        for one in batch.iter().map(|one| &one.message).filter(|one| one.seq <= before) {
            let here = conversation.find(one.message_id);
            if here.is_none_or(|here| here.message.seq != one.seq) {
                return Err(taken(one.seq));
            }
        }
        let (mut new, mut octets) = (0, 0);
        for one in batch.into_iter().filter(|one| one.message.seq > before) {
            conversation.gap = one.gap_after(conversation.last_seq).unwrap_or(conversation.gap);
            let (counts, until) = one.counts();
            conversation.counted += u64::from(counts);
            let Imported { message, original } = one;
            conversation.last_seq = message.seq;
            conversation.last_time = conversation.last_time.max(message.timestamp);
            conversation.fading.extend(until.map(|until| (message.seq, until)));
            let kept = Kept { message, counted: conversation.counted, original };
            octets += kept.octets();
            conversation.messages.push_back(kept);
            new += 1;
        }
        self.octets += octets;
        self.oldest.extend((0..new).map(|_| id.clone()));
        self.forget(max_octets);
        Ok(new)
    }
}
