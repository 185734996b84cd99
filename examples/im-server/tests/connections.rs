//! How many connections the server takes, and what one too many is told.

// Helpers of a test may fail it.
#![allow(clippy::expect_used, clippy::panic)]

mod common;

use common::http;
use common::load::until;
use common::server::{Server, password};
use common::websocket::WebSocket;
use common::wire::{Wire, encode};

const TEXT: u8 = 1;

fn status(server: &Server) -> u16 {
    http::request(server.http, "GET", "/healthz", &[], b"").status
}

/// P7: connections are bounded in number, each kind of them, and one too many is told so.
#[test]
fn p7_one_connection_too_many_is_refused_and_the_others_go_on() {
    let server = Server::start(&["--max-connections", "3"]);
    let mut alice = Wire::sign_in(&server, "alice", "desk");
    let silent = [Wire::open(server.stomp), Wire::open(server.http)];
    until("all places are taken", || status(&server) == 503);

    let refused = http::request(server.http, "POST", "/api/v1/tokens", &[], &[b'x'; 60_000]);
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert_eq!(refused.json()["detail"], "too many connections to this server; try again later");
    assert_eq!(WebSocket::open(server.http, &[]).err(), Some(503));
    let error = Wire::open(server.stomp).error_and_close();
    assert_eq!(error.header("message"), "too many connections to this server; try again later");
    assert_eq!(error.header("retry"), "true");
    alice.send("/user/alice", "still here", &[]);

    drop(silent);
    until("places are given back", || status(&server) == 200);
    let metrics = http::request(server.http, "GET", "/metrics", &[], b"").body;
    let metrics = String::from_utf8(metrics).expect("text");
    let refused = "im_connections_refused_total{limit=\"total\"} ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(refused)).expect("the counter");
    assert!(line.parse::<u64>().expect("a number") >= 4, "{line}");
}

/// A WebSocket takes one place, not another one for the request that opened it.
#[test]
fn a_websocket_is_one_connection_of_its_address() {
    let server = Server::start(&["--max-connections-per-address", "1"]);
    let mut socket = WebSocket::open(server.http, &[]).expect("the only one");
    let passcode = password("alice");
    let headers = [("accept-version", "1.2"), ("host", "h"), ("login", "alice")];
    let headers = [&headers[..], &[("passcode", passcode.as_str())]].concat();
    socket.send(TEXT, &encode("CONNECT", &headers, b""));
    let (_, answer) = socket.read().expect("an answer");
    assert!(answer.starts_with(b"CONNECTED"), "{}", String::from_utf8_lossy(&answer));
    let error = Wire::open(server.stomp).error_and_close();
    assert_eq!(error.header("message"), "too many connections from your address");
    drop(socket);
    until("the place is given back", || status(&server) == 200);
}
