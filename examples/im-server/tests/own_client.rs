//! The client of stomp-ws with the server: over WebSocket and over TCP.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::PATIENCE;
use common::server::{Server, password};
use stomp_codec::server::AckMode;
use stomp_ws::client::{Client, ConnectError, ConnectOptions, Subscription};
use tokio::time::timeout;

const COUNT: u64 = 500;

async fn sign_in(url: &str, user: &str, device: &str) -> Client {
    let options = ConnectOptions::new().credentials(user, password(user)).header("device", device);
    Client::connect(url, options).await.expect("signed in")
}

async fn inbox(client: &Client) -> Subscription {
    let subscribe = client.subscribe("/inbox").ack(AckMode::ClientIndividual);
    subscribe.confirmed().await.expect("subscribed").0
}

/// P2: many messages under way, half of them acknowledged, the other half again after the connection.
async fn half_acknowledged(url: String, other_url: String) {
    let bob = sign_in(&url, "bob", "phone").await;
    let mut messages = inbox(&bob).await;
    let alice = sign_in(&other_url, "alice", "desk").await;
    assert_eq!(alice.connected_header("user-name").as_deref(), Some("alice"));
    let mut receipts = Vec::new();
    for number in 1..=COUNT {
        let send = alice.send("/user/bob", number.to_string());
        receipts.push(send.receipt().await.expect("sent"));
    }
    for (receipt, number) in receipts.into_iter().zip(1..) {
        let receipt = receipt.await.expect("receipted");
        assert_eq!(receipt.header("seq"), Some(number.to_string().into()));
    }
    for number in 1..=COUNT {
        let message = messages.recv().await.expect("a message");
        assert_eq!(message.body(), number.to_string().as_bytes());
        if number.is_multiple_of(2) {
            bob.ack(&message).confirmed().await.expect("acknowledged");
        }
    }
    drop(messages);
    assert!(bob.disconnect().await.is_confirmed());

    let bob = sign_in(&url, "bob", "phone").await;
    let mut messages = inbox(&bob).await;
    for number in (1..=COUNT).step_by(2) {
        let message = messages.recv().await.expect("a message");
        assert_eq!(message.header("seq"), Some(number.to_string().into()));
        assert_eq!(message.header("redelivered").as_deref(), Some("true"));
        bob.ack(&message).await.expect("acknowledged");
    }
    assert!(bob.disconnect().await.is_confirmed());
    assert!(alice.disconnect().await.is_confirmed());
}

#[tokio::test]
async fn p2_it_works_over_websocket_and_over_tcp() {
    let server = Server::start(&[]);
    let websocket = half_acknowledged(server.ws_url(), server.tcp_url());
    timeout(2 * PATIENCE, websocket).await.expect("in time");
    let server = Server::start(&[]);
    let tcp = half_acknowledged(server.tcp_url(), server.ws_url());
    timeout(2 * PATIENCE, tcp).await.expect("in time");
}

#[tokio::test]
async fn a_refused_sign_in_is_an_error_with_the_servers_words() {
    let server = Server::start(&[]);
    for url in [server.ws_url(), server.tcp_url()] {
        let options = ConnectOptions::new()
            .credentials("bob", "wrong")
            .connect_timeout(Duration::from_secs(60));
        match Client::connect(&url, options).await {
            Err(ConnectError::Refused(error)) => {
                assert_eq!(error.message(), "authentication failed");
            }
            other => panic!("{other:?}"),
        }
    }
}
