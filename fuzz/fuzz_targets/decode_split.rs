//! The same octets cut anywhere give the same items and the same error
//!
//! Octets 2 to 9 say where to cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stomp_im_fuzz::{Setting, decode, decode_chunks};

fuzz_target!(|data: &[u8]| {
    let Some((setting, data)) = Setting::split(data) else { return };
    let Some((cuts, data)) = data.split_at_checked(8) else { return };
    let mut pieces = Vec::new();
    let mut rest = data;
    for cut in cuts {
        let (piece, after) = rest.split_at(usize::from(*cut).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    let whole = decode(setting.decoder(), [data]);
    assert_eq!(decode(setting.decoder(), pieces.iter().copied()), whole);
    assert_eq!(decode_chunks(setting.chunk_decoder(), pieces), whole);
    assert_eq!(decode(setting.decoder(), data.chunks(1)), whole);
    assert_eq!(decode_chunks(setting.chunk_decoder(), data.chunks(1)), whole);
});
