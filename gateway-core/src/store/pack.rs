//! Lists of texts as one value of a database.

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
