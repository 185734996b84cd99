//! A client and a server session joined in memory

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use stomp_codec::client::{self, CloseReason, Event};
use stomp_codec::server::{self, AckMode};
use stomp_codec::{Command, Frame, Version, Versions};
use support::{Pair, ServerEvent, message};

fn send(body: &str) -> Frame {
    Frame::new(Command::Send).with_header("destination", "/q").with_body(body.to_owned())
}

fn pair(version: Version) -> Pair {
    let client = client::Config::new("h").versions(Versions::NONE.with(version));
    Pair::connected(client, server::Config::default())
}

/// S11-CON-04, S10-CON-01, S11-VER-25, S10-DIS-01, S10-DIS-05, S11-ACK-25, in every version and with octets
/// in pieces of any size
#[test]
fn a_whole_session_works_in_every_version() {
    for version in Version::ALL {
        for piece in [1, 2, 7, usize::MAX] {
            let client = client::Config::new("h").versions(Versions::NONE.with(version));
            let mut pair = Pair::new(client, server::Config::default());
            pair.piece = piece;
            pair.drive();
            assert!(matches!(
                pair.client_events.remove(0),
                Event::Connected { version: agreed, .. } if agreed == version
            ));
            pair.server_events.clear();

            let (subscription, receipt) =
                pair.client.subscribe("/q", AckMode::Client, &[], true).unwrap();
            pair.drive();
            let ServerEvent::Subscribe { id, ack, destination, .. } = pair.server_events.remove(0)
            else {
                panic!()
            };
            assert_eq!((ack, &*destination), (AckMode::Client, "/q"));
            assert!(matches!(
                pair.client_events.remove(0),
                Event::Receipt { receipt: got, .. } if Some(got) == receipt
            ));

            pair.client.send(send("hello"), None, false).unwrap();
            pair.drive();
            let ServerEvent::Send { send, receipt: None } = pair.server_events.remove(0) else {
                panic!()
            };
            assert_eq!(send.body(), b"hello");

            pair.server.deliver(&id, &message("m-1", "a\0b"), 1, false).unwrap();
            pair.server.deliver(&id, &message("m-2", ""), 2, true).unwrap();
            pair.drive();
            let Event::Message { message: first, subscription: got } = pair.client_events.remove(0)
            else {
                panic!()
            };
            assert_eq!(got, subscription);
            assert_eq!(first.body(), b"a\0b");
            let Event::Message { message: second, .. } = pair.client_events.remove(0) else {
                panic!()
            };
            assert_eq!(second.header("redelivered").as_deref(), Some("true"));
            assert_eq!(second.ack().is_some(), version == Version::V1_2);

            pair.client.ack(&second, None, false).unwrap();
            pair.drive();
            let ServerEvent::Ack { tokens, .. } = pair.server_events.remove(0) else { panic!() };
            assert_eq!(tokens, [1, 2]);

            pair.client.disconnect(pair.now);
            pair.drive();
            assert!(matches!(pair.server_events.remove(0), ServerEvent::Disconnect { .. }));
            let ServerEvent::Closed { reason, returned } = pair.server_events.remove(0) else {
                panic!()
            };
            assert_eq!((reason, returned), (server::CloseReason::Disconnect, vec![]));
            assert!(matches!(
                pair.client_events.remove(0),
                Event::Closed { reason: CloseReason::Disconnect { confirmed: true }, .. }
            ));
        }
    }
}

/// S11-HB-25, S11-HB-28: both sides keep each other alive, and notice when the other is gone
#[test]
fn heart_beats_keep_an_idle_session_alive() {
    let mut pair = pair(Version::V1_2);
    let moved = pair.pass(Duration::from_secs(600));
    // One octet every 9 s in each direction.
    assert_eq!(moved, 2 * (600 / 9));
    assert!(pair.client_events.is_empty() && pair.server_events.is_empty());
}
