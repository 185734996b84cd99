//! P9: bad input on any door gets one answer that names the fault and the limit, the connection is closed,
//! and nobody else notices.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::http;
use common::server::{Server, password};
use common::websocket::{BINARY, TEXT, WebSocket};
use common::wire::{Wire, encode};

/// Two sessions that were open before and must stay as they are.
struct Witness {
    alice: Wire,
    bob: Wire,
    count: u64,
}

impl Witness {
    fn new(server: &Server) -> Self {
        let alice = Wire::sign_in(server, "alice", "witness");
        let bob = Wire::inbox(server, "bob", "witness");
        Self { alice, bob, count: 0 }
    }

    /// The next message between them has the next number: nothing was lost, nothing added.
    fn assert_untouched(&mut self, after: &str) {
        self.count += 1;
        let receipt = self.alice.send("/user/bob", after, &[]);
        assert_eq!(receipt.seq(), self.count, "after {after}");
        let message = self.bob.message();
        assert_eq!((message.text(), message.seq()), (after, self.count));
        self.bob.ack(&message);
    }
}

fn connect(user: &str) -> Vec<u8> {
    let passcode = password(user);
    let headers = [("accept-version", "1.2"), ("login", user), ("passcode", passcode.as_str())];
    encode("CONNECT", &headers, b"")
}

