//! A server session under random octets, times and answers
//!
//! Behind the setting each step is one octet, and for octets to say, as many as it counts.
#![no_main]

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use stomp_codec::server::{
    Accepted, AckMode, Action, Config, Event, ReceiptToken, Session, SubscriptionId,
};
use stomp_codec::{ChunkDecoder, Command, Frame, Item, Limits, Mode, SharedMessage, Version};
use stomp_im_fuzz::Setting;

struct World {
    session: Session<u32>,
    now: Instant,
    subscriptions: Vec<(SubscriptionId, AckMode)>,
    receipts: Vec<ReceiptToken>,
    /// Tokens that the session holds.
    held: BTreeSet<u32>,
    next: u32,
    is_over: bool,
    has_error: bool,
    reader: ChunkDecoder,
    beats: u32,
}

impl World {
    fn take(&mut self, tokens: Vec<u32>) {
        for token in tokens {
            assert!(self.held.remove(&token), "{token} was not held");
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            assert!(!self.is_over, "after the last event: {event:?}");
            let receipt = match event {
                Event::Connect { .. } => {
                    assert!(self.session.poll_event().is_none());
                    self.session.accept(self.now, Accepted::new("s"));
                    None
                }
                Event::Send { send, receipt } | Event::Staged { send, receipt } => {
                    assert!(!send.destination().unwrap().is_empty());
                    receipt
                }
                Event::Subscribe { id, ack, receipt, .. } => {
                    self.subscriptions.push((id, ack));
                    receipt
                }
                Event::Unsubscribe { id, returned, receipt, .. } => {
                    self.subscriptions.retain(|(it, _)| *it != id);
                    self.take(returned);
                    receipt
                }
                Event::Ack { tokens, receipt, .. } | Event::Nack { tokens, receipt, .. } => {
                    assert!(!tokens.is_empty());
                    self.take(tokens);
                    receipt
                }
                Event::Commit { actions, receipt } => {
                    for action in actions {
                        match action {
                            Action::Ack { tokens } | Action::Nack { tokens } => self.take(tokens),
                            _ => {}
                        }
                    }
                    receipt
                }
                Event::Returned { tokens } => {
                    self.take(tokens);
                    None
                }
                Event::Disconnect { receipt } => receipt,
                Event::Closed { returned, .. } => {
                    self.take(returned);
                    assert!(self.held.is_empty(), "lost: {:?}", self.held);
                    self.is_over = true;
                    assert!(self.session.is_closed() && self.session.poll_timeout().is_none());
                    None
                }
                event => panic!("{event:?}"),
            };
            self.receipts.extend(receipt);
        }
    }

    fn write(&mut self) {
        while let Some(transmit) = self.session.poll_transmit() {
            assert!(!self.has_error, "after ERROR: {transmit:?}");
            if transmit.is_heart_beat() {
                self.beats += 1;
                continue;
            }
            let is_text = transmit.is_text();
            let octets = transmit.into_bytes();
            assert_eq!(is_text, std::str::from_utf8(&octets).is_ok());
            if let Some(version) = self.session.version() {
                self.reader.set_version(version);
            }
            self.reader.push(octets);
            let Ok(Some(Item::Frame(frame))) = self.reader.decode() else { panic!() };
            assert!(self.reader.pending() == 0, "one frame at a time");
            assert!(!frame.command().is_client());
            self.has_error = frame.command() == Command::Error;
        }
    }
}

fn message() -> &'static SharedMessage {
    static MESSAGE: OnceLock<SharedMessage> = OnceLock::new();
    MESSAGE.get_or_init(|| {
        let frame = Frame::new(Command::Message)
            .with_header("destination", "/q")
            .with_header("message-id", "m")
            .with_header("odd:\r\n", "\\")
            .with_body("x\0");
        SharedMessage::new(&frame).unwrap()
    })
}

fuzz_target!(|data: &[u8]| {
    let Some((setting, mut data)) = Setting::split(data) else { return };
    let mut now = Instant::now();
    let config = Config::default()
        .mode(setting.mode)
        .limits(setting.limits)
        .window(3)
        .max_subscriptions(4)
        .max_transactions(3)
        .max_transaction_frames(4)
        .max_pending_receipts(4);
    let mut world = World {
        session: Session::new(config, now),
        now,
        subscriptions: Vec::new(),
        receipts: Vec::new(),
        held: BTreeSet::new(),
        next: 0,
        is_over: false,
        has_error: false,
        reader: ChunkDecoder::new(Mode::Strict, Limits::DEFAULT),
        beats: 0,
    };
    let connect = match setting.version {
        Version::V1_0 => "CONNECT\n\n\0",
        Version::V1_1 => "CONNECT\naccept-version:1.1\nheart-beat:1,1\n\n\0",
        Version::V1_2 => "STOMP\naccept-version:1.2\nheart-beat:1000,0\n\n\0",
    };
    world.session.handle_bytes(now, Bytes::from_static(connect.as_bytes()));
    world.events();
    while let Some((step, rest)) = data.split_first() {
        data = rest;
        match step {
            // Octets to say; those of a frame are found by the fuzzer more easily in one piece.
            0..=199 => {
                let length = if *step == 0 { data.len() } else { usize::from(*step) };
                let (octets, rest) = data.split_at(length.min(data.len()));
                data = rest;
                world.session.handle_bytes(now, Bytes::copy_from_slice(octets));
            }
            200..=219 => {
                let index = usize::from(step - 200) % world.subscriptions.len().max(1);
                if let Some((id, ack)) = world.subscriptions.get(index) {
                    let token = world.next;
                    let redelivered = step % 2 == 0;
                    if world.session.deliver(id, message(), token, redelivered).is_ok()
                        && *ack != AckMode::Auto
                    {
                        world.held.insert(token);
                        world.next += 1;
                    }
                }
            }
            220..=229 => {
                if !world.receipts.is_empty() {
                    let index = usize::from(step - 220) % world.receipts.len();
                    let token = world.receipts.swap_remove(index);
                    world.session.receipt(token, &[("k", "v")]);
                }
            }
            230..=239 => {
                now += Duration::from_millis(1 << (step - 230));
                world.session.handle_timeout(now);
            }
            240..=249 => {
                if let Some(due) = world.session.poll_timeout() {
                    now = now.max(due);
                    let before = world.beats;
                    world.session.handle_timeout(now);
                    world.write();
                    assert!(world.beats <= before + 1);
                    assert!(world.session.poll_timeout().is_none_or(|next| next > now));
                }
            }
            250 => world.session.handle_eof(now),
            251 => world.session.fail(now, "failed:\n\\"),
            252 => world.session.close(now),
            253 => world.write(),
            254 => drop(world.session.open_subscription("/temp-queue/x", AckMode::Client)),
            255 => {}
        }
        world.now = now;
        world.events();
        assert!(world.session.queued() < 1 << 20);
    }
    world.session.handle_eof(now);
    while !world.is_over {
        world.events();
        if let Some(token) = world.receipts.pop() {
            world.session.receipt(token, &[]);
        }
    }
    world.write();
    assert_eq!(world.session.queued(), 0);
});
