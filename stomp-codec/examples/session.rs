//! Drives a server session by hand: octets and the time in, octets and events out
//!
//! `cargo run -p stomp-codec --example session --no-default-features`

use std::time::Instant;

use bytes::Bytes;
use stomp_codec::server::{Accepted, Config, Event, Session};
use stomp_codec::{EncodeError, SharedMessage};

fn main() -> Result<(), EncodeError> {
    // The number is what a broker would call a delivery tag.
    let mut session: Session<u64> = Session::new(Config::default(), Instant::now());
    let mut subscription = None;
    for octets in [
        "CONNECT\naccept-version:1.2\nhost:example.org\nlogin:alice\n\n\0",
        "SUBSCRIBE\nid:0\ndestination:/queue/a\nack:client-individual\nreceipt:1\n\n\0",
        "SEND\ndestination:/queue/a\nreceipt:2\n\nhello\0",
        "ACK\nid:0-0\n\n\0DISCONNECT\nreceipt:3\n\n\0",
    ] {
        // 1. What was read.
        session.handle_bytes(Instant::now(), Bytes::from(octets));
        // 2. What it means.
        while let Some(event) = session.poll_event() {
            match event {
                Event::Connect { connect, version } => {
                    println!("-- {:?} connects with {version}", connect.login());
                    session.accept(Instant::now(), Accepted::new("unguessable"));
                }
                Event::Subscribe { id, destination, receipt, .. } => {
                    println!("-- subscribes to {destination}");
                    subscription = Some(id);
                    if let Some(receipt) = receipt {
                        session.receipt(receipt, &[]);
                    }
                }
                Event::Send { send, receipt } => {
                    if let Some(receipt) = receipt {
                        session.receipt(receipt, &[("stored", "true")]);
                    }
                    let message = SharedMessage::relay(send.frame(), "m-1", &[])?;
                    if let Some(subscription) = &subscription {
                        if let Err(error) = session.deliver(subscription, &message, 7, false) {
                            println!("-- not delivered: {error}");
                        }
                    }
                }
                Event::Ack { tokens, .. } => println!("-- consumed: {tokens:?}"),
                Event::Disconnect { receipt: Some(receipt) } => session.receipt(receipt, &[]),
                Event::Closed { reason, returned } => {
                    println!("-- {reason}; goes back: {returned:?}")
                }
                event => println!("-- {event:?}"),
            }
        }
        // 3. What to write, and when to come back without octets.
        while let Some(transmit) = session.poll_transmit() {
            println!("{}", String::from_utf8_lossy(&transmit.into_bytes()));
        }
        println!("-- next deadline: {:?}", session.poll_timeout().map(|it| it - Instant::now()));
    }
    Ok(())
}
