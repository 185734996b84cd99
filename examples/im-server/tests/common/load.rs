//! What the tests under load share: chance, and what a device has got.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::wire::Frame;

/// xorshift64*: enough for choosing moments, and repeatable by its seed.
pub struct Random(u64);

impl Random {
    /// A stream of its own for each number.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self((seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1)
    }

    /// At least 0 and below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// What a message is, wherever it is seen: it must be the same everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub conversation: String,
    pub seq: u64,
    pub message_id: String,
}

impl Identity {
    /// That of a MESSAGE or a RECEIPT.
    pub fn of(frame: &Frame) -> Self {
        Self {
            conversation: frame.header("conversation").to_owned(),
            seq: frame.seq(),
            message_id: frame.header("message-id").to_owned(),
        }
    }
}

/// What one device got.
#[derive(Debug, Default)]
pub struct Got {
    pub messages: HashMap<String, Identity>,
    /// The last message of each conversation that was new to the device.
    last: HashMap<String, u64>,
    pub repeats: usize,
}

impl Got {
    /// Takes a message in and checks it against those before.
    pub fn take(&mut self, device: &str, message: &Frame) {
        let key = message.header("idempotency-key").to_owned();
        let identity = Identity::of(message);
        assert_eq!(message.text(), format!("body of {key}"));
        if let Some(known) = self.messages.get(&key) {
            assert_eq!(known, &identity, "{device}: a repeat with another identity");
            let marked = message.find("redelivered") == Some("true");
            assert!(marked, "{device}: {key} came twice without a mark: {message:?}");
            self.repeats += 1;
            return;
        }
        let last = self.last.entry(identity.conversation.clone()).or_default();
        assert!(
            identity.seq > *last,
            "{device}: {} of {} came after {last}",
            identity.seq,
            identity.conversation,
        );
        *last = identity.seq;
        self.messages.insert(key, identity);
    }
}

/// Sets flags when it goes out of scope, also by a panic.
pub struct SetOnDrop<'a>(pub &'a [&'a AtomicBool]);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|flag| flag.store(true, Ordering::Relaxed));
    }
}

/// Waits for something that is bound to come.
pub fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + 2 * PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
