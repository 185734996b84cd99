//! Edits, recalls and reactions in memory.

use bytes::Bytes;

use super::{Conversation, Kept};
use crate::store::change::{Target, check_change, edited, react, wiped_headers};
use crate::store::limits::octets_of_stored;
use crate::store::{IN_REPLY_TO, MessageId, MessageKind, NewMessage, StoreError};

impl Kept {
    pub(super) fn octets(&self) -> usize {
        let original = self.original.as_ref().map_or(0, |original| octets_of_stored(original));
        octets_of_stored(&self.message) + original
    }

    /// Takes what was said away, for good
    fn wipe(&mut self) {
        self.message.headers = wiped_headers(std::mem::take(&mut self.message.headers));
        self.message.body = Bytes::new();
        self.message.reactions.clear();
        self.original = None;
    }
}

impl Conversation {
    /// The message with this id
    pub(super) fn find(&self, id: MessageId) -> Option<&Kept> {
        self.messages.iter().rev().find(|kept| kept.message.message_id == id)
    }

    /// Makes the change of a message that gets the number `seq`; tells by how many octets the conversation grew and shrank
    pub(super) fn change(
        &mut self,
        message: &NewMessage,
        seq: u64,
    ) -> Result<(usize, usize), StoreError> {
        let Some(change) = &message.change else { return Ok((0, 0)) };
        let mut messages = self.messages.iter_mut().rev();
        let found = messages.find(|kept| kept.message.message_id == change.target);
        let target = found.as_ref().map(|kept| Target::from(&kept.message));
        check_change(change, &message.sender, target.as_ref())?;
        let Some(kept) = found else { return Ok((0, 0)) };
        let before = kept.octets();
        match message.kind {
            MessageKind::Edit => {
                let original = kept.message.clone();
                kept.original.get_or_insert_with(|| Box::new(original));
                if !message.is_kept_whole() {
                    kept.original = None;
                }
                let headers = std::mem::take(&mut kept.message.headers);
                (kept.message.headers, kept.message.body) = edited(headers, message);
                kept.message.edited = Some(seq);
            }
            MessageKind::Reaction => {
                let reactions = kept.message.reactions.clone();
                kept.message.reactions = react(reactions, message)?;
            }
            MessageKind::Recall => {
                kept.wipe();
                kept.message.recalled = Some(seq);
                let recalled = kept.message.seq;
                let (grown, shrunk) = (kept.octets(), before);
                return Ok((grown, shrunk + self.recall(recalled, change.target)));
            }
            _ => {}
        }
        Ok((kept.octets(), before))
    }

    /// Takes the edits of a recalled message away, too; gives their octets
    fn recall(&mut self, seq: u64, target: MessageId) -> usize {
        self.fading.insert(seq, 0);
        let id = target.to_string();
        let mut octets = 0;
        for kept in self.messages.iter_mut().rev().take_while(|kept| kept.message.seq > seq) {
            let edits = |(name, value): &(String, String)| name == IN_REPLY_TO && *value == id;
            if kept.message.kind == MessageKind::Edit && kept.message.headers.iter().any(edits) {
                let before = kept.octets();
                kept.wipe();
                octets += before - kept.octets();
            }
        }
        octets
    }
}
