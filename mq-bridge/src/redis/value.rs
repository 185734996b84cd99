//! Taking answers apart. An answer of another form than expected reads as nothing.

use ::redis::Value;

pub(super) fn octets(value: Value) -> Vec<u8> {
    match value {
        Value::BulkString(octets) => octets,
        Value::SimpleString(text) => text.into_bytes(),
        _ => Vec::new(),
    }
}

pub(super) fn text(value: Value) -> String {
    match String::from_utf8(octets(value)) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

pub(super) fn number(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        Value::BulkString(octets) => {
            std::str::from_utf8(octets).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
        }
        _ => 0,
    }
}

pub(super) fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) | Value::Set(list) => list,
        Value::Map(pairs) => pairs.into_iter().flat_map(|(key, value)| [key, value]).collect(),
        _ => Vec::new(),
    }
}

/// The first so many of a list, with nothing where it is shorter.
pub(super) fn items<const N: usize>(value: Value) -> [Value; N] {
    let mut items = list(value).into_iter();
    std::array::from_fn(|_| items.next().unwrap_or(Value::Nil))
}
