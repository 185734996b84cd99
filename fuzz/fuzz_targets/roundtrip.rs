//! What was decoded, written in any version, is one frame that reads alike, or is refused
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use stomp_codec::{
    Decoder, Frame, Item, Limits, Mode, SharedMessage, Version, encode, encode_transmit,
};
use stomp_im_fuzz::{Setting, decode};

fn plain(frame: &Frame, version: Version) -> Vec<(String, String)> {
    frame
        .headers()
        .filter(|(name, _)| name != "content-length")
        .map(|(name, value)| {
            // Blanks at the edges of a value are padding in 1.0.
            let is_padded = version == Version::V1_0 && !frame.command().is_escape_free();
            let value = if is_padded { value.trim_matches([' ', '\t']) } else { &*value };
            (name.into_owned(), value.to_owned())
        })
        .collect()
}

fuzz_target!(|data: &[u8]| {
    let Some((setting, data)) = Setting::split(data) else { return };
    for item in decode(setting.decoder(), [data]).0 {
        let Item::Frame(frame) = item else { continue };
        for version in Version::ALL {
            let mut wire = BytesMut::from("before");
            if encode(&frame, version, &mut wire).is_err() {
                assert_eq!(wire, "before");
                continue;
            }
            let mut wire = wire.split_off(6);
            assert_eq!(encode_transmit(&frame, version).unwrap().into_bytes(), wire);
            if !frame.command().exists_in(version) {
                continue;
            }
            let mut decoder = Decoder::new(Mode::Strict, Limits::DEFAULT.with_headers(1000));
            decoder.set_version(version);
            let Ok(Some(Item::Frame(copy))) = decoder.decode(&mut wire) else {
                panic!("{version}: {frame:?}")
            };
            assert!(wire.is_empty());
            assert_eq!(copy.command(), frame.command());
            assert_eq!(copy.body(), frame.body());
            assert_eq!(plain(&copy, version), plain(&frame, version));
        }
        if let Ok(shared) = SharedMessage::relay(&frame, "id", &[("from", "me")]) {
            for version in Version::ALL {
                let _ = (shared.omitted(version), shared.size(version));
            }
        }
    }
});
