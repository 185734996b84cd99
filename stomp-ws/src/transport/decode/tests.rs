use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use proptest::prelude::*;

use super::*;

/// Everything that comes out of `octets`, read in pieces of `size`: payload, pings, and how it ended.
fn read(role: Role, limit: usize, octets: &[u8], size: usize) -> (Vec<u8>, Vec<Vec<u8>>, String) {
    let mut reader = FrameReader::new(role, limit);
    let (mut payload, mut pings) = (Vec::new(), Vec::new());
    for piece in octets.chunks(size) {
        let mut piece = piece.to_vec();
        let mut rest = &mut piece[..];
        while !rest.is_empty() {
            let decoded = reader.decode(rest);
            payload.extend_from_slice(&rest[..decoded.payload]);
            match decoded.outcome {
                Ok(None) => assert_eq!(decoded.rest, 0),
                Ok(Some(Control::Ping(ping))) => pings.push(ping),
                Ok(Some(Control::Close(close))) => {
                    return (payload, pings, format!("close {}", close.code));
                }
                Err(TransportError::Protocol { .. }) => {
                    return (payload, pings, "protocol".to_owned());
                }
                Err(TransportError::InvalidUtf8) => return (payload, pings, "utf-8".to_owned()),
                Err(TransportError::MessageTooBig { .. }) => {
                    return (payload, pings, "size".to_owned());
                }
                Err(other) => panic!("{other}"),
            }
            let len = rest.len();
            rest = &mut rest[len - decoded.rest..];
        }
    }
    (payload, pings, "open".to_owned())
}

/// The same, as tokio-websockets reads it.
fn reference(role: Role, limit: usize, octets: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>, String) {
    use tokio_websockets::proto::ProtocolError;
    use tokio_websockets::{ClientBuilder, Error, Limits, ServerBuilder};

    let io = tokio::io::join(octets, tokio::io::sink());
    let limits = Limits::default().max_payload_len(Some(limit));
    let mut stream = match role {
        Role::Server => ServerBuilder::new().limits(limits).serve(io),
        Role::Client => ClientBuilder::new().limits(limits).take_over(io),
    };
    let (mut payload, mut pings) = (Vec::new(), Vec::new());
    loop {
        match stream.next().now_or_never().unwrap() {
            None | Some(Err(Error::Io(_))) => return (payload, pings, "open".to_owned()),
            Some(Ok(message)) if message.is_ping() => pings.push(message.as_payload().to_vec()),
            Some(Ok(message)) if message.is_close() => {
                let (code, _) = message.as_close().unwrap();
                return (payload, pings, format!("close {}", u16::from(code)));
            }
            Some(Ok(message)) if message.is_pong() => {}
            Some(Ok(message)) => payload.extend_from_slice(&Bytes::from(message.into_payload())),
            Some(Err(Error::PayloadTooLong { .. })) => return (payload, pings, "size".to_owned()),
            Some(Err(Error::Protocol(ProtocolError::InvalidUtf8))) => {
                return (payload, pings, "utf-8".to_owned());
            }
            Some(Err(Error::Protocol(_))) => return (payload, pings, "protocol".to_owned()),
            Some(Err(other)) => panic!("{other}"),
        }
    }
}

fn frame(first: u8, key: Option<[u8; 4]>, payload: &[u8], wide: usize) -> Vec<u8> {
    let bit = if key.is_some() { 0x80 } else { 0 };
    let mut out = vec![first];
    match (payload.len(), wide) {
        (len @ 0..=125, 0) => out.push(bit | u8::try_from(len).unwrap()),
        (len @ 0..=65_535, 0 | 1) => {
            out.push(bit | 126);
            out.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        (len, _) => {
            out.push(bit | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    let mut payload = payload.to_vec();
    if let Some(key) = key {
        out.extend(key);
        mask(&mut payload, key);
    }
    out.extend(payload);
    out
}

fn payloads() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[ -~é€😀\0\n]{0,40}".prop_map(String::into_bytes),
        2 => proptest::collection::vec(any::<u8>(), 0..12),
        1 => (100_usize..300).prop_map(|len| vec![b'x'; len]),
        1 => prop_oneof![Just(1000_u16), Just(1005), Just(1016), Just(3000), Just(999)]
            .prop_map(|code| code.to_be_bytes().to_vec()),
    ]
}

/// Frames that are mostly right: first octets of each kind, rarely a broken one.
fn frames(role: Role) -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        3 => Just(0x81_u8), 3 => Just(0x82), 3 => Just(0x01), 2 => Just(0x02), 4 => Just(0x00), 4 => Just(0x80),
        2 => Just(0x89), 1 => Just(0x8a), 1 => Just(0x88), 1 => any::<u8>(),
    ];
    let masked = prop_oneof![30 => Just(role == Role::Server), 1 => any::<bool>()];
    let wide = prop_oneof![30 => Just(0_usize), 1 => 0..3_usize];
    let one = (first, masked, any::<[u8; 4]>(), payloads(), wide).prop_map(
        |(first, masked, key, payload, wide)| {
            // The other does not look at an empty last fragment: see `text_may_not_end_inside_a_character`.
            let empty_end = first == 0x80 && payload.is_empty();
            let payload = if empty_end { b"x".to_vec() } else { payload };
            frame(first, masked.then_some(key), &payload, wide)
        },
    );
    proptest::collection::vec(one, 0..12).prop_map(|frames| frames.concat())
}

