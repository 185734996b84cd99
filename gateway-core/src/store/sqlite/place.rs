//! The key of a message: its conversation's row number in the upper half, its `seq` in the lower.

/// The last `seq` a conversation can have in this store
pub(super) const MAX_SEQ: u64 = u32::MAX as u64;

pub(super) const fn of(conversation: i64, seq: u64) -> i64 {
    let seq = if seq > MAX_SEQ { MAX_SEQ } else { seq };
    (conversation << 32) | seq.cast_signed()
}

pub(super) const fn seq(place: i64) -> u64 {
    place.cast_unsigned() & MAX_SEQ
}

pub(super) const fn conversation(place: i64) -> i64 {
    place >> 32
}
