//! Lists of texts as one value of a database.

use bytes::Bytes;

use super::{MessageId, NewMessage, Reaction, StoredMessage};
use crate::names::ConversationId;

/// Writes texts one after the other, each after its length in octets as four octets, lowest first
pub(in crate::store) fn pack<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut packed = Vec::new();
    for text in texts {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        packed.extend_from_slice(&length.to_le_bytes());
        packed.extend_from_slice(text.as_bytes());
    }
    packed
}

pub(in crate::store) fn pack_headers(headers: &[(String, String)]) -> Vec<u8> {
    pack(headers.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]))
}

pub(in crate::store) fn unpack_headers(packed: &[u8]) -> Option<Vec<(String, String)>> {
    Some(pairs(unpack(packed)?).collect())
}

pub(in crate::store) fn pack_reactions(reactions: &[Reaction]) -> Option<Vec<u8>> {
    let texts = reactions.iter().flat_map(|one| [one.user.as_str(), one.text.as_str()]);
    (!reactions.is_empty()).then(|| pack(texts))
}

pub(in crate::store) fn unpack_reactions(packed: Option<&[u8]>) -> Option<Vec<Reaction>> {
    let reaction = |(user, text): (String, String)| Some(Reaction::new(user.parse().ok()?, text));
    pairs(unpack(packed.unwrap_or_default())?).map(reaction).collect()
}

/// All of a message but where it stands, for the outbox
pub(in crate::store) fn pack_copy(message: &NewMessage, id: MessageId, time: u64) -> Vec<u8> {
    let (id, time) = (id.to_string(), time.to_string());
    let device = message.device.as_ref().map_or("", |device| device.as_str());
    let key = message.idempotency_key.as_deref().unwrap_or_default();
    let fixed = [&id, &time, message.sender.as_str(), device, message.kind.as_str(), key];
    let headers = message.headers.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
    let head = pack(fixed.into_iter().chain(headers));
    let length = u32::try_from(head.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes(), head.as_slice(), &message.body].concat()
}

/// Reads what [`pack_copy`] wrote
pub(in crate::store) fn unpack_copy(
    packed: &[u8],
    conversation: ConversationId,
    seq: u64,
) -> Option<StoredMessage> {
    let (length, rest) = packed.split_first_chunk()?;
    let (head, body) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let mut texts = unpack(head)?.into_iter();
    let (id, time) = (texts.next()?.parse().ok()?, texts.next()?.parse().ok()?);
    let mut message =
        NewMessage::new(conversation, texts.next()?.parse().ok()?, Bytes::copy_from_slice(body));
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    message.device = some(texts.next()?).map(|device| device.parse()).transpose().ok()?;
    message.kind = texts.next()?.parse().ok()?;
    message.idempotency_key = some(texts.next()?);
    message.headers = pairs(texts.collect()).collect();
    Some(StoredMessage::new(message, seq, id, time))
}

fn pairs(texts: Vec<String>) -> impl Iterator<Item = (String, String)> {
    let mut texts = texts.into_iter();
    std::iter::from_fn(move || Some((texts.next()?, texts.next()?)))
}

/// Reads what [`pack`] wrote
pub(in crate::store) fn unpack(mut packed: &[u8]) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    while !packed.is_empty() {
        let (length, rest) = packed.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (text, rest) = rest.split_at_checked(length)?;
        texts.push(String::from_utf8(text.to_vec()).ok()?);
        packed = rest;
    }
    Some(texts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packed_texts_unpack_to_the_same(texts in prop::collection::vec(".*", 0..5)) {
            let packed = pack(texts.iter().map(String::as_str));
            prop_assert_eq!(unpack(&packed), Some(texts));
        }

        #[test]
        fn no_octets_make_unpacking_panic(octets in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = unpack(&octets);
            let _ = unpack_copy(&octets, ConversationId::new("group:a").unwrap(), 1);
        }

        #[test]
        fn a_copy_unpacks_to_the_same(
            texts in prop::collection::vec((".*", ".*"), 0..3),
            body in prop::collection::vec(any::<u8>(), 0..9),
            device in prop::option::of("[a-z]{1,3}"),
            key in prop::option::of(".{1,9}"),
        ) {
            let conversation = ConversationId::new("group:a").unwrap();
            let mut message = NewMessage::new(conversation.clone(), "bob".parse().unwrap(), body);
            message.device = device.map(|device| device.parse().unwrap());
            message.idempotency_key = key;
            message.headers = texts;
            let id = MessageId::generate();
            let packed = pack_copy(&message, id, 7);
            let wanted = StoredMessage::new(message, 3, id, 7);
            prop_assert_eq!(unpack_copy(&packed, conversation, 3), Some(wanted));
        }
    }
}