/// Enough to find each rule that was broken on purpose.
const CASES: u32 = 3000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    /// W-26, W-28, W-30, W-32: two implementations agree on every sequence of frames, cut anywhere
    #[test]
    fn agrees_with_another_implementation(
        (role, octets) in prop_oneof![Just(Role::Server), Just(Role::Client)]
            .prop_flat_map(|role| (Just(role), frames(role))),
        size in 1_usize..64,
    ) {
        let (payload, pings, end) = read(role, 400, &octets, size);
        let (whole, whole_pings, whole_end) = read(role, 400, &octets, usize::MAX);
        prop_assert_eq!((&whole_pings, &whole_end), (&pings, &end));
        // Of a broken message, more may have come out where it came in smaller pieces.
        prop_assert!(payload.starts_with(&whole) && (payload == whole || end == "utf-8"));
        let (expected, expected_pings, expected_end) = reference(role, 400, &octets);
        // The other looks at the text of a fragment before it looks at the size of the message.
        let both = end == "size" && expected_end == "utf-8";
        prop_assert!(end == expected_end || both, "{} and not {}", end, expected_end);
        prop_assert_eq!(pings, expected_pings);
        // The other gives whole messages only; a message that is cut or broken has begun here.
        prop_assert!(payload.starts_with(&expected));
    }
}

#[test]
fn what_is_read_together_comes_out_together() {
    let key = Some([1, 2, 3, 4]);
    let octets = [
        frame(0x81, key, b"one", 0),
        frame(0x82, key, b"", 0),
        frame(0x01, key, "é".as_bytes().get(..1).unwrap(), 0),
        frame(0x80, key, "é".as_bytes().get(1..).unwrap(), 0),
    ]
    .concat();
    let mut buffer = octets;
    let decoded = FrameReader::new(Role::Server, 100).decode(&mut buffer);
    assert_eq!(&buffer[..decoded.payload], "oneé".as_bytes());
}

/// W-26
#[test]
fn text_is_checked_while_it_arrives() {
    let octets = frame(0x81, Some([0; 4]), &[b'a', 0xff, b'b', b'c'], 0);
    assert_eq!(read(Role::Server, 100, &octets[..8], 1).2, "utf-8");
}

/// W-26
#[test]
fn text_may_not_end_inside_a_character() {
    for end in [&b"x"[..], b""] {
        let octets = [frame(0x01, None, b"\xe8", 0), frame(0x80, None, end, 0)].concat();
        assert_eq!(read(Role::Client, 100, &octets, 100).2, "utf-8");
    }
    assert_eq!(read(Role::Client, 100, &frame(0x81, None, b"\xe8", 0), 100).2, "utf-8");
}

/// V-06: no length is believed before it is checked
#[test]
fn the_largest_length_is_too_big_and_overflows_nothing() {
    for first in [0x81, 0x82] {
        let mut octets = vec![first, 0xff];
        octets.extend(u64::MAX.to_be_bytes());
        octets.extend([0; 4]);
        assert_eq!(read(Role::Server, usize::MAX - 1, &octets, 3).2, "size");
    }
    let mut octets = frame(0x02, Some([0; 4]), b"x", 0);
    octets.extend([0x80, 0xff]);
    octets.extend(u64::MAX.to_be_bytes());
    octets.extend([0; 4]);
    assert_eq!(read(Role::Server, usize::MAX, &octets, 3).2, "size");
}
