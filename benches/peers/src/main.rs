//! The codec beside other STOMP parsers, against the bars that are set for it
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml [-- TURNS]`
//!
//! All contenders take turns, a fraction of a millisecond each: what the machine does to one of them it does to all.
//! A ratio is the median of the ratios within a turn. Each is checked once to give the whole frame: all headers,
//! and the body.

mod decode;
mod encode;
mod race;

fn main() {
    let turns = std::env::args().nth(1).and_then(|turns| turns.parse().ok()).unwrap_or(400);
    println!("| bar | what | codec, ns | other, ns | ratio | wanted | |");
    println!("|---|---|---|---|---|---|---|");
    for race in [
        decode::race("decode a", &benches::frame_a(), [10.0, 7.0, 18.0, 8.0]),
        decode::race("decode e", &benches::frame_e(), [10.0, 8.0, 16.0, 10.0]),
        decode::beside_httparse(),
        decode::in_reads(),
        decode::heart_beats(),
        encode::race(),
        encode::around_a_shared_body(),
    ] {
        race.run(turns);
    }
}
