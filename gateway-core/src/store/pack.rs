//! Lists of texts as one value of a database.

use super::Reaction;

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
        }
    }
}
