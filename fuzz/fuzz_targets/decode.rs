//! Any octets: no panic, limits hold, and the two decoders agree
#![no_main]

use libfuzzer_sys::fuzz_target;
use stomp_codec::Item;
use stomp_im_fuzz::{Setting, decode, decode_chunks};

fuzz_target!(|data: &[u8]| {
    let Some((setting, data)) = Setting::split(data) else { return };
    let whole = decode(setting.decoder(), [data]);
    assert_eq!(decode_chunks(setting.chunk_decoder(), [data]), whole);
    for item in &whole.0 {
        let Item::Frame(frame) = item else { continue };
        assert!(frame.body().len() <= setting.limits.body);
        assert!(frame.headers().len() <= setting.limits.headers);
        for (name, value) in frame.headers() {
            assert!(!name.is_empty());
            assert!(!name.contains('\0') && !value.contains('\0'));
            assert!(name.len() + value.len() < setting.limits.header_line);
            assert!(frame.has_header(&name));
        }
        let _ = format!("{frame:?}");
        let _ = frame.text();
    }
    if let Some(error) = whole.1 {
        assert!(error.offset() <= data.len() as u64);
    }
});
