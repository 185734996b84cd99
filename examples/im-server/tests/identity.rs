//! Who is let in beside those with a password: by an endpoint, by a cookie, as a guest.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use common::http;
use common::server::Server;
use common::websocket::WebSocket;
use common::wire::{Wire, encode};
use serde_json::{Value, json};

/// Knows zoe, whose password is `open sesame`, and nobody else.
fn endpoint() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.expect("a connection"));
        }
    });
    address
}

fn answer(stream: TcpStream) {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let question: Value = serde_json::from_slice(&body).expect("JSON");
    let answer = match (question["login"].as_str(), question["secret"].as_str()) {
        (Some("zoe"), Some("open sesame")) => {
            "200 OK\r\ncontent-length: 14\r\n\r\n{\"user\":\"zoe\"}"
        }
        (Some("zoe"), _) => "401 Unauthorized\r\ncontent-length: 0\r\n\r\n",
        _ => "204 No Content\r\n\r\n",
    };
    let _ = write!(reader.get_mut(), "HTTP/1.1 {answer}");
}

fn connect(server: &Server, headers: &[(&str, &str)]) -> Wire {
    let mut wire = Wire::open(server.stomp);
    wire.frame("CONNECT", &[&[("accept-version", "1.2"), ("host", "x")], headers].concat(), "");
    wire
}

#[test]
fn an_endpoint_decides_and_whom_it_names_is_made() {
    let url = format!("http://{}/", endpoint());
    let server = Server::start(&["--no-signup", "--authenticator", &url]);
    let mut refused = connect(&server, &[("login", "zoe"), ("passcode", "wrong")]);
    assert_eq!(refused.error_and_close().header("message"), "authentication failed");
    let mut zoe = connect(&server, &[("login", "zoe"), ("passcode", "open sesame")]);
    zoe.subscribe("i", "/inbox", &[]);
    // Whom the endpoint does not know, the passwords of the server do.
    let mut alice = Wire::sign_in(&server, "alice", "laptop");
    alice.send("/user/zoe", "hello", &[]);
    assert_eq!(zoe.chat_message().text(), "hello");
}

#[test]
fn a_cookie_signs_in_and_a_guest_listens() {
    let server = Server::start(&["--cookie", "im", "--guest", "subscribe /topic/news", "--open"]);
    let account = json!({"name": "alice", "password": common::server::password("alice"),
        "cookie": true});
    let origin = format!("http://{}", server.http);
    let host = server.http.to_string();
    let text = account.to_string();
    let request = format!(
        "POST /api/v1/tokens HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
        text.len(),
    );
    let response = http::exchange(server.http, request.as_bytes());
    let set = response.header("set-cookie").expect("a cookie");
    let cookie = set.split(';').next().expect("a pair");
    let upgrade = |origin: &str, cookie: &str| {
        WebSocket::open(server.http, &[("Origin", origin), ("Cookie", cookie)])
    };
    assert_eq!(upgrade("https://evil.example", cookie).err(), Some(403));
    let user = |cookie: &str| {
        let mut socket = upgrade(&origin, cookie).expect("an upgrade");
        socket.send(1, &encode("CONNECT", &[("accept-version", "1.2"), ("host", "x")], b""));
        let (_, frame) = socket.read().expect("a message");
        let frame = String::from_utf8(frame).expect("UTF-8");
        let line = frame.lines().find_map(|line| line.strip_prefix("user-name:"));
        line.unwrap_or_else(|| panic!("{frame}")).to_owned()
    };
    assert_eq!(user(cookie), "alice");
    assert!(user("a=b").starts_with("guest-"));

    let mut guest = connect(&server, &[]);
    guest.subscribe("n", "/topic/news", &[]);
    let mut alice = Wire::sign_in(&server, "alice", "laptop");
    alice.send("/topic/news", "hello", &[]);
    assert_eq!(guest.message_of("n").text(), "hello");
    guest.frame("SEND", &[("destination", "/topic/news")], "me too");
    guest.error_and_close();
}
