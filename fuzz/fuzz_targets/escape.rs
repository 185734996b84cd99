//! Any text in a header comes back as it was, in every version that can carry it
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use stomp_codec::{Command, Decoder, EncodeError, Item, Limits, Mode, Version, encode_parts};

fuzz_target!(|input: (&str, &str)| {
    let (name, value) = input;
    if name == "content-length" || name.len() + value.len() > 4096 {
        return;
    }
    for version in Version::ALL {
        for command in [Command::Send, Command::Connect] {
            let mut wire = BytesMut::new();
            let raw = version == Version::V1_0 || command == Command::Connect;
            let refused = name.is_empty()
                || [name, value].iter().any(|text| {
                    text.contains('\0')
                        || (raw && text.contains(['\n', '\r']))
                        || (!raw && version == Version::V1_1 && text.contains('\r'))
                })
                || (raw && name.contains(':'));
            match encode_parts(command, [(name, value)], b"", version, &mut wire) {
                Ok(()) => assert!(!refused),
                Err(error) => {
                    assert!(refused && error == EncodeError::Unencodable { index: 0 });
                    continue;
                }
            }
            let mut decoder = Decoder::new(Mode::Strict, Limits::DEFAULT);
            decoder.set_version(version);
            let Ok(Some(Item::Frame(frame))) = decoder.decode(&mut wire) else {
                panic!("{version} {name:?} {value:?}")
            };
            let (got_name, got_value) = frame.headers().next().unwrap();
            assert_eq!(got_name, name);
            if version == Version::V1_0 && command == Command::Send {
                assert_eq!(got_value, value.trim_matches([' ', '\t']));
            } else {
                assert_eq!(got_value, value);
            }
            assert_eq!(frame.header(name).unwrap(), got_value);
        }
    }
});