/// Something wrong: its name, its octets, words that the ERROR's `message` must hold, and the close code
/// over WebSocket.
type BadFrame = (&'static str, Vec<u8>, &'static [&'static str], u16);

/// What is wrong after sign-in.
fn bad_frames() -> Vec<BadFrame> {
    let long = "x".repeat(20_000);
    let many: Vec<(String, String)> =
        (0..200).map(|number| (format!("h{number}"), "v".to_owned())).collect();
    let many: Vec<(&str, &str)> =
        many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    vec![
        ("an unknown command", b"FROBNICATE\n\n\0".to_vec(), &["command"], 1002),
        ("a long command", [b"S".repeat(100), b"\n\n\0".to_vec()].concat(), &["command", "32"], 1009),
        ("a header line that is too long", encode("SEND", &[("x", &long)], b""), &["16384"], 1009),
        ("too many headers", encode("SEND", &many, b""), &["128", "header"], 1009),
        (
            "a body that is too long by its content-length",
            b"SEND\ndestination:/user/bob\ncontent-length:4294967296\n\n".to_vec(),
            &["body", "4194304"], 1009,
        ),
        (
            "a content-length that is none",
            b"SEND\ndestination:/user/bob\ncontent-length:-5\n\nhi\0".to_vec(),
            &["content-length"], 1002,
        ),
        (
            "two different content-lengths",
            b"SEND\ndestination:/user/bob\ncontent-length:2\ncontent-length:3\n\nhi\0".to_vec(),
            &["content-length"], 1002,
        ),
        (
            "a content-length that is too short",
            b"SEND\ndestination:/user/bob\ncontent-length:1\n\nhi\0".to_vec(),
            &["content-length"], 1002,
        ),
        (
            "an undefined escape",
            b"SEND\ndestination:/user/b\\tob\n\nhi\0".to_vec(),
            &["escape"], 1002,
        ),
        ("headers that are not UTF-8", b"SEND\ndestination:\xff\n\n\0".to_vec(), &["UTF-8"], 1002),
        ("a header without colon", b"SEND\ndestination\n\n\0".to_vec(), &["colon"], 1002),
        ("no destination", b"SEND\n\nhi\0".to_vec(), &["destination"], 1002),
        ("an empty destination", b"SEND\ndestination:\n\nhi\0".to_vec(), &["destination"], 1002),
        ("a destination that is none", b"SEND\ndestination:/x/y\n\nhi\0".to_vec(), &["destination"], 1008),
        ("no subscription id", b"SUBSCRIBE\ndestination:/inbox\n\n\0".to_vec(), &["id"], 1002),
        (
            "an unknown ack mode",
            b"SUBSCRIBE\nid:1\ndestination:/inbox\nack:maybe\n\n\0".to_vec(),
            &["ack"], 1002,
        ),
        (
            "the same subscription id twice",
            b"SUBSCRIBE\nid:1\ndestination:/user/bob\n\n\0SUBSCRIBE\nid:1\ndestination:/user/bob\n\n\0"
                .to_vec(),
            &["subscription"], 1002,
        ),
        ("an ACK of nothing", b"ACK\nid:no-such-ack\n\n\0".to_vec(), &["ACK"], 1002),
        ("an unknown transaction", b"COMMIT\ntransaction:none\n\n\0".to_vec(), &["transaction"], 1002),
        ("a second CONNECT", connect("bob"), &["session"], 1002),
        ("a server's frame", b"MESSAGE\nmessage-id:1\n\nhi\0".to_vec(), &["command"], 1002),
        (
            "an idempotency-key that is too long",
            encode(
                "SEND",
                &[("destination", "/user/bob"), ("idempotency-key", &"k".repeat(129))],
                b"hi",
            ),
            &["idempotency-key", "128"], 1008,
        ),
        (
            "an unknown kind",
            encode("SEND", &[("destination", "/user/bob"), ("kind", "shout")], b"hi"),
            &["kind"], 1008,
        ),
        (
            "read up to nowhere",
            encode("SEND", &[("destination", "/user/bob"), ("kind", "read")], b""),
            &["up-to"], 1008,
        ),
    ]
}

/// What is wrong before sign-in.
fn bad_openings() -> Vec<(&'static str, Vec<u8>)> {
    let version = encode("CONNECT", &[("accept-version", "3.0"), ("login", "bob")], b"");
    let device = encode(
        "CONNECT",
        &[
            ("accept-version", "1.2"),
            ("login", "bob"),
            ("passcode", &password("bob")),
            ("device", "a b"),
        ],
        b"",
    );
    vec![
        ("SEND before CONNECT", encode("SEND", &[("destination", "/user/bob")], b"hi")),
        ("an HTTP request", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
        ("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(10)),
        ("binary noise", (0..=255_u8).cycle().take(4096).collect()),
        ("an endless command", b"A".repeat(1 << 20)),
        ("an endless header", [b"CONNECT\nlogin:".to_vec(), b"a".repeat(1 << 20)].concat()),
        ("a body on CONNECT", b"CONNECT\naccept-version:1.2\ncontent-length:99999\n\n".to_vec()),
        ("a version that does not exist", version),
        ("a device name that is none", device),
    ]
}

#[test]
fn p9_tcp_answers_bad_frames_with_one_error_and_closes() {
    let server = Server::start(&[]);
    let mut witness = Witness::new(&server);
    for (name, octets, words, _) in bad_frames() {
        let mut carol = Wire::sign_in(&server, "carol", "desk");
        carol.try_raw(&octets);
        let error = carol.error_and_close();
        for word in words {
            let message = error.header("message");
            assert!(message.contains(word), "{name}: {message:?} does not say {word:?}");
        }
        witness.assert_untouched(name);
    }
}

#[test]
fn p9_tcp_answers_a_bad_opening_with_one_error_and_closes() {
    let server = Server::start(&[]);
    let mut witness = Witness::new(&server);
    for (name, octets) in bad_openings() {
        let mut stranger = Wire::open(server.stomp);
        stranger.try_raw(&octets);
        // What is still on its way when the server closes may cost the stranger its ERROR.
        if let Some(error) = stranger.closed() {
            assert!(!error.header("message").is_empty(), "{name}");
        } else {
            assert!(octets.len() > 1 << 16, "{name}: closed without an ERROR");
        }
        witness.assert_untouched(name);
    }
}

#[test]
fn p9_websocket_answers_bad_frames_with_an_error_and_a_close_code() {
    let server = Server::start(&[]);
    let mut witness = Witness::new(&server);
    for (name, octets, words, close_code) in bad_frames() {
        let mut socket = WebSocket::open(server.http, &[]).expect("switching protocols");
        socket.send(TEXT, &connect("carol"));
        let (_, connected) = socket.read().expect("CONNECTED");
        assert!(connected.starts_with(b"CONNECTED\n"));
        socket.send(BINARY, &octets);
        let (last, code) = socket.closing();
        assert!(last.starts_with("ERROR\n"), "{name}: {last:?}");
        for word in words {
            assert!(last.contains(word), "{name}: {last:?} does not say {word:?}");
        }
        assert_eq!(code, close_code, "{name}");
        witness.assert_untouched(name);
    }
}

/// RFC 6455 itself broken, and the page of a stranger.
#[test]
fn p9_websocket_answers_what_is_no_websocket_with_the_right_code() {
    let server = Server::start(&["--allow-origin", "https://chat.example"]);
    let mut witness = Witness::new(&server);

    let mut socket = WebSocket::open(server.http, &[]).expect("switching protocols");
    socket.send(TEXT, b"CONNECT\nlogin:\xff\n\n\0");
    assert_eq!(socket.closing().1, 1007, "a text message that is not UTF-8");
    witness.assert_untouched("invalid UTF-8");

    let mut socket = WebSocket::open(server.http, &[]).expect("switching protocols");
    socket.raw(&[0x81, 0x01, b'A']);
    assert_eq!(socket.closing().1, 1002, "an unmasked message");
    witness.assert_untouched("unmasked");

    let mut socket = WebSocket::open(server.http, &[]).expect("switching protocols");
    socket.raw(&[0xf1, 0x80, 0, 0, 0, 0]);
    assert_eq!(socket.closing().1, 1002, "reserved bits");
    witness.assert_untouched("reserved bits");

    let mut socket = WebSocket::open(server.http, &[]).expect("switching protocols");
    // The head of a message of 1 TiB; its body never comes.
    socket.raw(&[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(socket.closing().1, 1009, "a message that is too long");
    witness.assert_untouched("too long");

    for origin in ["https://evil.example", "null", "https://chat.example.evil.example"] {
        let refused = WebSocket::open(server.http, &[("origin", origin)]).err();
        assert_eq!(refused, Some(403), "{origin}");
    }
    let own = format!("http://{}", server.http);
    for origin in [own.as_str(), "https://chat.example"] {
        assert!(WebSocket::open(server.http, &[("origin", origin)]).is_ok(), "{origin}");
    }
    witness.assert_untouched("origins");
}

#[test]
fn p9_http_answers_bad_requests_with_a_status_and_a_reason() {
    let server = Server::start(&[]);
    let mut witness = Witness::new(&server);
    let token = format!("Bearer {}", server.token("alice"));
    let json = [("content-type", "application/json"), ("authorization", token.as_str())];
    let plain = [("content-type", "text/plain"), ("authorization", token.as_str())];
    let huge = format!(r#"{{"to":"/user/bob","body":"{}"}}"#, "x".repeat(9 << 20));
    let long_key =
        format!(r#"{{"to":"/user/bob","body":"","idempotency_key":"{}"}}"#, "k".repeat(129));
    type Case<'a> = (u16, &'a str, &'a str, &'a [(&'a str, &'a str)], &'a [u8]);
    let cases: Vec<Case<'_>> = vec![
        (400, "POST", "/api/v1/messages", &json, b"{not json"),
        (400, "POST", "/api/v1/messages", &json, b"\xff\xfe"),
        (422, "POST", "/api/v1/messages", &json, br#"{"to":17,"body":"x"}"#),
        (422, "POST", "/api/v1/messages", &json, br#"{"body":"x"}"#),
        (422, "POST", "/api/v1/messages", &json, br#"{"to":"bob","body":"x"}"#),
        (
            422,
            "POST",
            "/api/v1/messages",
            &json,
            br#"{"to":"/user/bob","body":"x","kind":"shout"}"#,
        ),
        (422, "POST", "/api/v1/messages", &json, long_key.as_bytes()),
        (413, "POST", "/api/v1/messages", &json, huge.as_bytes()),
        (415, "POST", "/api/v1/messages", &plain, br#"{"to":"/user/bob","body":"x"}"#),
        (422, "GET", "/api/v1/conversations/direct%3Aalice%3Abob/messages?limit=x", &json, b""),
        (422, "GET", "/api/v1/conversations/direct%3Aalice%3Abob/messages?limit=201", &json, b""),
        (404, "GET", "/api/v1/no-such-thing", &json, b""),
        (405, "DELETE", "/api/v1/messages", &json, b""),
        (422, "POST", "/api/v1/users", &json, br#"{"name":"a b","password":"long enough"}"#),
        (422, "POST", "/api/v1/users", &json, br#"{"name":"queue","password":"long enough"}"#),
        (422, "POST", "/api/v1/users", &json, br#"{"name":"dave","password":""}"#),
        (409, "POST", "/api/v1/users", &json, br#"{"name":"bob","password":"long enough"}"#),
        (401, "POST", "/api/v1/tokens", &json, br#"{"name":"bob","password":"wrong"}"#),
        (401, "POST", "/api/v1/tokens", &json, br#"{"name":"nobody","password":"wrong"}"#),
        (404, "GET", "/no-such-page", &[], b""),
        (404, "GET", "/../../etc/passwd", &[], b""),
        (404, "GET", "/..%2f..%2fetc%2fpasswd", &[], b""),
    ];
    for (status, method, path, headers, body) in cases {
        let name =
            format!("{method} {path} {}", String::from_utf8_lossy(&body[..body.len().min(60)]));
        let answer = http::request(server.http, method, path, headers, body);
        assert_eq!(answer.status, status, "{name}: {}", String::from_utf8_lossy(&answer.body));
        if path.starts_with("/api/") {
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{name}");
            let problem = answer.json();
            assert_eq!(problem["status"], status, "{name}");
            assert!(problem["title"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
            assert!(problem["detail"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        }
        witness.assert_untouched(&name);
    }

    // Not even HTTP.
    for octets in [&b"\0\0\0\0\r\n\r\n"[..], b"CONNECT\nlogin:bob\n\n\0\r\n\r\n"] {
        assert_eq!(http::exchange(server.http, octets).status, 400);
        witness.assert_untouched("no HTTP");
    }
    let endless = [b"GET / HTTP/1.1\r\nx: ".to_vec(), b"x".repeat(1 << 20)].concat();
    assert_eq!(http::exchange(server.http, &endless).status, 431);
    witness.assert_untouched("an endless header");
}

/// V: whoever opens connections and says nothing keeps nobody out.
#[test]
fn p9_silent_connections_do_not_keep_others_out() {
    let server = Server::start(&[]);
    let silent: Vec<Wire> = (0..300).map(|_| Wire::open(server.stomp)).collect();
    let mut halves: Vec<Wire> = (0..50).map(|_| Wire::open(server.stomp)).collect();
    for half in &mut halves {
        half.raw(b"CONNECT\nlogin:al");
    }
    Witness::new(&server).assert_untouched("silent connections");
    drop((silent, halves));
}

/// P7: who does not read costs itself, not the server's memory and not the other readers.
#[cfg(target_os = "linux")]
#[test]
fn p7_a_reader_that_does_not_read_costs_itself() {
    const COUNT: usize = 3000;
    let server = Server::start(&["--open"]);
    let mut sleeper = Wire::sign_in(&server, "mallory", "desk");
    sleeper.subscribe("t", "/topic/flood", &[]);
    let mut reader = Wire::sign_in(&server, "carol", "desk");
    reader.subscribe("t", "/topic/flood", &[]);
    let body = "x".repeat(64 * 1024);
    let before = resident_mebibytes(server.pid());
    let mut writer = Wire::sign_in(&server, "alice", "desk");
    for _ in 0..COUNT {
        writer.send("/topic/flood", &body, &[]);
        assert_eq!(reader.message().body.len(), body.len());
    }
    let grown = resident_mebibytes(server.pid()).saturating_sub(before);
    // 190 MiB went past the sleeper.
    assert!(grown < 64, "the server grew by {grown} MiB");
    drop(sleeper);
}

#[cfg(target_os = "linux")]
fn resident_mebibytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    let kibibytes: u64 =
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    kibibytes / 1024
}
