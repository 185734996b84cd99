//! A client session under random octets, times and commands
#![no_main]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use stomp_codec::client::{Config, Event, ReceiptHandle, Session};
use stomp_codec::server::AckMode;
use stomp_codec::{ChunkDecoder, Command, Frame, Item, Limits, Mode};
use stomp_im_fuzz::Setting;

fuzz_target!(|data: &[u8]| {
    let Some((setting, mut data)) = Setting::split(data) else { return };
    let mut now = Instant::now();
    let config = Config::new("h").mode(setting.mode).limits(setting.limits);
    let mut session = Session::new(config, now).unwrap();
    let mut waiting: BTreeSet<ReceiptHandle> = BTreeSet::new();
    let mut subscriptions = Vec::new();
    let mut transactions = Vec::new();
    let mut last_message = None;
    let mut is_over = false;
    let mut has_left = false;
    let mut reader = ChunkDecoder::new(Mode::Strict, Limits::DEFAULT);
    if setting.limits == Limits::DEFAULT {
        let connected = format!("CONNECTED\nversion:{}\nheart-beat:1,1\n\n\0", setting.version);
        session.handle_bytes(now, Bytes::from(connected));
    }
    loop {
        while let Some(event) = session.poll_event() {
            assert!(!is_over, "after the last event: {event:?}");
            match event {
                Event::Receipt { receipt, .. } | Event::ReceiptTimeout { receipt } => {
                    assert!(waiting.remove(&receipt));
                }
                Event::Error { receipt, .. } => {
                    assert!(receipt.is_none_or(|receipt| waiting.remove(&receipt)));
                }
                Event::Message { message, .. } => last_message = Some(message),
                Event::Closed { lost, .. } => {
                    assert_eq!(BTreeSet::from_iter(lost), waiting);
                    is_over = true;
                    assert!(session.poll_timeout().is_none());
                }
                _ => {}
            }
        }
        while let Some(transmit) = session.poll_transmit() {
            assert!(!has_left, "after DISCONNECT: {transmit:?}");
            if transmit.is_heart_beat() {
                continue;
            }
            if let Some(version) = session.version() {
                reader.set_version(version);
            }
            reader.push(transmit.into_bytes());
            let Ok(Some(Item::Frame(frame))) = reader.decode() else { panic!() };
            assert!(reader.pending() == 0 && frame.command().is_client());
            has_left = frame.command() == Command::Disconnect;
        }
        let Some((step, rest)) = data.split_first() else { break };
        data = rest;
        let send = || Frame::new(Command::Send).with_header("destination", "/q").with_body("x\0");
        let receipt = match step {
            0..=199 => {
                let length = if *step == 0 { data.len() } else { usize::from(*step) };
                let (octets, rest) = data.split_at(length.min(data.len()));
                data = rest;
                session.handle_bytes(now, Bytes::copy_from_slice(octets));
                None
            }
            200..=204 => session.send(send(), None, step % 2 == 0).ok().flatten(),
            205..=209 => session.send(send(), transactions.last(), true).ok().flatten(),
            210..=214 => {
                let ack = if step % 2 == 0 { AckMode::Client } else { AckMode::Auto };
                session.subscribe("/q", ack, &[], true).ok().and_then(|(subscription, receipt)| {
                    subscriptions.push(subscription);
                    receipt
                })
            }
            215..=217 => subscriptions.pop().and_then(|subscription| {
                session.unsubscribe(subscription, &[], true).ok().flatten()
            }),
            218..=220 => {
                transactions.extend(session.begin());
                None
            }
            221..=223 => transactions
                .pop()
                .and_then(|transaction| session.commit(transaction, true).ok().flatten()),
            224..=226 => transactions
                .pop()
                .and_then(|transaction| session.abort(transaction, true).ok().flatten()),
            227..=229 => last_message.take().and_then(|message| {
                session.ack(&message, transactions.last(), true).ok().flatten()
            }),
            230..=232 => last_message
                .take()
                .and_then(|message| session.nack(&message, None, true).ok().flatten()),
            233..=239 => {
                now += Duration::from_millis(1 << (step - 230));
                session.handle_timeout(now);
                None
            }
            240..=249 => {
                if let Some(due) = session.poll_timeout() {
                    now = now.max(due);
                    session.handle_timeout(now);
                }
                None
            }
            250 => {
                session.handle_eof(now);
                None
            }
            251 => {
                session.disconnect(now);
                None
            }
            252..=255 => None,
        };
        if let Some(receipt) = receipt {
            assert!(waiting.insert(receipt));
        }
    }
    session.handle_eof(now);
    while let Some(event) = session.poll_event() {
        is_over |= matches!(event, Event::Closed { .. });
    }
    assert!(is_over && session.is_closed());
});
