//! An instant-messaging server.
fn main() {}
